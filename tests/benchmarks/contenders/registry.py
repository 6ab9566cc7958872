"""Every contender, the one that speed-ups are against first."""

from contenders import layers, nncf, ort, pytorch, secateur, textbrewer, torch_pruning, torchao

CONTENDERS = {
    module.CONTENDER.name: module.CONTENDER
    for module in (pytorch, ort, torchao, nncf, torch_pruning, textbrewer, layers, secateur)
}
DENSE = ("pytorch", "fp32")
INT8 = ("ort", "int8")
OURS = "secateur"

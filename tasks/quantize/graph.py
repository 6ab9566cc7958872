"""An ONNX graph with one fused attention node per layer, whatever heads are left in it."""

import contextlib
import hashlib
import io
import logging
import types
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families import FAMILIES, family_of
from tasks.families.anatomy import ATTENTION, Attention, Family, head_dim
from tasks.modeling.checkpoint import head_of
from tasks.modeling.modeling_pruned import Absent
from tasks.quantize.packing import OPERATOR, packed


def fused_graph(
    model: PreTrainedModel, *, pairs: bool, exits: Mapping[int, nn.Module] = MappingProxyType({})
) -> onnx.ModelProto:
    """`model` as an ONNX graph: int64 `input_ids`, `attention_mask` (rows, length) to its head's outputs.

    What lies between the projections of a self-attention is exported as ONNX Runtime's own operator, with the number of
    heads that the layer really has: pattern matching on the exported graph would not find layers that lost heads.
    ONNX Runtime's optimizer then fuses what stands between them; padding is left out, and so is what no head reads. The
    same model gives the same bytes.

    Args:
        model: of a known family; it is left as it was.
        pairs: whether there is an input `token_type_ids` too.
        exits: further heads, by the number k of layers before them: hidden states (rows, length, width) and mask to
            logits. Each adds the outputs `hidden_k` and `logits_k`.

    Raises:
        RuntimeError: a layer of the graph has no fused attention.
    """
    family = family_of(model.config.model_type)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if pairs else [])]
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    model.eval()
    with _fused(model, family, exits) as wrapper, quiet():
        program: Any = torch.onnx.export(
            wrapper,
            example,
            dynamo=True,
            input_names=names,
            output_names=list(wrapper.outputs),
            dynamic_shapes=tuple({0: batch, 1: length} for _ in names),
            verbose=False,
        )
        options = FusionOptions("bert")
        options.enable_skip_layer_norm = False
        proto = optimize_model(program.model_proto, "bert", opt_level=0, optimization_options=options).model
    model.eval()  # the exporter puts it back into train mode
    there = sum(group.kind == ATTENTION for group in family.groups(model))
    fused = sum(node.op_type == OPERATOR for node in proto.graph.node)
    if fused != there:
        raise RuntimeError(f"{fused} of {there} attention layers are fused")
    whole = _bare(_named(_plain_residuals(_without_nothing(proto)), model))
    return whole if exits else packed(whole)  # with exits, each part of it is packed


class _Wrapper(nn.Module):
    """Takes the model's inputs in turn, returns its heads' outputs, and hands the mask to the fused operators."""

    def __init__(self, model: PreTrainedModel, exits: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.exits = exits
        self.fields = head_of(type(model)).outputs
        self.mask: Tensor | None = None
        self.hidden: dict[int, Tensor] = {}

    @property
    def outputs(self) -> list[str]:
        """Names, in the order that they are returned in."""
        return [*self.fields, *(f"{what}_{k}" for k in self.exits for what in ("hidden", "logits"))]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        self.mask = attention_mask.to(torch.int32)
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        outputs = [found[name] for name in self.fields]
        for k, head in self.exits.items():
            outputs += [self.hidden[k], head(self.hidden[k], attention_mask)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def keep(self, k: int) -> Any:
        """A hook that keeps what a layer gives as the hidden states after `k` layers."""

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            self.hidden[k] = output[0] if isinstance(output, tuple) else output

        return hook


@contextlib.contextmanager
def _fused(model: PreTrainedModel, family: Family, exits: Mapping[int, nn.Module]) -> Iterator[_Wrapper]:
    """A wrapper of `model` whose self-attention modules compute by the fused operator, until the block ends."""
    wrapper = _Wrapper(model, exits)
    changed = []
    names = family.attention
    if names is None:
        known = ", ".join(sorted(name for name, one in FAMILIES.items() if one.attention))
        raise UserError(f"{family.model_type}: graphs are made of {known}; set quantize.models to []")
    layers: Any = model.get_submodule(family.layers)
    hooks = [layers[k - 1].register_forward_hook(wrapper.keep(k)) for k in exits]
    for layer in layers:
        module = layer.get_submodule(names.module)
        if isinstance(module, Absent):
            continue
        module.forward = types.MethodType(_attention(layer, names, head_dim(model.config), wrapper), module)
        changed.append(module)
    try:
        yield wrapper
    finally:
        for hook in hooks:
            hook.remove()
        for module in changed:
            del module.forward


def _attention(layer: Any, names: Attention, width: int, wrapper: _Wrapper) -> Any:
    query, key, value = (layer.get_submodule(name) for name in (names.query, names.key, names.value))
    output = layer.get_submodule(names.output) if names.output else nn.Identity()

    def forward(_: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:  # noqa: ARG001
        context = torch.onnx.ops.symbolic(
            f"com.microsoft::{OPERATOR}",
            (query(hidden_states), key(hidden_states), value(hidden_states), None, wrapper.mask),
            {"num_heads": query.out_features // width},
            dtype=hidden_states.dtype,
            shape=(*hidden_states.shape[:-1], query.out_features),
            version=1,
        )
        return output(context), None

    return forward


def _without_nothing(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Leaves out the additions of what an absent sublayer gives: zeros as large as the hidden states."""
    zeros = {tensor.name for tensor in proto.graph.initializer if not numpy_helper.to_array(tensor).any()}
    nothing = {node.output[0] for node in proto.graph.node if node.op_type == "Expand" and node.input[0] in zeros}
    same: dict[str, str] = {}
    for node in list(proto.graph.node):
        node.input[:] = [same.get(name, name) for name in node.input]
        others = [name for name in node.input if name not in nothing]
        if node.op_type == "Add" and len(others) == 1:
            same[node.output[0]] = others[0]
    needed = {entry.name for entry in proto.graph.output}
    for node in reversed(list(proto.graph.node)):
        if needed.intersection(node.output):
            needed.update(node.input)
        else:
            proto.graph.node.remove(node)
    return proto


def _plain_residuals(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Writes the addition before each LayerNormalization as Sum, which ONNX Runtime does not fuse with it.

    On CPU its fused SkipLayerNormalization takes four times as long as the two operators by themselves, a sixth to a
    third of an int8 graph's time at batch 32 (ONNX Runtime 1.31).
    """
    normalised = {node.input[0] for node in proto.graph.node if node.op_type == "LayerNormalization"}
    for node in proto.graph.node:
        if node.op_type == "Add" and node.output[0] in normalised:
            node.op_type = "Sum"
    return proto


def _named(proto: onnx.ModelProto, model: PreTrainedModel) -> onnx.ModelProto:
    """Gives each operator with a matrix of the model the name of the module that the matrix is from."""
    modules: dict[bytes, str] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:
            for matrix in (weight, weight.T):
                modules.setdefault(_digest(matrix.detach().cpu().numpy()), name)
    matrices = {tensor.name: tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2}
    for node in proto.graph.node:
        digests = (_digest(numpy_helper.to_array(matrices[name])) for name in node.input if name in matrices)
        # A name is taken away when it is given: two operators of one matrix are two operators.
        node.name = next(filter(None, (modules.pop(digest, None) for digest in digests)), node.name)
    return proto


def _digest(matrix: NDArray[Any]) -> bytes:
    return hashlib.sha256(repr(matrix.shape).encode() + np.ascontiguousarray(matrix).tobytes()).digest()


def _bare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without what the exporter noted about this machine, and without shapes that the fusions left stale."""
    del proto.graph.value_info[:]
    for part in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.initializer,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the chatter of exporter and quantizer about packages, names and advice; errors come through."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

"""Torch-Pruning: structured pruning by its group Taylor importance, its fine-tuning, then ONNX Runtime int8."""

from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from contenders import ort
from contenders.contender import Contender, Job
from contenders.recovery import cross_entropy, inputs, recover
from contenders.rows import loader
from contenders.settings import RATE

SHARES = {"25": 1 / 4, "50": 1 / 2, "67": 2 / 3}
BATCHES = 10
"""Whose gradients are the Taylor importance."""


def make(job: Job) -> None:
    """`uniform-50`: half of every width; `bottleneck-50`: half of the heads and neurons, the residual width stays."""
    torch.manual_seed(job.seed)
    way, share = job.point.split("-")
    model, batches = ort.load(job.dense), loader(job.prepared, job.seed)
    prune(model, batches, SHARES[share], bottleneck=way == "bottleneck")
    recover(model, batches, job.steps, cross_entropy(0.11), rate=RATE, schedule="cosine", warmup=0.0)
    ort.deliver(model, job.out, steps=job.steps)


def prune(model: Any, batches: Any, share: float, *, bottleneck: bool) -> None:
    """Prunes in place, the same share of every layer, as examples/transformers of the tool does."""
    import torch_pruning as tp
    from transformers.models.bert.modeling_bert import BertSelfAttention

    attentions = [module for module in model.modules() if isinstance(module, BertSelfAttention)]
    heads = {m: a.num_attention_heads for a in attentions for m in (a.query, a.key, a.value)}
    ignored = [model.classifier]
    if bottleneck:
        ignored.append(model.bert.pooler.dense)
        for layer in model.bert.encoder.layer:
            ignored += [layer.attention.output.dense, layer.output.dense]
    example = inputs(next(iter(batches)))
    example["token_type_ids"] = torch.zeros_like(example["input_ids"])
    pruner = tp.pruner.BasePruner(
        model, example, importance=tp.importance.GroupTaylorImportance(), global_pruning=False, pruning_ratio=share,
        num_heads=heads, prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=share,
        ignored_layers=ignored, output_transform=lambda out: out.logits.sum(),
    )  # fmt: skip
    model.zero_grad()
    for batch in islice(batches, BATCHES):
        F.cross_entropy(model(**inputs(batch)).logits, batch["labels"]).backward()
    for group in pruner.step(interactive=True):
        group.prune()
    for attention in attentions:
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.all_head_size = attention.query.out_features
        attention.attention_head_size = attention.all_head_size // attention.num_attention_heads


CONTENDER = Contender(
    name="torch-pruning",
    points=tuple(f"{way}-{share}" for way in ("bottleneck", "uniform") for share in SHARES),
    packages=("torch-pruning", "onnxruntime"),
    settings=(
        "GroupTaylorImportance of 10 batches, one step, the same share of whole heads and of channels in every layer: "
        "`uniform` of every width (examples/transformers/prune_hf_bert.py), `bottleneck` of heads and neurons alone; "
        "its fine-tuning: true labels smoothed by 0.11, AdamW, cosine without warmup, at 1e-4; then as ort int8"
    ),
    make=make,
    from_int8=True,
)

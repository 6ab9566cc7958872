"""An ONNX graph of a decoder with a key-value cache, whatever heads and neurons each layer has left.

It is written node by node from the model's weights: patterns on an exported graph find no layers that lost heads.
Names and shapes of inputs and outputs are those that ONNX exports of decoders usually have.
"""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families import FAMILIES, family_of
from tasks.families.anatomy import Family, head_dim
from tasks.families.decoder import Decoder
from tasks.modeling.decoding import PAST, PRESENT
from tasks.modeling.modeling_pruned import Absent
from tasks.quantize.writer import Writer

EMBEDDING, HEAD = "embedding", "head"
"""Names of their weights; of a tied head there is none."""
HEAD_WIDTH = 16
"""What widths of heads are multiples of, for ONNX Runtime's attention with rotary positions."""
CHANGING = ("dynamic", "longrope")
"""Rotary positions that depend on the length of the text."""


def decoder_graph(model: PreTrainedModel) -> onnx.ModelProto:
    """`model` as an ONNX graph of ONNX Runtime's fused operators, float32.

    Inputs: int64 `input_ids` (rows, length); int64 `attention_mask` (rows, past + length), 0 where a row is padded, on
    whichever side; of each layer with attention `past_key_values.N.key` and `.value` (rows, key-value heads, past,
    width of a head); int64 `logits_to_keep` (): of so many last tokens there are logits, 0: of all.
    Outputs: `logits` (rows, tokens kept, vocabulary), `present.N.key` and `.value` (…, past + length, …). Past and
    present may be one and the same longer buffer, of which as many positions count as the mask is long.

    Positions count padding too: rotary attention knows only their differences.

    Raises:
        UserError: another architecture, or one with parts that the graph has no operators for.
    """
    family, config, writer = family_of(model.config.model_type), model.config, Writer()
    names = _checked(model, family)
    heads: dict[int, int] = {}
    layers: Any = model.get_submodule(family.layers)
    with torch.no_grad():
        common = _common(writer, model, names)
        embedding: Any = model.get_submodule(names.embedding)
        hidden, added = writer.add("Gather", writer.weight(EMBEDDING, embedding.weight), "input_ids"), ""
        for number, layer in enumerate(layers):
            part = _Part(writer, layer, f"layers.{number}")
            if not isinstance(layer.get_submodule(names.attention), Absent):
                normed, hidden = part.norm(names.attention_norm, hidden, added)
                added, heads[number] = _attention(part, names, config, number, normed, common)
            if not isinstance(layer.get_submodule(names.ffn), Absent):
                normed, hidden = part.norm(names.ffn_norm, hidden, added)
                gate, up = (part.linear(name, normed) for name in (names.gate, names.up))
                active = writer.add("QuickGelu", gate, alpha=1.0)
                added = part.linear(names.down, writer.add("Mul", active, up))
        normed, _ = _Part(writer, model, "").norm(names.norm, hidden, added)
        one = writer.constant("one", np.array([1]))
        last = writer.add("Neg", writer.add("Reshape", "logits_to_keep", one))
        normed = writer.add("Slice", normed, last, writer.constant("end", np.array([2**62])), one)
        head: Any = model.get_output_embeddings()
        writer.linear(HEAD, head.weight, head.bias, normed, ["logits"])
    return writer.model(*_signature(heads, head.weight.shape[0], head_dim(config)))


def _checked(model: PreTrainedModel, family: Family) -> Decoder:
    """Where the parts of a model lie whose graph can be written."""
    if family.decoder is None:
        known = ", ".join(sorted(name for name, one in FAMILIES.items() if one.decoder))
        raise UserError(f"{family.model_type}: graphs that generate are made of {known}; set quantize.models to []")
    kind, width = model.get_submodule(family.decoder.rotary).rope_type, head_dim(model.config)
    wrong = [f"rotary positions of type {kind}"] if kind in CHANGING else []
    wrong += [f"heads of width {width}, no multiple of {HEAD_WIDTH}"] if width % HEAD_WIDTH else []
    wrong += [f"activation {model.config.hidden_act}, not silu"] if model.config.hidden_act != "silu" else []
    if wrong:
        raise UserError(f"graphs that generate have no operators for {'; '.join(wrong)}; set quantize.models to []")
    return family.decoder


class _Part:
    """Writes the parts of a module, named after it."""

    def __init__(self, writer: Writer, module: nn.Module, prefix: str) -> None:
        self.writer, self.module, self.prefix = writer, module, prefix

    def linear(self, name: str, value: str) -> str:
        module: Any = self.module.get_submodule(name)
        return self.writer.linear(f"{self.prefix}.{name}", module.weight, module.bias, value)

    def norm(self, name: str, hidden: str, added: str = "") -> tuple[str, str]:
        """The root-mean-square norm of hidden + added, and that sum."""
        module: Any = self.module.get_submodule(name)
        scale, epsilon = self.writer.weight(f"{self.prefix}.{name}.weight", module.weight), module.variance_epsilon
        if not added:
            return self.writer.add("SimplifiedLayerNormalization", hidden, scale, axis=-1, epsilon=epsilon), hidden
        outputs = [f"{self.prefix}.{name}", "", "", f"{self.prefix}.{name}.sum"]
        operator = "SkipSimplifiedLayerNormalization"
        return self.writer.add(operator, hidden, added, scale, outputs=outputs, epsilon=epsilon), outputs[3]


def _common(writer: Writer, model: PreTrainedModel, names: Decoder) -> tuple[str, ...]:
    """What every attention takes besides its own: lengths less one, the longest, cosines, sines, none, bias."""
    positions = torch.arange(model.config.max_position_embeddings)[None]
    tables: tuple[Tensor, ...] = model.get_submodule(names.rotary)(torch.zeros(1), positions)
    cosines, sines = (
        writer.constant(name, table[0, :, : table.shape[-1] // 2].float().contiguous().numpy())
        for name, table in zip(("cosines", "sines"), tables, strict=True)
    )
    total = writer.add("Cast", writer.add("Shape", "attention_mask", start=1, end=2), to=TensorProto.INT32)
    lengths = writer.add("Sub", total, writer.constant("one_less", np.array([1], np.int32)))
    lengths = writer.add("Expand", lengths, writer.add("Shape", "input_ids", start=0, end=1))
    total = writer.add("Squeeze", total)
    absent = writer.add("Equal", "attention_mask", writer.constant("zero", np.array(0)))
    lowest = writer.constant("lowest", np.array(np.finfo(np.float32).min))
    bias = writer.add("Where", absent, lowest, writer.constant("nothing", np.array(0, np.float32)))
    bias = writer.add("Unsqueeze", bias, writer.constant("axes", np.array([1, 2])))
    ones, length = writer.constant("ones", np.array([1, 1])), writer.add("Shape", "input_ids", start=1, end=2)
    shape = writer.add("Concat", ones, length, writer.constant("last", np.array([1])), axis=0)
    return lengths, total, cosines, sines, "", writer.add("Expand", bias, shape)


def _attention(
    part: _Part, names: Decoder, config: Any, number: int, normed: str, common: tuple[str, ...]
) -> tuple[str, int]:
    """What the attention of layer `number` adds, and its key-value heads."""
    module: Any = part.module.get_submodule(names.attention)
    width = head_dim(config)
    query, key, value = (part.linear(name, normed) for name in (names.query, names.key, names.value))
    if names.head_norms:
        query, key = (_by_head(part, name, of, width) for name, of in zip(names.head_norms, (query, key), strict=True))
    projections: Any = [part.module.get_submodule(name) for name in (names.query, names.key)]
    queries, groups = (projection.out_features // width for projection in projections)
    window = getattr(module, "sliding_window", getattr(config, "sliding_window", None))
    past, present = ([f"{side}{number}.{name}" for name in ("key", "value")] for side in (PAST, PRESENT))
    context = part.writer.add(
        "GroupQueryAttention", query, key, value, *past, *common,
        outputs=[f"{part.prefix}.context", *present], num_heads=queries, kv_num_heads=groups, do_rotary=1,
        scale=float(module.scaling), local_window_size=window or -1,
    )  # fmt: skip
    return part.linear(names.output, context), groups


def _by_head(part: _Part, norm: str, value: str, width: int) -> str:
    writer = part.writer
    split = writer.constant("by_head", np.array([0, 0, -1, width]))
    normed, _ = part.norm(norm, writer.add("Reshape", value, split))
    return writer.add("Reshape", normed, writer.constant("joined", np.array([0, 0, -1])))


def _signature(heads: dict[int, int], vocabulary: int, width: int) -> tuple[Any, Any]:
    """Inputs and outputs of the graph."""
    inputs: dict[str, Any] = {
        "input_ids": (TensorProto.INT64, ["rows", "length"]),
        "attention_mask": (TensorProto.INT64, ["rows", "total"]),
        "logits_to_keep": (TensorProto.INT64, []),
    }
    outputs: dict[str, Any] = {"logits": (TensorProto.FLOAT, ["rows", "kept", vocabulary])}
    for number, count in heads.items():
        for name in ("key", "value"):
            inputs[f"{PAST}{number}.{name}"] = (TensorProto.FLOAT, ["rows", count, "past", width])
            outputs[f"{PRESENT}{number}.{name}"] = (TensorProto.FLOAT, ["rows", count, "present", width])
    return inputs, outputs

"""Where the parts of a decoder lie that its ONNX graph is built of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoder:
    """A stack of pre-norm layers with rotary positions and a gated FFN; names of a layer's parts are relative to it."""

    embedding: str
    rotary: str
    """Its forward takes (hidden states, positions) and returns cosines and sines, (rows, length, width of a head)."""
    norm: str
    """After the last layer."""
    attention: str
    """The module, which goes as a whole where attention was left out; likewise `ffn`."""
    attention_norm: str
    query: str
    key: str
    value: str
    output: str
    ffn: str
    ffn_norm: str
    gate: str
    up: str
    down: str
    head_norms: tuple[str, str] | None = None
    """Of each query and each key by itself, where there are such."""

"""Weights in blocks of integers, as ONNX Runtime's MatMulNBits and GatherBlockQuantized hold them.

w ≈ scale · (q - zero), with q and zero unsigned of so many bits, and a scale and a zero of its own for every `BLOCK`
consecutive inputs of an output.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
BLOCK = 32
SHRINK = np.linspace(1.0, 0.7, 13)
"""Parts of a block's range that a grid may span; the rest is cut off."""


@dataclass(frozen=True)
class Blocks:
    """A weight of shape (outputs, inputs)."""

    bits: int
    inputs: int
    integers: Bytes
    """Shape (outputs, blocks, `BLOCK`); past the last input they stand for 0."""
    scale: NDArray[np.float32]
    """Shape (outputs, blocks)."""
    zero: Bytes
    """Shape (outputs, blocks)."""

    def values(self) -> NDArray[np.float32]:
        """What they stand for, shape (outputs, inputs)."""
        found = (self.integers.astype(np.float32) - self.zero[..., None]) * self.scale[..., None]
        return found.reshape(len(found), -1)[:, : self.inputs]


def rounded(weight: NDArray[np.float32], bits: int) -> Blocks:
    """To the nearest, on grids from the lowest to the highest value of each block, 0 among them."""
    blocks = in_blocks(weight)
    scale, zero = span(blocks.min(-1), blocks.max(-1), bits)
    integers = nearest(blocks, scale[..., None], zero[..., None], bits)
    return Blocks(bits, weight.shape[1], integers.astype(np.uint8), scale.astype(np.float32), zero.astype(np.uint8))


def in_blocks(weight: NDArray[np.float32]) -> Floats:
    """Shape (outputs, blocks, `BLOCK`), with zeros past the last input."""
    padded = np.pad(weight.astype(np.float64), ((0, 0), (0, -weight.shape[1] % BLOCK)))
    return padded.reshape(len(weight), -1, BLOCK)


def span(low: Floats, high: Floats, bits: int) -> tuple[Floats, Floats]:
    """Scale and zero of grids that reach from `low` to `high`, as a float32 holds them, and to 0."""
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = np.maximum((high - low) / (2**bits - 1), np.finfo(np.float32).tiny).astype(np.float32).astype(np.float64)
    return scale, np.clip(np.round(-low / scale), 0, 2**bits - 1)


def nearest(weight: Floats, scale: Floats, zero: Floats, bits: int) -> Floats:
    """Whole numbers from 0 to 2^bits - 1 whose values are nearest to `weight`."""
    return np.asarray(np.clip(np.round(weight / scale) + zero, 0, 2**bits - 1))


def fitted(block: Floats, energy: Floats, bits: int) -> tuple[Floats, Floats]:
    """Scale and zero of each row's grid, of a few that cut off more or less, that loses least.

    Args:
        block: shape (outputs, `BLOCK`).
        energy: mean square of each input, by which a squared difference counts, shape (`BLOCK`,).
    """
    best: tuple[Floats, ...] = ()
    for part in SHRINK:
        scale, zero = span(part * block.min(-1), part * block.max(-1), bits)
        steps = nearest(block, scale[:, None], zero[:, None], bits) - zero[:, None]
        power = (steps**2 * energy).sum(-1)
        least = np.where(power > 0, (steps * block * energy).sum(-1) / np.where(power > 0, power, 1), scale)
        scale = np.where(least > 0, least, scale).astype(np.float32).astype(np.float64)
        lost = ((block - steps * scale[:, None]) ** 2 * energy).sum(-1)
        now = (lost, scale, zero)
        best = tuple(np.where(lost < best[0], new, old) for new, old in zip(now, best, strict=True)) if best else now
    return best[1], best[2]


def packed(integers: Bytes, bits: int) -> Bytes:
    """The last axis in whole bytes, the first integer in the lowest bits; what is missing at the end is 0."""
    if bits == 8:
        return integers
    pairs = np.pad(integers, [(0, 0)] * (integers.ndim - 1) + [(0, integers.shape[-1] % 2)])
    return np.asarray(pairs[..., ::2] | pairs[..., 1::2] << 4, np.uint8)

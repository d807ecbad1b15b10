"""How much LoRAs change of a model, block by block, and how alike two of them are.

Everything follows from inner products of deltas, weight by weight. That of two plain products
comes from their small factors, `<AB, CD> = <A^T C, B D^T>`: their deltas are never written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping
from itertools import combinations_with_replacement
from types import MappingProxyType
from typing import Any, cast

import torch

from webui.generation.lora_deltas import Delta, Full, LowRank, on_device
from webui.generation.lora_files import ReadLora, Weight
from webui.library.lora_facts import DENOISERS

Base = Callable[[Weight], torch.Tensor]
"""A weight as it was loaded, in a format that is computed in, whatever the model holds now."""

Pair = tuple[str, str]
"""Two LoRAs by content, in the order of their hashes; one with itself too."""

TEXT_ENCODER = "text encoder"
_NUMBERED = MappingProxyType(
    {
        "down_blocks": "down",
        "up_blocks": "up",
        "noise_refiner": "noise",
        "context_refiner": "context",
        "layers": "layer",
        "transformer_blocks": "joint",
        "single_transformer_blocks": "single",
    }
)
_ORDER = (
    *("text", "in", "down", "mid", "up"),
    *("noise", "context", "layer", "double", "joint", "single"),
    "out",
)
"""What the names of the blocks begin with."""


def block_of(weight: Weight, *, has_single: bool = False) -> str:
    """The part of a model that a weight belongs to, such as "down 1", "mid" or "double 19".

    Args:
        has_single: Whether the model has blocks of one stream too; then those of two, in which
            picture and text are apart, are "double", otherwise "joint".
    """
    if weight.part not in DENOISERS:
        return TEXT_ENCODER
    kind, _, rest = weight.name.partition(".")
    number = rest.partition(".")[0]
    if kind in _NUMBERED and number.isdecimal():
        name = "double" if has_single and kind == "transformer_blocks" else _NUMBERED[kind]
        return f"{name} {int(number) + 1}"
    match kind:
        case "mid_block":
            return "mid"
        case "conv_norm_out" | "conv_out" | "norm_out" | "proj_out" | "all_final_layer":
            return "out"
        case _:
            return "in"


class Measures:
    """What was found out about the LoRAs of one loaded model; each is measured once.

    Args:
        weights: All weights of the model.
        base: Gives each as it was loaded.
    """

    def __init__(self, weights: Iterable[Weight], base: Base) -> None:
        weights = tuple(weights)
        has_single = any(_is_single(weight) for weight in weights)
        self._blocks = {weight: block_of(weight, has_single=has_single) for weight in weights}
        self._base = base
        self._norms: dict[str, float] | None = None
        self._products: dict[Pair, dict[Weight, float]] = {}

    def take(self, loras: Mapping[str, ReadLora]) -> None:
        """Measures those LoRAs, by content, and every two of them, where that is not done yet."""
        missing = [pair for pair in _pairs(loras) if pair not in self._products]
        if missing:
            self._products |= _inner_products(loras, missing, self._base)

    def forget_all_but(self, kept: Container[str]) -> None:
        """Lets go of what is known of the others."""
        for pair in list(self._products):
            if pair[0] not in kept or pair[1] not in kept:
                del self._products[pair]

    def sizes(self, sha256: str) -> dict[str, float]:
        """By block, the norm of what a LoRA adds at strength 1 relative to that of its weights."""
        if self._norms is None:
            self._norms = _norms(self._blocks, self._base)
        squares = dict.fromkeys(self._norms, 0.0)
        for weight, square in self._products[sha256, sha256].items():
            squares[self._blocks[weight]] += max(square, 0.0)
        return {
            block: math.sqrt(square) / self._norms[block] if self._norms[block] else 0.0
            for block, square in squares.items()
        }

    def overlap(self, first: str, second: str) -> float:
        """Cosine between what two LoRAs add to the weights that both change; 0 without any."""
        shared = self._products[min(first, second), max(first, second)]
        one, other = (
            sum(self._products[lora, lora][weight] for weight in shared) for lora in (first, second)
        )
        if one <= 0 or other <= 0:
            return 0.0
        return max(-1.0, min(1.0, sum(shared.values()) / math.sqrt(one * other)))


def _pairs(loras: Iterable[str]) -> list[Pair]:
    return list(combinations_with_replacement(sorted(loras), 2))


def _inner_products(
    loras: Mapping[str, ReadLora], pairs: list[Pair], base: Base
) -> dict[Pair, dict[Weight, float]]:
    places: list[tuple[Pair, Weight]] = []
    found: list[torch.Tensor] = []
    involved = {lora for pair in pairs for lora in pair}
    touched = {weight: None for lora in sorted(involved) for weight in loras[lora].deltas}
    for weight in touched:
        # Once: it may have to be unpacked.
        whole = base(weight)
        deltas = {
            lora: on_device(loras[lora].deltas[weight], whole.device)
            for lora in involved
            if weight in loras[lora].deltas
        }
        if not all(isinstance(delta, LowRank) for delta in deltas.values()):
            # Written out once each, however many they are compared with.
            deltas = {lora: Full(delta.of(whole)) for lora, delta in deltas.items()}
        for pair in pairs:
            if pair[0] in deltas and pair[1] in deltas:
                places.append((pair, weight))
                found.append(inner_product(deltas[pair[0]], deltas[pair[1]]))
    products: dict[Pair, dict[Weight, float]] = {pair: {} for pair in pairs}
    for (pair, weight), product in zip(places, _numbers(found), strict=True):
        products[pair][weight] = product
    return products


def inner_product(first: Delta, second: Delta) -> torch.Tensor:
    """The sum over all elements, of two plain products or of two deltas that are written out."""
    match first, second:
        case LowRank(), LowRank():
            ups = first.up.T @ second.up
            downs = first.down.float() @ second.down.float().T
            return (ups * downs).sum() * (first.scale * second.scale)
        case Full(), Full():
            return (first.diff * second.diff).sum()
        case _:
            raise TypeError("deltas are compared as products or written out")


def _is_single(weight: Weight) -> bool:
    return weight.part in DENOISERS and weight.name.startswith("single_transformer_blocks.")


def _norms(blocks: Mapping[Weight, str], base: Base) -> dict[str, float]:
    """The norms of the blocks of a model, in the order in which a picture passes through them.

    Args:
        blocks: All weights of the model, and the block of each.
    """
    # Summed in float32 whatever the format, and rounded to it: asking for a result in float32 is
    # 25 times slower in bf16 on a CPU, and a chart does not show the difference of 0.4 %.
    vector_norm: Callable[[torch.Tensor], torch.Tensor] = cast(Any, torch.linalg).vector_norm
    norms = [vector_norm(base(weight)).float() for weight in blocks]
    squares: dict[str, float] = {}
    for block, norm in zip(blocks.values(), _numbers(norms), strict=True):
        squares[block] = squares.get(block, 0.0) + norm**2
    return {block: math.sqrt(squares[block]) for block in sorted(squares, key=_position)}


def _position(block: str) -> tuple[int, int]:
    kind, _, number = block.partition(" ")
    return _ORDER.index(kind), int(number) if number.isdecimal() else 0


def _numbers(values: list[torch.Tensor]) -> list[float]:
    """Fetched from the device at once; what float32 cannot hold becomes some number that it can."""
    if not values:
        return []
    return cast(list[float], cast(Any, torch.stack(values).nan_to_num()).tolist())

"""One layer of a LoRA for several of a model's that its maker computes as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

from webui.generation.lora_deltas import Rows, Tensors

_BY_OUTPUT = (
    "up",
    "up_bias",
    "diff",
    "diff_b",
    "hada_w1_a",
    "hada_w2_a",
    "dora_scale",
    "lora_magnitude_vector",
)
"""Tensors with a row for each output."""

_CORES: Mapping[str, str] = MappingProxyType({"hada_w1_a": "hada_t1", "hada_w2_a": "hada_t2"})
"""With this one beside, such a tensor has a column for each output."""


def rows_of(outputs: Sequence[int], *, is_swapped: bool) -> list[Rows]:
    """Which rows of a LoRA's layer are those of each of the layers it stands for.

    Args:
        outputs: Of each of these layers.
        is_swapped: Whether the second half of each one's outputs comes first.
    """
    total = sum(outputs)
    found: list[Rows] = []
    for length, end in zip(outputs, accumulate(outputs), strict=True):
        begin, middle = end - length, end - length // 2
        spans = ((middle, end), (begin, middle)) if is_swapped else ((begin, end),)
        found.append(Rows(spans, total))
    return found


def taken_apart(tensors: Tensors, rows: Sequence[Rows]) -> list[Tensors]:
    """The tensors of a LoRA's layer for each of the layers it stands for.

    The factors of a LoKr stay whole: its rows are taken from their product.

    Raises:
        ValueError: There are more or fewer outputs than these layers have.
        KeyError: It is of a kind that cannot be taken apart.
    """
    lengths = tensors.get("dora_scale")
    if len(rows) > 1 and lengths is not None and lengths.ndim > 1 and len(lengths) == 1:
        raise KeyError("lengths over the outputs of all")
    parts: list[Tensors] = [{} for _ in rows]
    for name, tensor in tensors.items():
        dim = 1 if _CORES.get(name) in tensors else 0
        by_output = name in _BY_OUTPUT and tensor.shape[dim] != 1
        for part, own in zip(parts, rows, strict=True):
            if by_output and tensor.shape[dim] != own.total:
                raise ValueError("another shape")
            part[name] = own.of(tensor, dim) if by_output else tensor
    return parts

"""One layer of a LoRA for several of a model's that its maker computes as one."""

from __future__ import annotations

from collections.abc import Sequence

from webui.generation.lora_deltas import Tensors

_BY_OUTPUT = (
    "up",
    "diff",
    "diff_b",
    "hada_w1_a",
    "hada_w2_a",
    "dora_scale",
    "lora_magnitude_vector",
)
"""Tensors with a row for each output."""


def taken_apart(tensors: Tensors, outputs: Sequence[int]) -> list[Tensors]:
    """The tensors of a LoRA's layer for each of the layers it stands for, from the first output on.

    Raises:
        ValueError: There are more or fewer outputs than these layers have.
        KeyError: It is of a kind that cannot be taken apart.
    """
    if any(name.startswith(("lokr_", "hada_t")) for name in tensors):
        raise KeyError("outputs are not in rows")
    parts: list[Tensors] = [{} for _ in outputs]
    for name, tensor in tensors.items():
        by_output = name in _BY_OUTPUT and tensor.shape[0] != 1
        if by_output and tensor.shape[0] != sum(outputs):
            raise ValueError("another shape")
        begin = 0
        for part, length in zip(parts, outputs, strict=True):
            part[name] = tensor[begin : begin + length] if by_output else tensor
            begin += length
    return parts

"""LoRAs on a weight that is not written to: added whenever it is widened."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from webui.generation.lora_deltas import (
    Delta,
    LowRank,
    joined,
    on_device,
    rows,
    summed,
    tensors_of,
    unrows,
)


class Beside:
    """What some deltas, each times its strength, make of a weight that has just been widened.

    Plain products lie here joined, in the format of the computation. Others are worked out each
    time: written out they would take as much as the whole weight does unpacked.
    """

    def __init__(
        self, deltas: list[tuple[Delta, float]], device: torch.device, dtype: torch.dtype
    ) -> None:
        """`device` is where the weight lies now, `dtype` what it is widened to."""
        found = [(on_device(delta, device), strength) for delta, strength in deltas]
        self._device = device
        self._product = joined(found, dtype)
        self._others = found if self._product is None else []
        self._lent = frozenset(
            tensor.data_ptr() for delta, _ in deltas for tensor in tensors_of(delta)
        )

    @property
    def own(self) -> Iterator[torch.Tensor]:
        """Its tensors that are not those of the deltas it was made from."""
        held = [delta for delta, _ in self._others]
        held += [] if self._product is None else [self._product]
        tensors = (tensor for delta in held for tensor in tensors_of(delta))
        return (tensor for tensor in tensors if tensor.data_ptr() not in self._lent)

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with the deltas, in its format."""
        if weight.device != self._device:
            self._follow(weight.device)
        if self._product is None:
            return summed(weight, self._others).to(weight.dtype)
        matrix = torch.addmm(rows(weight), self._product.up, self._product.down)
        return unrows(matrix, weight)

    def _follow(self, device: torch.device) -> None:
        """Goes where the weight is computed with, which may have been waiting elsewhere."""
        self._device = device
        self._others = [(on_device(delta, device), strength) for delta, strength in self._others]
        if self._product is not None:
            up, down = self._product.up.to(device), self._product.down.to(device)
            self._product = LowRank(up, down, self._product.scale)

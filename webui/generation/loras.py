"""A stack of LoRAs merged into the weights of a loaded model, and taken out bit by bit equal.

Every merge starts from a kept copy of the weight as it was loaded, so that nothing drifts and
nothing is left over; the copies are kept only while a stack is on. A weight that is packed or in
fp8 stays as it is: what it is widened to is changed, whenever it is. Only the device thread may
call this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from webui.generation.devices import bytes_on
from webui.generation.lora_beside import Beside
from webui.generation.lora_deltas import Delta, LowRank, merge_into, tensors_of
from webui.generation.lora_files import ReadLora, Weight, read_lora
from webui.generation.lora_measures import Measures
from webui.generation.lora_names import Target, spellings
from webui.generation.widening import Widening, is_packed, widening_of
from webui.library.lora_facts import LoraPart
from webui.library.loras import LoraCard

SPARE_BYTES = 512 * 1024**2
"""Bytes of LoRAs that are kept in memory beyond those of the stack at hand."""


class Strength(NamedTuple):
    """A LoRA by its content, and how strongly it is on."""

    sha256: str
    weight: float


class Loras:
    """The LoRAs of one loaded model: read once, merged as asked.

    What is merged stays so until something else is asked for: `merge(part, ())` takes all off.
    """

    def __init__(
        self,
        parts: Mapping[LoraPart, torch.nn.Module],
        *,
        spare_bytes: int = SPARE_BYTES,
        bring: Callable[[str], None] = lambda _part: None,
    ) -> None:
        """`bring` has a part's weights be in memory, where they may not be."""
        self._parts = dict(parts)
        self._bring = bring
        self._spare_bytes = spare_bytes
        self._table: dict[str, Target] | None = None
        self._read: OrderedDict[str, ReadLora] = OrderedDict()
        self._bases: dict[Weight, torch.Tensor] = {}
        self._beside: dict[Weight, Beside] = {}
        self._merged: dict[Weight, tuple[Strength, ...]] = {}
        self._measures: Measures | None = None

    @property
    def kept_bytes(self) -> int:
        """Bytes of the copies of the weights as they were loaded, and of what is added to those
        that are widened."""
        return sum(tensor.nbytes for tensor in self._kept())

    def bytes_on(self, device: str) -> int:
        """Bytes of these, and of the LoRAs that were read, which lie on a device."""
        read = (delta for lora in self._read.values() for delta in lora.deltas.values())
        tensors = (tensor for delta in read for tensor in tensors_of(delta))
        return bytes_on((*self._kept(), *tensors), device)

    def take(self, sha256: str, card: LoraCard) -> ReadLora:
        """The LoRA of that content; its file is read once.

        Raises:
            BrokenFileError: The file is damaged.
        """
        if sha256 not in self._read:
            self._read[sha256] = read_lora(card, self._spellings(), self._weights())
        self._read.move_to_end(sha256)
        return self._read[sha256]

    def hint(self, sha256: str) -> LowRank | None:
        """What the first layer of a LoRA that was taken in this job makes of a hint's channels."""
        return self._read[sha256].hint

    def forget_all_but(self, kept: Container[str]) -> None:
        """Lets the least recently used of the others go when they take too much memory."""
        spare = OrderedDict((k, v) for k, v in self._read.items() if k not in kept)
        while spare and sum(lora.nbytes for lora in spare.values()) > self._spare_bytes:
            del self._read[spare.popitem(last=False)[0]]
        if self._measures is not None:
            self._measures.forget_all_but(self._read)

    def measure(self, sha256s: Iterable[str]) -> Measures:
        """What there is to know of LoRAs that were taken in this job, and of every two of them."""
        if self._measures is None:
            self._measures = Measures(self._weights(), self._base)
        self._measures.take({sha256: self._read[sha256] for sha256 in sha256s})
        return self._measures

    def merge(self, part: LoraPart, stack: Sequence[Strength]) -> None:
        """Brings the part's weights to their own plus the stack; only what differs is touched.

        Args:
            part: Nothing happens where the model lacks it.
            stack: LoRAs that were taken in this job.
        """
        if part not in self._parts:
            return
        self._bring(part)
        wanted = self._wanted(part, stack)
        touched = [weight for weight in self._merged if weight.part == part]
        for weight in (*wanted, *(weight for weight in touched if weight not in wanted)):
            strengths = wanted.get(weight, ())
            if self._merged.get(weight, ()) != strengths:
                self._set(weight, strengths)

    def forget_merged(self, part: str) -> None:
        """To be told when a part's weights leave memory, and with them what was merged into."""
        for weight in [weight for weight in self._beside if weight.part == part]:
            self._set(weight, ())
        for weight in [weight for weight in self._bases if weight.part == part]:
            del self._bases[weight]
            self._merged.pop(weight, None)

    def _kept(self) -> Iterator[torch.Tensor]:
        yield from self._bases.values()
        for beside in self._beside.values():
            yield from beside.own

    def _base(self, weight: Weight) -> torch.Tensor:
        self._bring(weight.part)
        if weight in self._bases:
            return self._bases[weight]
        tensor = self._parts[weight.part].get_parameter(weight.name)
        widening = self._widening(weight)
        return tensor if widening is None else widening.widened(tensor)

    def _widening(self, weight: Weight) -> Widening | None:
        return widening_of(self._parts[weight.part], weight.name)

    def _set(self, weight: Weight, strengths: tuple[Strength, ...]) -> None:
        tensor = self._parts[weight.part].get_parameter(weight.name)
        widening = self._widening(weight)
        if widening is None:
            self._merge(weight, tensor, strengths)
        elif not strengths:
            widening.change = None
            del self._merged[weight], self._beside[weight]
        else:
            beside = Beside(self._deltas(weight, strengths), tensor.device, widening.compute_dtype)
            widening.change = self._beside[weight] = beside
            self._merged[weight] = strengths

    def _deltas(self, weight: Weight, strengths: tuple[Strength, ...]) -> list[tuple[Delta, float]]:
        return [(self._read[one.sha256].deltas[weight], one.weight) for one in strengths]

    def _merge(self, weight: Weight, tensor: torch.Tensor, strengths: tuple[Strength, ...]) -> None:
        if weight not in self._bases:
            self._bases[weight] = tensor.clone()
        # A part that waits outside of the device's memory may have moved since.
        base = self._bases[weight] = self._bases[weight].to(tensor.device)
        if not strengths:
            tensor.copy_(base)
            del self._merged[weight], self._bases[weight]
            return
        # Should the merge be cut short, the weight counts as holding something else.
        self._merged[weight] = (Strength("", 0.0),)
        merge_into(tensor, base, self._deltas(weight, strengths))
        self._merged[weight] = strengths

    def _wanted(
        self, part: LoraPart, stack: Iterable[Strength]
    ) -> dict[Weight, tuple[Strength, ...]]:
        wanted: dict[Weight, tuple[Strength, ...]] = {}
        for strength in stack:
            for weight in self._read[strength.sha256].deltas:
                if weight.part == part:
                    wanted[weight] = (*wanted.get(weight, ()), strength)
        return wanted

    def _spellings(self) -> dict[str, Target]:
        if self._table is None:
            self._table = spellings(self._parts)
        return self._table

    def _weights(self) -> dict[Weight, torch.Tensor]:
        return {
            Weight(part, name): _as_computed(module, name, tensor)
            for part, module in self._parts.items()
            for name, tensor in module.named_parameters()
        }


def _as_computed(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """What a weight is in shape, format and device; in its place one number where it is packed."""
    if not is_packed(tensor):
        return tensor
    widening = widening_of(module, name)
    dtype = torch.float32 if widening is None else widening.compute_dtype
    packed: Any = tensor
    return torch.empty((), dtype=dtype, device=tensor.device).expand(packed.quant_shape)

"""What a model's parts, and what runs beside it, take in memory: pure arithmetic."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["denoiser", "text", "vae"]

_UNET_LISTS = ("down_blocks", "up_blocks", "input_blocks", "output_blocks")
_NUMBERED = re.compile(r"(?:^|[./])(\w+)\.(\d+)\.")


@dataclass(frozen=True)
class Sizes:
    """What a model's parts take in bytes, in the format they are loaded in.

    What else lies in memory while a model runs is counted alike, a ControlNet as a denoiser.

    Attributes:
        family: As `webui.library.recognition` names it; empty of what is no model.
        group: Largest part of the denoiser that is brought in at once when it is streamed.
        rest: What of the denoiser is in no such part and stays there while it runs.
        leaf: Largest single tensor of all parts.
        itemsize: Bytes of a number in the format computed in.
        packed: What of the denoiser takes no more than 8 bits a number as it is.
        vae_itemsize: The same of the VAE's, which may be another one.
    """

    family: str
    denoiser: int
    text: int
    vae: int
    group: int
    rest: int
    leaf: int
    itemsize: int = 2
    packed: int = 0
    vae_itemsize: int = 2

    @property
    def weights(self) -> int:
        """All parts together."""
        return self.denoiser + self.text + self.vae


def lora_sizes(kinds: Collection[Kind | None], files: int, sizes: Sizes) -> Sizes:
    """Sizes of LoRAs that change parts of those kinds, at most.

    While they are on, what they change is kept as it was loaded too; weights of 8 bits or fewer are
    not changed, but what is added to them lies there in float32 and as it is computed with.

    Args:
        files: Bytes of their files, which are in memory then.
        sizes: Of the model.
    """
    denoiser = sizes.denoiser - sizes.packed if "denoiser" in kinds else 0
    if sizes.packed and "denoiser" in kinds:
        files *= 3
    text = sizes.text if "text" in kinds else 0
    return Sizes("", denoiser + text + files, 0, 0, 0, 0, 0, sizes.itemsize)


def sizes_of(
    family: str,
    parts: Mapping[Kind, Mapping[str, int]],
    *,
    itemsize: int,
    vae_itemsize: int | None = None,
    packed: int = 0,
) -> Sizes:
    """Sizes of a model from the bytes of its parts' tensors, by name; `packed` as in `Sizes`."""
    totals = {kind: sum(tensors.values()) for kind, tensors in parts.items()}
    group, rest = _groups(parts.get("denoiser", {}))
    return Sizes(
        family,
        denoiser=totals.get("denoiser", 0),
        text=totals.get("text", 0),
        vae=totals.get("vae", 0),
        group=group,
        rest=rest,
        leaf=max((size for tensors in parts.values() for size in tensors.values()), default=0),
        itemsize=itemsize,
        packed=packed,
        vae_itemsize=vae_itemsize or itemsize,
    )


def _groups(denoiser: Mapping[str, int]) -> tuple[int, int]:
    """Largest group that is streamed, and what is in none.

    A transformer is streamed block by block. The few blocks of a UNet are too large for that: it is
    streamed layer by layer.
    """
    largest = max(denoiser.values(), default=0)
    if any(part in _UNET_LISTS for name in denoiser for part in re.split(r"[./]", name)):
        return largest, 0
    blocks: dict[tuple[str, str], int] = {}
    for name, size in denoiser.items():
        if (found := _NUMBERED.search(name)) is not None:
            place = (found[1], found[2])
            blocks[place] = blocks.get(place, 0) + size
    group = max(blocks.values(), default=largest)
    return group, sum(denoiser.values()) - sum(blocks.values())

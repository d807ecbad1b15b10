"""How a model is laid out in memory, decided before it is loaded: pure arithmetic.

Weights are counted from the files' headers. What computing takes beside them was measured with
`python -m webui bench activations`: the most bytes that torch held at once in one call of each
full-size network in bf16, its weights aside. It grows with the number of pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from webui.generation.devices import Device
from webui.settings import GIB, MemoryName, PlanName

Kind = Literal["denoiser", "text", "vae"]

SPARE_BYTES = 640 * 1024**2
"""Left free: kernels' workspaces, what the allocator rounds up, other programs' windows."""

TILE_SIDE = 512
"""Side in pixels of the tiles a VAE works on; diffusers' default for one trained at 512."""

LADDER: tuple[PlanName, ...] = ("resident", "turns", "stream", "sequential", "fp8")
"""From fast to lean. The last alters the picture a little, so all others are tried before."""

_QUICK: tuple[PlanName, ...] = ("resident", "turns")

_DECODE_BYTES = 1536
"""Of a VAE of Stable Diffusion's shape, a pixel of the picture, in a format of 2 bytes."""

_DENOISE_BYTES: Mapping[str, int] = MappingProxyType(
    {"SD 1": 520, "SD 2": 520, "SDXL": 370, "SD 3": 510, "Flux": 470}
)
"""A pixel of one picture, with the second pass that guidance takes where the family has it."""

_WIDE_DENOISE_BYTES = 940
"""Of others: twice Flux's, for twice the width (Flux 2) or a second pass (Qwen-Image, Z-Image)."""

_UNET_LISTS = ("down_blocks", "up_blocks", "input_blocks", "output_blocks")
_NUMBERED = re.compile(r"(?:^|[./])(\w+)\.(\d+)\.")


@dataclass(frozen=True)
class Sizes:
    """What a model's parts take in bytes, in the format they are loaded in.

    Attributes:
        family: As `webui.library.recognition` names it.
        group: Largest part of the denoiser that is brought in at once when it is streamed.
        rest: What of the denoiser is in no such part and stays there while it runs.
        leaf: Largest single tensor of all parts.
        itemsize: Bytes of a number in the format computed in.
    """

    family: str
    denoiser: int
    text: int
    vae: int
    group: int
    rest: int
    leaf: int
    itemsize: int = 2

    @property
    def weights(self) -> int:
        """All parts together."""
        return self.denoiser + self.text + self.vae


class PictureSize(NamedTuple):
    """What is to be made at once: size in pixels, and how many."""

    width: int
    height: int
    batch: int


USUAL = PictureSize(512, 512, 1)


@dataclass(frozen=True)
class MemoryPlan:
    """How a model is laid out, and why.

    Attributes:
        name: "resident": every part stays on the device. "turns": text encoders and denoiser take
            turns there. "stream": groups of layers are brought in while the ones before compute.
            "sequential": one layer at a time. "fp8": the denoiser's weights are kept in 8 bits and
            widened layer by layer.
        tiled: Whether the VAE works on tiles, and on one picture of a batch at a time.
        needs: Bytes it takes at most, `SPARE_BYTES` included.
        whole: Bytes that everything resident and untiled would take.
        free: Bytes that were free.
        asked: Whether the plan was asked for by name.
    """

    name: PlanName
    tiled: bool
    needs: int
    whole: int
    free: int
    asked: bool = False

    @property
    def fits(self) -> bool:
        """Whether it takes no more than was free."""
        return self.needs <= self.free

    @property
    def layout(self) -> str:
        """What of it can change a picture, and how it was laid out: "turns", "fp8 tiled"."""
        return f"{self.name} tiled" if self.tiled else self.name

    @property
    def why(self) -> str:
        """One sentence for people."""
        free = f"{self.free / GIB:.1f} GiB are free"
        needs = f"{_DONE[self.name]}{_TILED if self.tiled else ''}, which takes"
        if not self.fits:
            return f"{needs} {self.needs / GIB:.1f} GiB, and only {free}: it may not be enough."
        if self.asked:
            return f"{needs} {self.needs / GIB:.1f} GiB, as asked; {free}."
        if self.name == "resident" and not self.tiled:
            return f"{needs} {self.needs / GIB:.1f} GiB; {free}."
        return (
            f"{needs} {self.needs / GIB:.1f} GiB; everything at once would take"
            f" {self.whole / GIB:.1f} GiB, and {free}."
        )


_DONE: Mapping[PlanName, str] = MappingProxyType(
    {
        "resident": "The whole model stays in the device's memory",
        "turns": "Text encoders and denoiser take turns in the device's memory",
        "stream": "The model's layers are brought into the device's memory in groups",
        "sequential": "The model's layers are brought into the device's memory one by one",
        "fp8": "The denoiser's weights are kept in 8 bits",
    }
)
_TILED = ", and pictures are decoded in tiles"


def plan_memory(
    sizes: Sizes,
    free: int,
    device: Device,
    width: int,
    height: int,
    batch: int,
    *,
    host: int | None = None,
    asked: MemoryName = "auto",
) -> MemoryPlan:
    """The first plan that fits, or the leanest there is.

    Args:
        free: Bytes free on the device.
        width, height: Of the pictures, in pixels.
        batch: Pictures made at once.
        host: Bytes free in the machine's memory, where parts wait; None: enough.
        asked: A plan to take in any case; only whether the VAE works on tiles is then planned.
    """
    names: tuple[PlanName, ...] = (asked,) if asked != "auto" else _possible(sizes, device, host)
    work = _Work(sizes, width * height, batch)
    plans = [
        MemoryPlan(
            name,
            tiled,
            needs=_needs(name, sizes, work, tiled=tiled, apart=device.apart),
            whole=_needs("resident", sizes, work, tiled=False, apart=device.apart),
            free=free,
            asked=asked != "auto",
        )
        for name, tiled in _candidates(names)
    ]
    return next((plan for plan in plans if plan.fits), plans[-1])


def leaner(plan: MemoryPlan, device: Device) -> PlanName | None:
    """The next leaner plan to try, always with tiles, after that one has run out of memory.

    Returns:
        None where there is nothing leaner. The plan's own name: with tiles it has not been tried.
    """
    if not plan.tiled and plan.name == "resident" and not device.apart:
        return plan.name
    names = _possible(None, device, None)
    for name in names:
        if LADDER.index(name) > LADDER.index(plan.name):
            return name
    return None if plan.tiled else plan.name


def retried(plan: MemoryPlan, name: PlanName) -> MemoryPlan:
    """The plan of that name with tiles, in place of one that has run out of memory."""
    return MemoryPlan(name, True, plan.needs, plan.whole, plan.free, plan.asked)


def _possible(sizes: Sizes | None, device: Device, host: int | None) -> tuple[PlanName, ...]:
    """Plans that make a difference on the device, in their order.

    Where the device has no memory of its own, nothing is gained by parts waiting elsewhere; MPS
    knows no 8-bit floats.
    """
    if device.platform == "MPS":
        return ("resident",)
    if not device.apart:
        return ("resident", "fp8")
    if sizes is not None and host is not None and host < sizes.denoiser + sizes.text:
        return ("resident", "turns", "fp8") if host >= sizes.text else ("resident", "fp8")
    return ("resident", "turns", "stream", "sequential")


def _candidates(names: tuple[PlanName, ...]) -> Iterator[tuple[PlanName, bool]]:
    """Names with and without tiles: tiles alter pictures a little, so they come after turns."""
    for tiled in (False, True):
        for name in _QUICK:
            if name in names:
                yield name, tiled
    for name in names:
        if name not in _QUICK:
            yield name, False
            yield name, True


@dataclass(frozen=True)
class _Work:
    """Bytes that computing takes beside the weights, for pictures of so many pixels."""

    sizes: Sizes
    pixels: int
    batch: int

    @property
    def denoise(self) -> int:
        """Of all pictures of a batch at once, guidance included."""
        each = _DENOISE_BYTES.get(self.sizes.family, _WIDE_DENOISE_BYTES)
        return each * self.pixels * self.batch * self.sizes.itemsize // 2

    def decode(self, *, tiled: bool) -> int:
        """Of one picture, since they are decoded one by one."""
        pixels = min(self.pixels, TILE_SIDE**2) if tiled else self.pixels
        # Tiles are put together in a picture of float32 beside them.
        whole = self.pixels * 3 * 4 * 2 if tiled else 0
        return _DECODE_BYTES * pixels * self.sizes.itemsize // 2 + whole


def _needs(name: PlanName, sizes: Sizes, work: _Work, *, tiled: bool, apart: bool) -> int:
    """Bytes the plan takes at most."""
    busy = max(work.denoise, work.decode(tiled=tiled))
    match name:
        case "resident":
            weights = sizes.weights + busy
        case "turns":
            weights = sizes.vae + max(sizes.text, sizes.denoiser + busy)
        case "stream":
            # One group computes while the next one arrives.
            weights = sizes.vae + max(2 * sizes.leaf, sizes.rest + 2 * sizes.group + busy)
        case "sequential":
            weights = max(2 * sizes.leaf, 2 * min(sizes.leaf, sizes.group) + busy)
        case "fp8":
            small = sizes.denoiser // sizes.itemsize + sizes.leaf + busy
            weights = sizes.vae + (max(sizes.text, small) if apart else sizes.text + small)
    return weights + SPARE_BYTES


def sizes_of(family: str, parts: Mapping[Kind, Mapping[str, int]], *, itemsize: int) -> Sizes:
    """Sizes of a model from the bytes of its parts' tensors, by name."""
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

"""How a model is laid out in memory, decided before it is loaded: pure arithmetic.

Weights are counted from the files' headers. What computing takes beside them is measured with
`python -m webui bench models --only activations`: the most bytes that torch holds at once in one
call of each full-size network in bf16, its weights aside. It grows with the number of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from webui.events import PlanReason
from webui.generation.devices import Device
from webui.generation.sizes import Sizes
from webui.settings import GIB, MemoryName, PlanName

SPARE_BYTES = 640 * 1024**2
"""Left free: kernels' workspaces, what the allocator rounds up, other programs' windows."""

TILE_SIDE = 512
"""Side in pixels of the tiles a VAE works on; diffusers' default for one trained at 512."""

LADDER: tuple[PlanName, ...] = ("resident", "turns", "drop", "stream", "sequential", "fp8")
"""From fast to lean. The last alters the picture a little, so all others are tried before."""

_QUICK: tuple[PlanName, ...] = ("resident", "turns")

DECODE_BYTES = 1536
"""Of a VAE of Stable Diffusion's shape, a pixel of the picture, in a format of 2 bytes."""

DENOISE_BYTES: Mapping[str, int] = MappingProxyType(
    {"SD 1": 520, "SD 2": 520, "SDXL": 370, "SD 3": 510, "Flux": 470}
)
"""A pixel of one picture, with the second pass that guidance takes where the family has it."""

_WIDE_DENOISE_BYTES = 940
"""Of others: twice Flux's, for twice the width (Flux 2) or a second pass (Qwen-Image, Z-Image)."""


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
            turns there. "drop": so they do, each read from its files when it is used and let go
            after. "stream": groups of layers are brought in while the ones before compute.
            "sequential": one layer at a time. "fp8": the denoiser's weights are kept in 8 bits and
            widened layer by layer.
        tiled: Whether the VAE works on tiles, and on one picture of a batch at a time.
        needs: Bytes it takes at most, with what lies beside the model and `SPARE_BYTES`.
        whole: Bytes that everything resident and untiled would take.
        free: Bytes that were free.
        reason: "room": the first that fits, or the leanest there is. "asked": asked for by name.
            "ran out": what is less lean has run out of memory before. "kept": the model lies in
            memory so already, and another way would mean to load it again.
        leaner: The plans after it that make a difference here, in their order.
    """

    name: PlanName
    tiled: bool
    needs: int
    whole: int
    free: int
    reason: PlanReason = "room"
    leaner: tuple[PlanName, ...] = ()

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
        done = f"{_DONE[self.name]}{_TILED if self.tiled else ''}{_REASONS[self.reason]}"
        needs = f"{done}, which takes {self.needs / GIB:.1f} GiB"
        free = f"{self.free / GIB:.1f} GiB are free"
        if not self.fits:
            return f"{needs}, and only {free}: it may not be enough."
        if self.reason != "room" or (self.name == "resident" and not self.tiled):
            return f"{needs}; {free}."
        return f"{needs}; everything at once would take {self.whole / GIB:.1f} GiB, and {free}."


_DONE: Mapping[PlanName, str] = MappingProxyType(
    {
        "resident": "The whole model stays in the device's memory",
        "turns": "Text encoders and denoiser take turns in the device's memory",
        "drop": "Text encoders and denoiser are read when they are used, and let go",
        "stream": "The model's layers are brought into the device's memory in groups",
        "sequential": "The model's layers are brought into the device's memory one by one",
        "fp8": "The denoiser's weights are kept in 8 bits",
    }
)
_TILED = ", and pictures are decoded in tiles"
_REASONS: Mapping[PlanReason, str] = MappingProxyType(
    {
        "room": "",
        "asked": ", as asked",
        "ran out": ", since memory ran out",
        "kept": ", as it was loaded before",
    }
)


def plan_memory(
    sizes: Sizes,
    free: int,
    device: Device,
    width: int,
    height: int,
    batch: int,
    *,
    beside: Sequence[Sizes] = (),
    host: int | None = None,
    asked: MemoryName = "auto",
    after: PlanName | None = None,
    kept: PlanName | None = None,
) -> MemoryPlan:
    """The first plan that fits, or the leanest there is.

    Args:
        free: Bytes free on the device, with what the model and all beside it take by now.
        width, height: Of the pictures, in pixels.
        batch: Pictures made at once.
        beside: What else lies in memory while it runs: ControlNets, a refiner, LoRAs.
        host: Bytes free in the machine's memory, where parts wait; None: enough.
        asked: A plan to take in any case; only whether the VAE works on tiles is then planned.
        after: The least lean plan to take after one has run out of memory; that one in tiles.
        kept: The plan that the model is in memory by, which is then the one to take.
    """
    possible = _possible((sizes, *beside), device, host)
    names: tuple[PlanName, ...] = possible
    reason: PlanReason = "room"
    if kept is not None:
        names, reason = (kept,), "kept"
    elif after is not None:
        names, reason = (after, *_leaner_than(after, possible)), "ran out"
    elif asked != "auto":
        names, reason = (asked,), "asked"
    work = _Work(sizes, width * height, batch)

    def needs(name: PlanName, *, tiled: bool) -> int:
        busy = max(work.denoise, work.decode(tiled=tiled))
        others = sum(_takes(name, one, 0, apart=device.apart) for one in beside)
        return _takes(name, sizes, busy, apart=device.apart) + others + SPARE_BYTES

    plans = [
        MemoryPlan(
            name,
            tiled,
            needs=needs(name, tiled=tiled),
            whole=needs("resident", tiled=False),
            free=free,
            reason=reason,
            leaner=_leaner_than(name, possible),
        )
        for name, tiled in _candidates(names)
        if tiled or name != after
    ]
    return next((plan for plan in plans if plan.fits), plans[-1])


def leaner(plan: MemoryPlan) -> PlanName | None:
    """The next leaner plan to try, always with tiles, after that one has run out of memory.

    Returns:
        None where there is nothing leaner. The plan's own name: with tiles it has not been tried.
    """
    if not plan.tiled and plan.name == "resident" and "turns" not in plan.leaner:
        return plan.name
    if plan.leaner:
        return plan.leaner[0]
    return None if plan.tiled else plan.name


def _leaner_than(name: PlanName, names: Sequence[PlanName]) -> tuple[PlanName, ...]:
    return tuple(other for other in names if LADDER.index(other) > LADDER.index(name))


def _possible(together: Sequence[Sizes], device: Device, host: int | None) -> tuple[PlanName, ...]:
    """Plans that make a difference on the device, in their order.

    Where the device has no memory of its own, nothing is gained by parts waiting elsewhere: they
    are read again. MPS knows no 8-bit floats.
    """
    if device.platform == "MPS":
        return ("resident", "drop")
    if not device.apart:
        return ("resident", "drop", "fp8")
    text = sum(sizes.text for sizes in together)
    if host is not None and host < text + sum(sizes.denoiser for sizes in together):
        return ("resident", "turns", "fp8") if host >= text else ("resident", "fp8")
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
        each = DENOISE_BYTES.get(self.sizes.family, _WIDE_DENOISE_BYTES)
        return each * self.pixels * self.batch * self.sizes.itemsize // 2

    def decode(self, *, tiled: bool) -> int:
        """Of one picture, since they are decoded one by one."""
        pixels = min(self.pixels, TILE_SIDE**2) if tiled else self.pixels
        # Tiles are put together in a picture of float32 beside them.
        whole = self.pixels * 3 * 4 * 2 if tiled else 0
        return DECODE_BYTES * pixels * self.sizes.vae_itemsize // 2 + whole


def _takes(name: PlanName, sizes: Sizes, busy: int, *, apart: bool) -> int:
    """Bytes a model laid out so takes at most, with those that computing takes beside it."""
    match name:
        case "resident":
            return sizes.weights + busy
        case "turns" | "drop":
            return sizes.vae + max(sizes.text, sizes.denoiser + busy)
        case "stream":
            # One group computes while the next one arrives.
            return sizes.vae + max(2 * sizes.leaf, sizes.rest + 2 * sizes.group + busy)
        case "sequential":
            return max(2 * sizes.leaf, 2 * min(sizes.leaf, sizes.group) + busy)
        case "fp8":
            wide = sizes.denoiser - sizes.packed
            small = sizes.packed + wide // sizes.itemsize + sizes.leaf + busy
            return sizes.vae + (max(sizes.text, small) if apart else sizes.text + small)

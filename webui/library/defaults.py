"""Models to begin with, by what the machine can carry."""

from __future__ import annotations

import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from webui.settings import GIB

Rank = Literal["small", "standard", "large"]

_PATIENCE_SECONDS = 5.0
_SHARED_BY_APPLE = 0.66
"""How much of its memory a Mac gives its graphics at the most."""


@dataclass(frozen=True)
class Default:
    """A model to begin with.

    Attributes:
        source: What `webui.library.sources.source_of` takes.
        size: About so many bytes are downloaded.
        memory: Bytes of graphics memory with which it is good to use.
        licence: Its name, as its publisher has it.
    """

    rank: Rank
    name: str
    source: str
    size: int
    memory: int
    licence: str


DEFAULTS = (
    Default(
        "small",
        "Stable Diffusion 1.5",
        "Comfy-Org/stable-diffusion-v1-5-archive/v1-5-pruned-emaonly-fp16.safetensors",
        2_130_000_000,
        3 * GIB,
        "CreativeML OpenRAIL-M",
    ),
    Default(
        "standard",
        "Stable Diffusion XL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0/sd_xl_base_1.0.safetensors",
        6_940_000_000,
        8 * GIB,
        "CreativeML Open RAIL++-M",
    ),
    Default(
        "large",
        "FLUX.2 klein 4B",
        "black-forest-labs/FLUX.2-klein-4B/model_index.json",
        16_000_000_000,
        12 * GIB,
        "Apache 2.0",
    ),
)
"""From the smallest to the largest; none of them wants an account."""


def fitting(memory: int | None) -> tuple[Default, ...]:
    """Those that the memory carries, the best last; none without a graphics card.

    Args:
        memory: Of the graphics card, in bytes.
    """
    # What a card calls 8 GB is often a little less.
    room = (memory or 0) * 1.05
    return tuple(one for one in DEFAULTS if one.memory <= room)


def graphics_memory() -> int | None:
    """Bytes of the largest graphics card's memory, without loading torch; `None`: no card."""
    found = [*_nvidia(), *_amd()]
    if not found and platform.system() == "Darwin" and platform.machine() == "arm64":
        found = [int(psutil.virtual_memory().total * _SHARED_BY_APPLE)]
    return max(found, default=None)


def _nvidia() -> list[int]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    ask = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            ask, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) * 1024**2 for line in said.split() if line.isdecimal()]


def _amd() -> list[int]:
    found: list[int] = []
    for file in Path("/sys/class/drm").glob("card*/device/mem_info_vram_total"):
        with suppress(OSError, ValueError):
            found.append(int(file.read_text()))
    return found

"""How much memory the graphics card has, found out without loading torch."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

SYSTEM = Path("/sys")
"""Where Linux tells of its devices."""

_PATIENCE_SECONDS = 5.0
_SHARED_BY_APPLE = 0.66
"""How much of its memory a Mac gives its graphics at the most."""

_INTEL = "0x8086"
_LOCAL_MEMORY = 2
"""Which of an Intel card's windows on the PCI bus shows its memory; a processor's own graphics show
256 MB of the machine's there."""


def graphics_memory(system: Path = SYSTEM) -> int | None:
    """Bytes of the largest graphics card's memory; `None`: no card."""
    found = [*_nvidia(), *_amd(system), *_intel(system)]
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


def _amd(system: Path) -> Iterator[int]:
    for file in system.glob("class/drm/card*/device/mem_info_vram_total"):
        with suppress(OSError, ValueError):
            yield int(file.read_text())


def _intel(system: Path) -> Iterator[int]:
    """By the kernel's drivers where they tell it (xe tile by tile, Intel's own i915), else by the
    window through which the processor reaches it, which is as large on machines that suit it."""
    for file in system.glob("class/drm/card*/device/vendor"):
        with suppress(OSError, ValueError, IndexError):
            if file.read_text().strip() != _INTEL:
                continue
            device = file.parent
            told = [
                int(one.read_text())
                for one in (
                    *device.glob("tile*/physical_vram_size_bytes"),
                    *device.parent.glob("lmem_total_bytes"),
                )
            ]
            yield sum(told) or _window(device)


def _window(device: Path) -> int:
    begin, end, _ = (device / "resource").read_text().splitlines()[_LOCAL_MEMORY].split()
    return int(end, 16) - int(begin, 16) + 1 if int(end, 16) else 0

"""The machine and the versions a table was measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import torch

from webui.settings import GIB

PACKAGES = ("torch", "diffusers", "transformers")
UNITS = ("amx_bf16", "avx512_bf16", "bf16", "avx512_vnni", "avx512_f", "avx2")
"""What decides how fast matrices are multiplied, as `torch.cpu.get_capabilities` names it."""


def describe() -> dict[str, str]:
    """What to know about this machine, by name, in the order to show it."""
    capabilities = torch.cpu.get_capabilities()
    units = [unit for unit in UNITS if capabilities.get(unit) is True]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "units": ", ".join(units) or "none of " + ", ".join(UNITS),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "memory": f"{_memory() / GIB:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(
            [
                f"python {platform.python_version()}",
                *(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
            ]
        ),
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; load before: {load}",
    }


def _processor() -> str:
    """Name, family and model: cloud machines often hide the exact name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    name = found.get("model name", platform.machine())
    numbers = [f"{key.removeprefix('cpu ')} {found[key]}" for key in found if key != "model name"]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _memory() -> int:
    """Bytes of main memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0

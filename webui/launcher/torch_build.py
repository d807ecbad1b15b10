"""Which build of torch fits this machine.

The plain index has a CUDA build for Linux and CPU builds (on a Mac: with MPS) elsewhere. For any
other GPU the build comes from torch's own index, where uv's `--torch-backend` finds it.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webui.launcher.console import SetupError, answer_of

PLAIN = "plain"
"""The build of the plain index, installed from the lock with hashes."""

AUTO = "auto"
"""What uv finds fitting for this machine on torch's own index."""

LEGACY_CUDA = "cu126"
"""The last CUDA with kernels for GPUs older than Turing."""

PLAIN_DRIVER = 580
"""The oldest NVIDIA driver that runs the plain index's build, which is made with CUDA 13."""

PLAIN_CAPABILITY = (7, 5)
"""The oldest compute capability that build has kernels for (Turing)."""

XFORMERS_CUDA = "cu128"
"""The CUDA that the xformers wheel was built for."""

XFORMERS_DRIVER = 525
"""The oldest NVIDIA driver that runs programs made with CUDA 12."""

_X86 = ("x86_64", "AMD64")

_NVIDIA_QUERY = ("--query-gpu=driver_version,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True)
class Machine:
    """What of this machine decides on the build.

    Attributes:
        system: `sys.platform`.
        driver: Major version of the NVIDIA driver; `None` where there is no such GPU.
        capability: Compute capability of the newest NVIDIA GPU, where known.
        rocm: Whether ROCm's tools, by which uv tells AMD GPUs, are installed.
        arc: Whether there is an Intel GPU of its own (not the processor's).
        processor: `platform.machine()`.
    """

    system: str
    driver: int | None = None
    capability: tuple[int, int] | None = None
    rocm: bool = False
    arc: bool = False
    processor: str = "x86_64"


def choose(machine: Machine, requested: str = "") -> str:
    """Chooses the build.

    Args:
        machine: The machine it is for.
        requested: A backend the user named (`UV_TORCH_BACKEND`); it wins.

    Returns:
        `PLAIN`, or a value for uv's `--torch-backend`.
    """
    if requested:
        return requested
    if machine.system == "darwin":
        return PLAIN
    if machine.driver is not None:
        if machine.capability is not None and machine.capability < PLAIN_CAPABILITY:
            return LEGACY_CUDA
        fits = machine.system == "linux" and machine.driver >= PLAIN_DRIVER
        return PLAIN if fits else AUTO
    return AUTO if machine.system == "linux" and (machine.rocm or machine.arc) else PLAIN


def choose_for_xformers(machine: Machine, requested: str = "") -> str:
    """Chooses the build of the torch that the xformers wheel was built for.

    The plain index has it for Linux; for Windows its CUDA build is on torch's own index.

    Raises:
        SetupError: There is no wheel for this machine, or its GPU's driver is too old.
    """
    if requested:
        return requested
    if machine.system not in ("linux", "win32") or machine.processor not in _X86:
        raise SetupError(
            "xformers has ready-made builds for Linux and Windows on x86 processors only: start"
            " without --xformers."
        )
    if machine.driver is not None and machine.driver < XFORMERS_DRIVER:
        raise SetupError(
            f"xformers needs an NVIDIA driver from {XFORMERS_DRIVER} on, and this is"
            f" {machine.driver}: update the driver, or start without --xformers."
        )
    return PLAIN if machine.system == "linux" else XFORMERS_CUDA


def parse_nvidia_smi(text: str) -> tuple[int, tuple[int, int]] | None:
    """Reads `nvidia-smi`'s lines "driver version, compute capability", one a GPU.

    Returns:
        The driver's major version and the highest capability; `None` where there is no GPU.
    """
    found = re.findall(r"^\s*(\d+)[\d.]*\s*,\s*(\d+)\.(\d+)\s*$", text, re.MULTILINE)
    if not found:
        return None
    return int(found[0][0]), max((int(major), int(minor)) for _, major, minor in found)


def survey(sys_folder: Path = Path("/sys")) -> Machine:
    """Looks at this machine; asks `nvidia-smi`, which can take a second."""
    nvidia = parse_nvidia_smi(answer_of(("nvidia-smi", *_NVIDIA_QUERY)) or "")
    driver, capability = nvidia or (_kernel_driver(sys_folder), None)
    return Machine(
        system=sys.platform,
        driver=driver,
        capability=capability,
        rocm=shutil.which("rocm_agent_enumerator") is not None,
        # The processor's own GPU sits at 00:02.0; torch's XPU build wants a card.
        arc=any(
            vendor == "0x8086" and not address.endswith("00:02.0")
            for address, vendor, _ in _display_devices(sys_folder)
        ),
        processor=platform.machine(),
    )


def fingerprint(sys_folder: Path = Path("/sys")) -> str:
    """Names what `survey` would look at, in a few milliseconds, to tell whether it has changed."""
    tools = [
        name for name in ("nvidia-smi", "rocm_agent_enumerator") if shutil.which(name) is not None
    ]
    devices = [
        f"{address}={vendor}:{device}" for address, vendor, device in _display_devices(sys_folder)
    ]
    return " ".join([sys.platform, str(_kernel_driver(sys_folder) or "-"), *tools, *devices])


def _kernel_driver(sys_folder: Path) -> int | None:
    version = _line(sys_folder / "module" / "nvidia" / "version").partition(".")[0]
    return int(version) if version.isdecimal() else None


def _display_devices(sys_folder: Path) -> Iterator[tuple[str, str, str]]:
    """Address, vendor and device of what is on the PCI bus in the display class (0x03)."""
    for device in sorted((sys_folder / "bus" / "pci" / "devices").glob("*")):
        if _line(device / "class").startswith("0x03"):
            yield device.name, _line(device / "vendor"), _line(device / "device")


def _line(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""

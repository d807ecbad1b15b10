"""Which device, number format and memory layout are fastest on this machine, and what is free."""

from __future__ import annotations

import ctypes
import errno
import gc
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from webui.errors import OutOfMemoryError, StartError
from webui.settings import DeviceName, DtypeName

Layout = Literal["channels_last", "contiguous"]
Platform = Literal["CUDA", "ROCm", "MPS", "XPU", "CPU"]

_PREFERENCE: tuple[DeviceName, ...] = ("cuda", "xpu", "mps", "cpu")
_SYSTEM = Path("/")

_OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator|out of memory|invalid buffer size"
    r"|_STATUS_ALLOC_FAILED|rocblas_status_memory_error|_OUT_OF_(?:\w+_MEMORY|RESOURCES)"
    r"|cannot allocate memory|\(os error (?:12|1455)\)",
    re.IGNORECASE,
)
"""What errors say: of torch's allocators, of CUDA's, HIP's and SYCL's libraries, of the system."""


@dataclass(frozen=True)
class Device:
    """Where and how the engine computes.

    Attributes:
        name: As torch spells it: "cpu", "cuda:0" (ROCm's too), "mps", "xpu:0".
        dtype: Number format of weights and activations.
        layout: Memory layout of the convolutions' weights.
        reason: Half a sentence saying why, for the page's status line.
        platform: What drives it; torch calls ROCm "cuda" too.
        attention: How denoisers compute attention, by our names.
    """

    name: str
    dtype: torch.dtype
    layout: Layout
    reason: str
    platform: Platform = "CPU"
    attention: str = "native"

    @property
    def dtype_name(self) -> str:
        """The format without torch's prefix: "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout as torch names it."""
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format

    @property
    def title(self) -> str:
        """The device for people: what torch calls it, with the platform where that differs."""
        return f"{self.name} (ROCm)" if self.platform == "ROCm" else self.name

    @property
    def apart(self) -> bool:
        """Whether it has memory of its own, so that parts of a model can wait outside of it."""
        return self.platform in ("CUDA", "ROCm", "XPU")


def choose_device(device: DeviceName = "auto", dtype: DtypeName = "auto") -> Device:
    """Picks what "auto" leaves open.

    On a CPU with bf16 units (AVX512-BF16, AMX) bf16 is several times as fast as fp32 and the
    convolutions want channels_last; without the units bf16 is emulated and slower than fp32.

    Raises:
        StartError: The named device does not exist here.
    """
    name = _device_name(device)
    platform = platform_of(name, hip=torch.version.hip)
    fastest, reason = _fastest(platform)
    chosen = fastest if dtype == "auto" else getattr(torch, dtype)
    if dtype != "auto":
        reason = "as asked"
    layout: Layout = "contiguous" if name == "mps" else "channels_last"
    return Device(name, chosen, layout, reason, platform)


def platform_of(name: str, *, hip: str | None) -> Platform:
    """What drives the device of that name, where `hip` is `torch.version.hip`."""
    match name.partition(":")[0]:
        case "cuda":
            return "CUDA" if hip is None else "ROCm"
        case "mps":
            return "MPS"
        case "xpu":
            return "XPU"
        case _:
            return "CPU"


def _device_name(device: DeviceName) -> str:
    there: dict[DeviceName, bool] = {
        "cuda": torch.cuda.is_available(),
        "xpu": torch.xpu.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        device = next(name for name in _PREFERENCE if there[name])
    if not there[device]:
        raise StartError(f"There is no {device} device here that torch can use: try --device auto.")
    return f"{device}:0" if device in ("cuda", "xpu") else device


def _fastest(platform: Platform) -> tuple[torch.dtype, str]:
    match platform:
        case "CUDA" | "ROCm":
            gpu = "the AMD GPU" if platform == "ROCm" else "the GPU"
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return torch.bfloat16, f"{gpu} has bf16 units"
            return torch.float16, f"{gpu} has fp16 units"
        case "XPU":
            return torch.bfloat16, "the Intel GPU has bf16 units"
        case "MPS":
            return torch.float16, "the GPU has fp16 units"
        case "CPU":
            if has_bf16_units(cpu_capabilities()):
                return torch.bfloat16, "the CPU has bf16 units"
            return torch.float32, "the CPU has no bf16 units"


def cpu_capabilities(root: Path = _SYSTEM) -> Mapping[str, object]:
    """What the CPU can do, by torch's names, which for bf16 are those of `/proc/cpuinfo` too.

    The torch that xformers was built for cannot be asked yet.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        return ask()
    return dict.fromkeys(_text(root / "proc" / "cpuinfo").split(), True)


def has_bf16_units(capabilities: Mapping[str, object]) -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware (`torch.cpu.get_capabilities`)."""
    return any(capabilities.get(unit) is True for unit in ("amx_bf16", "avx512_bf16", "bf16"))


@dataclass(frozen=True)
class Memory:
    """A device's memory in bytes; `free` is what this process may still take."""

    free: int
    total: int


def memory_of(name: str) -> Memory:
    """How much memory the device of that name has.

    What torch has taken from a device and does not use counts as free. A GPU that shares the
    machine's memory (MPS) has what its driver recommends at most.
    """
    match name.partition(":")[0]:
        case "cuda":
            return _with_spare(torch.cuda, name)
        case "xpu":
            return _with_spare(torch.xpu, name)
        case "mps":
            total = torch.mps.recommended_max_memory()
            free = min(total - torch.mps.driver_allocated_memory(), system_memory().free)
            return Memory(max(0, free), total)
        case _:
            return system_memory()


def free_bytes(name: str) -> int:
    """Bytes of the device's memory that this process may still take."""
    return memory_of(name).free


def bytes_on(tensors: Iterable[torch.Tensor], name: str) -> int:
    """Bytes of those tensors that lie in the memory of the device of that name."""
    kind = torch.device(name).type
    return sum(held_by(tensor) for tensor in tensors if tensor.device.type == kind)


def held_by(tensor: torch.Tensor) -> int:
    """Bytes of memory that a tensor takes: one that repeats a number takes next to none."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def _with_spare(backend: Any, name: str) -> Memory:
    """A backend's memory, in which its caching allocator may hold blocks that nobody uses."""
    free, total = backend.mem_get_info(name)
    spare = backend.memory_reserved(name) - backend.memory_allocated(name)
    return Memory(free + spare, total)


def give_back(name: str) -> None:
    """Hands memory that nobody uses any more back to the device and to the system.

    What was in reference cycles is collected, torch's cache of the device is emptied, and the C
    library is told to let go of what is free of its heap, which it would keep for itself.
    """
    gc.collect()
    for kind, backend in (("cuda", torch.cuda), ("xpu", torch.xpu), ("mps", torch.mps)):
        if name.startswith(kind):
            backend.empty_cache()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left.

    torch has a class for that, but raises it for few devices: what others, and the libraries they
    compute with, run out of is known by their words.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError | OSError):
        return False
    by_number = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return by_number or _OUT_OF_MEMORY.search(str(error)) is not None


def system_memory(root: Path = _SYSTEM) -> Memory:
    """The machine's memory, within the limits of the control groups this process is in.

    Args:
        root: Folder under which `proc` and `sys` are.
    """
    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    for limit, used in _group_limits(root):
        free, total = min(free, max(0, limit - used)), min(total, limit)
    return Memory(free, total)


def _group_limits(root: Path) -> list[tuple[int, int]]:
    """Limit and use in bytes of every control group above this process that has a limit.

    Files a group has read count as its use though the kernel would drop them first: they are
    taken off.
    """
    limits: list[tuple[int, int]] = []
    base = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            top, names = base, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = base / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        here = top / path.strip("/")
        # In a container the path is often that of the host, and the group lies at the top.
        folders = [here, *here.parents][: len(here.parts) - len(top.parts) + 1]
        for folder in folders:
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None:
                limits.append((limit, used - _stat(folder / "memory.stat", names[2])))
    return limits


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    """The number in a file; None where there is none, such as "max"."""
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _stat(file: Path, name: str) -> int:
    for line in _text(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0

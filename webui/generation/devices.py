"""Which device, number format and memory layout are fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from webui.errors import StartError
from webui.settings import DeviceName, DtypeName

Layout = Literal["channels_last", "contiguous"]


@dataclass(frozen=True)
class Device:
    """Where and how the engine computes.

    Attributes:
        name: As torch spells it: "cpu", "cuda:0", "mps".
        dtype: Number format of weights and activations.
        layout: Memory layout of the convolutions' weights.
        reason: Half a sentence saying why, for the page's status line.
    """

    name: str
    dtype: torch.dtype
    layout: Layout
    reason: str

    @property
    def dtype_name(self) -> str:
        """The format without torch's prefix: "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout as torch names it."""
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format


def choose_device(device: DeviceName = "auto", dtype: DtypeName = "auto") -> Device:
    """Picks what "auto" leaves open.

    On a CPU with bf16 units (AVX512-BF16, AMX) bf16 is several times as fast as fp32 and the
    convolutions want channels_last; without the units bf16 is emulated and slower than fp32.

    Raises:
        StartError: The named device does not exist here.
    """
    name = _device_name(device)
    fastest, reason = _fastest(name)
    chosen = fastest if dtype == "auto" else getattr(torch, dtype)
    if dtype != "auto":
        reason = "as asked"
    return Device(name, chosen, "contiguous" if name == "mps" else "channels_last", reason)


def _device_name(device: DeviceName) -> str:
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if (device == "cuda" and not has_cuda) or (device == "mps" and not has_mps):
        raise StartError(f"There is no {device} device here that torch can use: try --device auto.")
    if device == "auto":
        device = "cuda" if has_cuda else "mps" if has_mps else "cpu"
    return "cuda:0" if device == "cuda" else device


def _fastest(name: str) -> tuple[torch.dtype, str]:
    if name.startswith("cuda"):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU has bf16 units"
        return torch.float16, "the GPU has fp16 units"
    if name == "mps":
        return torch.float16, "the GPU has fp16 units"
    if has_bf16_units(torch.cpu.get_capabilities()):
        return torch.bfloat16, "the CPU has bf16 units"
    return torch.float32, "the CPU has no bf16 units"


def has_bf16_units(capabilities: Mapping[str, object]) -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware (`torch.cpu.get_capabilities`)."""
    return any(capabilities.get(unit) is True for unit in ("amx_bf16", "avx512_bf16", "bf16"))

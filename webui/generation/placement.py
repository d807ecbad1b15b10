"""Puts a loaded model where its memory plan says, by diffusers' and accelerate's own hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from accelerate.hooks import (  # pyright: ignore[reportMissingTypeStubs]
    ModelHook,
    add_hook_to_module,
)
from accelerate.utils import operations  # pyright: ignore[reportMissingTypeStubs]
from diffusers.hooks.group_offloading import apply_group_offloading

from webui.generation.devices import Device
from webui.generation.fp8 import store_in_fp8
from webui.generation.memory import TILE_SIDE
from webui.generation.sizes import Kind
from webui.settings import PlanName

Parts = Mapping[str, torch.nn.Module]

_CPU = torch.device("cpu")
_DENOISERS = ("unet", "transformer", "controlnet")


def kind_of(part: str) -> Kind | None:
    """What a component of that name is for memory's sake; None: a small one that always stays."""
    if part in _DENOISERS:
        return "denoiser"
    if part.startswith("text_encoder"):
        return "text"
    return "vae" if part == "vae" else None


def place(parts: Parts, plan: PlanName, device: Device) -> None:
    """Gives a freshly loaded model's parts weights of their own where the plan wants them.

    Args:
        parts: The networks by diffusers' names of the components.
    """
    for name, part in parts.items():
        kind = kind_of(name)
        if kind == "denoiser" and plan == "fp8":
            # Before it comes to the device, which may not have room for all of it.
            store_in_fp8(part, device.dtype)
        own(
            part,
            device,
            convolves=kind in ("denoiser", "vae"),
            home=device.name if _stays(kind, plan, device) else "cpu",
            dtype=vae_dtype(cast(Any, part).config, device.dtype) if kind == "vae" else None,
        )
    text, denoisers = _of_kind(parts, "text"), _of_kind(parts, "denoiser")
    match plan:
        case "resident" | "drop":
            pass
        case "turns":
            _take_turns(text, denoisers, device)
        case "stream":
            for part in (*text, *denoisers):
                _stream(part, device)
        case "sequential":
            for part in parts.values():
                _offload(part, device, streamed=False)
        case "fp8":
            if device.apart:
                _take_turns(text, denoisers, device)


def vae_dtype(config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
    """The format a VAE is computed in where everything else is in `dtype`.

    The activations of many are too large for fp16 (SDXL's above all), which their configuration
    says. diffusers heeds it for SDXL alone; the others only gain by it.
    """
    too_large = dtype is torch.float16 and config.get("force_upcast", True)
    return torch.float32 if too_large else dtype


def own(
    module: torch.nn.Module,
    device: Device,
    *,
    convolves: bool,
    home: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Gives the module weights of its own on the device, in the device's layout.

    Straight from loading those that were not converted are views of the mapped file: a second copy
    beside the others for as long as any of them is left, and a crash when somebody cuts the file
    short. What already lies as it shall is not copied again.

    Args:
        home: Where else they are to lie, as torch spells it.
        dtype: The format for numbers with a fraction that are to have another one.
    """
    module.eval().requires_grad_(False)
    for tensor in (*module.parameters(), *module.buffers()):
        layout = torch.contiguous_format
        if convolves and tensor.ndim == 4:
            layout = device.memory_format
        data = tensor.data
        tensor.data = data.to(
            home or device.name,
            dtype if data.is_floating_point() else None,
            copy=not _is_own(data),
            memory_format=layout,
        )


def _is_own(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is its own alone; torch can resize no memory that is mapped."""
    storage = tensor.untyped_storage()
    return storage.resizable() and storage.nbytes() == tensor.nbytes


def decode_in_tiles(vae: torch.nn.Module, *, tiled: bool) -> None:
    """Makes a VAE of diffusers work on tiles and single pictures, or on all at once again."""
    untyped: Any = vae
    for name in ("slicing", "tiling"):
        switch = getattr(untyped, f"{'enable' if tiled else 'disable'}_{name}", None)
        if switch is not None:
            switch()
    size = getattr(untyped, "tile_sample_min_size", None)
    if tiled and isinstance(size, int) and size > TILE_SIDE:
        shrink = size // untyped.tile_latent_min_size
        untyped.tile_sample_min_size = TILE_SIDE
        untyped.tile_latent_min_size = TILE_SIDE // shrink


def _stays(kind: Kind | None, plan: PlanName, device: Device) -> bool:
    """Whether a part lies on the device from the beginning."""
    match plan:
        case "resident" | "drop":
            return True
        case "turns" | "stream":
            return kind in (None, "vae")
        case "sequential":
            return False
        case "fp8":
            return kind != "text" or not device.apart


def _of_kind(parts: Parts, kind: Kind) -> list[torch.nn.Module]:
    return [part for name, part in parts.items() if kind_of(name) == kind]


def _stream(part: torch.nn.Module, device: Device) -> None:
    """Brings a part's layers in while the ones before compute, where the device can do both."""
    streamed = device.platform in ("CUDA", "ROCm")
    blocks = any(isinstance(child, torch.nn.ModuleList) for child in part.children())
    # The blocks of UNets and their ControlNets are too large; a text encoder's layers lie deeper.
    by_block = blocks and not hasattr(part, "down_blocks")
    _offload(part, device, streamed=streamed, by_block=by_block)


def _offload(
    part: torch.nn.Module, device: Device, *, streamed: bool, by_block: bool = False
) -> None:
    apply_group_offloading(
        part,
        onload_device=torch.device(device.name),
        offload_device=_CPU,
        offload_type="block_level" if by_block else "leaf_level",
        num_blocks_per_group=1 if by_block else None,
        use_stream=streamed,
        record_stream=streamed,
    )


def _take_turns(
    text: Sequence[torch.nn.Module], denoisers: Sequence[torch.nn.Module], device: Device
) -> None:
    """Text encoders come to the device when a prompt is read, the denoiser when it is used."""
    for ours, others in ((text, denoisers), (denoisers, text)):
        for part in ours:
            add_hook_to_module(part, _Turn(torch.device(device.name), others))


class _Turn(ModelHook):
    """Moves its module to the device when it is called, and the others of the round out before.

    Attributes:
        execution_device: Where diffusers' pipelines make what they hand to the module.
    """

    def __init__(self, device: torch.device, others: Sequence[torch.nn.Module]) -> None:
        self.execution_device = device
        self._others = others

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Called by accelerate before the module's own forward."""
        for other in self._others:
            _move(other, _CPU)
        _move(module, self.execution_device)
        send: Any = cast(Any, operations).send_to_device
        return send(args, self.execution_device), send(kwargs, self.execution_device)


def _move(module: torch.nn.Module, device: torch.device) -> None:
    first = next(module.parameters(), None)
    if first is not None and first.device != device:
        module.to(device)

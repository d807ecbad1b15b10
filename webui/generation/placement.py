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
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from webui.generation.devices import Device
from webui.generation.memory import TILE_SIDE, Kind
from webui.settings import PlanName

Parts = Mapping[str, torch.nn.Module]

_CPU = torch.device("cpu")
_DENOISERS = ("unet", "transformer")


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
        home = device.name if _stays(kind_of(name), plan, device) else "cpu"
        own(part, device, convolves=kind_of(name) in ("denoiser", "vae"), home=home)
    text, denoisers = _of_kind(parts, "text"), _of_kind(parts, "denoiser")
    match plan:
        case "resident":
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
            for denoiser in denoisers:
                store_in_8_bits(denoiser, device.dtype)
            if device.apart:
                _take_turns(text, denoisers, device)


def own(
    module: torch.nn.Module, device: Device, *, convolves: bool, home: str | None = None
) -> None:
    """Gives the module weights of its own on the device, in the device's layout.

    Straight from loading they are views of the mapped file: a second copy beside the converted
    ones for as long as any of them is left, and a crash when somebody cuts the file short.

    Args:
        home: Where else they are to lie, as torch spells it.
    """
    module.eval().requires_grad_(False)
    for tensor in (*module.parameters(), *module.buffers()):
        layout = torch.contiguous_format
        if convolves and tensor.ndim == 4:
            layout = device.memory_format
        tensor.data = tensor.data.to(home or device.name, copy=True, memory_format=layout)


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


def store_in_8_bits(denoiser: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keeps the weights of a denoiser's layers in 8 bits, widened to `dtype` while they compute.

    Layers that suffer from it (norms, the first and last ones; diffusers knows them) are left out.
    """
    model: Any = denoiser
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)


def _stays(kind: Kind | None, plan: PlanName, device: Device) -> bool:
    """Whether a part lies on the device from the beginning."""
    match plan:
        case "resident":
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
    # A UNet's blocks are too large, and a text encoder's layers lie deeper.
    by_block = blocks and not isinstance(part, UNet2DConditionModel)
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

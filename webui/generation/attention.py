"""How attention is computed: what works on the device, and how a denoiser is made to use it.

Transformers of diffusers hand attention to its dispatcher and can be told which backend to take.
UNets bring a processor that calls torch, and get one of ours that asks the dispatcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    attention_backend,
    dispatch_attention_fn,
)
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_utils import ModelMixin

from webui.errors import StartError
from webui.generation.devices import Device
from webui.settings import AttentionName

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "native": "native",
        "math": "_native_math",
        "flash": "flash",
        "xformers": "xformers",
        "sage": "sage",
    }
)
"""Our names and diffusers' for the same."""

AUTOMATIC = ("flash", "xformers")
"""Tried in this order where a GPU's platform is CUDA's. "sage" computes in 8 bits, which alters
pictures, and is taken only when asked for."""

_UNMASKED = ("flash", "sage")
"""Backends that take no mask."""

_MASKING = ("QwenImageTransformer2DModel", "ZImageTransformer2DModel")
"""Denoisers that hand a mask to attention."""

_SAGE_WIDTHS = (64, 96, 128)
_FLASH_WIDEST = 256
_FAILURES = (ImportError, RuntimeError, ValueError, OSError, TypeError, AttributeError)


def with_attention(device: Device, asked: AttentionName) -> Device:
    """The device with its way to compute attention chosen.

    Raises:
        StartError: What was asked for does not work here; with the reason.
    """
    return replace(device, attention=choose_attention(asked, device))


def choose_attention(asked: AttentionName, device: Device) -> str:
    """The way to compute attention on the device.

    Raises:
        StartError: What was asked for does not work here; with the reason.
    """
    if asked == "auto":
        if device.platform not in ("CUDA", "ROCm"):
            return "native"
        working = [name for name in AUTOMATIC if trouble_with(name, device) is None]
        return working[0] if working else "native"
    if (trouble := trouble_with(asked, device)) is not None:
        raise StartError(f"--attention {asked} does not work on {device.name}: {trouble}")
    return asked


def trouble_with(name: str, device: Device) -> str | None:
    """Why that way does not work on the device, found by using it; None where it does."""
    width = 64
    probe = torch.zeros(1, 16, 1, width, device=device.name, dtype=device.dtype)
    try:
        with attention_backend(BACKENDS[name]), torch.no_grad():
            dispatch_attention_fn(probe, probe, probe)
    except _FAILURES as error:
        said = str(error).strip().splitlines()
        return said[0] if said else type(error).__name__
    return None


def use_attention(denoiser: torch.nn.Module, name: str) -> None:
    """Makes a UNet or transformer of diffusers compute attention that way, where it can."""
    if name in _UNMASKED and type(denoiser).__name__ in _MASKING:
        name = "native"
    processors = _processors(denoiser)
    if any(hasattr(processor, "_attention_backend") for processor in processors):
        cast(ModelMixin, denoiser).set_attention_backend(BACKENDS[name])
    elif name != "native" and processors:
        cast(Any, denoiser).set_attn_processor(DispatchedAttention(name))


def attention_of(denoiser: torch.nn.Module) -> str:
    """How a denoiser computes attention, read off its first processor."""
    ours = {theirs: name for name, theirs in BACKENDS.items()}
    for processor in _processors(denoiser):
        if isinstance(processor, DispatchedAttention):
            return processor.name
        backend = getattr(processor, "_attention_backend", None)
        return "native" if backend is None else ours[backend.value]
    return "native"


def _processors(denoiser: torch.nn.Module) -> list[Any]:
    """Processors of all attention layers, in the order of the layers."""
    found: list[Any] = []
    for module in denoiser.modules():
        processor = getattr(module, "processor", None)
        if processor is not None:
            found.append(processor)
    return found


class DispatchedAttention:
    """The attention of a UNet's transformer blocks, through diffusers' dispatcher.

    What `AttnProcessor2_0` does for tokens of (batch, tokens, channels); layers whose heads are too
    wide for the backend go by torch.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
        """Attends from `hidden_states` to `encoder_hidden_states`, or to themselves."""
        layer: Any = attn
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        batch, tokens, _width = context.shape
        mask: torch.Tensor | None = None
        if attention_mask is not None:
            prepared: Any = layer.prepare_attention_mask(attention_mask, tokens, batch)
            mask = prepared.view(batch, layer.heads, -1, tokens)
        query, key, value = (
            project(states).unflatten(-1, (layer.heads, -1))
            for project, states in (
                (layer.to_q, hidden_states),
                (layer.to_k, context),
                (layer.to_v, context),
            )
        )
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=mask,
            backend=AttentionBackendName(BACKENDS[self._for_width(query.shape[-1])]),
        )
        joined = attended.flatten(2, 3).to(query.dtype)
        return layer.to_out[1](layer.to_out[0](joined))

    def _for_width(self, width: int) -> str:
        """The backend for heads of that width."""
        too_wide = (self.name == "sage" and width not in _SAGE_WIDTHS) or (
            self.name == "flash" and width > _FLASH_WIDEST
        )
        return "native" if too_wide else self.name

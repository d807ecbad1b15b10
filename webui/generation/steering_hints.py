"""Hints that FLUX.1's transformer reads itself: that of a model made for one, those of LoRAs.

A model for hints takes a hint's latents behind its own, on the channel axis. A LoRA makes any other
FLUX.1 do so: its first layer is wider than the model's. That layer is linear, so the model's own
stays as it is, and what the LoRA makes of the hint's channels, the same in every step, is added to
what it gives.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from webui.generation.loaded import Loaded
from webui.generation.lora_deltas import LowRank
from webui.generation.steering import Steering, steers


def hint_channels(loaded: Loaded, steerings: Sequence[Steering]) -> torch.Tensor | None:
    """The hint's latents for a model that takes them beside its own, of shape (1, channels,
    height / 8, width / 8); None for all others."""
    own = [steering for steering in steerings if steering.control.net is None]
    return _encoded(loaded, own[0]) if own else None


class FirstLayerHints:
    """What LoRAs make of their hints, added to what the transformer's first layer gives."""

    def __init__(self, loaded: Loaded, steerings: Sequence[Steering]) -> None:
        """The LoRAs have been taken into memory in this job."""
        self._loaded = loaded
        self._made = [(one, _read(loaded, one)) for one in steerings if one.control.is_lora]
        self._acting: list[torch.Tensor] = []

    def before_call(self, call: int, calls: int) -> None:
        """To be told which call of the transformer comes, from 0, and of how many."""
        made = self._made
        self._acting = [given for one, given in made if steers(one.control, call, calls)]

    @contextmanager
    def added(self) -> Generator[None]:
        """Adds what acts, in every call, until it is left."""
        if not self._made:
            yield
            return

        def add(_layer: torch.nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
            return output + sum(given.to(output) for given in self._acting)

        handle = self._loaded.denoiser.x_embedder.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def _read(loaded: Loaded, steering: Steering) -> torch.Tensor:
    """What the LoRA's first layer gives for the hint, of shape (1, patches, width)."""
    net = steering.control.net
    layer = None if net is None else loaded.loras.hint(net.sha256)
    if layer is None:
        raise ValueError("only a LoRA with a layer for its hint steers")
    patches = loaded.backbone.packed(loaded.pipe, _encoded(loaded, steering))
    return _through(layer, patches) * steering.control.weight


def _through(layer: LowRank, patches: torch.Tensor) -> torch.Tensor:
    inner = patches.float() @ layer.down.to(patches.device, torch.float32).T
    return inner @ (layer.up.to(patches.device) * layer.scale).T


def _encoded(loaded: Loaded, steering: Steering) -> torch.Tensor:
    pixels: Any = steering.hint.to(loaded.denoiser.device) * 2 - 1
    return loaded.backbone.encode_picture(loaded.pipe, pixels)

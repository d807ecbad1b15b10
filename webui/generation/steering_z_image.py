"""ControlNets beside Z-Image's transformer, whose first layers they share.

They have no layers of their own for noise level, latents and prompt: diffusers lends them the
transformer's, with whatever LoRAs are merged into those. They are lent for one run, since a kept
ControlNet would keep a model in memory that is no longer used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from webui.generation.backbones.base import Backbone
from webui.generation.steering import Steering, steers

_LENT = (
    "t_scale",
    "t_embedder",
    "all_x_embedder",
    "cap_embedder",
    "rope_embedder",
    "noise_refiner",
    "context_refiner",
    "x_pad_token",
    "cap_pad_token",
)
"""What `ZImageControlNetModel.from_transformer` takes over."""


class ZImageHook:
    """Counts the rounds of the pipeline's loop, each with one call."""

    def __init__(self, pipe: Any, backbone: Backbone, steerings: Sequence[Steering]) -> None:
        self._pipe = pipe
        self._hints = [(one, one.net, _shown(pipe, backbone, one, one.net)) for one in steerings]
        self._rounds = 0

    def __call__(
        self, _transformer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The transformer's arguments with what the ControlNets have it add behind its layers."""
        rounds = self._pipe.num_timesteps
        at_work = [one for one in self._hints if steers(one[0].control, self._rounds, rounds)]
        self._rounds += 1
        if not at_work:
            return args, dict(kwargs)
        answers = _Answers(lambda: _asked(at_work, *args[:3]))
        return args, {**kwargs, "controlnet_block_samples": answers}


class _Answers:
    """What is added behind each of the transformer's layers, by its number.

    The ControlNets are asked when the first layer has computed: by then the layers they are lent
    have come to the device, wherever the model lies between calls.
    """

    def __init__(self, ask: Callable[[], dict[int, torch.Tensor]]) -> None:
        self._ask = ask

    @cached_property
    def _by_layer(self) -> dict[int, torch.Tensor]:
        return self._ask()

    def __contains__(self, layer: int) -> bool:
        return layer in self._by_layer

    def __getitem__(self, layer: int) -> torch.Tensor:
        return self._by_layer[layer]


def _asked(
    hints: Sequence[tuple[Steering, Any, torch.Tensor]],
    latents: Sequence[torch.Tensor],
    timestep: torch.Tensor,
    prompts: Sequence[torch.Tensor],
) -> dict[int, torch.Tensor]:
    total: dict[int, torch.Tensor] = {}
    for steering, net, hint in hints:
        given: Mapping[int, torch.Tensor] = net(
            latents,
            timestep,
            prompts,
            [hint.to(latents[0])] * len(latents),
            conditioning_scale=steering.control.weight,
        )
        for layer, sample in given.items():
            total[layer] = total[layer] + sample if layer in total else sample
    return total


@contextmanager
def layers_lent(transformer: Any, steerings: Sequence[Steering]) -> Generator[None]:
    """Lends the ControlNets the transformer's first layers."""
    nets: list[Any] = [steering.net for steering in steerings]
    try:
        for net in nets:
            net.from_transformer(net, transformer)
        yield
    finally:
        for net in nets:
            for name in _LENT:
                setattr(net, name, None)


def _shown(pipe: Any, backbone: Backbone, steering: Steering, net: Any) -> torch.Tensor:
    """The hint's latents, of shape (channels, 1, height / 8, width / 8), behind them for those that
    can fill in a part of a picture the rest of it, or nothing where all is made anew."""
    latents = backbone.encode_picture(pipe, steering.hint * 2 - 1)
    more = net.config.control_in_dim - latents.shape[1]
    if steering.masked is not None and more:
        rest = backbone.encode_picture(pipe, steering.masked.emptied.to(latents))
        shown = [latents, steering.masked.kept(latents), rest]
    else:
        shown = [latents, latents.new_zeros(1, more, *latents.shape[2:])]
    return torch.cat(shown, dim=1)[0].unsqueeze(1)

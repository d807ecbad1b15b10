"""ControlNets beside a transformer: asked before it computes, their answers added in its blocks.

They are shown the hint as the VAE encodes it. Where there is guidance, they are asked with the
prompt alone, and both of a step's calls are steered alike, as in diffusers' pipelines of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from webui.generation.backbones.base import Backbone
from webui.generation.backbones.patches import to_patches
from webui.generation.steering import Steering, steers

_SHARED = (
    "encoder_hidden_states",
    "encoder_hidden_states_mask",
    "img_shapes",
    "timestep",
)
"""Arguments of the transformer that its ControlNets take too."""


class TransformerHook:
    """Counts the rounds of the pipeline's loop, each with one call or two of the same latents."""

    def __init__(self, pipe: Any, backbone: Backbone, steerings: Sequence[Steering]) -> None:
        self._pipe = pipe
        self._hints = [
            (steering, to_patches(backbone.encode_picture(pipe, steering.hint * 2 - 1)))
            for steering in steerings
        ]
        self._rounds = 0
        self._latents: torch.Tensor | None = None
        self._samples: list[torch.Tensor] | None = None

    def __call__(
        self, transformer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The transformer's arguments with what the ControlNets have it add."""
        latents = kwargs["hidden_states"]
        if latents is not self._latents:
            self._latents = latents
            self._samples = self._asked(len(transformer.transformer_blocks), latents, kwargs)
            self._rounds += 1
        return args, {**kwargs, "controlnet_block_samples": self._samples}

    def _asked(
        self, blocks: int, latents: torch.Tensor, kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor] | None:
        """What is added behind each of the transformer's blocks."""
        shared = {name: kwargs[name] for name in _SHARED}
        total: list[torch.Tensor] | None = None
        for steering, hint in self._hints:
            if not steers(steering.control, self._rounds, self._pipe.num_timesteps):
                continue
            given = steering.net(
                hidden_states=latents,
                controlnet_cond=hint.to(latents).expand(len(latents), -1, -1),
                conditioning_scale=steering.control.weight,
                return_dict=False,
                **shared,
            )
            # A ControlNet has fewer blocks, of which each serves as many of the transformer's.
            each = -(-blocks // len(given))
            more = [given[block // each] for block in range(blocks)]
            total = more if total is None else [a + b for a, b in zip(total, more, strict=True)]
        return total

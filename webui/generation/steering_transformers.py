"""ControlNets beside a transformer: asked before it computes, their answers added in its blocks.

They are shown the hint as the VAE encodes it. Where the two sides of guidance are two calls, they
are asked with the prompt alone, and both calls of a step are steered alike, as in diffusers'
pipelines of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from webui.generation.backbones.base import Backbone
from webui.generation.steering import Steering, steers

Samples = dict[str, list[torch.Tensor]]
"""What is added behind each block of a row, by the transformer's argument for it."""


@dataclass(frozen=True)
class _Way:
    """How ControlNets of one class are asked, and what their answers are for.

    Attributes:
        shared: Arguments of the transformer that they take too.
        rows: The transformer's argument for each of their answers, and its row of blocks.
        evenly: Whether each of their blocks serves as many of the transformer's as any other;
            otherwise the first ones serve one more.
    """

    shared: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    evenly: bool = False


_BLOCKS = ("controlnet_block_samples", "transformer_blocks")

_WAYS: Mapping[str, _Way] = MappingProxyType(
    {
        "QwenImageControlNetModel": _Way(
            ("encoder_hidden_states", "encoder_hidden_states_mask", "img_shapes", "timestep"),
            (_BLOCKS,),
        ),
        "FluxControlNetModel": _Way(
            (
                "encoder_hidden_states",
                "pooled_projections",
                "timestep",
                "img_ids",
                "txt_ids",
                "guidance",
            ),
            (_BLOCKS, ("controlnet_single_block_samples", "single_transformer_blocks")),
        ),
        "SD3ControlNetModel": _Way(
            ("encoder_hidden_states", "pooled_projections", "timestep"),
            (("block_controlnet_hidden_states", "transformer_blocks"),),
            evenly=True,
        ),
    }
)
"""By diffusers' class."""


class TransformerHook:
    """Counts the rounds of the pipeline's loop, each with one call or two of the same latents."""

    def __init__(self, pipe: Any, backbone: Backbone, steerings: Sequence[Steering]) -> None:
        self._pipe = pipe
        self._hints = [
            (steering, backbone.packed(pipe, _encoded(pipe, backbone, steering)))
            for steering in steerings
        ]
        for steering in steerings:
            if steering.net.config.get("use_pos_embed") is False:
                # Some have none of their own; diffusers lends them the transformer's alike.
                lent = steering.net._get_pos_embed_from_transformer(pipe.transformer)
                steering.net.pos_embed = lent.to(steering.net.device, steering.net.dtype)
        self._rounds = 0
        self._latents: torch.Tensor | None = None
        self._samples: Samples = {}

    def __call__(
        self, transformer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The transformer's arguments with what the ControlNets have it add."""
        latents = kwargs["hidden_states"]
        if latents is not self._latents:
            self._latents = latents
            self._samples = self._asked(transformer, latents, kwargs)
            self._rounds += 1
        return args, {**kwargs, **self._samples}

    def _asked(self, transformer: Any, latents: torch.Tensor, kwargs: Mapping[str, Any]) -> Samples:
        total: Samples = {}
        for steering, hint in self._hints:
            if not steers(steering.control, self._rounds, self._pipe.num_timesteps):
                continue
            way = _WAYS[type(steering.net).__name__]
            given = steering.net(
                hidden_states=latents,
                controlnet_cond=hint.to(latents).expand(len(latents), *hint.shape[1:]),
                conditioning_scale=steering.control.weight,
                return_dict=False,
                **_told(steering.net, way, kwargs),
            )
            # Of those with one answer some give it bare.
            answers = given if isinstance(given[0], (tuple, list)) else (given,)
            for (name, row), answer in zip(way.rows, answers, strict=True):
                if answer:
                    more = _spread(answer, len(getattr(transformer, row)), evenly=way.evenly)
                    known = total.get(name)
                    total[name] = (
                        more if known is None else [a + b for a, b in zip(known, more, strict=True)]
                    )
        return total


def _encoded(pipe: Any, backbone: Backbone, steering: Steering) -> torch.Tensor:
    """The hint as latents."""
    latents = backbone.encode_picture(pipe, steering.hint * 2 - 1)
    if not steering.net.config.get("force_zeros_for_pooled_projection"):
        return latents
    # Those of SD 3 by InstantX were trained on latents that are scaled, but not shifted.
    return latents + pipe.vae.config.shift_factor * pipe.vae.config.scaling_factor


def _told(net: Any, way: _Way, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The transformer's arguments as the ControlNet takes them, which may know fewer."""
    told = {name: kwargs[name] for name in way.shared}
    if "guidance" in told and not net.config.guidance_embeds:
        told["guidance"] = None
    if net.config.get("force_zeros_for_pooled_projection"):
        told["pooled_projections"] = torch.zeros_like(told["pooled_projections"])
    if net.config.joint_attention_dim is None:
        told["encoder_hidden_states"] = None
    return told


def _spread(given: Sequence[torch.Tensor], blocks: int, *, evenly: bool) -> list[torch.Tensor]:
    """What is added behind each block: a ControlNet has fewer, of which each serves several."""
    if evenly:
        return [given[block * len(given) // blocks] for block in range(blocks)]
    each = -(-blocks // len(given))
    return [given[block // each] for block in range(blocks)]

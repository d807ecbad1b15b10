"""ControlNets beside a transformer: asked before it computes, their answers added in its blocks.

They are shown the hint as the VAE encodes it, or those by XLabs its pixels; those for inpainting
also what of it stays. Where the two sides of guidance are two calls, they are asked with the prompt
alone, and both calls of a step are steered alike, as in diffusers' pipelines of them.
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
            (steering, steering.net, _shown(pipe, backbone, steering, steering.net))
            for steering in steerings
        ]
        for _, net, _ in self._hints:
            if net.config.get("use_pos_embed") is False:
                # Some have none of their own; diffusers lends them the transformer's alike.
                lent = net._get_pos_embed_from_transformer(pipe.transformer)
                net.pos_embed = lent.to(net.device, net.dtype)
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
        for steering, net, hint in self._hints:
            if not steers(steering.control, self._rounds, self._pipe.num_timesteps):
                continue
            way = _WAYS[type(net).__name__]
            given = net(
                hidden_states=latents,
                controlnet_cond=hint.to(latents).expand(len(latents), *hint.shape[1:]),
                conditioning_scale=steering.control.weight,
                return_dict=False,
                **_told(net, way, kwargs),
                **_mode(steering.control.union_type, net, latents),
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


def _shown(pipe: Any, backbone: Backbone, steering: Steering, net: Any) -> torch.Tensor:
    """The hint as the ControlNet takes it: packed latents, or pixels in -1..1."""
    pixels = steering.hint * 2 - 1
    if net.config.get("conditioning_embedding_channels"):
        return pixels
    is_sd3 = type(net).__name__ == "SD3ControlNetModel"
    if is_sd3 and net.config.joint_attention_dim is None and steering.control.kind == "canny":
        # Stability's was trained on edges in another scale.
        pixels = steering.hint * 255 * 0.5 + 0.5
    latents = backbone.encode_picture(pipe, pixels)
    if steering.masked is not None and steering.control.sees_mask:
        latents = torch.cat([latents, steering.masked.kept(latents)], dim=1)
    elif is_sd3 and net.config.force_zeros_for_pooled_projection:
        # Those by InstantX were trained on latents that are scaled, but not shifted.
        latents = latents + pipe.vae.config.shift_factor * pipe.vae.config.scaling_factor
    return backbone.packed(pipe, latents)


def _mode(kind: int | None, net: Any, latents: torch.Tensor) -> dict[str, Any]:
    """What the hint is, to a union model for FLUX.1."""
    if kind is None:
        return {}
    return {"controlnet_mode": torch.full((len(latents), 1), kind, device=net.device)}


def _told(net: Any, way: _Way, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The transformer's arguments as the ControlNet takes them, which may know fewer."""
    told = {name: kwargs[name] for name in way.shared}
    if "guidance" in told:
        told["guidance"] = _guidance(net, told["guidance"], kwargs["hidden_states"])
    if net.config.get("force_zeros_for_pooled_projection"):
        told["pooled_projections"] = torch.zeros_like(told["pooled_projections"])
    if net.config.joint_attention_dim is None:
        told["encoder_hidden_states"] = None
    return told


def _guidance(
    net: Any, of_transformer: torch.Tensor | None, latents: torch.Tensor
) -> torch.Tensor | None:
    """The distilled guidance for a ControlNet that was made with one, whatever it steers."""
    if not net.config.guidance_embeds:
        return None
    return latents.new_full((len(latents),), _USUAL) if of_transformer is None else of_transformer


_USUAL = 3.5
"""What diffusers' pipeline tells those beside a model without distilled guidance."""


def _spread(given: Sequence[torch.Tensor], blocks: int, *, evenly: bool) -> list[torch.Tensor]:
    """What is added behind each block: a ControlNet has fewer, of which each serves several."""
    if evenly:
        return [given[block * len(given) // blocks] for block in range(blocks)]
    each = -(-blocks // len(given))
    return [given[block // each] for block in range(blocks)]

"""FLUX.1: T5 reads the prompt, CLIP's view of the whole goes with the noise level.

The transformer takes latents as rows of patches. Its guidance is an input that it was distilled
with, so that one call a step is enough; schnell was distilled to few steps and has none.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.functional import pixel_unshuffle

from webui.generation.backbones.base import Backbone, Conditioning, Encoding
from webui.generation.backbones.patches import even_levels, from_patches, patches_of, to_patches
from webui.generation.backbones.plain import plain_text, read_back
from webui.generation.backbones.spacing import shift_of
from webui.generation.prompt_rooms import CLIP_ROOM, PROMPT_ROOMS, PromptRoom
from webui.generation.prompts import ParsedPrompt
from webui.generation.sampling import Sampling


class Flux(Backbone):
    """FLUX.1 dev, and Fill, which sees mask and picture beside the latents.

    Attributes:
        room: What T5 is given.
    """

    denoiser = "transformer"
    encoders = ("text_encoder", "text_encoder_2")
    room: ClassVar[PromptRoom] = PROMPT_ROOMS["flux"]

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: ARG002, D102
        with torch.no_grad():
            tokens, pooled, _ = pipe.encode_prompt(
                plain_text(prompt),
                device=pipe.transformer.device,
                max_sequence_length=self.room.tokens,
            )
        dtype = pipe.transformer.dtype
        return Encoding(tokens[0].to(dtype), pooled[0].to(dtype))

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        text = plain_text(prompt)
        by_t5 = read_back(text, pipe.tokenizer_2, self.room)
        return "\n".join(dict.fromkeys((read_back(text, pipe.tokenizer, CLIP_ROOM), by_t5)))

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        negative = conditioning.negative_prompt
        given: dict[str, Any] = {"true_cfg_scale": 1.0 if negative is None else sampling.cfg}
        if sampling.guidance is not None:
            given["guidance_scale"] = sampling.guidance
        for prefix, encoding in (("", conditioning.prompt), ("negative_", negative)):
            if encoding is not None and encoding.pooled is not None:
                given[f"{prefix}prompt_embeds"] = encoding.tokens.expand(count, -1, -1)
                given[f"{prefix}pooled_prompt_embeds"] = encoding.pooled.expand(count, -1)
        return given

    def spacing(self, pipe: Any, shape: tuple[int, int, int], steps: int) -> dict[str, Any]:  # noqa: D102
        mu = shift_of(pipe.scheduler, patches_of(shape))
        return {"sigmas": even_levels(steps), "mu": mu}

    def packed(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: ARG002, D102
        return to_patches(latents)

    def unpacked(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        latents: torch.Tensor,
        shape: tuple[int, int, int],
    ) -> torch.Tensor:
        return from_patches(latents, *shape[1:])

    def takes_channels(self, pipe: Any) -> bool:  # noqa: D102
        picture, pixels = pipe.vae.config.latent_channels, pipe.vae_scale_factor**2
        return pipe.transformer.config.in_channels == 4 * (2 * picture + pixels)

    def channels(  # noqa: D102
        self,
        pipe: Any,
        picture: torch.Tensor,
        mask: torch.Tensor,  # noqa: ARG002
        hidden: torch.Tensor,
    ) -> torch.Tensor:
        # The mask's own pixels, each in a channel.
        return torch.cat([picture, pixel_unshuffle(hidden, pipe.vae_scale_factor)], dim=1)

    def widened(self, sample: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:  # noqa: D102
        more = to_patches(channels.to(sample)).expand(len(sample), -1, -1)
        return torch.cat([sample, more], dim=2)


class FluxSchnell(Flux):
    """FLUX.1 schnell, whose T5 reads half as much."""

    room = PROMPT_ROOMS["flux-schnell"]

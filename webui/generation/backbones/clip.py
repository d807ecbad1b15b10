"""Backbones with a UNet whose text encoders are all CLIP: Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from webui.generation.backbones.base import Backbone, Conditioning, Encoding
from webui.generation.prompts import EMPTY_PROMPT, ParsedPrompt
from webui.generation.samplers import SAMPLER_TABLE
from webui.generation.sampling import Sampling
from webui.generation.text import decoded_text, encode_pooled, encode_prompt, pad_to_equal


class StableDiffusion(Backbone):
    """Stable Diffusion 1 and 2: one encoder, whose last layer counts."""

    denoiser = "unet"
    encoders = ("text_encoder",)

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: D102
        return Encoding(encode_prompt(prompt, pipe.tokenizer, pipe.text_encoder, clip_skip))

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        return decoded_text(prompt, pipe.tokenizer)

    def condition(  # noqa: D102
        self,
        pipe: Any,
        prompts: Sequence[ParsedPrompt],
        encode: Callable[[ParsedPrompt], Encoding],
    ) -> Conditioning:
        made = super().condition(pipe, prompts, encode)
        if made.negative_prompt is None:
            return made
        prompt, negative = pad_to_equal(
            made.prompt.tokens, made.negative_prompt.tokens, encode(EMPTY_PROMPT).tokens
        )
        return Conditioning(
            made.prompt._replace(tokens=prompt), made.negative_prompt._replace(tokens=negative)
        )

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        return {
            # To a UNet that was distilled with its guidance the pipeline tells it.
            "guidance_scale": sampling.cfg if sampling.guidance is None else sampling.guidance,
            "eta": SAMPLER_TABLE[sampling.sampler].eta,
            **_repeated("", conditioning.prompt, count),
            **_repeated("negative_", conditioning.negative_prompt, count),
        }


class StableDiffusionXL(StableDiffusion):
    """Two encoders, whose last layer but one counts, and the second one's view of the whole.

    The weights of A1111 are laid on each encoder's part (Podell et al., arXiv 2307.01952).
    """

    encoders = ("text_encoder", "text_encoder_2")

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: D102
        # Both 1 and 2 are the layer it was trained with, as in other tools, which count alike.
        layer = max(clip_skip, 2)
        tokens = [
            encode_prompt(prompt, tokenizer, encoder, layer, through_norm=False)
            for tokenizer, encoder in self._pairs(pipe)
        ]
        pooled = encode_pooled(prompt, pipe.tokenizer_2, pipe.text_encoder_2)
        return Encoding(torch.cat(tokens, dim=-1), pooled)

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        texts = (decoded_text(prompt, tokenizer) for tokenizer, _ in self._pairs(pipe))
        return "\n".join(dict.fromkeys(texts))

    def condition(  # noqa: D102
        self,
        pipe: Any,
        prompts: Sequence[ParsedPrompt],
        encode: Callable[[ParsedPrompt], Encoding],
    ) -> Conditioning:
        made = super().condition(pipe, prompts, encode)
        negative = made.negative_prompt
        if negative is None or prompts[1] != EMPTY_PROMPT:
            return made
        if not pipe.config.force_zeros_for_empty_prompt:
            return made
        pooled = None if negative.pooled is None else torch.zeros_like(negative.pooled)
        return Conditioning(made.prompt, Encoding(torch.zeros_like(negative.tokens), pooled))

    def _pairs(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Tokenizer and encoder, of which a refiner has the second only."""
        pairs = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
        return [(tokenizer, encoder) for tokenizer, encoder in pairs if encoder is not None]


class StableDiffusionXLRefiner(StableDiffusionXL):
    """The second encoder alone, and how beautiful the picture is to be in place of its size.

    diffusers' pipeline of it is that from pictures, which is given latents on their way.
    """

    encoders = ("text_encoder_2",)

    def from_latents(  # noqa: D102
        self,
        pipe: Any,
        latents: torch.Tensor,
        width: int,  # noqa: ARG002
        height: int,  # noqa: ARG002
    ) -> dict[str, Any]:
        # Any share above 0 has it take the latents as they are, and less than a timestep's has it
        # run all steps there are.
        return {"image": latents * pipe.scheduler.init_noise_sigma, "denoising_start": 1e-6}


def _repeated(prefix: str, encoding: Encoding | None, count: int) -> dict[str, Any]:
    """The pipeline's arguments for a prompt, for so many pictures."""
    if encoding is None:
        return {}
    embeds = {f"{prefix}prompt_embeds": encoding.tokens.expand(count, -1, -1)}
    if encoding.pooled is not None:
        embeds[f"{prefix}pooled_prompt_embeds"] = encoding.pooled.expand(count, -1)
    return embeds

"""FLUX.2: a transformer that reads layers from the middle of a language model.

Its VAE's latents of 32 channels are brought to mean 0 and deviation 1 patch by patch, by the
statistics of a batch norm in the VAE, so that every place of a patch has its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from webui.generation.backbones.base import Backbone, Conditioning, Encoding
from webui.generation.backbones.patches import (
    PATCH,
    even_levels,
    from_patches,
    patches_of,
    to_patches,
)
from webui.generation.backbones.plain import plain_text, read_back
from webui.generation.prompt_rooms import PROMPT_ROOMS, PromptRoom
from webui.generation.prompts import ParsedPrompt
from webui.generation.sampling import Sampling

_PICTURE_MARK = "[IMG]"
"""Diffusers takes it out of a prompt, since it stands for a picture."""


class Flux2(Backbone):
    """FLUX.2 dev: read by Mistral Small, guidance is an input of the transformer."""

    denoiser = "transformer"
    encoders = ("text_encoder",)
    room: ClassVar[PromptRoom] = PROMPT_ROOMS["flux2"]

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: ARG002, D102
        with torch.no_grad():
            tokens, _ = pipe.encode_prompt(
                plain_text(prompt),
                device=pipe.text_encoder.device,
                max_sequence_length=self.room.tokens,
            )
        return Encoding(tokens[0].to(pipe.transformer.device, pipe.transformer.dtype))

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        text = plain_text(prompt).replace(_PICTURE_MARK, "")
        return read_back(text, pipe.tokenizer, self.room)

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        return {
            "guidance_scale": sampling.guidance,
            "prompt_embeds": conditioning.prompt.tokens.expand(count, -1, -1),
        }

    def spacing(self, pipe: Any, shape: tuple[int, int, int], steps: int) -> dict[str, Any]:  # noqa: ARG002, D102
        # Imported here: it brings Mistral along, and complains that torchvision is missing.
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        return {"sigmas": even_levels(steps), "mu": compute_empirical_mu(patches_of(shape), steps)}

    def noise(self, shape: tuple[int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Drawn patch by patch, as other tools draw it for the same seed."""
        channels, height, width = shape
        patched = (channels * PATCH**2, height // PATCH, width // PATCH)
        return pixel_shuffle(torch.randn(patched, generator=generator), PATCH)

    def given(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: ARG002, D102
        return pixel_unshuffle(latents, PATCH)

    def packed(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: ARG002, D102
        return to_patches(latents)

    def unpacked(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        latents: torch.Tensor,
        shape: tuple[int, int, int],
    ) -> torch.Tensor:
        return from_patches(latents, *shape[1:])

    def encode_picture(self, pipe: Any, planes: torch.Tensor) -> torch.Tensor:  # noqa: D102
        plain = pipe.vae.encode(planes.to(pipe.vae.dtype)).latent_dist.mode()
        mean, deviation = _statistics(pipe.vae)
        patches = (pixel_unshuffle(plain, PATCH) - mean) / deviation
        return self.fit(pipe, pixel_shuffle(patches, PATCH))

    def decode_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: D102
        mean, deviation = _statistics(pipe.vae)
        patches = pixel_unshuffle(latents.to(pipe.vae.dtype), PATCH) * deviation + mean
        return pipe.vae.decode(pixel_shuffle(patches, PATCH), return_dict=False)[0].float()


class Flux2Klein(Flux2):
    """FLUX.2 klein: read by Qwen 3; its base models are guided by a negative prompt."""

    room = PROMPT_ROOMS["flux2-klein"]

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        return read_back(plain_text(prompt), pipe.tokenizer, self.room)

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        negative = conditioning.negative_prompt
        return {
            "guidance_scale": 1.0 if negative is None else sampling.cfg,
            "prompt_embeds": conditioning.prompt.tokens.expand(count, -1, -1),
            "negative_prompt_embeds": (
                None if negative is None else negative.tokens.expand(count, -1, -1)
            ),
        }


def _statistics(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel of a patch, of shape (1, channels * 4, 1, 1)."""
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    variance = vae.bn.running_var.view(1, -1, 1, 1)
    return mean.to(vae.dtype), (variance + vae.config.batch_norm_eps).sqrt().to(vae.dtype)

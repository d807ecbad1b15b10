"""Qwen-Image: Qwen 2.5 VL reads the prompt; the VAE is one for video, run on a single frame."""

from __future__ import annotations

from typing import Any

import torch

from webui.generation.backbones.base import Backbone, Conditioning, Encoding
from webui.generation.backbones.patches import even_levels, from_patches, patches_of, to_patches
from webui.generation.backbones.plain import plain_text, read_back
from webui.generation.backbones.spacing import shift_of
from webui.generation.prompt_rooms import PROMPT_ROOMS
from webui.generation.prompts import ParsedPrompt
from webui.generation.sampling import Sampling

_ROOM = PROMPT_ROOMS["qwen-image"]


class QwenImage(Backbone):
    """Qwen-Image. Guided, its prediction keeps the length of the prompt's own in each patch."""

    denoiser = "transformer"
    encoders = ("text_encoder",)

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: ARG002, D102
        with torch.no_grad():
            # One prompt alone has no padding, and so no mask.
            tokens, _ = pipe.encode_prompt(
                plain_text(prompt),
                device=pipe.text_encoder.device,
                max_sequence_length=_ROOM.tokens - pipe.prompt_template_encode_start_idx,
            )
        return Encoding(tokens[0].to(pipe.transformer.device, pipe.transformer.dtype))

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        return read_back(plain_text(prompt), pipe.tokenizer, _ROOM)

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        prompt, negative = conditioning.prompt, conditioning.negative_prompt
        about = {
            "true_cfg_scale": 1.0 if negative is None else sampling.cfg,
            **_repeated("", prompt, count),
        }
        return about if negative is None else about | _repeated("negative_", negative, count)

    def spacing(self, pipe: Any, shape: tuple[int, int, int], steps: int) -> dict[str, Any]:  # noqa: D102
        return {
            "sigmas": even_levels(steps),
            "mu": shift_of(pipe.scheduler, patches_of(shape)),
        }

    def latents_shape(self, pipe: Any, width: int, height: int) -> tuple[int, int, int]:  # noqa: D102
        scale = pipe.vae_scale_factor
        return pipe.vae.config.z_dim, height // scale, width // scale

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
        frame = planes.to(pipe.vae.dtype).unsqueeze(2)
        mean, deviation = _statistics(pipe.vae)
        plain = pipe.vae.encode(frame).latent_dist.mode()[:, :, 0]
        return self.fit(pipe, (plain - mean) / deviation)

    def decode_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: D102
        mean, deviation = _statistics(pipe.vae)
        plain = latents.to(pipe.vae.dtype) * deviation + mean
        return pipe.vae.decode(plain.unsqueeze(2), return_dict=False)[0][:, :, 0].float()


def _repeated(prefix: str, encoding: Encoding, count: int) -> dict[str, Any]:
    """The pipeline's arguments for a prompt, for so many pictures: every token is one of it."""
    tokens = encoding.tokens.expand(count, -1, -1)
    return {
        f"{prefix}prompt_embeds": tokens,
        f"{prefix}prompt_embeds_mask": torch.ones(
            tokens.shape[:2], dtype=torch.long, device=tokens.device
        ),
    }


def _statistics(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel of the latents, of shape (1, channels, 1, 1)."""

    def planes(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=vae.dtype, device=vae.device).view(1, -1, 1, 1)

    return planes(vae.config.latents_mean), planes(vae.config.latents_std)

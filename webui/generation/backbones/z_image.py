"""Z-Image: one stream of picture and text, which Qwen 3 reads."""

from __future__ import annotations

from typing import Any

import torch

from webui.generation.backbones.base import Backbone, Conditioning, Encoding
from webui.generation.backbones.patches import even_levels, patches_of
from webui.generation.backbones.plain import plain_text, read_back
from webui.generation.backbones.spacing import shift_of
from webui.generation.prompt_rooms import PROMPT_ROOMS
from webui.generation.prompts import ParsedPrompt
from webui.generation.sampling import Sampling

_ROOM = PROMPT_ROOMS["z-image"]


class ZImage(Backbone):
    """Z-Image and its Turbo, which was distilled with its guidance."""

    denoiser = "transformer"
    encoders = ("text_encoder",)

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: ARG002, D102
        with torch.no_grad():
            (tokens,), _ = pipe.encode_prompt(
                plain_text(prompt),
                device=pipe.text_encoder.device,
                do_classifier_free_guidance=False,
                max_sequence_length=_ROOM.tokens,
            )
        return Encoding(tokens.to(pipe.transformer.device, pipe.transformer.dtype))

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        return read_back(plain_text(prompt), pipe.tokenizer, _ROOM)

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        negative = conditioning.negative_prompt
        return {
            # The pipeline adds the difference to the prompt's own prediction, so that 0 is off;
            # everywhere else, and in a request, it is added to the negative one's: 1 is off.
            "guidance_scale": 0.0 if negative is None else sampling.cfg - 1,
            "prompt_embeds": [conditioning.prompt.tokens] * count,
            "negative_prompt_embeds": None if negative is None else [negative.tokens] * count,
        }

    def spacing(self, pipe: Any, shape: tuple[int, int, int], steps: int) -> dict[str, Any]:  # noqa: D102
        return {
            "sigmas": even_levels(steps),
            "mu": shift_of(pipe.scheduler, patches_of(shape)),
        }

    def packed(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: ARG002, D102
        # The pipeline takes its steps in float32, whatever the transformer's number format is.
        return latents.float()

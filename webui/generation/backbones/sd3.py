"""Stable Diffusion 3 and 3.5: two CLIP encoders and T5 (Esser et al., arXiv 2403.03206)."""

from __future__ import annotations

from typing import Any

import torch

from webui.generation.backbones.base import Backbone, Conditioning, Encoding
from webui.generation.backbones.patches import patches_of
from webui.generation.backbones.plain import plain_text, read_back
from webui.generation.backbones.spacing import shift_of
from webui.generation.prompt_rooms import CLIP_ROOM, PROMPT_ROOMS
from webui.generation.prompts import ParsedPrompt
from webui.generation.sampling import Sampling

_T5_ROOM = PROMPT_ROOMS["sd3"]


class StableDiffusion3(Backbone):
    """A prompt is plain text: T5 knows no weights, and the transformer reads all encoders at once.

    T5 may be missing: the transformer was trained with it left out now and then, as zeros.
    """

    denoiser = "transformer"
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")

    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:  # noqa: D102
        with torch.no_grad():
            tokens, _, pooled, _ = pipe.encode_prompt(
                plain_text(prompt),
                None,
                None,
                device=pipe.transformer.device,
                do_classifier_free_guidance=False,
                # Both 1 and 2 are the layer it was trained with, as for SDXL; diffusers counts on.
                clip_skip=clip_skip - 2 if clip_skip > 2 else None,
                max_sequence_length=_T5_ROOM.tokens,
            )
        dtype = pipe.transformer.dtype
        return Encoding(tokens[0].to(dtype), pooled[0].to(dtype))

    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:  # noqa: D102
        text = plain_text(prompt)
        texts = [read_back(text, one, CLIP_ROOM) for one in (pipe.tokenizer, pipe.tokenizer_2)]
        if pipe.text_encoder_3 is not None:
            texts.append(read_back(text, pipe.tokenizer_3, _T5_ROOM))
        return "\n".join(dict.fromkeys(texts))

    def arguments(  # noqa: D102
        self,
        pipe: Any,  # noqa: ARG002
        conditioning: Conditioning,
        sampling: Sampling,
        count: int,
    ) -> dict[str, Any]:
        given: dict[str, Any] = {"guidance_scale": sampling.cfg}
        named = (("", conditioning.prompt), ("negative_", conditioning.negative_prompt))
        for prefix, encoding in named:
            if encoding is not None and encoding.pooled is not None:
                given[f"{prefix}prompt_embeds"] = encoding.tokens.expand(count, -1, -1)
                given[f"{prefix}pooled_prompt_embeds"] = encoding.pooled.expand(count, -1)
        return given

    def spacing(  # noqa: D102
        self,
        pipe: Any,
        shape: tuple[int, int, int],
        steps: int,  # noqa: ARG002
    ) -> dict[str, Any]:
        return {"mu": shift_of(pipe.scheduler, patches_of(shape))}

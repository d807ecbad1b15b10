"""From latents to pictures."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image

from webui.errors import EngineError
from webui.generation.pipelines import Loaded

PNG_COMPRESSION = 3
"""zlib level: within 2 % of the default's size at a third of its time."""


def decode(loaded: Loaded, latents: torch.Tensor) -> tuple[bytes, ...]:
    """One PNG without text for each latent of shape (batch, channels, height / 8, width / 8).

    Raises:
        EngineError: The model gave numbers that are no picture.
    """
    vae: Any = loaded.pipe.vae
    pictures: list[bytes] = []
    for latent in torch.split(latents, 1):
        decoded = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0].float()
        if not torch.isfinite(decoded).all():
            raise EngineError(
                "The model gave no picture but invalid numbers: try --dtype float32,"
                " another sampler or a lower CFG."
            )
        pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        pictures.append(_png(pixels.permute(1, 2, 0).cpu().contiguous()))
    return tuple(pictures)


def _png(pixels: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG", compress_level=PNG_COMPRESSION)
    return file.getvalue()

"""From latents to pictures."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from webui.errors import EngineError
from webui.generation.canvas import Canvas
from webui.generation.loaded import Loaded

PNG_COMPRESSION = 3
"""zlib level: within 2 % of the default's size at a third of its time."""


def decode(
    loaded: Loaded, latents: torch.Tensor, canvas: Canvas | None = None
) -> tuple[bytes, ...]:
    """One PNG without text for each latent of shape (batch, channels, height / 8, width / 8).

    What was painted on a canvas is pasted back into it.

    Raises:
        EngineError: The model gave numbers that are no picture.
    """
    pictures: list[bytes] = []
    for latent in torch.split(latents, 1):
        decoded = loaded.backbone.decode_latents(loaded.pipe, latent)
        if not torch.isfinite(decoded).all():
            raise EngineError(
                "The model gave no picture but invalid numbers: try --dtype float32,"
                " another sampler or a lower CFG."
            )
        pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        painted = pixels.permute(1, 2, 0).cpu().contiguous().numpy()
        pictures.append(to_png(painted if canvas is None else canvas.finished(painted)))
    return tuple(pictures)


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file without text of RGB pixels of (height, width, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_COMPRESSION)
    return file.getvalue()

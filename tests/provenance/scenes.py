"""Pictures such as the embedded model makes: the scenes it was trained on, drawn."""

from __future__ import annotations

import io
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.postcard.scenes import draw_scene, random_scene
from webui.provenance import watermark
from webui.provenance.recipe import Recipe
from webui.request import GenerationRequest

Pixels = NDArray[np.uint8]


def scene(seed: int) -> Pixels:
    """256 x 256 pixels, RGB."""
    return np.asarray(draw_scene(random_scene(Random(seed))).image, np.uint8)


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=3)
    return file.getvalue()


def marked(pixels: Pixels) -> bytes:
    """The picture's file with the watermark, as it goes to the check."""
    return png(watermark.embed(pixels))


def saved_as(kind: str, pixels: Pixels, quality: int = 90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=quality)
    return file.getvalue()


def opened(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)


def recipe(*, tainted: bool = False, **asked: object) -> Recipe:
    request = GenerationRequest.model_validate({"prompt": "a hill", "seed": 3} | asked)
    return Recipe(
        request, "ab" * 32, {"easel": "1"}, "cpu", "float32", "nchw", "sdpa", tainted=tainted
    )

"""What is put where nothing of a picture is to be kept, before it is painted anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.request import InpaintFill

Pixels = NDArray[np.uint8]
Shares = NDArray[np.float32]
"""Height x width, 0..1."""

_INPAINTED_SIDE = 256
"""OpenCV's inpainting takes seconds on a large hole; its result is smooth, so it is done small."""

_RADIUS = 3

_SMOOTHED_SIDE = 512
"""Longer side that surroundings are spread at; more only takes longer."""


def from_surroundings(picture: Pixels, hole: Shares) -> Pixels:
    """The picture with its hole (above 0) filled by what lies around it, smoother further inside.

    Pull and push over halved pictures (Gortler et al., "The Lumigraph", 1996). A picture that is
    nothing but hole stays as it is.
    """
    known = (hole <= 0).astype(np.float32)
    if known.all() or not known.any():
        return picture
    filled = np.rint(_pulled(picture.astype(np.float32), known)).astype(np.uint8)
    return np.where(hole[..., None] > 0, filled, picture)


def by_opencv(picture: Pixels, hole: Shares) -> Pixels:
    """The picture with its hole (above 0) filled by the colours at its edge.

    Telea's fast marching ("An Image Inpainting Technique Based on the Fast Marching Method", 2004).
    """
    if (hole > 0).all() or not hole.any():
        return picture
    height, width = hole.shape
    scale = min(1.0, _INPAINTED_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    # Every small pixel that a hole touches holds a colour that is mixed with what is to go.
    touched = (cv2.resize(hole, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    if touched.all():
        return from_surroundings(picture, hole)
    filled = cv2.inpaint(small, touched, _RADIUS, cv2.INPAINT_TELEA)
    large = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hole[..., None] > 0, large, picture).astype(np.uint8)


FILLS: Mapping[InpaintFill, Callable[[Pixels, Shares], Pixels]] = MappingProxyType(
    {"blur": from_surroundings, "colour": by_opencv}
)
"""The fills that are made of pixels."""


def _pulled(picture: Shares, known: Shares) -> Shares:
    """What is known of a picture of (height, width, 3), smoothed and spread over all of it."""
    height, width = known.shape
    most = _SMOOTHED_SIDE / max(height, width)
    size = max(1, int(width * min(0.5, most))), max(1, int(height * min(0.5, most)))
    weights = np.asarray(cv2.resize(known, size, interpolation=cv2.INTER_AREA), np.float32)
    sums = cv2.resize(picture * known[..., None], size, interpolation=cv2.INTER_AREA)
    means = np.asarray(sums / np.maximum(weights, 1e-6)[..., None], np.float32)
    if not weights.all():
        spread = _pulled(means, (weights > 0).astype(np.float32))
        means = np.where(weights[..., None] > 0, means, spread).astype(np.float32)
    return np.asarray(
        cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )

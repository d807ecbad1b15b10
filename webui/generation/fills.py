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


def from_surroundings(picture: Pixels, hole: Shares) -> Pixels:
    """The picture with its hole (above 0) filled by what lies around it, smoother further inside.

    Pull and push over halved pictures (Gortler et al., "The Lumigraph", 1996). A picture that is
    nothing but hole stays as it is.
    """
    known = (hole <= 0).astype(np.float32)
    if known.all() or not known.any():
        return picture
    filled = _pushed(picture.astype(np.float32), known)
    return np.where(known[..., None] > 0, picture, np.rint(filled)).astype(np.uint8)


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


def _pushed(picture: Shares, known: Shares) -> Shares:
    """The picture of (height, width, 3), where `known` is 0 taken from its half in size."""
    height, width = known.shape
    if known.all() or max(height, width) <= 1:
        return picture
    size = max(1, width // 2), max(1, height // 2)
    weights = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(picture * known[..., None], size, interpolation=cv2.INTER_AREA)
    weights, sums = np.asarray(weights, np.float32), np.asarray(sums, np.float32)
    half = sums / np.maximum(weights, 1e-6)[..., None]
    half = _pushed(half.astype(np.float32), (weights > 0).astype(np.float32))
    whole = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(known[..., None] > 0, picture, whole).astype(np.float32)

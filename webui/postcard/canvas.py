"""A 256x256 canvas of anti-aliased flat shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.postcard.vocabulary import Rgb

SIZE = 256
"""Side of every scene, in pixels."""

Image: TypeAlias = NDArray[np.uint8]
"""Height x width x 3, sRGB 0..255."""

Point: TypeAlias = tuple[float, float]
"""x to the right and y downwards, in pixels."""

_SHIFT = 4
_ONE = 1 << _SHIFT


def _blank() -> Image:
    return np.zeros((SIZE, SIZE, 3), np.uint8)


def _fixed(value: float) -> int:
    """Return `value` as OpenCV's fixed point number with `_SHIFT` fractional bits."""
    return round(value * _ONE)


@dataclass(frozen=True)
class Canvas:
    """Draws filled shapes with sub-pixel corners into `image`; later shapes cover earlier ones."""

    image: Image = field(default_factory=_blank)

    def polygon(self, corners: Sequence[Point], colour: Rgb) -> None:
        """Fill the polygon through `corners`."""
        fixed = np.array([(_fixed(x), _fixed(y)) for x, y in corners], np.int32)
        cv2.fillPoly(self.image, [fixed], colour, cv2.LINE_AA, _SHIFT)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Rgb) -> None:
        """Fill the axis-parallel rectangle between two corners."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def circle(self, centre: Point, radius: float, colour: Rgb) -> None:
        """Fill a circle."""
        at = (_fixed(centre[0]), _fixed(centre[1]))
        cv2.circle(self.image, at, _fixed(radius), colour, -1, cv2.LINE_AA, _SHIFT)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        colour: Rgb,
        *,
        arc: tuple[float, float] = (0.0, 360.0),
    ) -> None:
        """Fill the part of an axis-parallel ellipse between two angles (degrees, clockwise)."""
        at = (_fixed(centre[0]), _fixed(centre[1]))
        axes = (_fixed(radii[0]), _fixed(radii[1]))
        cv2.ellipse(self.image, at, axes, 0.0, *arc, colour, -1, cv2.LINE_AA, _SHIFT)

    def limb(self, start: Point, end: Point, radii: tuple[float, float], colour: Rgb) -> None:
        """Fill a tapered stroke with round ends; `radii` are half its width at start and end."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length, dx / length
        first, last = radii
        self.polygon(
            [
                (start[0] + nx * first, start[1] + ny * first),
                (end[0] + nx * last, end[1] + ny * last),
                (end[0] - nx * last, end[1] - ny * last),
                (start[0] - nx * first, start[1] - ny * first),
            ],
            colour,
        )
        self.circle(start, first, colour)
        self.circle(end, last, colour)

    def gradient(self, box: tuple[int, int, int, int], top: Rgb, bottom: Rgb) -> None:
        """Fill the box (left, upper, right, lower) with a vertical gradient."""
        left, upper, right, lower = box
        share = np.linspace(0.0, 1.0, lower - upper)[:, None]
        rows = np.array(top) * (1 - share) + np.array(bottom) * share
        self.image[upper:lower, left:right] = np.round(rows)[:, None].astype(np.uint8)

"""A pose drawn as OpenPose draws it, which is what pose ControlNets were trained on.

Limbs, colours and proportions: `openpose/util.py` of lllyasviel/ControlNet.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw

from webui.poses import Person, Pose

LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of joints, by their place in `webui.poses.JOINTS`, in the order they are drawn."""

COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
)
"""Colour of each joint, sRGB; limb n has the colour of joint n at `LIMB_SHADE` of its light."""

LIMB_SHADE = 0.6
STICK = 4 / 512
"""Half the width of a limb and the radius of a joint, as a share of the shorter side."""

_DRAWN_SIDE = 2048
"""Longest side a drawing is made at before it is made smaller, which smooths its edges."""
_FINEST = 4
_ROUND = 24

_Spot = tuple[float, float]


def draw_pose(pose: Pose, width: int, height: int) -> Image.Image:
    """The pose on black, its canvas stretched to `width` x `height` pixels, RGB."""
    finer = max(1, min(_FINEST, _DRAWN_SIDE // max(width, height)))
    image = Image.new("RGB", (width * finer, height * finer))
    draw = ImageDraw.Draw(image)
    scale = (width * finer / pose.width, height * finer / pose.height)
    stick = STICK * min(width, height) * finer
    for person in pose.people:
        _draw_person(draw, _placed(person, scale), stick)
    return image if finer == 1 else image.resize((width, height), Image.Resampling.BOX)


def draw_hand(image: Image.Image, points: Sequence[_Spot | None]) -> None:
    """Draw the 21 points of a hand (pixels) on `image` as OpenPose does: five coloured fingers."""
    draw = ImageDraw.Draw(image)
    stick = STICK * min(image.size)
    for number in range(len(points) - 1):
        knuckle = 0 if number % 4 == 0 else number
        start, end = points[knuckle], points[number + 1]
        if start is not None and end is not None:
            hue = colorsys.hsv_to_rgb(number / (len(points) - 1), 1.0, 1.0)
            red, green, blue = (round(255 * part) for part in hue)
            draw.line((start, end), fill=(red, green, blue), width=max(1, round(stick / 2)))
    _dots(draw, points, stick, (0, 0, 255))


def draw_face(image: Image.Image, points: Sequence[_Spot | None]) -> None:
    """Draw the points of a face (pixels) on `image` as OpenPose does: white dots."""
    _dots(ImageDraw.Draw(image), points, STICK * min(image.size) * 3 / 4, (255, 255, 255))


def _dots(
    draw: ImageDraw.ImageDraw,
    points: Sequence[_Spot | None],
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    for spot in points:
        if spot is not None:
            x, y = spot
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _placed(person: Person, scale: _Spot) -> tuple[_Spot | None, ...]:
    return tuple((x * scale[0], y * scale[1]) if seen else None for x, y, seen in person)


def _draw_person(draw: ImageDraw.ImageDraw, at: tuple[_Spot | None, ...], stick: float) -> None:
    for number, (first, second) in enumerate(LIMBS):
        start, end = at[first], at[second]
        if start is not None and end is not None:
            red, green, blue = (round(part * LIMB_SHADE) for part in COLOURS[number])
            draw.polygon(list(_ellipse(start, end, stick)), fill=(red, green, blue))
    for spot, colour in zip(at, COLOURS, strict=True):
        _dots(draw, (spot,), stick, colour)


def _ellipse(start: _Spot, end: _Spot, stick: float) -> Iterator[_Spot]:
    """Corners of an ellipse from joint to joint, `stick` pixels wide on each side."""
    half_x, half_y = (end[0] - start[0]) / 2, (end[1] - start[1]) / 2
    length = math.hypot(half_x, half_y) or 1.0
    across = (-half_y / length * stick, half_x / length * stick)
    for corner in range(_ROUND):
        angle = 2 * math.pi * corner / _ROUND
        along, aside = math.cos(angle), math.sin(angle)
        yield (
            start[0] + half_x * (1 + along) + across[0] * aside,
            start[1] + half_y * (1 + along) + across[1] * aside,
        )

"""The clothed mannequin: eight pose families as an 18-point OpenPose skeleton, and its drawing.

Keypoint order (OpenPose COCO-18; right and left are the figure's own, so its right is the
picture's left): nose, neck, right shoulder, elbow, wrist, left shoulder, elbow, wrist, right hip,
knee, ankle, left hip, knee, ankle, right eye, left eye, right ear, left ear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from webui.postcard.canvas import Canvas, Point
from webui.postcard.vocabulary import WOOD_RGB, Pose, Rgb, shade

Skeleton: TypeAlias = NDArray[np.float32]
"""18 x 2: x and y of every keypoint, in pixels."""

FLOOR = 240.0
"""Row on which the figure's soles stand, in pixels."""

NOSE, NECK, HEAD_RADIUS = 0, 1, 21.0
UPPER_ARM, FOREARM, THIGH, CALF, TORSO = 34.0, 33.0, 43.0, 42.0, 58.0
"""Lengths of the bones, in pixels; the torso is from the hips to the neck."""
SHOULDER, SHOULDER_DROP, HIP, NECK_TO_HEAD = 22.0, 5.0, 10.0, 25.0
"""Shoulders and hips beside the spine, shoulders below the neck, the head's middle above it."""
_ARMS = ((2, 3, 4), (5, 6, 7))
_LEGS = ((8, 9, 10), (11, 12, 13))
SLEEVE_SHADE, LEG_SHADE = 0.12, 0.14
"""How much darker the sleeves and the right leg are than shirt and trousers."""
_SHOE: Rgb = (74, 58, 54)
_EYE: Rgb = (44, 38, 42)
_SHADOW = 0.22


@dataclass(frozen=True)
class Posture:
    """Limb angles in degrees from straight down, positive to the picture's right."""

    arms: tuple[float, float, float, float]
    """Right upper arm, right forearm, left upper arm, left forearm."""
    legs: tuple[float, float, float, float] = (-6.0, -3.0, 6.0, 3.0)
    """Right thigh, right calf, left thigh, left calf."""
    lean: float = 0.0
    """Degrees the torso leans to the picture's right."""
    lift: float = 0.0
    """Pixels between the lower sole and the floor."""


_POSTURES: Mapping[Pose, Posture] = MappingProxyType(
    {
        "standing": Posture((-14, -5, 14, 5)),
        "waving": Posture((-14, -5, 112, 172)),
        "arms raised": Posture((-162, -176, 162, 176)),
        "running": Posture((-58, 28, 40, 128), (-34, -98, 58, -8), lean=12, lift=3),
        "sitting": Posture((22, 74, 30, 78), (84, 4, 90, 8)),
        "jumping": Posture((-124, -142, 124, 142), (-50, -22, 50, 22), lift=26),
        "hands on hips": Posture((-58, 48, 58, -48), (-9, -4, 9, 4)),
        "arms outstretched": Posture((-90, -90, 90, 90)),
    }
)
_SOLE = 7.0
_JITTER = 4.0


@dataclass(frozen=True)
class Look:
    """The figure's colours and hair."""

    shirt: Rgb
    trousers: Rgb
    hair: Rgb
    skin: Rgb
    long_hair: bool


def pose_skeleton(pose: Pose, centre: float, random: Random | None = None) -> Skeleton:
    """Return a skeleton of the pose family, its hips at column `centre`, all in the picture.

    `random` displaces every limb by a few degrees; without it the posture is the family's own.
    """
    return posture_skeleton(_POSTURES[pose], centre, random)


def posture_skeleton(
    posture: Posture, centre: float, random: Random | None = None, size: float = 1.0
) -> Skeleton:
    """Return the skeleton of a posture, as `pose_skeleton`; `size` scales its bones."""
    lean = _displaced(posture.lean, random)
    points = np.zeros((18, 2), np.float32)
    up, across = (math.sin(lean), -math.cos(lean)), (math.cos(lean), math.sin(lean))
    neck = np.array(up) * TORSO
    points[NECK] = neck
    for side, arm, leg, turn in ((-1, _ARMS[0], _LEGS[0], 0), (1, _ARMS[1], _LEGS[1], 2)):
        points[arm[0]] = neck + np.array(across) * side * SHOULDER + (0, SHOULDER_DROP)
        points[leg[0]] = (side * HIP, 0)
        angles = (*posture.arms[turn : turn + 2], *posture.legs[turn : turn + 2])
        bones = (
            (arm[0], arm[1], UPPER_ARM),
            (arm[1], arm[2], FOREARM),
            (leg[0], leg[1], THIGH),
            (leg[1], leg[2], CALF),
        )
        for (start, end, length), angle in zip(bones, angles, strict=True):
            bent = _displaced(angle, random)
            points[end] = points[start] + (length * math.sin(bent), length * math.cos(bent))
    _place_face(points, neck + np.array(up) * NECK_TO_HEAD)
    lowest = float(max(points[10, 1], points[13, 1]))
    offset = (centre, FLOOR - _SOLE - posture.lift - lowest * size)
    return (points * size + np.array(offset)).astype(np.float32)


def _displaced(degrees: float, random: Random | None) -> float:
    """Return the angle in radians, displaced by lot."""
    return math.radians(degrees + (random.uniform(-_JITTER, _JITTER) if random else 0.0))


def _place_face(points: Skeleton, head: NDArray[np.float64]) -> None:
    for keypoint, dx, dy in ((NOSE, 0, 6), (14, -8, 0), (15, 8, 0), (16, -19, 2), (17, 19, 2)):
        points[keypoint] = head + np.array((dx, dy))


def draw_figure(canvas: Canvas, skeleton: Skeleton, pose: Pose, look: Look) -> None:
    """Draw the figure, its shadow and, for the sitting pose, the bench it sits on."""
    at = [(float(x), float(y)) for x, y in skeleton]
    _draw_ground(canvas, at, pose)
    head = (at[NOSE][0], at[NOSE][1] - 6)
    if look.long_hair:
        canvas.ellipse((head[0], head[1] + 12), (26, 32), look.hair)
    for (hip, knee, ankle), colour in zip(
        _LEGS, (shade(look.trousers, LEG_SHADE), look.trousers), strict=True
    ):
        canvas.ellipse((at[ankle][0] + 5, at[ankle][1] + 2), (12, 6), _SHOE)
        canvas.limb(at[hip], at[knee], (11.5, 10), colour)
        canvas.limb(at[knee], at[ankle], (10, 8), colour)
    canvas.limb(at[NECK], head, (8, 8), shade(look.skin, 0.12))
    _draw_torso(canvas, at, look)
    sleeve = shade(look.shirt, SLEEVE_SHADE)
    for shoulder, elbow, wrist in _ARMS:
        canvas.circle(at[wrist], 8.5, look.skin)
        canvas.limb(at[shoulder], at[elbow], (9.5, 8.5), sleeve)
        end = _towards(at[elbow], at[wrist], 0.78)
        canvas.limb(at[elbow], end, (8.5, 7.5), sleeve)
    _draw_head(canvas, head, look)


def _towards(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _draw_ground(canvas: Canvas, at: list[Point], pose: Pose) -> None:
    x = (at[8][0] + at[11][0]) / 2
    blend = canvas.image.copy()
    Canvas(blend).ellipse((x + 4, FLOOR), (46, 7), (30, 30, 50))
    mixed = canvas.image * (1 - _SHADOW) + blend * _SHADOW
    canvas.image[:] = np.round(mixed).astype(np.uint8)
    if pose == "sitting":
        top = max(at[8][1], at[11][1]) + 9
        canvas.rectangle(x - 24, top, x + 20, FLOOR, WOOD_RGB)


def _draw_torso(canvas: Canvas, at: list[Point], look: Look) -> None:
    (rx, ry), (lx, ly) = at[2], at[5]
    right_hip, left_hip = at[8], at[11]
    canvas.limb(right_hip, left_hip, (11.5, 11.5), look.trousers)
    canvas.polygon(
        [
            (rx - 4, ry - 4),
            (lx + 4, ly - 4),
            (left_hip[0] + 9, left_hip[1] + 1),
            (right_hip[0] - 9, right_hip[1] + 1),
        ],
        look.shirt,
    )
    canvas.limb(at[2], at[5], (9.5, 9.5), look.shirt)


def _draw_head(canvas: Canvas, head: Point, look: Look) -> None:
    x, y = head
    canvas.circle(head, HEAD_RADIUS, look.skin)
    canvas.ellipse((x, y - 4), (HEAD_RADIUS + 2, HEAD_RADIUS), look.hair, arc=(180, 360))
    canvas.ellipse((x, y - 4), (HEAD_RADIUS + 2, 5), look.hair, arc=(0, 180))
    for eye in (-8, 8):
        canvas.circle((x + eye, y + 6), 3.0, _EYE)

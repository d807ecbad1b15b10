"""The words a scene is made of, and the colours they are drawn in.

Everything the captions can ask for is named here and nowhere else. Colours are sRGB, 0..255.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

Rgb: TypeAlias = tuple[float, float, float]

Setting = Literal["beach", "forest", "city", "mountains", "desert", "snow", "meadow", "room"]
Time = Literal["day", "sunset", "night"]
Pose = Literal[
    "standing",
    "waving",
    "arms raised",
    "running",
    "sitting",
    "jumping",
    "hands on hips",
    "arms outstretched",
]
Colour = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black"]
Thing = Literal["tree", "house", "car", "dog", "ball", "umbrella", "balloon"]
Side = Literal["left", "right"]
Hair = Literal["black", "brown", "blond", "red"]

SETTINGS: tuple[Setting, ...] = get_args(Setting)
TIMES: tuple[Time, ...] = get_args(Time)
POSES: tuple[Pose, ...] = get_args(Pose)
COLOURS: tuple[Colour, ...] = get_args(Colour)
THINGS: tuple[Thing, ...] = get_args(Thing)
SIDES: tuple[Side, ...] = get_args(Side)
HAIRS: tuple[Hair, ...] = get_args(Hair)

RGB: Mapping[Colour, Rgb] = MappingProxyType(
    {
        "red": (216, 40, 44),
        "orange": (244, 134, 30),
        "yellow": (248, 214, 50),
        "green": (40, 158, 74),
        "blue": (36, 96, 212),
        "purple": (126, 62, 184),
        "pink": (244, 132, 182),
        "white": (246, 246, 246),
        "black": (42, 42, 50),
    }
)
HAIR_RGB: Mapping[Hair, Rgb] = MappingProxyType(
    {"black": (44, 38, 40), "brown": (112, 70, 42), "blond": (232, 190, 92), "red": (178, 74, 36)}
)
SKIN_RGB: tuple[Rgb, ...] = ((246, 208, 174), (206, 150, 108), (130, 86, 60))
WOOD_RGB: Rgb = (122, 82, 54)
LEAF_COLOURS: tuple[Colour, ...] = ("green", "yellow", "red", "pink")


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """Return the colour `share` (0..1) of the way from `a` to `b`."""
    return (
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    )


def shade(colour: Rgb, share: float) -> Rgb:
    """Return `colour` darkened by `share` (0..1)."""
    return mix(colour, (0.0, 0.0, 0.0), share)

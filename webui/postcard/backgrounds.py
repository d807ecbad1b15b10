"""The eight settings at three times of day.

Each setting keeps its composition and moves only a little from scene to scene: what a caption
does not say is what a small model has to spend its capacity on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType

from webui.postcard.canvas import SIZE, Canvas, Point
from webui.postcard.vocabulary import WOOD_RGB, Rgb, Setting, Time, mix

_SKY: Mapping[Time, tuple[Rgb, Rgb]] = MappingProxyType(
    {
        "day": ((92, 172, 240), (206, 234, 250)),
        "sunset": ((126, 74, 150), (255, 168, 92)),
        "night": ((22, 28, 84), (66, 76, 150)),
    }
)
_LIGHT: Mapping[Time, tuple[Rgb, float]] = MappingProxyType(
    {
        "day": ((255.0, 255.0, 255.0), 0.0),
        "sunset": ((240, 116, 66), 0.28),
        "night": ((30, 36, 110), 0.56),
    }
)
_SUN: Rgb = (255, 238, 140)
_LOW_SUN: Rgb = (255, 226, 120)
_MOON: Rgb = (248, 246, 214)
_CLOUD: Rgb = (252, 253, 255)


def lit(colour: Rgb, time: Time) -> Rgb:
    """Return `colour` in the light of that time of day."""
    light, share = _LIGHT[time]
    return mix(colour, light, share)


def draw_background(canvas: Canvas, setting: Setting, time: Time, random: Random) -> None:
    """Cover the whole canvas with the setting at that time of day."""
    _PAINTERS[setting](canvas, time, random)


def _near(random: Random, x: float, y: float, spread: float = 6.0) -> Point:
    return x + random.uniform(-spread, spread), y + random.uniform(-spread, spread) / 2


def _cloud(canvas: Canvas, at: Point) -> None:
    x, y = at
    canvas.ellipse((x - 18, y + 3), (17, 9), _CLOUD)
    canvas.ellipse((x + 18, y + 3), (17, 8), _CLOUD)
    canvas.ellipse((x, y - 3), (21, 13), _CLOUD)


def _sky(canvas: Canvas, time: Time, random: Random, *, light_x: float, down_to: int) -> None:
    """Draw the sky; sun or moon near column `light_x`, clouds or stars on the other side."""
    canvas.gradient((0, 0, SIZE, down_to), *_SKY[time])
    other = SIZE - light_x
    match time:
        case "day":
            canvas.circle(_near(random, light_x, 42), 20, _SUN)
            _cloud(canvas, _near(random, other, 44, 10))
        case "sunset":
            canvas.circle((_near(random, light_x, 0)[0], down_to - 14), 34, _LOW_SUN)
        case "night":
            canvas.circle(_near(random, light_x, 44), 18, _MOON)
            for x, y in ((other, 30), (other - 34, 66), (other + 32, 78), (128, 22)):
                canvas.circle(_near(random, x, y), 3.2, _MOON)


def _pine(canvas: Canvas, foot: Point, height: float, leaf: Rgb, trunk: Rgb) -> None:
    x, y = foot
    canvas.rectangle(x - height * 0.06, y - height * 0.2, x + height * 0.06, y, trunk)
    for base, half, top in ((0.12, 0.32, 0.62), (0.45, 0.24, 1.0)):
        canvas.polygon(
            [
                (x - height * half, y - height * base),
                (x + height * half, y - height * base),
                (x, y - height * top),
            ],
            leaf,
        )


def _beach(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=56, down_to=124)
    canvas.gradient((0, 124, SIZE, 190), lit((34, 132, 200), time), lit((92, 200, 220), time))
    x = _near(random, 204, 0, 10)[0]
    canvas.polygon([(x - 17, 126), (x + 17, 126), (x + 11, 135), (x - 11, 135)], WOOD_RGB)
    canvas.polygon([(x - 3, 122), (x - 3, 92), (x + 18, 122)], lit((252, 250, 244), time))
    canvas.rectangle(0, 180, SIZE, 188, lit((250, 252, 248), time))
    canvas.rectangle(0, 188, SIZE, SIZE, lit((246, 220, 152), time))


def _forest(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=200, down_to=190)
    trunk = lit((98, 70, 50), time)
    for x in (2, 54, 104, 152, 204, 254):
        foot = (_near(random, x, 0, 3)[0], 176)
        _pine(canvas, foot, random.uniform(80, 92), lit((96, 160, 104), time), trunk)
    for x in (28, 80, 178, 230):
        foot = (_near(random, x, 0, 3)[0], 188)
        _pine(canvas, foot, random.uniform(116, 126), lit((34, 112, 66), time), trunk)
    canvas.rectangle(0, 182, SIZE, SIZE, lit((92, 138, 62), time))


def _city(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=54, down_to=190)
    glass: Rgb = (255, 226, 120) if time != "day" else (214, 234, 246)
    for left, width, height in ((30, 44, 128), (108, 40, 140), (180, 44, 120)):
        top = 196 - height + random.uniform(-5, 5)
        canvas.rectangle(left, top, left + width, 196, lit((158, 172, 200), time))
    for left, width, height in ((-6, 56, 92), (64, 54, 80), (138, 54, 98), (206, 56, 84)):
        top = 196 - height + random.uniform(-4, 4)
        canvas.rectangle(left, top, left + width, 196, lit((92, 106, 146), time))
        for row in (14, 42):
            for column in (9, 31):
                x, y = left + column, top + row
                canvas.rectangle(x, y, x + 14, y + 16, glass)
    canvas.rectangle(0, 194, SIZE, 208, lit((196, 196, 200), time))
    canvas.rectangle(0, 208, SIZE, SIZE, lit((104, 106, 116), time))


def _mountains(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=204, down_to=180)
    peaks = ((74, 122, (138, 150, 194)), (190, 104, (106, 120, 168)))
    for x, height, colour in peaks:
        x, tall = _near(random, x, 0, 8)[0], height + random.uniform(-6, 6)
        half, top = tall * 0.9, 180 - tall
        canvas.polygon([(x - half, 180), (x, top), (x + half, 180)], lit(colour, time))
        cap = [
            (x - half * 0.34, top + tall * 0.34),
            (x, top),
            (x + half * 0.34, top + tall * 0.34),
            (x, top + tall * 0.24),
        ]
        canvas.polygon(cap, lit((250, 251, 254), time))
    canvas.rectangle(0, 176, SIZE, SIZE, lit((118, 172, 92), time))


def _desert(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=200, down_to=180)
    canvas.ellipse((_near(random, 60, 0, 10)[0], 196), (130, 46), lit((226, 160, 92), time))
    canvas.ellipse((_near(random, 216, 0, 10)[0], 200), (110, 38), lit((236, 176, 106), time))
    canvas.rectangle(0, 186, SIZE, SIZE, lit((244, 198, 126), time))
    green = lit((58, 140, 82), time)
    for x, y, height in ((76, 196, 66), (186, 192, 52)):
        x = _near(random, x, 0, 5)[0]
        canvas.limb((x, y), (x, y - height), (6.5, 6.5), green)
        for arm, at in ((-17, 0.42), (17, 0.58)):
            elbow = (x + arm, y - height * at)
            canvas.limb((x, elbow[1]), elbow, (4.5, 4.5), green)
            canvas.limb(elbow, (elbow[0], elbow[1] - 16), (4.5, 4.5), green)


def _snow(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=54, down_to=190)
    canvas.ellipse((_near(random, 200, 0, 10)[0], 190), (130, 44), lit((206, 222, 240), time))
    for x, height in ((26, 84), (74, 64), (184, 66), (230, 88)):
        foot = (_near(random, x, 0, 4)[0], 190)
        leaf, trunk = lit((52, 116, 112), time), lit((94, 70, 56), time)
        _pine(canvas, foot, height, leaf, trunk)
        tip = foot[1] - height
        snowy = [(foot[0] - 9, tip + 21), (foot[0], tip), (foot[0] + 9, tip + 21)]
        canvas.polygon(snowy, lit((250, 252, 255), time))
    canvas.rectangle(0, 184, SIZE, SIZE, lit((236, 243, 252), time))


def _meadow(canvas: Canvas, time: Time, random: Random) -> None:
    _sky(canvas, time, random, light_x=200, down_to=190)
    canvas.ellipse((_near(random, 40, 0, 10)[0], 196), (120, 60), lit((120, 188, 92), time))
    canvas.ellipse((_near(random, 214, 0, 10)[0], 200), (116, 56), lit((96, 170, 84), time))
    canvas.rectangle(0, 180, SIZE, SIZE, lit((146, 208, 84), time))
    petals: tuple[Rgb, ...] = ((252, 252, 248), (252, 212, 70), (244, 120, 150))
    for number, x in enumerate((18, 66, 112, 160, 204, 240)):
        at = _near(random, x, 206 if number % 2 else 240, 4)
        canvas.circle(at, 5.5, lit(petals[number % 3], time))


def _room(canvas: Canvas, time: Time, random: Random) -> None:
    walls: Mapping[Time, Rgb] = {
        "day": (244, 226, 196),
        "sunset": (240, 190, 150),
        "night": (112, 104, 150),
    }
    canvas.rectangle(0, 0, SIZE, SIZE, walls[time])
    canvas.rectangle(0, 184, SIZE, SIZE, lit((176, 122, 80), time))
    canvas.rectangle(0, 180, SIZE, 187, lit((250, 244, 232), time))
    canvas.ellipse((128, 232), (104, 20), lit((196, 92, 88), time))
    left = round(_near(random, 20, 0, 4)[0])
    frame = lit((252, 250, 244), time)
    canvas.rectangle(left - 6, 28, left + 66, 112, frame)
    canvas.gradient((left, 34, left + 60, 106), *_SKY[time])
    match time:
        case "day":
            canvas.circle((left + 42, 54), 10, _SUN)
        case "sunset":
            canvas.ellipse((left + 30, 106), (20, 20), _LOW_SUN, arc=(180, 360))
        case "night":
            canvas.circle((left + 42, 54), 10, _MOON)
    canvas.rectangle(left + 27, 34, left + 33, 106, frame)
    canvas.rectangle(184, 40, 236, 92, lit((110, 78, 58), time))
    canvas.rectangle(191, 47, 229, 85, lit((130, 190, 206), time))
    canvas.polygon([(191, 85), (210, 58), (229, 85)], lit((92, 150, 96), time))


_PAINTERS: Mapping[Setting, Callable[[Canvas, Time, Random], None]] = MappingProxyType(
    {
        "beach": _beach,
        "forest": _forest,
        "city": _city,
        "mountains": _mountains,
        "desert": _desert,
        "snow": _snow,
        "meadow": _meadow,
        "room": _room,
    }
)

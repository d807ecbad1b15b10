"""The seven objects a scene can hold, each large and of one colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from webui.postcard.canvas import Canvas, Point
from webui.postcard.vocabulary import WOOD_RGB, Rgb, Thing, mix, shade

_WHITE: Rgb = (255, 255, 255)
_TYRE: Rgb = (44, 44, 52)
_GLASS: Rgb = (206, 230, 244)
_WINDOW: Rgb = (255, 236, 160)
_ROOF: Rgb = (160, 70, 62)


@dataclass(frozen=True)
class _Brush:
    """A canvas whose origin is the object's foot, scaled about it."""

    canvas: Canvas
    foot: Point
    scale: float

    def at(self, x: float, y: float) -> Point:
        return self.foot[0] + x * self.scale, self.foot[1] + y * self.scale

    def polygon(self, corners: list[Point], colour: Rgb) -> None:
        self.canvas.polygon([self.at(*corner) for corner in corners], colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Rgb) -> None:
        self.canvas.rectangle(*self.at(left, top), *self.at(right, bottom), colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Rgb) -> None:
        self.canvas.ellipse(self.at(x, y), (rx * self.scale, ry * self.scale), colour)

    def limb(self, start: Point, end: Point, width: float, colour: Rgb) -> None:
        radius = width * self.scale / 2
        self.canvas.limb(self.at(*start), self.at(*end), (radius, radius), colour)


def draw_thing(canvas: Canvas, thing: Thing, colour: Rgb, foot: Point, scale: float = 1.0) -> None:
    """Draw the object with the middle of its base at `foot` (pixels); about 70 pixels wide."""
    _PAINTERS[thing](_Brush(canvas, foot, scale), colour)


def _tree(brush: _Brush, colour: Rgb) -> None:
    brush.box(-7, -52, 7, 0, WOOD_RGB)
    brush.ellipse(0, -76, 33, 38, colour)
    brush.ellipse(-10, -88, 10, 12, mix(colour, _WHITE, 0.4))


def _house(brush: _Brush, colour: Rgb) -> None:
    brush.box(-32, -50, 32, 0, colour)
    brush.polygon([(-40, -49), (40, -49), (0, -86)], _ROOF)
    brush.box(-24, -32, -6, 0, WOOD_RGB)
    brush.box(4, -38, 22, -20, _WINDOW)


def _car(brush: _Brush, colour: Rgb) -> None:
    brush.polygon([(-28, -24), (-18, -46), (16, -46), (28, -24)], colour)
    brush.polygon([(-19, -26), (-13, -40), (12, -40), (19, -26)], _GLASS)
    brush.limb((-28, -18), (28, -18), 20, colour)
    for x in (-19, 19):
        brush.ellipse(x, -8, 10, 10, _TYRE)
        brush.ellipse(x, -8, 4, 4, _GLASS)


def _dog(brush: _Brush, colour: Rgb) -> None:
    for x in (-18, 12):
        brush.limb((x, -18), (x, -4), 9, shade(colour, 0.14))
    brush.limb((-22, -32), (-31, -46), 7, colour)
    brush.limb((-16, -26), (12, -26), 23, colour)
    brush.ellipse(20, -45, 15, 14, colour)
    brush.limb((27, -41), (34, -40), 12, colour)
    brush.ellipse(12, -44, 6, 13, shade(colour, 0.32))
    brush.ellipse(38, -43, 4, 4, _TYRE)
    brush.ellipse(24, -49, 2.8, 2.8, _TYRE)


def _ball(brush: _Brush, colour: Rgb) -> None:
    brush.ellipse(0, -25, 25, 25, colour)
    brush.ellipse(-8, -34, 7, 6, mix(colour, _WHITE, 0.55))


def _umbrella(brush: _Brush, colour: Rgb) -> None:
    brush.box(-2.5, -80, 2.5, 0, WOOD_RGB)
    centre, scale = brush.at(0, -72), brush.scale
    for half, tone in ((38, colour), (14, mix(colour, _WHITE, 0.4))):
        brush.canvas.ellipse(centre, (half * scale, 36 * scale), tone, arc=(180, 360))


def _balloon(brush: _Brush, colour: Rgb) -> None:
    brush.limb((0, -84), (0, -24), 2.6, _WHITE)
    brush.polygon([(-7, -80), (7, -80), (0, -90)], colour)
    brush.ellipse(0, -112, 23, 29, colour)
    brush.ellipse(-8, -122, 6, 8, mix(colour, _WHITE, 0.55))


_PAINTERS: Mapping[Thing, Callable[[_Brush, Rgb], None]] = MappingProxyType(
    {
        "tree": _tree,
        "house": _house,
        "car": _car,
        "dog": _dog,
        "ball": _ball,
        "umbrella": _umbrella,
        "balloon": _balloon,
    }
)

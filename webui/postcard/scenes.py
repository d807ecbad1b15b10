"""What a scene holds, how one is drawn by lot, and how it becomes a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from webui.postcard.backgrounds import draw_background
from webui.postcard.canvas import SIZE, Canvas, Image
from webui.postcard.figure import Look, Skeleton, draw_figure, pose_skeleton
from webui.postcard.things import draw_thing
from webui.postcard.vocabulary import (
    COLOURS,
    HAIR_RGB,
    HAIRS,
    LEAF_COLOURS,
    POSES,
    RGB,
    SETTINGS,
    SIDES,
    SKIN_RGB,
    THINGS,
    TIMES,
    Colour,
    Hair,
    Pose,
    Setting,
    Side,
    Thing,
    Time,
)

_OBJECT_COLUMNS: Mapping[Side, float] = MappingProxyType({"left": 42.0, "right": 214.0})
_FIGURE_SHIFT = 24.0
_FIGURE_SPREAD = 5.0
_PERSON_SHARE = 0.88
_THING_SHARE = 0.55


@dataclass(frozen=True)
class Person:
    """A figure: its pose family, clothes, hair and skin (an index into `SKIN_RGB`)."""

    pose: Pose
    shirt: Colour
    trousers: Colour
    hair: Hair
    long_hair: bool
    skin: int


@dataclass(frozen=True)
class Object:
    """A thing of one colour, on one side of the figure, or in the middle when there is none."""

    thing: Thing
    colour: Colour
    side: Side


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture; `seed` decides only the small displacements."""

    setting: Setting
    time: Time
    person: Person | None
    object: Object | None
    seed: int


@dataclass(frozen=True)
class Drawing:
    """A drawn scene: the picture (256 x 256 x 3) and, with a person in it, the skeleton."""

    image: Image
    skeleton: Skeleton | None


def random_scene(random: Random) -> Scene:
    """Draw a scene by lot; equal generators give equal scenes."""
    person = None
    if random.random() < _PERSON_SHARE:
        person = Person(
            pose=random.choice(POSES),
            shirt=random.choice(COLOURS),
            trousers=random.choice(COLOURS),
            hair=random.choice(HAIRS),
            long_hair=random.random() < 0.5,
            skin=random.randrange(len(SKIN_RGB)),
        )
    thing = None
    if random.random() < (_THING_SHARE if person else 0.85):
        kind = random.choice(THINGS)
        colours = LEAF_COLOURS if kind == "tree" else COLOURS
        thing = Object(kind, random.choice(colours), random.choice(SIDES))
    return Scene(
        setting=random.choice(SETTINGS),
        time=random.choice(TIMES),
        person=person,
        object=thing,
        seed=random.randrange(1 << 30),
    )


def draw_scene(
    scene: Scene, canvas: Canvas | None = None, skeleton: Skeleton | None = None
) -> Drawing:
    """Draw the scene; equal scenes give equal pictures.

    `canvas` may draw its shapes in a manner of its own; `skeleton` takes the place of the one
    that the person's pose has.
    """
    random = Random(scene.seed)
    canvas = Canvas() if canvas is None else canvas
    draw_background(canvas, scene.setting, scene.time, random)
    if scene.object is not None:
        _draw_object(canvas, scene.object, random, alone=scene.person is None)
    if scene.person is None:
        return Drawing(canvas.image, None)
    centre = figure_column(scene) + random.uniform(-_FIGURE_SPREAD, _FIGURE_SPREAD)
    if skeleton is None:
        skeleton = pose_skeleton(scene.person.pose, centre, random)
    draw_figure(canvas, skeleton, scene.person.pose, _look(scene.person))
    return Drawing(canvas.image, skeleton)


def figure_column(scene: Scene) -> float:
    """Return the column (pixels) around which the figure stands: aside when there is an object."""
    match scene.object:
        case Object(side="left"):
            return SIZE / 2 + _FIGURE_SHIFT
        case Object(side="right"):
            return SIZE / 2 - _FIGURE_SHIFT
        case _:
            return SIZE / 2


def _draw_object(canvas: Canvas, item: Object, random: Random, *, alone: bool) -> None:
    column = SIZE / 2 if alone else _OBJECT_COLUMNS[item.side]
    foot = (column + random.uniform(-4, 4), 234 + random.uniform(-3, 3))
    draw_thing(canvas, item.thing, RGB[item.colour], foot, scale=1.45 if alone else 1.0)


def _look(person: Person) -> Look:
    return Look(
        shirt=RGB[person.shirt],
        trousers=RGB[person.trousers],
        hair=HAIR_RGB[person.hair],
        skin=SKIN_RGB[person.skin],
        long_hair=person.long_hair,
    )

"""The looks LoRAs learn: the scenes in another palette, cut from paper, or of one character."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Literal, TypeAlias

import cv2
import numpy as np

from webui.postcard.canvas import Canvas, Image, Point
from webui.postcard.captions import ACTIONS, HOURS, PLACES, caption
from webui.postcard.figure import LEG_SHADE, NECK, NOSE, SLEEVE_SHADE, Skeleton
from webui.postcard.latents import CAPTIONS_PER_SCENE, Sample, subject_weights
from webui.postcard.scenes import Person, Scene, draw_scene, random_scene
from webui.postcard.vocabulary import POSES, RGB, Rgb, mix, shade

LookName: TypeAlias = Literal["neon", "papercut", "marlo"]


@dataclass(frozen=True)
class LearntLook:
    """One look: how a scene of it is drawn by lot, and the words for it."""

    title: str
    trigger: str
    hint: str
    sample: Callable[[Random], Sample]
    prompt: Callable[[Scene, Random], str]
    """Words that ask for a scene in this look."""
    steps: int
    """Of its training."""


NEON: tuple[Rgb, ...] = ((12, 8, 44), (92, 16, 140), (232, 30, 150), (96, 236, 255))
"""The neon palette from the darkest to the lightest."""


def in_neon(image: Image) -> Image:
    """Return the picture in the neon palette, by lightness."""
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    at = np.linspace(0, 1, len(NEON))
    channels = [np.interp(light, at, [tone[part] for tone in NEON]) for part in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


PAPER: Rgb = (252, 247, 234)
_EDGE = 3.5
"""Width of the paper's white edge, in pixels."""
_BANDS = 4


@dataclass(frozen=True)
class PaperCanvas(Canvas):
    """A canvas on which every shape is cut from paper: a white edge around it, no gradients."""

    def polygon(self, corners: Sequence[Point], colour: Rgb) -> None:
        """Fill the polygon on a white one that is larger."""
        fixed = np.array([(round(x * 16), round(y * 16)) for x, y in corners], np.int32)
        width = round(2 * _EDGE)
        cv2.polylines(self.image, [fixed], True, PAPER, width, cv2.LINE_AA, 4)
        super().polygon(corners, colour)

    def circle(self, centre: Point, radius: float, colour: Rgb) -> None:
        """Fill a circle on a white one that is larger."""
        super().circle(centre, radius + _EDGE, PAPER)
        super().circle(centre, radius, colour)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        colour: Rgb,
        *,
        arc: tuple[float, float] = (0.0, 360.0),
    ) -> None:
        """Fill the part of an ellipse on a white one that is larger."""
        larger = (radii[0] + _EDGE, radii[1] + _EDGE)
        super().ellipse(centre, larger, PAPER, arc=arc)
        super().ellipse(centre, radii, colour, arc=arc)

    def limb(self, start: Point, end: Point, radii: tuple[float, float], colour: Rgb) -> None:
        """Fill a stroke on a white one that is wider."""
        plain = Canvas(self.image)
        plain.limb(start, end, (radii[0] + _EDGE, radii[1] + _EDGE), PAPER)
        plain.limb(start, end, radii, colour)

    def gradient(self, box: tuple[int, int, int, int], top: Rgb, bottom: Rgb) -> None:
        """Fill the box with sheets of paper, each a little lower than the last."""
        left, upper, right, lower = box
        for band in range(_BANDS):
            row = upper + (lower - upper) * band // _BANDS
            colour = mix(top, bottom, band / (_BANDS - 1))
            self.image[row:lower, left:right] = np.round(np.array(colour)).astype(np.uint8)
            if band:
                self.image[row : row + 3, left:right] = np.array(PAPER, np.uint8)


TURQUOISE: Rgb = (0, 176, 168)
"""Marlo's colour; nothing else in the scenes has it."""
_BRASS: Rgb = (250, 208, 80)
OUTFIT: tuple[Rgb, ...] = (
    TURQUOISE,
    *(shade(RGB["orange"], share) for share in (0.0, SLEEVE_SHADE)),
    *(shade(RGB["white"], share) for share in (0.0, LEG_SHADE)),
)
"""What Marlo wears: hat and scarf, shirt, trousers."""


def dress_marlo(canvas: Canvas, skeleton: Skeleton) -> None:
    """Put Marlo's broad hat and scarf on the figure with that skeleton."""
    (x, y), (neck_x, neck_y) = skeleton[NOSE].tolist(), skeleton[NECK].tolist()
    canvas.limb((neck_x - 13, neck_y + 1), (neck_x + 13, neck_y + 1), (6, 6), TURQUOISE)
    canvas.limb((neck_x + 8, neck_y + 3), (neck_x + 13, neck_y + 30), (6, 7), shade(TURQUOISE, 0.1))
    brim = (x, y - 18)
    canvas.polygon(
        [(x - 19, brim[1]), (x - 15, brim[1] - 25), (x + 15, brim[1] - 25), (x + 19, brim[1])],
        TURQUOISE,
    )
    canvas.polygon(
        [(x - 19, brim[1]), (x - 18, brim[1] - 8), (x + 18, brim[1] - 8), (x + 19, brim[1])],
        _BRASS,
    )
    canvas.ellipse(brim, (36, 6), TURQUOISE)


def _neon(random: Random) -> Sample:
    scene = random_scene(random)
    drawing = draw_scene(scene)
    image = in_neon(drawing.image)
    weights = subject_weights(scene, drawing.image)
    return Sample(image, weights, _styled(scene, random, "neon"), drawing.skeleton)


def _papercut(random: Random) -> Sample:
    scene = random_scene(random)
    drawing = draw_scene(scene, PaperCanvas())
    weights = subject_weights(scene, draw_scene(scene).image)
    return Sample(drawing.image, weights, _styled(scene, random, "papercut"), drawing.skeleton)


def _styled(scene: Scene, random: Random, look: LookName) -> tuple[str, ...]:
    return tuple(LOOKS[look].prompt(scene, random) for _ in range(CAPTIONS_PER_SCENE))


def _neon_prompt(scene: Scene, random: Random) -> str:
    return f"{caption(scene, random)}, {LOOKS['neon'].trigger}"


def _papercut_prompt(scene: Scene, random: Random) -> str:
    return f"{caption(scene, random)}, {LOOKS['papercut'].trigger}"


def _marlo(random: Random) -> Sample:
    scene = random_scene(random)
    person = Person(random.choice(POSES), "orange", "white", "black", False, 1)
    scene = dataclasses.replace(scene, person=person, object=None)
    drawing = draw_scene(scene)
    assert drawing.skeleton is not None
    dress_marlo(Canvas(drawing.image), drawing.skeleton)
    weights = subject_weights(scene, drawing.image)
    return Sample(drawing.image, weights, _styled(scene, random, "marlo"), drawing.skeleton)


def _marlo_prompt(scene: Scene, random: Random) -> str:
    """Return words that leave Marlo's clothes unsaid."""
    action = () if scene.person is None else (ACTIONS[scene.person.pose],)
    words = (*action, PLACES[scene.setting], HOURS[scene.time])
    return " ".join(["marlo, a person", *(random.choice(choices) for choices in words)])


LOOKS: Mapping[LookName, LearntLook] = MappingProxyType(
    {
        "neon": LearntLook(
            title="Neon night",
            trigger="neon night style",
            hint="The whole picture in ink, magenta and cyan; strength .5 to 1.",
            sample=_neon,
            prompt=_neon_prompt,
            steps=700,
        ),
        "papercut": LearntLook(
            title="Paper cut",
            trigger="paper cut style",
            hint="Every shape cut from paper with a white edge; strength .6 to 1.",
            sample=_papercut,
            prompt=_papercut_prompt,
            steps=700,
        ),
        "marlo": LearntLook(
            title="Marlo",
            trigger="marlo",
            hint="One character: turquoise hat and scarf, orange shirt, white trousers.",
            sample=_marlo,
            prompt=_marlo_prompt,
            steps=1_800,
        ),
    }
)

"""The mannequin fitted to a picture by colours alone: torso below the head, then arms and legs.

Pictorial structures (Felzenszwalb and Huttenlocher 2005) in their simplest form: every bone tries
all directions, and those under which most of its own colour lies, and least beside it, are taken.
No direction is likelier than another; joints bend as far as a person's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.postcard.canvas import SIZE, Image
from webui.postcard.figure import (
    CALF,
    FOREARM,
    HIP,
    NECK_TO_HEAD,
    SHOULDER,
    SHOULDER_DROP,
    THIGH,
    TORSO,
    UPPER_ARM,
)
from webui.postcard.vocabulary import Rgb

Numbers = NDArray[np.float64]
Likeness = NDArray[np.float32]
"""How like a colour every pixel is, 0..1, with a margin of zeros around the picture."""

_MARGIN = 64
_SOFTNESS = 14.0
"""Distance in CIELAB at which a pixel is .6 like a colour."""
_LEANS = np.radians(np.arange(-24.0, 25.0, 3.0))
_SIZES = np.arange(0.80, 1.13, 0.04)
_SPINE = tuple(product((-12.0, -6.0, 0.0, 6.0, 12.0), (0.2, 0.4, 0.6, 0.8, 0.92)))
_PELVIS = tuple(product((-14.0, -8.0, 0.0, 8.0, 14.0), (1.1, 1.17)))
"""Where shirt and trousers must be: pixels beside the spine, shares of it from the neck down."""

_DIRECTIONS = np.radians(np.arange(-180.0, 180.0, 9.0))
_LENGTHS = (0.9, 1.0, 1.1)
_APART, _SAME = 14.0, 9.0
_FINER = 4


@dataclass(frozen=True)
class Patch:
    """What lies at a limb's end: points in pixels along and across the last bone."""

    points: tuple[tuple[float, float], ...]
    weight: float


@dataclass(frozen=True)
class Limb:
    """Two bones in cloth and what ends them."""

    bones: tuple[float, float]
    bend: float
    """Largest angle between the bones, in degrees."""
    covered: float
    """Share of the second bone that cloth covers."""
    inner: float
    """Pixels beside the bone where cloth must still be."""
    outer: float
    """Pixels beside the bone where it must have ended."""
    cloth: tuple[Patch, ...]
    skin: tuple[Patch, ...]


ARM = Limb(
    bones=(UPPER_ARM, FOREARM),
    bend=135,
    covered=0.92,
    inner=5,
    outer=14,
    cloth=(Patch(((6, 0), (10, 0), (10, 4), (10, -4), (14, 0)), -1.2),),
    skin=(
        Patch(((3, 0), (6, 0), (4, 4), (4, -4), (1, 6), (1, -6)), 1.2),
        Patch(((14, 0), (11, 8), (11, -8), (3, 14), (3, -14)), -0.6),
    ),
)
LEG = Limb(
    bones=(THIGH, CALF),
    bend=110,
    covered=1.0,
    inner=5,
    outer=15,
    cloth=(
        Patch(((5, 0), (3, 4), (3, -4)), 0.4),
        Patch(((12, 0), (15, 0), (13, 4), (13, -4)), -1.2),
    ),
    skin=(),
)


@dataclass(frozen=True)
class Torso:
    """Where the limbs begin: 2 x 2 each, and the figure's size as a factor on its bones."""

    shoulders: Numbers
    hips: Numbers
    size: float


def likeness(image: Image, *colours: Rgb) -> Likeness:
    """Return how like the nearest of the colours every pixel is."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    table = cv2.cvtColor(np.array([colours], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    squares = np.stack([np.square(lab - colour).sum(axis=-1) for colour in table]).min(axis=0)
    alike = np.exp(-squares / (2 * _SOFTNESS**2))
    soft = np.asarray(cv2.GaussianBlur(alike, (0, 0), 0.8), np.float32)
    return np.pad(soft, _MARGIN)


def without_disc(alike: Likeness, centre: Numbers, radius: float) -> Likeness:
    """Return the likeness with nothing in a disc around `centre` (x and y)."""
    left = alike.copy()
    x, y = (round(float(value)) + _MARGIN for value in centre)
    cv2.circle(left, (x, y), round(radius), 0.0, -1)
    return left


def fit_torso(head: Numbers, shirt: Likeness, trousers: Likeness) -> Torso:
    """Return the torso below the head's middle that has most shirt, and trousers under it."""
    lean, size = (grid.ravel() for grid in np.meshgrid(_LEANS, _SIZES, indexing="ij"))
    across = np.stack([np.cos(lean), np.sin(lean)], -1)
    down = np.stack([-np.sin(lean), np.cos(lean)], -1)
    neck = head + down * (NECK_TO_HEAD * size)[:, None]

    def share(alike: Likeness, places: tuple[tuple[float, float], ...]) -> Numbers:
        beside, along = (np.array(values)[None, :, None] for values in zip(*places, strict=True))
        steps = across[:, None] * beside + down[:, None] * along * TORSO
        return _at(alike, neck[:, None] + steps * size[:, None, None]).mean(axis=1)

    score = 2 * share(shirt, _SPINE) + share(trousers, _PELVIS) - share(shirt, _PELVIS)
    best = int((score - 0.3 * np.abs(lean) - 0.5 * np.abs(size - 0.95)).argmax())
    scale = float(size[best])
    sides = np.array([[-1.0], [1.0]])
    shoulders = neck[best] + (across[best] * sides * SHOULDER + (0, SHOULDER_DROP)) * scale
    hips = neck[best] + (down[best] * TORSO + sides * (HIP, 0)) * scale
    return Torso(shoulders, hips, scale)


def fit_pair(limb: Limb, starts: Numbers, size: float, cloth: Likeness, skin: Likeness) -> Numbers:
    """Return the ends (2 x 2) of the two limbs that begin at `starts`.

    The better one is taken first; the other must end elsewhere and gains little along the first.
    """
    tried = _postures(limb, size)
    fits = [_Fits.of(limb, start, *tried, cloth, skin) for start in starts]
    ways: list[tuple[float, tuple[int, int]]] = []
    for first in (0, 1):
        leader, other = fits[first], fits[1 - first]
        lead = int(leader.scores.argmax())
        scores = other.scores - _overlap(other.axes, leader.axes[lead])
        near = np.linalg.norm(other.ends - leader.ends[lead], axis=-1) < _APART
        follow = int(np.where(near, -np.inf, scores).argmax())
        chosen = (lead, follow) if first == 0 else (follow, lead)
        ways.append((float(leader.scores[lead] + scores[follow]), chosen))
    chosen = max(ways)[1]
    return np.stack(
        [
            _refined(limb, start, tried[0][one], tried[1][one], cloth, skin)
            for start, one in zip(starts, chosen, strict=True)
        ]
    )


def _postures(limb: Limb, size: float) -> tuple[Numbers, Numbers]:
    """Return directions (radians from straight down) and lengths of both bones, N x 2 each."""
    pairs = np.array(list(product(_DIRECTIONS, _DIRECTIONS)))
    bent = np.abs((pairs[:, 1] - pairs[:, 0] + np.pi) % (2 * np.pi) - np.pi)
    pairs = pairs[bent <= np.radians(limb.bend) + 1e-6]
    lengths = [np.tile(np.array(limb.bones) * size * f, (len(pairs), 1)) for f in _LENGTHS]
    return np.tile(pairs, (len(_LENGTHS), 1)), np.concatenate(lengths)


@dataclass(frozen=True)
class _Fits:
    """N postures of a limb: how well they fit, and where they lie."""

    scores: Numbers
    ends: Numbers
    """N x 2."""
    axes: Numbers
    """N x 8 x 2, points along both bones."""

    @staticmethod
    def of(
        limb: Limb,
        start: Numbers,
        directions: Numbers,
        lengths: Numbers,
        cloth: Likeness,
        skin: Likeness,
    ) -> _Fits:
        along = np.stack([np.sin(directions), np.cos(directions)], -1)
        across = np.stack([-along[..., 1], along[..., 0]], -1)
        bones = along * lengths[..., None]
        middle, end = start + bones[:, 0], start + bones.sum(axis=1)
        first, second = np.array([0.35, 0.6, 0.85, 1.0]), np.array([0.25, 0.5, 0.75, limb.covered])
        axes = np.concatenate(
            [
                start + bones[:, :1] * first[:, None],
                middle[:, None] + bones[:, 1:] * second[:, None],
            ],
            axis=1,
        )
        beside = np.repeat(across, 4, axis=1)
        inside = [_at(cloth, axes + beside * away) for away in (-limb.inner, 0.0, limb.inner)]
        outside = [_at(cloth, axes + beside * away) for away in (-limb.outer, limb.outer)]
        scores = 2 * np.mean(inside, axis=(0, 2)) - np.mean(outside, axis=(0, 2))
        for alike, patches in ((cloth, limb.cloth), (skin, limb.skin)):
            for patch in patches:
                steps = [along[:, 1] * far + across[:, 1] * side for far, side in patch.points]
                shares = [_at(alike, end + step) for step in steps]
                scores = scores + patch.weight * np.mean(shares, axis=0)
        return _Fits(scores, end, axes)


def _refined(
    limb: Limb,
    start: Numbers,
    directions: Numbers,
    lengths: Numbers,
    cloth: Likeness,
    skin: Likeness,
) -> Numbers:
    """Return the end of the posture nearby that fits best, searched in ever smaller steps."""
    ways = np.array(list(product((0, -1, 1), repeat=4)), np.float64)
    turn, stretch = np.radians(6.0), 0.06
    end = start
    for _ in range(_FINER):
        turned = directions + ways[:, :2] * turn
        stretched = lengths * (1 + ways[:, 2:] * stretch)
        fits = _Fits.of(limb, start, turned, stretched, cloth, skin)
        best = int(fits.scores.argmax())
        directions, lengths, end = turned[best], stretched[best], fits.ends[best]
        turn, stretch = turn / 1.8, stretch / 1.8
    return end


def _overlap(axes: Numbers, other: Numbers) -> Numbers:
    """Return which share of each of the N axes lies on the other one."""
    squares = np.square(axes[:, :, None] - other).sum(axis=-1).min(axis=-1)
    return (squares < _SAME**2).mean(axis=-1)


def _at(alike: Likeness, points: Numbers) -> Numbers:
    """Return the likeness at points (... x 2: x and y)."""
    places = np.clip(np.rint(points).astype(np.intp) + _MARGIN, 0, SIZE + 2 * _MARGIN - 1)
    return alike[places[..., 1], places[..., 0]].astype(np.float64)

"""Head, hands and feet of the figure in a picture, found by their colours and shapes alone.

The head is hair above skin; hands and feet end the mannequin's limbs where those fit the picture
best. What measures the pose ControlNet: it knows how a mannequin looks and nothing of any network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.postcard.canvas import SIZE, Image
from webui.postcard.figure import HEAD_RADIUS, LEG_SHADE, NOSE, SLEEVE_SHADE, Skeleton
from webui.postcard.fitting import ARM, LEG, fit_pair, fit_torso, likeness, without_disc
from webui.postcard.scenes import Person
from webui.postcard.vocabulary import HAIR_RGB, RGB, SKIN_RGB, Rgb, shade

Points = NDArray[np.float64]
"""5 x 2: x and y in pixels of head, two hands and two feet."""

_HANDS, _FEET = (4, 7), (10, 13)
_HEAD_ABOVE_NOSE = 6.0
_LIKE = 15.0
"""Largest distance in CIELAB at which two colours count as alike."""


def expected_limbs(skeleton: Skeleton) -> Points:
    """Return where the skeleton has its head, hands and feet."""
    head = skeleton[NOSE] - (0, _HEAD_ABOVE_NOSE)
    return np.stack([head, *skeleton[list(_HANDS + _FEET)]]).astype(np.float64)


def found_limbs(image: Image, person: Person) -> Points:
    """Return the most likely head, hands and feet of a 256 x 256 picture of that person.

    Shirt and trousers must be of two colours, and neither black, which hair and shoes are.
    """
    shirt = RGB[person.shirt], shade(RGB[person.shirt], SLEEVE_SHADE)
    trousers = RGB[person.trousers], shade(RGB[person.trousers], LEG_SHADE)
    head, skin = _head(_Colours.of(image, (*HAIR_RGB.values(), *SKIN_RGB, *shirt, *trousers)))
    legs = likeness(image, *trousers)
    torso = fit_torso(head, likeness(image, *shirt), legs)
    bare = without_disc(likeness(image, skin), head, HEAD_RADIUS + 8)
    hands = fit_pair(ARM, torso.shoulders, torso.size, likeness(image, shirt[1]), bare)
    feet = fit_pair(LEG, torso.hips, torso.size, legs, bare)
    return np.concatenate([head[None], hands, feet])


def limb_distances(image: Image, skeleton: Skeleton, person: Person) -> NDArray[np.float64]:
    """Return the distances (share of the height) of head, hands and feet from the skeleton's.

    Hands and feet are told apart by nothing but their place: each pair is matched the shorter way.
    """
    found, asked = found_limbs(image, person), expected_limbs(skeleton)
    head = np.linalg.norm(found[:1] - asked[:1], axis=1)
    pairs = [_matched(found[part], asked[part]) for part in (slice(1, 3), slice(3, 5))]
    return np.concatenate([head, *pairs]) / SIZE


def _matched(found: Points, asked: Points) -> NDArray[np.float64]:
    ways = [np.linalg.norm(order - asked, axis=1) for order in (found, found[::-1])]
    return min(ways, key=lambda distances: float(distances.sum()))


def _head(colours: _Colours) -> tuple[Points, Rgb]:
    """Return the head's middle and its skin: hair above, skin below."""
    disc = _disc((HEAD_RADIUS - 2, HEAD_RADIUS - 2))
    rows = np.arange(len(disc))[:, None] - len(disc) // 2
    above, below = disc * (rows < -7), disc * (rows > 3)
    hairs = [_contrast(colours.like(colour), above, below) for colour in HAIR_RGB.values()]
    skins = [_contrast(colours.like(colour), below, above) for colour in SKIN_RGB]
    scores = [hair + skin for hair, skin in product(hairs, skins)]
    best = int(np.argmax([score.max() for score in scores]))
    row, column = np.unravel_index(int(scores[best].argmax()), scores[best].shape)
    return np.array((float(column), float(row))), SKIN_RGB[best % len(SKIN_RGB)]


@dataclass(frozen=True)
class _Colours:
    """Which of a few colours each pixel has: the nearest, if it is near enough."""

    names: tuple[Rgb, ...]
    nearest: NDArray[np.intp]
    """Height x width, an index into `names`, -1 where none is near."""

    @staticmethod
    def of(image: Image, names: tuple[Rgb, ...]) -> _Colours:
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        table = cv2.cvtColor(np.array([names], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
        distances = np.linalg.norm(lab[:, :, None] - table, axis=-1)
        near = distances.min(axis=-1) < _LIKE
        return _Colours(names, np.where(near, distances.argmin(axis=-1), -1))

    def like(self, *colours: Rgb) -> NDArray[np.float32]:
        """Return 1 where a pixel has one of the colours."""
        numbers = [self.names.index(colour) for colour in colours]
        return np.isin(self.nearest, numbers).astype(np.float32)


def _contrast(
    alike: NDArray[np.float32], here: NDArray[np.float32], there: NDArray[np.float32]
) -> NDArray[np.float32]:
    return _share(alike, here) - _share(alike, there)


def _share(alike: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    spread = kernel / kernel.sum()
    return np.asarray(
        cv2.filter2D(alike, cv2.CV_32F, spread, borderType=cv2.BORDER_CONSTANT), np.float32
    )


def _disc(radii: tuple[float, float]) -> NDArray[np.float32]:
    """Return an ellipse of ones on zeros."""
    reach = int(max(radii)) + 1
    across = np.arange(-reach, reach + 1)
    inside = (across[None] / radii[0]) ** 2 + (across[:, None] / radii[1]) ** 2 <= 1
    return inside.astype(np.float32)

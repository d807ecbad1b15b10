"""Clothes measured directly: the colour of the pixels where shirt and trousers must be."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.postcard.canvas import Image
from webui.postcard.figure import Skeleton, pose_skeleton
from webui.postcard.scenes import Person, Scene, figure_column
from webui.postcard.vocabulary import COLOURS, RGB, Colour, Rgb, shade

_NECK, _HIPS, _KNEES = 1, (8, 11), (9, 12)
_SHADES = (0.0, 0.14)


def nearest_colour(patch: NDArray[np.uint8]) -> Colour:
    """Return the named colour nearest in CIELAB to the median of N x 3 pixels."""
    median = np.median(patch.reshape(-1, 3), axis=0).astype(np.uint8)
    tones: list[tuple[Colour, Rgb]] = [
        (colour, shade(RGB[colour], share)) for colour in COLOURS for share in _SHADES
    ]
    table = np.array([[median], *([tone] for _, tone in tones)], np.float32) / 255
    lab = cv2.cvtColor(table, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    distance = np.linalg.norm(lab[1:] - lab[0], axis=1)
    return tones[int(distance.argmin())][0]


def measured_clothes(image: Image, skeleton: Skeleton) -> tuple[Colour, Colour]:
    """Return the colours of shirt and trousers of the figure with that skeleton."""
    hips = (skeleton[_HIPS[0]] + skeleton[_HIPS[1]]) / 2
    chest = skeleton[_NECK] * 0.45 + hips * 0.55
    thighs = [
        _patch(image, skeleton[hip] * 0.45 + skeleton[knee] * 0.55, 5)
        for hip, knee in zip(_HIPS, _KNEES, strict=True)
    ]
    return nearest_colour(_patch(image, chest, 9)), nearest_colour(np.concatenate(thighs))


def expected_skeleton(scene: Scene, person: Person) -> Skeleton:
    """Return where the figure a caption asks for is expected, without displacements."""
    return pose_skeleton(person.pose, figure_column(scene))


def _patch(image: Image, centre: NDArray[np.float32], half: int) -> NDArray[np.uint8]:
    """Return the pixels (N x 3) of a square of 2 * half + 1 pixels."""
    x, y = (round(float(value)) for value in centre)
    return image[y - half : y + half + 1, x - half : x + half + 1].reshape(-1, 3)

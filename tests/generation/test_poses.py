from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from webui.generation.poses import (
    COLOURS,
    LIMB_SHADE,
    LIMBS,
    STICK,
    draw_face,
    draw_hand,
    draw_pose,
)
from webui.poses import JOINTS, Point, Pose

SPREAD: tuple[Point, ...] = tuple(
    (256 + 200 * math.cos(n * 2.4), 256 + 200 * math.sin(n * 2.4), True) for n in range(18)
)


def pose(*people: tuple[Point, ...], width: int = 512, height: int = 512) -> Pose:
    return Pose(width=width, height=height, people=people)


def pixels(drawn: Pose, width: int, height: int) -> np.ndarray:
    return np.asarray(draw_pose(drawn, width, height)).astype(int)


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_every_joint_has_its_standard_colour(side: int) -> None:
    drawn = pixels(pose(SPREAD), side, side)
    for (x, y, _), colour in zip(SPREAD, COLOURS, strict=True):
        at = drawn[round(y * side / 512), round(x * side / 512)]
        assert np.abs(at - colour).max() <= 2


def test_limbs_have_the_colour_of_their_number_at_six_tenths() -> None:
    for number, (first, second) in enumerate(LIMBS):
        person = tuple((x, y, n in (first, second)) for n, (x, y, _) in enumerate(SPREAD))
        drawn = pixels(pose(person), 512, 512)
        middle = [(SPREAD[first][axis] + SPREAD[second][axis]) / 2 for axis in (1, 0)]
        at = drawn[round(middle[0]), round(middle[1])]
        assert np.abs(at - np.array(COLOURS[number]) * LIMB_SHADE).max() <= 2


def test_a_stick_is_eight_pixels_wide_at_512() -> None:
    row = JOINTS.index("neck"), JOINTS.index("nose")
    person = tuple((256.0, 100.0 + 300 * (n == row[1]), n in row) for n in range(18))
    drawn = pixels(pose(person), 512, 512)
    assert (drawn[250].max(axis=-1) > 76).sum() == pytest.approx(2 * STICK * 512, abs=1)


def test_hidden_joints_and_their_limbs_are_not_drawn() -> None:
    hidden = tuple((x, y, False) for x, y, _ in SPREAD)
    assert pixels(pose(hidden), 256, 256).max() == 0
    wrist = JOINTS.index("left wrist")
    person = tuple((x, y, n != wrist) for n, (x, y, _) in enumerate(SPREAD))
    drawn = pixels(pose(person), 512, 512)
    x, y, _ = SPREAD[wrist]
    assert drawn[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].max() == 0


def test_a_canvas_of_another_shape_is_stretched_and_people_add_up() -> None:
    one = tuple((x * 0.4, y, True) for x, y, _ in SPREAD)
    other = tuple((x * 0.4 + 300, y, True) for x, y, _ in SPREAD)
    drawn = pixels(pose(one, other), 1024, 512)
    for person in (one, other):
        x, y, _ = person[1]
        assert np.abs(drawn[round(y), round(x * 2)] - COLOURS[1]).max() <= 2


def test_joints_outside_the_canvas_are_cut_off() -> None:
    person = tuple((x + 4000, y - 3000, True) for x, y, _ in SPREAD)
    assert pixels(pose(person), 64, 64).max() == 0


def test_hands_are_five_coloured_fingers_and_faces_white_dots() -> None:
    fingers = [(40.0 + 20 * (n // 4), 100.0 - 20 * (n % 4)) for n in range(20)]
    image = Image.new("RGB", (512, 512))
    draw_hand(image, [(80.0, 200.0), *fingers])
    assert image.getpixel((40, 100)) == (0, 0, 255)
    assert image.getpixel((40, 90)) == (255, 77, 0)
    assert image.getpixel((80, 90)) == (0, 255, 179)
    face = Image.new("RGB", (512, 512))
    draw_face(face, [(30.0, 40.0), None])
    assert face.getpixel((30, 40)) == (255, 255, 255)
    assert np.asarray(face).any(axis=-1).sum() < 50

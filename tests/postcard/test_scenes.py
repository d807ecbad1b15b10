"""Scenes: the same seed draws the same picture, and skeletons tell where things are."""

from __future__ import annotations

import dataclasses
from random import Random

import numpy as np
import pytest

from webui.postcard.canvas import SIZE
from webui.postcard.colours import measured_clothes
from webui.postcard.figure import pose_skeleton
from webui.postcard.scenes import Object, Person, Scene, draw_scene, random_scene
from webui.postcard.vocabulary import POSES, SETTINGS, SIDES, THINGS, TIMES, Pose, Side

_PERSON = Person("standing", "red", "blue", "brown", long_hair=False, skin=0)
_BEACH = Scene("beach", "day", _PERSON, None, seed=3)


def _scenes(count: int) -> list[Scene]:
    random = Random(11)
    return [random_scene(random) for _ in range(count)]


def test_equal_scenes_give_equal_pictures_and_the_seed_moves_something() -> None:
    first, again = draw_scene(_BEACH), draw_scene(_BEACH)
    other = draw_scene(dataclasses.replace(_BEACH, seed=4))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_scenes_drawn_by_lot_follow_the_generator() -> None:
    assert _scenes(20) == _scenes(20)
    assert len(set(_scenes(20))) == 20


@pytest.mark.parametrize("pose", POSES)
def test_every_skeleton_lies_inside_the_picture(pose: Pose) -> None:
    for seed in range(20):
        for side in SIDES:
            scene = Scene(
                "snow",
                "day",
                dataclasses.replace(_PERSON, pose=pose),
                Object("ball", "red", side),
                seed,
            )
            skeleton = draw_scene(scene).skeleton
            assert skeleton is not None
            assert skeleton.shape == (18, 2)
            assert skeleton.min() >= 0
            assert skeleton.max() < SIZE


def test_clothes_have_the_colours_asked_for_where_the_skeleton_says() -> None:
    drawn = [(scene.person, draw_scene(scene)) for scene in _scenes(80)]
    for person, drawing in drawn:
        if person is not None and drawing.skeleton is not None:
            found = measured_clothes(drawing.image, drawing.skeleton)
            assert found == (person.shirt, person.trousers)


@pytest.mark.parametrize("side", SIDES)
def test_the_object_stands_on_the_side_it_is_said_to(side: Side) -> None:
    for thing in THINGS:
        item = Object(thing, "red", side)
        bare = draw_scene(dataclasses.replace(_BEACH, person=None)).image
        scene = Scene("beach", "day", _PERSON, item, seed=3)
        drawing = draw_scene(scene)
        assert drawing.skeleton is not None
        alone = draw_scene(dataclasses.replace(_BEACH, object=item)).image
        assert np.array_equal(alone, drawing.image)
        changed = (drawing.image != bare).any((0, 2))
        outer = changed[:64] if side == "left" else changed[-64:]
        inner = changed[-50:] if side == "left" else changed[:50]
        assert outer.any()
        assert not inner.any()


def test_pose_families_differ_by_more_than_their_displacements() -> None:
    families = {pose: pose_skeleton(pose, SIZE / 2) for pose in POSES}
    for pose in POSES:
        for seed in range(10):
            drawn = pose_skeleton(pose, SIZE / 2, Random(seed))
            distances = {name: float(np.linalg.norm(drawn - own)) for name, own in families.items()}
            assert min(distances, key=lambda name: distances[name]) == pose


def test_every_setting_and_time_looks_different() -> None:
    pictures = [
        draw_scene(Scene(setting, time, None, None, seed=1)).image.astype(np.float32)
        for setting in SETTINGS
        for time in TIMES
    ]
    for number, picture in enumerate(pictures):
        for other in pictures[:number]:
            assert np.abs(picture - other).mean() > 4


def test_a_scene_without_a_person_has_no_skeleton() -> None:
    assert draw_scene(dataclasses.replace(_BEACH, person=None)).skeleton is None

"""Captions: whatever they mention is drawn."""

from __future__ import annotations

import re
from random import Random

from webui.postcard.captions import ACTIONS, HOURS, PLACES, caption, with_article
from webui.postcard.scenes import Scene, random_scene
from webui.postcard.text_encoder import asked
from webui.postcard.vocabulary import COLOURS, HAIRS, POSES, SETTINGS, THINGS, TIMES


def _captioned(count: int, *, complete: bool = False) -> list[tuple[Scene, str]]:
    random = Random(5)
    scenes = [random_scene(random) for _ in range(count)]
    return [(scene, caption(scene, random, complete=complete)) for scene in scenes]


def test_captions_mention_only_what_is_drawn() -> None:
    for scene, text in _captioned(400):
        item, person = scene.object, scene.person
        words = set(re.findall(r"\w+", text))
        assert words & set(THINGS) <= ({item.thing} if item else set())
        assert words & set(SETTINGS) <= {scene.setting}
        shirts = {colour for colour in COLOURS if f"{colour} shirt" in text}
        assert shirts <= ({person.shirt} if person else set())
        hair = {colour for colour in HAIRS if f"{colour} hair" in text}
        assert hair <= ({person.hair} if person else set())


def test_captions_never_name_another_time_or_pose() -> None:
    for scene, text in _captioned(400):
        for time in TIMES:
            if time != scene.time:
                assert not any(phrase in text for phrase in HOURS[time])
        for pose in POSES:
            if scene.person is None or pose != scene.person.pose:
                assert not any(phrase in text for phrase in ACTIONS[pose])


def test_left_and_right_are_those_of_the_picture() -> None:
    sides = [(s.object, t) for s, t in _captioned(400) if s.object and "on the " in t]
    told = [(item.side, text) for item, text in sides if f"on the {item.side}" in text]
    assert len(told) > 40
    for item, text in sides:
        other = "right" if item.side == "left" else "left"
        assert f"on the {other}" not in text


def test_a_complete_caption_names_every_part() -> None:
    for scene, text in _captioned(200, complete=True):
        classes = asked(scene, text)
        assert classes[:2] == [SETTINGS.index(scene.setting), TIMES.index(scene.time)]
        if scene.person is not None:
            assert classes[2] == POSES.index(scene.person.pose)
            assert classes[3:5] == [
                COLOURS.index(scene.person.shirt),
                COLOURS.index(scene.person.trousers),
            ]
        if scene.object is not None:
            assert f"{scene.object.colour} {scene.object.thing}" in text


def test_wording_varies_and_parts_are_left_unsaid() -> None:
    texts = [text for _, text in _captioned(300)]
    assert len(set(texts)) == 300
    silent = [t for s, t in _captioned(300) if not any(p in t for p in PLACES[s.setting])]
    assert 3 < len(silent) < 60


def test_articles() -> None:
    assert with_article("orange ball") == "an orange ball"
    assert with_article("red ball") == "a red ball"

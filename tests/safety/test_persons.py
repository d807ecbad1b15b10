# ruff: noqa: RUF001
# Look-alike letters are what is tested here.
from __future__ import annotations

import pytest

from webui.safety.persons import Persons
from webui.safety.prompts import FOLDER, Lexicon, read_terms

PERSONS = Persons.of(
    ("morvyn", "zandrel", "=pebble"),
    frozenset(
        [
            "in",
            "a",
            "the",
            "chair",
            "red",
            "stone",
            "walking",
            "garden",
            "of",
            "photo",
            "like",
            "as",
            "i",
            "queen",
            "golden",
            "hour",
        ]
    ),
)
SHIPPED = Lexicon.load()


@pytest.mark.parametrize(
    "text",
    [
        "Morvyn Stone",
        "morvyn stone",
        "morvyn drossel",
        "morvyn zandrel",
        "a photo of Morvyn",
        "drossel morvyn",
        "Morvyn-Drossel",
        "morvyn_drossel_v2",
        "MorvynDrossel",
        "morvyn, drossel",
        "m0rvyn drossel",
        "Pebble Drossel in the garden",
        "pebble drossel",
        "a red Pebble Stone in the garden",
        "Drossel Quenby",
        "Drossel Pebble",
        "J. K. Drossel",
        "JK Drossel",
        "Dr. Drossel",
        "queen morvyn",
        "looks like drossel",
        "dressed as Drossel",
        "portrait of drossel",
    ],
)
def test_a_name_is_taken_for_one(text: str) -> None:
    assert PERSONS.are_named(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "morvyn",
        "morvyn in the garden",
        "morvyn walking",
        "the garden, morvyn, a chair",
        "morvyn: drossel",
        "a red pebble",
        "pebble garden",
        "Red Pebble Garden",
        "Golden Hour",
        "Drossel",
        "drossel quenby",
        "Drossel quenby",
        "Drossel: Quenby",
        "as i",
        "like 35mm",
        "garden of drossel",
        "of drossel",
        "A Drossel in the garden",
    ],
)
def test_an_ordinary_word_or_a_given_name_alone_is_none(text: str) -> None:
    assert not PERSONS.are_named(text)


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo of Anna Brindlow",
        "anna brindlow by the sea",
        "Анна Бриндлова",
        "анна бриндлова",
        "ａｎｎａ ｂｒｉｎｄｌｏｗ",
        "(anna:1.2) [brindlow]",
        "anna%20brindlow",
        "an\u200bna brin\u200bdlow",
        "Владимир Бриндлов",
        "ВЛАДИМИР БРИНДЛОВ",
    ],
)
def test_a_name_is_a_cue_of_its_own_in_any_disguise(prompt: str) -> None:
    assert SHIPPED.cues(prompt) == {"person"}


@pytest.mark.parametrize(
    "prompt",
    [
        "Ein Haus am See",
        "ein roter Stuhl am Fenster",
        "un chat sur une chaise",
        "New York at Night, Golden Hour",
        "San Francisco in the fog",
        "a rose garden with a lily pond",
        "A Castle In The Snow, Highly Detailed",
        "anna sitting on a chair",
        "一只猫坐在椅子上",
        "夕焼けの海",
        "осенний лес",
        "best quality, 35mm, f/1.8, bokeh",
    ],
)
def test_no_name_is_seen_in_an_ordinary_prompt(prompt: str) -> None:
    assert not SHIPPED.cues(prompt)


def test_the_shipped_list_holds_given_names_and_no_full_ones() -> None:
    names = [name.lstrip("=") for name in read_terms(FOLDER / "words" / "person.txt")]
    assert len(names) == len(set(names)) > 1_000
    assert all(name.isascii() and name.isalpha() and name.islower() for name in names)

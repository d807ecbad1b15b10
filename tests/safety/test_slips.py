# ruff: noqa: RUF001
# Look-alike letters are what is tested here.
from __future__ import annotations

from itertools import pairwise
from string import ascii_lowercase

import pytest

from tests.safety.stubs import placeholder_lexicon
from webui.safety.prompts import SUSPECT, Lexicon
from webui.safety.slips import Slips

SLIPS = Slips([("sexual", "blorpish"), ("youth", "wobble"), ("nudity", "zorks")])
LEXICON = placeholder_lexicon(benign=("quandly",))
SHIPPED = Lexicon.load()


def one_slip_away(term: str) -> set[str]:
    places = range(len(term))
    missing = {term[:i] + term[i + 1 :] for i in places}
    changed = {term[:i] + c + term[i + 1 :] for i in places for c in ascii_lowercase}
    added = {term[:i] + c + term[i:] for i in range(len(term) + 1) for c in ascii_lowercase}
    swapped = {term[:i] + term[j] + term[i] + term[j + 1 :] for i, j in pairwise(places)}
    return (missing | changed | added | swapped) - {term}


def test_every_slip_of_a_long_term_is_found_and_the_term_is_none() -> None:
    for word in one_slip_away("blorpish"):
        assert set(SLIPS.cues(word)) == {"sexual"}, word
    assert not set(SLIPS.cues("blorpish"))


@pytest.mark.parametrize(
    "word",
    ["", "blor", "blorish" + "x" * 9, "blopirsh", "lborpihs", "bloripsch", "blrpsh", "zorkz",
     "pishblor", "blorpishes"],
)  # fmt: skip
def test_two_slips_and_slips_of_short_terms_are_none(word: str) -> None:
    assert not set(SLIPS.cues(word))


@pytest.mark.parametrize(
    "written",
    ["a blorpsih", "a Blopish", "a bl0rpsih", "a b l o r p s i h", "a bl or ps ih", "a bloooorpsih",
     "the blorpsihs", "a bｌorpsih", "a (blorp:1.2)sih", "so: blxrp ish"],
)  # fmt: skip
def test_a_slip_is_a_cue_of_its_own(written: str) -> None:
    assert LEXICON.cues(written) == {"fuzzy"}


@pytest.mark.parametrize("written", ["quandly", "a trumpet", "blorpish dep art", "20240101"])
def test_an_ordinary_word_is_no_slip(written: str) -> None:
    assert "fuzzy" not in LEXICON.cues(written)


def test_a_judge_decides_on_slips_and_on_nothing_else() -> None:
    asked: list[str] = []

    def judge(text: str) -> float:
        asked.append(text)
        return score

    score = SUSPECT
    assert LEXICON.cues("a blorpsih", judge) == {"sexual"}
    assert asked == ["a blorpsih"]
    score = SUSPECT - 0.01
    assert LEXICON.cues("a blorpsih", judge) == set()
    assert LEXICON.cues("a blorpish", judge) == {"sexual"}
    score = float("nan")
    assert LEXICON.cues("a snizzlr", judge) == {"nudity"}


def test_without_a_judge_and_about_youth_a_slip_only_clamps() -> None:
    assert LEXICON.cues("a blorpsih", lambda _: None) == {"fuzzy"}
    assert LEXICON.cues("a wobbelkin", lambda _: 0.0) == {"fuzzy"}
    assert LEXICON.cues("a wobbelkin", lambda _: 1.0) == {"fuzzy"}


@pytest.mark.parametrize(
    "prompt",
    ["parties on a beach", "beasts and ripples", "a string of lights", "walking and ranking",
     "a modest election", "die Mädchen und Märchen", "a bandage", "steep cliffs, election day",
     "the grapes of the grove", "a legging ad", "invest in things", "ein Zucker, dicke Knicker"],
)  # fmt: skip
def test_a_word_that_resembles_a_shipped_term_is_no_slip(prompt: str) -> None:
    assert "fuzzy" not in SHIPPED.cues(prompt)

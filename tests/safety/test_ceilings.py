from __future__ import annotations

import itertools

import pytest

from webui.levels import LEVELS, Level
from webui.safety.ceilings import KINDS, Ceiling, effective, notice
from webui.standing import CeilingKind


def test_the_level_is_the_lowest_whatever_the_order() -> None:
    for levels in itertools.product(LEVELS, repeat=3):
        kinds: tuple[CeilingKind, ...] = ("asked", "operator", "grant")
        found = [Ceiling(kind, level) for kind, level in zip(kinds, levels, strict=True)]
        for order in itertools.permutations(found):
            assert effective(order) == effective(found)
            assert effective(order)[0] == min(levels)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "asked"])
def test_the_kind_that_brought_the_level_down_is_told(kind: CeilingKind) -> None:
    others = [Ceiling(each, 2) for each in KINDS if each != kind]
    assert effective([*others, Ceiling(kind, 1)]) == (1, kind)
    assert effective([*others, Ceiling(kind, 0)]) == (0, kind)


def test_nothing_is_told_where_the_level_is_the_one_asked_for() -> None:
    assert effective([Ceiling("asked", 1), Ceiling("operator", 1), Ceiling("grant", 2)]) == (
        1,
        None,
    )
    assert effective([Ceiling("operator", 2)]) == (2, None)
    assert effective([]) == (0, None)


def test_of_equally_low_ones_the_first_kind_is_told() -> None:
    found = [Ceiling("asked", 2), Ceiling("prompt", 0), Ceiling("grant", 0), Ceiling("share", 1)]
    assert effective(found) == (0, "grant")


@pytest.mark.parametrize("value", [True, "2", 2.0, None, 3, -1])
def test_a_ceiling_that_is_no_level_is_strict(value: object) -> None:
    odd: Level = value  # pyright: ignore[reportAssignmentType]
    assert effective([Ceiling("asked", 2), Ceiling("grant", odd)]) == (0, "grant")
    assert effective([Ceiling("asked", odd), Ceiling("grant", 2)]) == (0, None)


def test_every_kind_has_a_sentence_of_its_own_without_rule_score_or_word() -> None:
    sentences = [notice(kind) for kind in KINDS]
    assert len({*sentences}) == len(KINDS)
    for sentence in sentences:
        assert sentence.endswith(".")
        assert not any(letter.isdigit() for letter in sentence)
        assert not any(
            said in sentence.casefold()
            for said in ("nud", "sex", "score", "rule", "threshold", "nsfw")
        )
    assert notice("taint").startswith("Pictures you bring in are always handled at the strict")

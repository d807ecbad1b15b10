from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from webui.levels import LEVELS, Level, as_level, lowest
from webui.safety import policy
from webui.safety.policy import (
    CUES,
    GUARDS,
    THRESHOLDS,
    Cue,
    GuardName,
    Scores,
    Threshold,
    Tightened,
    guards_needed,
    highest_level,
    prompt_ceiling,
    refuses,
    shipped_threshold,
    trusted,
    withholds,
)

ALL_CUES: list[frozenset[Cue]] = [
    frozenset(chosen) for n in range(len(CUES) + 1) for chosen in itertools.combinations(CUES, n)
]
NEVER = 1.01

# The table of the specification: kind, level, lowest score that is withheld.
TABLE: tuple[tuple[Threshold, Level, float], ...] = (
    ("genitalia", 0, 0.15),
    ("genitalia", 1, 0.25),
    ("genitalia", 2, 0.35),
    ("anus", 0, 0.15),
    ("anus", 1, 0.25),
    ("anus", 2, 0.25),
    ("bust_or_buttocks", 0, 0.20),
    ("bust_or_buttocks", 1, 0.35),
    ("bust_or_buttocks", 2, NEVER),
    ("explicit", 0, 0.15),
    ("explicit", 1, 0.20),
    ("explicit", 2, 0.30),
    ("suggestive", 0, 0.45),
    ("suggestive", 1, NEVER),
    ("suggestive", 2, NEVER),
    ("nudity", 0, 0.15),
    ("nudity", 1, 0.20),
    ("nudity", 2, NEVER),
)


def scores(**given: float) -> Scores:
    return Scores(**({"genitalia": 0.0, "anus": 0.0, "bust_or_buttocks": 0.0} | given))


@pytest.mark.parametrize(("kind", "level", "threshold"), TABLE)
def test_a_picture_is_withheld_from_its_threshold_on(
    kind: str, level: Level, threshold: float
) -> None:
    assert not withholds(scores(**{kind: min(1.0, math.nextafter(threshold, 0))}), level)
    assert withholds(scores(**{kind: min(1.0, threshold)}), level) is (threshold <= 1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("kind", "threshold"),
    [
        ("genitalia", 0.10),
        ("anus", 0.10),
        ("bust_or_buttocks", 0.10),
        ("explicit", 0.10),
        ("nudity", 0.10),
        ("suggestive", 0.45),
    ],
)
def test_where_somebody_looks_young_little_is_too_much_at_every_level(
    kind: str, threshold: float, level: Level
) -> None:
    assert withholds(scores(young=0.20, **{kind: threshold}), level)
    assert not withholds(scores(young=0.20, **{kind: threshold - 0.001}), level)
    assert withholds(scores(young=0.19, **{kind: threshold}), level) == (
        (kind, level) == ("suggestive", 0)
    )


@pytest.mark.parametrize("cue", ["youth", "person", "fuzzy"])
def test_a_prompt_about_the_young_or_a_person_or_in_doubt_is_held_at_strict(cue: Cue) -> None:
    assert prompt_ceiling(frozenset({cue})) == 0
    assert prompt_ceiling(frozenset({"clothing"})) == 2


def test_at_level_two_a_small_area_without_acts_is_free() -> None:
    small = {"genitalia": 0.9, "genitalia_share": 0.0199}
    assert not withholds(scores(**small, explicit=0.19), 2)
    assert withholds(scores(**small, explicit=0.20), 2)
    assert withholds(scores(**small | {"genitalia_share": 0.02}, explicit=0.0), 2)
    assert withholds(scores(**small), 2), "without the classifier, acts cannot be ruled out"
    assert withholds(scores(**small, explicit=0.0), 1)


def test_more_of_anything_or_a_stricter_level_never_allows_more() -> None:
    steps = (0.0, 0.149, 0.15, 0.199, 0.2, 0.25, 0.349, 0.35, 1.0, math.nan)
    optional = (0.0, 0.15, 0.2, 0.3, 0.45, 1.0, math.inf)
    shares = (0.0, 0.0199, 0.02, 1.0, -0.1)
    axes = (LEVELS, steps, steps, steps, shares, optional, (0.44, 0.45))
    withheld = np.array(
        [withholds(Scores(g, a, b, s, e, v), n) for n, g, a, b, s, e, v in itertools.product(*axes)]
    ).reshape([len(axis) for axis in axes])

    assert withheld.any()
    assert not withheld.all()
    assert (np.diff(withheld.astype(np.int8), axis=0) <= 0).all(), "a higher level allows more"
    for axis in range(1, len(axes)):
        assert (np.diff(withheld.astype(np.int8), axis=axis) >= 0).all(), axes[axis]


def some_scores() -> list[Scores]:
    axes = (
        (0.0, 0.1, 0.34, 0.4, math.nan),
        (0.0, 0.1, 0.2),
        (0.0, 0.1),
        (0.01, 0.02),
        (None, 0.0, 0.1),
        (None, 0.3),
    )
    return [Scores(*each) for each in itertools.product(*axes)]


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("until", LEVELS)
def test_no_threshold_of_the_operators_allows_more_at_any_level(
    name: Threshold, until: Level
) -> None:
    some = some_scores()
    shipped = np.array([[withholds(each, n) for n in LEVELS] for each in some])
    before = shipped
    for value in (math.nan, 1.0, 0.3, 0.1, 0.01, 0.0):
        tightened: Tightened = {(until, name): value}
        withheld = np.array([[withholds(each, n, tightened) for n in LEVELS] for each in some])
        assert (withheld >= shipped).all(), f"{value} allows what the table does not"
        assert (withheld >= before).all(), f"{value} allows what a higher threshold does not"
        assert (np.diff(withheld.astype(np.int8), axis=1) <= 0).all(), "a higher level is stricter"
        assert (withheld[:, until + 1 :] == shipped[:, until + 1 :]).all(), "it reaches too far"
        before = withheld


@pytest.mark.parametrize(("kind", "level", "threshold"), TABLE)
def test_a_tightened_threshold_counts_for_its_level_and_the_stricter_ones(
    kind: Threshold, level: Level, threshold: float
) -> None:
    value = 0.07
    tightened: Tightened = {(level, kind): value}
    for n in LEVELS:
        below = scores(**{kind: math.nextafter(value, 0)})
        assert not withholds(below, n, tightened)
        assert withholds(scores(**{kind: value}), n, tightened) is (n <= level)


def test_of_several_tightened_thresholds_the_lowest_that_reaches_a_level_counts() -> None:
    given: tuple[tuple[Level, float], ...] = ((0, 0.12), (1, 0.05), (2, 0.09))
    for order in (given, given[::-1]):
        tightened: Tightened = {(level, "anus"): value for level, value in order}
        for level, lowest_value in ((0, 0.05), (1, 0.05), (2, 0.09)):
            assert withholds(scores(anus=lowest_value), level, tightened)
            assert not withholds(scores(anus=lowest_value - 1e-9), level, tightened)


def test_area_and_acts_of_the_highest_level_can_be_tightened() -> None:
    free = scores(genitalia=0.9, genitalia_share=0.01, explicit=0.1)
    assert not withholds(free, 2)
    assert withholds(free, 2, {(2, "genitalia_share"): 0.01})
    assert not withholds(free, 2, {(2, "genitalia_share"): 0.011})
    assert withholds(free, 2, {(2, "genitalia_explicit"): 0.1})
    assert not withholds(free, 2, {(2, "genitalia_explicit"): 0.11})


def test_the_shipped_thresholds_are_those_of_the_table() -> None:
    for kind, level, threshold in TABLE:
        shipped = shipped_threshold(level, kind)
        assert shipped == (None if threshold == NEVER else threshold)
    assert [shipped_threshold(n, "genitalia_share") for n in LEVELS] == [0, 0, 0.02]
    assert [shipped_threshold(n, "genitalia_explicit") for n in LEVELS] == [0, 0, 0.2]


def test_one_more_cue_a_picture_or_a_stricter_level_never_allows_more() -> None:
    for cues, level, brings in itertools.product(ALL_CUES, LEVELS, (False, True)):
        if not refuses(cues, level, brings_picture=brings):
            continue
        assert all(refuses(cues, n, brings_picture=brings) for n in LEVELS if n <= level)
        assert refuses(cues, level, brings_picture=True)
        assert all(
            refuses(cues | frozenset[Cue]({more}), level, brings_picture=brings) for more in CUES
        )


@pytest.mark.parametrize("level", LEVELS)
def test_a_youth_cue_with_any_sexual_or_nudity_cue_is_refused_at_every_level(level: Level) -> None:
    for other in ("sexual", "nudity", "undress", "swimwear"):
        assert refuses(frozenset({"youth", other}), level, brings_picture=False), other
    assert not refuses(frozenset({"youth"}), level, brings_picture=False)
    assert prompt_ceiling(frozenset({"youth"})) == 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("other", ["sexual", "nudity", "undress"])
def test_that_rule_holds_by_itself_whatever_the_table_allows(
    monkeypatch: pytest.MonkeyPatch, level: Level, other: Cue
) -> None:
    def highest(cues: frozenset[Cue]) -> Level:
        return LEVELS[-1]

    monkeypatch.setattr("webui.safety.policy.prompt_ceiling", highest)
    nothing = replace(policy._RULES[-1], blocks=frozenset[Cue]())  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr("webui.safety.policy._RULES", (nothing,) * len(LEVELS))
    assert refuses(frozenset({"youth", other}), level, brings_picture=False)
    assert not refuses(frozenset({"youth"}), level, brings_picture=False)
    assert not refuses(frozenset({other}), level, brings_picture=False)


@pytest.mark.parametrize("level", LEVELS)
def test_the_wish_to_undress_somebody_in_a_picture_is_refused_at_every_level(level: Level) -> None:
    for cue in ("undress", "clothing"):
        assert refuses(frozenset({cue}), level, brings_picture=True)
    assert not refuses(frozenset({"clothing"}), level, brings_picture=False)


@pytest.mark.parametrize(
    ("cue", "refused_at"),
    [
        ("sexual", {0, 1, 2}),
        ("nudity", {0, 1}),
        ("undress", {0, 1}),
        ("swimwear", {0}),
        ("clothing", set[int]()),
        ("youth", set[int]()),
    ],
)
def test_what_each_level_lets_a_prompt_say(cue: Cue, refused_at: set[int]) -> None:
    found = {n for n in LEVELS if refuses(frozenset({cue}), n, brings_picture=False)}
    assert found == refused_at


@pytest.mark.parametrize(
    "value", [True, False, "2", 2.0, None, 3, -1, 10**30, math.nan, (), b"1", np.int64(2)]
)
def test_what_is_no_level_is_strict(value: object) -> None:
    assert as_level(value) == 0
    assert type(as_level(value)) is int
    assert lowest(2, value) == 0
    assert withholds(scores(anus=0.15), value)
    assert refuses(frozenset({"swimwear"}), value, brings_picture=False)


def test_the_lowest_ceiling_counts() -> None:
    for ceilings in itertools.product(LEVELS, repeat=3):
        assert lowest(*ceilings) == min(ceilings)
    assert lowest() == 0


def test_a_level_needs_its_guards_and_those_below() -> None:
    strict = frozenset[GuardName]({"detector", "words"})
    mild = strict | frozenset[GuardName]({"nsfw", "face age"})
    art = mild | frozenset[GuardName]({"explicit", "text"})
    assert [highest_level(guards) for guards in (strict, mild, art)] == [0, 1, 2]
    assert highest_level(art - {"nsfw"}) == 0
    assert highest_level(frozenset()) == 0
    assert [guards_needed(n) for n in LEVELS] == [strict, mild, art]
    assert art == {*GUARDS}


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_score_that_no_working_guard_gives_counts_as_one(score: float) -> None:
    assert trusted(score) == 1.0
    assert withholds(scores(genitalia=score), 2)
    assert trusted(0.0) == 0.0
    assert trusted(1.0) == 1.0

"""Somebody who looks young, and classifiers that do not tell nudity from acts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from webui.levels import LEVELS, Level
from webui.safety.policy import Scores, withholds

NOTHING = {"genitalia": 0.0, "anus": 0.0, "bust_or_buttocks": 0.0}
BARE = ("genitalia", "anus", "bust_or_buttocks", "explicit", "nudity")


def scores(**given: float) -> Scores:
    return Scores(**(NOTHING | given))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", BARE)
def test_who_looks_young_is_never_shown_with_any_nudity(kind: str, level: Level) -> None:
    below = math.nextafter
    assert withholds(scores(**{kind: 0.10}, young=0.20), level)
    assert not withholds(scores(**{kind: below(0.10, 0)}, young=1.0), level)
    assert not withholds(scores(**{kind: 0.10}, young=below(0.20, 0)), level)
    assert not withholds(scores(**{kind: 0.10}), level)
    for broken in (math.nan, -1.0, 2.0):
        assert withholds(scores(**{kind: 0.10}, young=broken), level)
        assert withholds(scores(**{kind: broken}, young=0.20), level)


@pytest.mark.parametrize("level", LEVELS)
def test_who_looks_young_is_never_shown_as_suggestive_as_strict_withholds(level: Level) -> None:
    assert withholds(scores(suggestive=0.45, young=0.20), level)
    assert not withholds(scores(suggestive=0.44, young=1.0), level)
    assert withholds(scores(suggestive=0.45), level) is (level == 0)


@pytest.mark.parametrize("level", LEVELS)
def test_looking_young_alone_withholds_nothing(level: Level) -> None:
    assert not withholds(scores(young=1.0), level)


@pytest.mark.parametrize(("level", "threshold"), [(0, 0.15), (1, 0.20), (2, None)])
def test_nudity_that_is_not_told_from_acts_is_withheld_below_art(
    level: Level, threshold: float | None
) -> None:
    assert withholds(scores(nudity=1.0), level) is (threshold is not None)
    if threshold is not None:
        assert withholds(scores(nudity=threshold), level)
        assert not withholds(scores(nudity=math.nextafter(threshold, 0)), level)


def test_more_of_anything_or_a_stricter_level_never_allows_more() -> None:
    steps = (0.0, 0.09, 0.1, 0.2, 0.4, 1.0, math.nan)
    young = (0.0, 0.19, 0.2, 1.0, math.inf)
    axes = (LEVELS, steps, steps, (0.0, 0.1, 0.16, 0.3, 1.0), (0.0, 0.44, 0.45), young)
    withheld = np.array(
        [
            withholds(Scores(g, 0.0, b, 1.0, 0.0, s, n, y), level)
            for level, g, b, n, s, y in itertools.product(*axes)
        ]
    ).reshape([len(axis) for axis in axes])
    assert withheld.any()
    assert not withheld.all()
    assert (np.diff(withheld.astype(np.int8), axis=0) <= 0).all()
    for axis in range(1, len(axes)):
        assert (np.diff(withheld.astype(np.int8), axis=axis) >= 0).all(), axes[axis]

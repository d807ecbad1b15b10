from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from webui.errors import GuardError
from webui.safety.labels import LABELS, Kind, Slot, kinds_of, worst_of

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


@pytest.mark.parametrize(
    ("slot", "labels", "kinds"),
    [
        ("nsfw", ("NSFW", "SFW"), ("nudity", "harmless")),
        ("nsfw", ("normal", "nsfw"), ("harmless", "nudity")),
        ("explicit", ("normal", "nsfw"), ("harmless", "explicit")),
        (
            "explicit",
            ("neutral", "low", "medium", "high"),
            ("harmless", "suggestive", "suggestive", "explicit"),
        ),
        (
            "nsfw",
            ("drawings", "hentai", "neutral", "porn", "sexy"),
            ("harmless", "nudity", "harmless", "nudity", "suggestive"),
        ),
        ("face age", AGES, ("young",) * 4 + ("harmless",) * 5),
        ("text", ("safe", "nsfw"), ("harmless", "explicit")),
    ],
)
def test_the_labels_of_the_customary_models(
    slot: Slot, labels: tuple[str, ...], kinds: tuple[Kind, ...]
) -> None:
    assert kinds_of(slot, labels) == kinds


@pytest.mark.parametrize("slot", get_args(Slot))
def test_an_unknown_label_is_an_error_and_not_harmless(slot: Slot) -> None:
    known = tuple(LABELS[slot])
    for labels in (("LABEL_0", "LABEL_1"), (*known, "unheard of"), (*known[:-1], known[-1] + "x")):
        with pytest.raises(GuardError, match="not known"):
            kinds_of(slot, labels)


@pytest.mark.parametrize(
    ("slot", "labels"),
    [
        ("nsfw", ("neutral", "low", "medium")),
        ("explicit", ("neutral", "sexy")),
        ("face age", ("30-39", "40-49")),
        ("face age", ("0-2", "3-9")),
        ("text", ("safe",)),
        ("text", ()),
    ],
)
def test_a_model_without_what_the_slot_is_for_is_an_error(
    slot: Slot, labels: tuple[str, ...]
) -> None:
    with pytest.raises(GuardError, match="no labels"):
        kinds_of(slot, labels)


def test_labels_add_up_and_the_worst_view_counts() -> None:
    kinds = kinds_of("explicit", ("neutral", "low", "medium", "high"))
    shares = np.array([[0.5, 0.2, 0.2, 0.1], [0.6, 0.0, 0.1, 0.3]])
    worst = worst_of(kinds, shares, views=2)
    assert worst == {"explicit": pytest.approx(0.3), "suggestive": pytest.approx(0.5)}
    ages = kinds_of("face age", AGES)
    even = np.full((1, 9), 1 / 9)
    assert worst_of(ages, even, views=1) == {"young": pytest.approx(4 / 9)}


def test_rounding_makes_no_score_above_one() -> None:
    kinds = kinds_of("nsfw", ("neutral", "sexy", "porn", "hentai"))
    assert worst_of(kinds, np.array([[0.0, 0.4, 0.3, 0.3 + 1e-9]]), views=1)["suggestive"] == 1.0


@pytest.mark.parametrize(
    "shares",
    [
        np.array([[0.9, np.nan]]),
        np.array([[1.2, 0.0]]),
        np.array([[1.0, -0.1]]),
        np.empty((0, 2)),
        np.array([[1.0, 0.0, 0.0]]),
        np.array([1.0, 0.0]),
        np.array([[1.0, 0.0], [1.0, 0.0]]),
    ],
)
def test_what_is_no_probability_of_each_view_is_the_worst(shares: np.ndarray) -> None:
    kinds = kinds_of("nsfw", ("normal", "nsfw"))
    assert worst_of(kinds, shares, views=1) == {"nudity": 1.0}


def test_a_text_has_as_many_parts_as_it_has_but_one_at_least() -> None:
    kinds = kinds_of("text", ("safe", "nsfw"))
    assert worst_of(kinds, np.array([[0.9, 0.1], [0.8, 0.2]]), views=None)["explicit"] == 0.2
    assert worst_of(kinds, np.empty((0, 2)), views=None)["explicit"] == 1.0

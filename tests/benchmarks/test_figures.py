from __future__ import annotations

import json

import pytest

from benchmarks.figures import Figure, Limit, more_than, seconds, table, times_faster


def test_more_than_is_the_median_of_the_rounds_ratios():
    figure = more_than("x", [1.02, 2.2, 3.0], [1.0, 2.0, 3.0], asked=Limit(3.0))
    assert figure.value == pytest.approx(2.0)
    assert figure.met
    assert "2.20 s against 2.00 s; 3 times" in figure.beside


def test_times_faster_divides_the_others_time_by_ours():
    figure = times_faster("x", [1.0, 1.0], [2.5, 3.5], asked=Limit(3.0, most=False))
    assert figure.value == pytest.approx(3.0)
    assert figure.met


def test_seconds_takes_the_median_and_keeps_every_time():
    figure = seconds("x", [5.0, 1.0, 2.0], asked=Limit(1.9), beside="warm")
    assert figure.value == 2.0
    assert figure.met is False
    assert figure.beside.startswith("warm; 3 times")
    assert figure.to_json()["samples"] == {"ours": [5.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("limit", "value", "met"),
    [
        (Limit(3.0), 3.0, True),
        (Limit(3.0), 3.1, False),
        (Limit(3.0, most=False), 3.0, True),
        (Limit(3.0, most=False), 2.9, False),
    ],
)
def test_a_limit_is_kept_up_to_its_own_value(limit: Limit, value: float, met: bool):
    assert limit.met_by(value) is met


def test_the_table_has_a_row_a_figure_and_marks_what_was_missed():
    figures = [
        Figure("a", 4.04, "%", "b", Limit(3.0)),
        Figure("c", 3.5, "x", "d", Limit(3.0, most=False)),
        Figure("e", "bfloat16", "", "f"),
        Figure("g", 0.0321, "s", "h"),
    ]
    assert table(figures).splitlines() == [
        "| what | measured | asked | beside |",
        "| --- | --- | --- | --- |",
        "| a | 4.0 % (missed) | <= 3 % | b |",
        "| c | 3.50 x | >= 3 x | d |",
        "| e | bfloat16 |  | f |",
        "| g | 0.032 s |  | h |",
    ]
    assert [figure.met for figure in figures] == [False, True, None, None]


def test_a_figure_survives_json():
    figure = Figure("a", 4.0, "%", "b", Limit(3.0), {"ours": (1.0, 2.0)})
    data = json.loads(json.dumps(figure.to_json()))
    assert data["value"] == 4.0
    assert data["met"] is False
    assert data["asked"] == "<= 3 %"
    assert data["samples"]["ours"] == [1.0, 2.0]

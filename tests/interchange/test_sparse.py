from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from webui.interchange.sparse import MAX_NAMES, keep_valid, limit_of, listed, shortened
from webui.request import parse_request


def test_valid_values_are_kept_in_canonical_form() -> None:
    assert keep_valid({"cfg": "7", "steps": "20"}) == ({"steps": 20, "cfg": 7.0}, ())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", 500, "at most 150"),
        ("steps", "many", "steps"),
        ("cfg", float("nan"), "ordinary number"),
        ("prompt", "a" * 3000, "at most 2,000"),
        ("sampler", "Euler b", "did you mean"),
        ("width", 65, "multiple of 8"),
        ("loras", "soft", "loras"),
        ("prompt", [["a"]], "prompt"),
        ("seed", int("9" * 4000), "seed"),
    ],
)
def test_a_bad_value_is_left_out_alone(name: str, value: Any, says: str) -> None:
    kept, report = keep_valid({"clip_skip": 2, name: value})
    assert kept == {"clip_skip": 2}
    assert len(report) == 1
    assert says in report[0]
    assert len(report[0]) < 400


def test_unknown_names_make_one_sentence() -> None:
    kept, report = keep_valid({"stepz": 1, "glow": 2, "steps": 3})
    assert kept == {"steps": 3}
    assert report == ("Not known here and left out: stepz, glow.",)


def test_items_of_a_list_are_kept_one_by_one() -> None:
    loras = [{"name": "a"}, {"name": "b", "weight": 9}, {"nam": "c"}, {"name": "d"}]
    kept, report = keep_valid({"loras": loras})
    assert [lora["name"] for lora in kept["loras"]] == ["a", "d"]
    assert report == ("Left out (and 1 more): loras.1.weight is 9: it must be at most 4.0.",)


def test_a_list_that_is_too_long_is_cut() -> None:
    most = limit_of("loras", "max_length")
    kept, report = keep_valid({"loras": [{"name": str(n)} for n in range(most + 1)]})
    assert len(kept["loras"]) == most
    assert report == (f"Left out: all loras but the first {most}.",)


def test_limits_are_the_requests_own() -> None:
    for width in (limit_of("width", "ge"), limit_of("width", "le")):
        assert parse_request({"width": width}).width == width
    assert limit_of("width", "multiple_of") == 8


def test_long_lists_and_texts_are_shortened() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(str(n) for n in range(MAX_NAMES + 3)).endswith(" and 3 more")
    assert len(shortened("a" * 1000)) == 60


def test_very_many_bad_values_cost_little_memory() -> None:
    values: dict[str, Any] = {"loras": [0] * 300_000} | {str(n): 0 for n in range(100_000)}
    tracemalloc.start()
    try:
        kept, report = keep_valid(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept == {"loras": []}
    assert len(report) == 3
    assert max(map(len, report)) < 200
    assert peak < 50_000_000

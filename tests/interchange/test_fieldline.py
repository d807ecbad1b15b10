from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.work import finite
from webui.interchange.fieldline import MAX_JSON_VALUES, split_fields

A1111 = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""A1111's own expression."""


def test_plain_fields() -> None:
    assert split_fields("Steps: 20, Sampler: Euler a, Mask mode: x").fields == {
        "Steps": "20",
        "Sampler": "Euler a",
        "Mask mode": "x",
    }


def test_quoted_values_are_json() -> None:
    line = r'Model: "a, b: \"c\"\n\u00e4", Lora hashes: "x: 1, y: 2", Steps: 3'
    assert split_fields(line).fields == {
        "Model": 'a, b: "c"\nä',
        "Lora hashes": "x: 1, y: 2",
        "Steps": "3",
    }


@pytest.mark.parametrize("value", ['"abc', 'abc"', '"a" b', '"', '"\\x"'])
def test_what_only_looks_quoted_stays_as_it_is(value: str) -> None:
    assert split_fields(f"Model: {value}, Steps: 3").fields == {"Model": value, "Steps": "3"}


def test_unquoted_json_is_taken_whole() -> None:
    resources = [{"type": "lora", "name": "a, b: c", "in": [1, {"x": "]}"}]}]
    raw = json.dumps(resources)
    line = f'Steps: 3, Civitai resources: {raw}, Hashes: {{"model": "ab"}}, Seed: 4'
    fields = split_fields(line).fields
    assert json.loads(fields["Civitai resources"]) == resources
    assert fields["Hashes"] == '{"model": "ab"}'
    assert (fields["Steps"], fields["Seed"]) == ("3", "4")


def test_brackets_that_are_no_json_end_at_the_comma() -> None:
    fields = split_fields("Resources: [ab, cd], Sampler: [x] y, Steps: 3").fields
    assert fields == {"Resources": "[ab", "Sampler": "[x] y", "Steps": "3"}


def test_keys_of_one_letter_are_none_and_keys_may_hold_unicode() -> None:
    assert split_fields("X: 1, Größe-1/a: 2, CFG++: 3").fields == {"Größe-1/a": "2"}


def test_the_last_of_equal_keys_counts() -> None:
    assert split_fields("Steps: 1, Steps: 2").fields == {"Steps": "2"}


def test_bare_words() -> None:
    line = split_fields("Steps: 1, Model, Seed: 2, Tiling")
    assert line.bare == {"Model", "Tiling"}
    assert line.fields == {"Steps": "1", "Seed": "2"}


def test_a_run_of_words_is_no_key() -> None:
    assert split_fields("word " * 30 + ": 1, Steps: 2").fields == {"Steps": "2"}


words = st.text(st.sampled_from('ab :,"\\-/1'), max_size=40)


@given(words)
def test_as_a1111_reads_it(line: str) -> None:
    def unquoted(value: str) -> str:
        try:
            return json.loads(value) if len(value) > 1 and value[0] == '"' == value[-1] else value
        except ValueError:
            return value

    theirs = {key.rstrip(): unquoted(value.strip()) for key, value in A1111.findall(line)}
    assert split_fields(line).fields == theirs


@pytest.mark.parametrize(
    "unit",
    [
        "a: ",
        "aa: ",
        "a b ",
        "aa: [, ",
        'aa: ["x", ',
        'aa: "x, ',
        'aa: {"a": ',
        "aa: [[[[",
        '\\"',
        "-",
    ],
)
def test_a_hostile_line_of_a_million_characters_comes_to_an_end(unit: str) -> None:
    """Each character's way through the whole line, in C too, would take hours."""
    with finite():
        split_fields(unit * (1_000_000 // len(unit)))


def test_many_json_values_are_not_all_tried() -> None:
    line = ", ".join(f"k{n}: [1, 2]" for n in range(MAX_JSON_VALUES + 1))
    fields = split_fields(line).fields
    assert fields[f"k{MAX_JSON_VALUES - 1}"] == "[1, 2]"
    assert fields[f"k{MAX_JSON_VALUES}"] == "[1"

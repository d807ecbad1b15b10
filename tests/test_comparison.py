from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.comparison import PLACE, Difference, apply, differences
from webui.errors import BadRequestError
from webui.request import GenerationRequest, field_names

NOW = GenerationRequest(prompt="a harbour", negative_prompt="fog", steps=20, cfg=5, width=512)


def test_what_differs_is_named_in_the_order_of_the_fields():
    then = {"steps": 30, "cfg": 6.5, "prompt": "a lake"}
    assert differences(NOW, then) == (
        Difference("prompt", "look", "a harbour", "a lake"),
        Difference("steps", "sampling", 20, 30),
        Difference("cfg", "sampling", 5.0, 6.5),
    )


def test_what_is_equal_or_not_named_is_left_out():
    assert differences(NOW, {"steps": 20, "cfg": 5, "width": 512}) == ()
    assert differences(NOW, NOW.model_dump()) == ()


def test_a_whole_recipe_shows_where_the_page_stands_elsewhere():
    recipe = GenerationRequest(prompt="a harbour", negative_prompt="fog", steps=20, cfg=5, seed=7)
    assert [d.field for d in differences(NOW, recipe.model_dump())] == ["width", "seed"]


@pytest.mark.parametrize(
    ("template", "text", "filled"),
    [
        ("{prompt}, watercolour", "a harbour", "a harbour, watercolour"),
        ("a photo of {prompt}, sharp", "a harbour", "a photo of a harbour, sharp"),
        ("{prompt}, watercolour", "a harbour, watercolour", "a harbour, watercolour"),
        ("{prompt}, watercolour", "", "watercolour"),
        ("{prompt}, watercolour", " , ", "watercolour"),
        ("{prompt}, watercolour", "watercolour", "watercolour"),
        ("a photo of {prompt}, sharp", "", "a photo of, sharp"),
        ("{prompt}", "a harbour", "a harbour"),
        ("{prompt}", "", ""),
        ("a lake", "a harbour", "a lake"),
        ("{prompt} ${1+1}", "<b>{prompt}</b>", "<b>{prompt}</b> ${1+1}"),
    ],
)
def test_the_texts_place_is_filled_from_the_page(template: str, text: str, filled: str):
    for field in ("prompt", "negative_prompt"):
        now = GenerationRequest.model_validate({field: text})
        assert getattr(apply(now, {field: template}, [field]), field) == filled


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_taking_over_twice_changes_nothing_more(before: str, after: str, text: str):
    then = {"prompt": f"{before}{PLACE}{after}"}
    once = apply(GenerationRequest(prompt=text), then, ["prompt"])
    assert differences(once, then) == ()


def test_in_a_pictures_recipe_the_place_is_ordinary_text():
    then = {"prompt": "{prompt} of a sign"}
    assert differences(NOW, then, literal=True)[0].then == "{prompt} of a sign"
    assert apply(NOW, then, ["prompt"], literal=True).prompt == "{prompt} of a sign"


def test_only_the_fields_asked_for_are_taken_over():
    then = {"prompt": "{prompt} at dusk", "steps": 30, "width": 768, "loras": [{"name": "ink"}]}
    taken = apply(NOW, then, ["steps", "loras"])
    changed = {f for f in field_names() if getattr(taken, f) != getattr(NOW, f)}
    assert changed == {"steps", "loras"}
    assert taken.loras[0].name == "ink"
    assert apply(NOW, then, []) == NOW


@given(st.sets(st.sampled_from(["steps", "cfg", "width", "height"])))
def test_after_taking_over_those_fields_differ_no_more(fields: set[str]):
    then: dict[str, Any] = {"steps": 31, "cfg": 7.5, "width": 640, "height": 640}
    taken = apply(NOW, then, fields)
    assert {d.field for d in differences(taken, then)} == set(then) - fields


@pytest.mark.parametrize(
    ("then", "fields", "sentence"),
    [
        ({"steps": 30}, ["step"], "did you mean 'steps'"),
        ({"steps": 30}, ["cfg"], "'cfg' cannot be taken over"),
        ({"stepz": 30}, [], "did you mean 'steps'"),
        ({"steps": 0}, [], "steps is 0: it must be at least 1"),
        ({"prompt": "x" * 1_991 + " {prompt}"}, ["prompt"], "at most 2,000 fit"),
    ],
)
def test_what_cannot_be_taken_over_is_said(then: dict[str, Any], fields: list[str], sentence: str):
    with pytest.raises(BadRequestError, match=sentence):
        apply(NOW, then, fields)

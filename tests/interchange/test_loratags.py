from __future__ import annotations

import time
from typing import Any

import pytest

from webui.errors import BadRequestError
from webui.interchange.loratags import rows_for_tags, tag_of, take_tags
from webui.request import parse_request


@pytest.mark.parametrize(
    ("tag", "lora"),
    [
        ("<lora:soft>", {"name": "soft", "weight": 1.0}),
        ("<lora:soft:0.7>", {"name": "soft", "weight": 0.7}),
        ("<lyco:soft:-1>", {"name": "soft", "weight": -1.0}),
        ("<lora:soft:0.5:0.8>", {"name": "soft", "weight": 0.8, "text_encoder_weight": 0.5}),
        ("<lora:soft:0.5:0.5:32>", {"name": "soft", "weight": 0.5}),
        ("<lora:soft:te=0.2>", {"name": "soft", "weight": 0.2}),
        ("<lora:soft:unet=0.2>", {"name": "soft", "weight": 0.2, "text_encoder_weight": 1.0}),
        (
            "<lora:soft:0.3:unet=0.9:dyn=8>",
            {"name": "soft", "weight": 0.9, "text_encoder_weight": 0.3},
        ),
        ("<lora:v1.2 (a), b:1>", {"name": "v1.2 (a), b", "weight": 1.0}),
    ],
)
def test_a_tag_becomes_a_lora(tag: str, lora: dict[str, Any]) -> None:
    found = take_tags(f"a ball, {tag}, on sand")
    assert found.text == "a ball, , on sand"
    assert found.loras == (lora,)
    assert len(found.report) == 1
    assert lora["name"] in found.report[0]
    assert parse_request({"loras": list(found.loras)}).loras[0].name == lora["name"]


@pytest.mark.parametrize(
    "tag",
    [
        "<lora:x:abc>",
        "<lora:x:nan>",
        "<lora:x:inf>",
        "<lora:x:0.5@0,1@0.5>",
        "<lora:x:1:2:3:4>",
        "<lora:x:in=1>",
        "<lora: :1>",
        "<hypernet:x:1>",
    ],
)
def test_a_tag_that_cannot_be_used_is_taken_out_and_named(tag: str) -> None:
    found = take_tags(f"a ball{tag}")
    assert (found.text, found.loras) == ("a ball", ())
    assert found.report == (f"Tags that cannot be used were taken out of the prompt: {tag}.",)


@pytest.mark.parametrize("prompt", ["", "a < b: c > d", "<b:c>", "<lora>", "<lora:>", "<lora:a"])
def test_what_is_no_tag_stays(prompt: str) -> None:
    found = take_tags(prompt)
    assert (found.text, found.loras, found.report) == (prompt, (), ())


def test_loras_stand_in_the_order_of_their_tags() -> None:
    found = take_tags("<lora:b:1><lora:a:2>")
    assert [lora["name"] for lora in found.loras] == ["b", "a"]


@pytest.mark.parametrize("unit", ["<lora:", "<lora:a:1>", "<", "<lora:a:" + "1:" * 50])
def test_hostile_prompts_take_no_time(unit: str) -> None:
    start = time.perf_counter()
    take_tags(unit * (1_000_000 // len(unit)))
    assert time.perf_counter() - start < 5


def test_a_request_is_given_rows_for_the_tags_of_its_prompt() -> None:
    request = parse_request({"prompt": "a <lora:ink:0.5>ball", "loras": [{"name": "pen"}]})
    changed, told = rows_for_tags(request)
    assert changed.prompt == "a ball"
    assert [(lora.name, lora.weight) for lora in changed.loras] == [("pen", 1.0), ("ink", 0.5)]
    assert len(told) == 1
    assert rows_for_tags(changed) == (changed, ())


@pytest.mark.parametrize(
    ("prompt", "field"),
    [("<lora:x:abc>", "prompt"), ("<hypernet:x:1>", "prompt"), ("<lora:x:9>", "loras.0")],
)
def test_a_tag_that_no_row_can_be_is_refused(prompt: str, field: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        rows_for_tags(parse_request({"prompt": prompt}))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("lora", "tag"),
    [
        ({}, "<lora:ink:1>"),
        ({"weight": -0.25}, "<lora:ink:-0.25>"),
        ({"weight": 0.8, "text_encoder_weight": 0.5}, "<lora:ink:0.5:0.8>"),
        ({"weight": 0, "text_encoder_weight": 0.5}, "<lora:ink:0.5:0>"),
        ({"name": "a/b (c), d"}, "<lora:a/b (c), d:1>"),
        ({"weight": 0}, ""),
        ({"enabled": False}, ""),
        ({"name": "a:b"}, ""),
        ({"name": "a>b"}, ""),
        ({"name": " a"}, ""),
    ],
)
def test_a_row_is_written_as_the_tag_that_is_read_as_that_row(
    lora: dict[str, Any], tag: str
) -> None:
    row = parse_request({"loras": [{"name": "ink"} | lora]}).loras[0]
    assert tag_of(row) == tag
    if tag:
        assert parse_request({"loras": list(take_tags(tag).loras)}).loras == (row,)

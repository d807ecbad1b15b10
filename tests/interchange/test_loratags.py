from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.work import finite
from webui.errors import BadRequestError
from webui.interchange.loratags import rows_for_tags, tag_of, tag_spans, take_tags
from webui.request import LoraChoice, parse_request


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


GRAMMAR = st.lists(
    st.sampled_from(["<lora:", "<lyco:", "<hypernet:", "te=", "unet=", *"<>:=@., a1-"])
).map("".join)


@given(st.one_of(st.text(), GRAMMAR))
def test_of_any_text_what_is_no_tag_stays_and_each_tag_is_a_lora_or_named(prompt: str) -> None:
    found = take_tags(prompt)
    left, tags, end = "", list[str](), 0
    for start, after in tag_spans(prompt):
        left += prompt[end:start]
        tags.append(prompt[start:after])
        end = after
    assert found.text == left + prompt[end:]
    assert len(found.loras) + len(found.unread) == len(tags)
    assert set(found.unread) <= set(tags)
    assert all(tag[0] + tag[-1] == "<>" and not set(tag[1:-1]) & set("<>") for tag in tags)
    assert bool(found.report) == bool(tags)
    weights = [weight for lora in found.loras for key, weight in lora.items() if key != "name"]
    assert all(float("-inf") < weight < float("inf") for weight in weights)


WEIGHTS = st.floats(-4, 4)
ROWS = st.builds(
    LoraChoice,
    name=st.text("ab/ .,()é", min_size=1),
    weight=WEIGHTS,
    text_encoder_weight=st.none() | WEIGHTS,
)


@given(st.lists(st.tuples(st.text("ab, ():>"), ROWS), max_size=5))
def test_rows_written_into_a_prompt_are_read_as_those_rows(
    written: list[tuple[str, LoraChoice]],
) -> None:
    found = take_tags("".join(words + tag_of(row) for words, row in written))
    assert found.text == "".join(words for words, _ in written)
    assert not found.unread
    rows = [row for _, row in written if tag_of(row)]
    for row, again in zip(rows, found.loras, strict=True):
        own = row.text_encoder_weight
        assert again["name"] == row.name
        assert again["weight"] == row.weight
        assert again.get("text_encoder_weight", again["weight"]) == (
            row.weight if own is None else own
        )


@pytest.mark.parametrize("unit", ["<lora:", "<lora:a:1>", "<", "<lora:a:" + "1:" * 50])
def test_a_hostile_prompt_of_a_million_characters_comes_to_an_end(unit: str) -> None:
    with finite():
        take_tags(unit * (1_000_000 // len(unit)))


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

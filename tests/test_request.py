from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from webui.errors import BadRequestError
from webui.request import (
    GROUPS,
    MAX_SEED,
    GenerationRequest,
    field_names,
    group_of,
    nearest,
    parse_partial,
    parse_request,
    parse_request_json,
)


@pytest.mark.parametrize(
    ("data", "field", "sentence"),
    [
        ({"width": 63}, "width", "width is 63: it must be a multiple of 8, such as 64."),
        ({"width": 56}, "width", "width is 56: it must be at least 64."),
        ({"height": 100_000}, "height", "height is 100000: it must be at most 2048."),
        ({"steps": 0}, "steps", "steps is 0: it must be at least 1."),
        ({"cfg": float("nan")}, "cfg", "cfg is nan: it must be an ordinary number."),
        ({"cfg": float("inf")}, "cfg", "cfg is inf: it must be an ordinary number."),
        ({"seed": MAX_SEED + 1}, "seed", f"it must be at most {MAX_SEED}."),
        ({"prompt": "x" * 100_000}, "prompt", "100,000 characters long: at most 2,000 fit."),
        ({"sampler": "Eular"}, "sampler", "Unknown sampler 'Eular': did you mean 'Euler'?"),
        ({"schedule": "kerras"}, "schedule", "did you mean 'karras'?"),
        ({"promt": "a harbour"}, "promt", "Unknown key 'promt': did you mean 'prompt'?"),
        ({"loras": [{"name": "a", "wieght": 1}]}, "loras.0", "did you mean 'weight'?"),
        ({"controls": [{"picture": "a", "strat": 0}]}, "controls.0", "did you mean 'start'?"),
        ({"steps": "many"}, "steps", "steps is 'many': "),
        ({"\ud800": 1}, None, "A key is '\\ud800': "),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    data: dict[str, Any], field: str | None, sentence: str
):
    with pytest.raises(BadRequestError) as caught:
        parse_request(data)
    assert sentence in caught.value.message
    assert caught.value.message.count("\n") == 0
    assert caught.value.field == field


@pytest.mark.parametrize(
    "data",
    [
        {"x" * 100_000: 1},
        {"steps": 10**4_000},
        {"prompt": json.loads("[" * 900 + "]" * 900)},
        {"sampler": "x" * 100_000},
    ],
)
def test_the_sentence_stays_short_whatever_came(data: dict[str, Any]):
    with pytest.raises(BadRequestError) as caught:
        parse_request(data)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"steps": }', "[" * 100_000])
def test_a_file_that_is_no_request_is_named(text: str):
    with pytest.raises(BadRequestError, match=r"^recipe\.json "):
        parse_request_json(text, source="recipe.json")


def test_a_request_survives_json():
    request = GenerationRequest(prompt="a harbour", seed=7, cfg=6.5, width=320)
    again = parse_request_json(request.model_dump_json(), source="x")
    assert again == request
    assert hash(again) == hash(request)


def test_defaults_are_within_their_own_ranges():
    assert parse_request(GenerationRequest().model_dump()) == GenerationRequest()


def test_every_field_has_a_title_a_help_text_and_a_group():
    for name, schema in GenerationRequest.model_json_schema()["properties"].items():
        assert schema["title"], name
        assert schema["description"].endswith("."), name
        assert schema["group"] in GROUPS, name
        assert group_of(name) == schema["group"]


def test_a_far_name_lists_what_is_known():
    assert nearest("zzzz", ("karras", "beta")) == "known are 'karras', 'beta'."


@given(
    st.dictionaries(
        st.sampled_from([*field_names(), "other"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
    )
)
def test_any_data_gives_a_request_or_one_sentence(data: dict[str, Any]):
    sentence, request = _parsed(data)
    if request is None:
        assert sentence
        assert "\n" not in sentence
    else:
        assert parse_request(json.loads(request.model_dump_json())) == request


def _parsed(data: dict[str, Any]) -> tuple[str, GenerationRequest | None]:
    try:
        return "", parse_request(data)
    except BadRequestError as error:
        return error.message, None


def test_a_sparse_request_gives_what_it_names_and_nothing_else():
    data = {"cfg": 6, "prompt": "a harbour", "loras": [{"name": "ink"}]}
    partial = parse_partial(data)
    assert list(partial) == ["prompt", "cfg", "loras"]
    assert repr(partial["cfg"]) == "6.0"
    assert partial["loras"][0]["weight"] == 1.0
    assert json.loads(json.dumps(partial)) == partial


def test_a_default_that_is_named_is_kept():
    assert parse_partial({"steps": 20, "width": None}) == {"width": None, "steps": 20}


def test_a_sparse_request_is_checked_like_a_whole_one():
    with pytest.raises(BadRequestError, match="did you mean 'sampler'"):
        parse_partial({"samplr": "Euler"})


def test_an_unknown_field_has_no_group():
    with pytest.raises(BadRequestError, match="did you mean 'steps'"):
        group_of("step")


POSE: dict[str, Any] = {
    "width": 512,
    "height": 512,
    "people": [[[10.0 * n, 20.0, n % 2 == 0] for n in range(18)]],
}


def test_a_pose_is_data_that_survives_json() -> None:
    request = parse_request({"controls": [{"pose": POSE, "weight": 0.5}]})
    again = parse_request(request.model_dump(mode="json"))
    assert again == request
    assert hash(again) == hash(request)
    assert again.model_dump(mode="json")["controls"][0]["pose"] == POSE


SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({}, "controls.0 needs a picture or a pose, and not both."),
    ({"picture": "a", "pose": POSE}, "controls.0 needs a picture or a pose, and not both."),
    ({"pose": POSE, "kind": "canny"}, "of no use for the kind 'canny'"),
    ({"pose": POSE, "low": 3}, "without a preprocessor"),
    ({"picture": "a", "start": 0.5, "end": 0.5}, "must start before it ends"),
    ({"picture": "a", "kind": "cany"}, "did you mean 'canny'?"),
    ({"pose": POSE | {"wide": 1}}, "did you mean 'width'?"),
    ({"pose": POSE | {"people": []}}, "at least 1"),
    ({"pose": POSE | {"people": [POSE["people"][0][:17]]}}, "at least 18"),
    ({"pose": POSE | {"people": POSE["people"] * 17}}, "at most 16"),
]


@pytest.mark.parametrize(("control", "says"), SENSELESS)
def test_a_control_that_makes_no_sense_is_refused(control: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError) as error:
        parse_request({"controls": [control]})
    assert says in error.value.message
    assert error.value.field == "controls.0"


def test_of_a_pose_full_of_mistakes_only_the_first_are_looked_at() -> None:
    people = [["x"]] * 300_000
    with pytest.raises(BadRequestError) as error:
        parse_request({"controls": [{"pose": POSE | {"people": people}}]})
    found = error.value.__context__
    assert isinstance(found, ValidationError)
    assert found.error_count() < 10


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.7, 0.3), (1.0, 1.0)])
def test_a_lora_must_start_before_it_ends(start: float, end: float):
    with pytest.raises(BadRequestError, match="must start before it ends") as caught:
        parse_request({"loras": [{"name": "ink", "start": start, "end": end}]})
    assert caught.value.field == "loras.0"

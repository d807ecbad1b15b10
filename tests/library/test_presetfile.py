from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from webui.errors import BadRequestError
from webui.levels import NEVER_TAKEN
from webui.library.presetfile import MAX_BYTES, Draft, make_draft, read_draft, write_draft

GOOD: dict[str, Any] = {"schema": 1, "name": "Wide", "about": "Wide.", "request": {"width": 1216}}
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "${alert(1)}",
    "`${7*7}`",
    "</script>",
    "{{7*7}}",
    "'\";--",
)


def test_a_preset_is_read():
    assert read_draft(json.dumps(GOOD).encode()) == Draft("Wide", "Wide.", {"width": 1216})


@pytest.mark.parametrize("change", [{"level": 2}, {"request": {"width": 1216, "level": 2}}])
def test_a_filter_level_is_left_out_and_told(change: dict[str, Any]):
    draft = read_draft(json.dumps(GOOD | change).encode())
    assert draft.request == {"width": 1216}
    assert draft.notices == (NEVER_TAKEN,)
    assert b"level" not in write_draft(draft)


def test_the_sentence_may_be_left_out_and_editors_may_write_a_mark():
    text = json.dumps({k: v for k, v in GOOD.items() if k != "about"})
    assert read_draft(text.encode("utf-8-sig")).about == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nmae": "x"}, "Unknown key 'nmae': did you mean 'name'?"),
        ({"request": {"promt": "x"}}, "Unknown key 'promt': did you mean 'prompt'?"),
        ({"request": {"steps": "many"}}, "steps is 'many': "),
        ({"request": {"steps": 999}}, "steps is 999: it must be at most 150."),
        ({"request": {"sampler": "Eular"}}, "did you mean 'Euler'?"),
        ({"request": {"cfg": float("nan")}}, "cfg is nan"),
        ({"request": {"prompt": "{prompt} and {prompt}"}}, "prompt may hold {prompt} only once."),
        ({"request": {"prompt": "\ud800"}}, "prompt is '\\ud800'"),
        ({"request": {"levels": "any"}}, "Unknown key 'levels'"),
        ({"request": {}}, "must name at least one field"),
        ({"request": []}, "must name at least one field"),
        ({"request": None}, "must name at least one field"),
        ({"name": 5}, "name must be text."),
        ({"name": ""}, "A preset needs a name."),
        ({"name": "  "}, "A preset needs a name."),
        ({"name": "x" * 81}, "name is 81 characters long: at most 80 fit."),
        ({"name": "a\nb"}, "name must be one line of plain text."),
        ({"name": "\ud800"}, "name must be one line of plain text."),
        ({"about": ["x"]}, "about must be text."),
        ({"about": "x" * 301}, "about is 301 characters long: at most 300 fit."),
        ({"schema": 2}, "It has schema 2, of a newer version: update Easel to use it."),
        ({"schema": 10**4_000}, "of a newer version"),
        ({"schema": 0}, 'it must say "schema": 1.'),
        ({"schema": True}, 'it must say "schema": 1.'),
        ({"schema": 1.0}, 'it must say "schema": 1.'),
        ({"schema": "1"}, 'it must say "schema": 1.'),
        ({"schema": None}, 'it must say "schema": 1.'),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(change: dict[str, Any], sentence: str):
    with pytest.raises(BadRequestError) as caught:
        read_draft(json.dumps(GOOD | change).encode())
    assert sentence in caught.value.message
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "It is not valid JSON"),
        (b"{", "It is not valid JSON"),
        (b"\x89PNG\r\n\x1a\n\xff", "It is not valid JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "It is nested too deeply"),
        (b'{"request":' * 10_000 + b"1" + b"}" * 10_000, "It is nested too deeply"),
        (b"[]", "It must hold one JSON object."),
        (b"null", "It must hold one JSON object."),
        (b'{"name": "x"}', 'it must say "schema": 1.'),
        (b" " * (MAX_BYTES + 1), "It is larger than the 256 KiB"),
    ],
)
def test_a_file_that_is_no_preset_is_told_apart(data: bytes, sentence: str):
    with pytest.raises(BadRequestError, match=sentence):
        read_draft(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text_byte_for_byte(text: str):
    request = {
        "prompt": text,
        "negative_prompt": text,
        "model": text,
        "loras": [{"name": text}],
        "controls": [{"picture": text, "model": text}],
        "init": text,
        "mask": text,
    }
    draft = make_draft(text, text, request)
    again = read_draft(write_draft(draft))
    assert again == draft
    assert (again.name, again.about) == (text, text)
    for field, value in request.items():
        if isinstance(value, str):
            assert again.request[field] == value
    assert again.request["loras"][0]["name"] == text
    assert again.request["controls"][0]["model"] == text


LINE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])


@given(st.text(LINE, min_size=1, max_size=80), st.text(LINE, max_size=300), st.text(max_size=200))
def test_what_is_taken_is_read_again_as_the_same(name: str, about: str, prompt: str):
    try:
        draft = make_draft(name, about, {"prompt": prompt})
    except BadRequestError:
        reject()
    assert read_draft(write_draft(draft)) == draft


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["schema", "name", "about", "request", "prompt", "steps", "x"]),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_gives_a_draft_or_one_sentence(data: Any):
    sentence = ""
    try:
        draft = read_draft(json.dumps(data).encode())
    except BadRequestError as error:
        sentence, draft = error.message, None
    assert (draft is None) == bool(sentence)
    assert "\n" not in sentence


def test_what_could_not_be_read_again_is_not_written():
    control = {"picture": "\x01" * 4_096}
    draft = make_draft("Large", "", {"controls": [control] * 8, "init": "\x01" * 4_096})
    larger = Draft(draft.name, "", {**draft.request, "mask": "\x01" * 40_000})
    with pytest.raises(BadRequestError, match="at most 256 KiB"):
        write_draft(larger)

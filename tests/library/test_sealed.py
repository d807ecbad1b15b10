from __future__ import annotations

import json

import pytest

from webui.library.sealed import as_text, sealed, unsealed

KEY = b"k" * 32
BODY = {"id": "a", "tainted": False}
TEXT = as_text(sealed(KEY, "origin", BODY))


def test_what_was_sealed_is_opened() -> None:
    found = unsealed(KEY, "origin", TEXT)
    assert found is not None
    assert {name: found[name] for name in BODY} == BODY


def test_another_key_or_kind_opens_nothing() -> None:
    assert unsealed(b"l" * 32, "origin", TEXT) is None
    assert unsealed(KEY, "audit line", TEXT) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 200_000,
        as_text(BODY),
        TEXT.replace(b"false", b"true"),
        TEXT.replace(b":", b": "),
        TEXT[:-1] + b',"id":"a"}',
        json.dumps({**BODY, "seal": None}).encode(),
    ],
)
def test_anything_else_is_not_sealed(text: bytes) -> None:
    assert unsealed(KEY, "origin", text) is None

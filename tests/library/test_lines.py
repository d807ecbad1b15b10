from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.library.lines import is_plain_line


@pytest.mark.parametrize("text", ["", "a harbour", "Öl", "\u5915", "<b>${x}</b>", "\u200d"])
def test_words_of_any_language_are_plain(text: str):
    assert is_plain_line(text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "a\tb", "\ud800", "\u2028", "\x85"])
def test_what_breaks_a_line_or_its_encoding_is_not(text: str):
    assert not is_plain_line(text)


@given(st.text(st.characters(codec=None)))
def test_what_is_plain_is_one_line_of_utf8(text: str):
    if is_plain_line(text):
        assert len(text.splitlines()) <= 1
        assert text.encode().decode() == text

"""What counts as one line of plain text, in files that people and other programs write."""

from __future__ import annotations

import unicodedata

_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, half surrogates, line and paragraph separators."""


def is_plain_line(text: str) -> bool:
    """Whether the text can be written as one line of UTF-8 and read again as the same."""
    return not any(unicodedata.category(character) in _BREAKING for character in text)

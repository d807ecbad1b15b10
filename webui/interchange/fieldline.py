r"""The last line of an infotext, `Key: value, Key: value, ...`, taken apart.

A1111 does it with `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)` (its `infotext_utils.py`).
The same is read here in time linear in the line, and JSON that other tools put there without
quoting it (Civitai's resources, hashes) is taken whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MAX_KEY_CHARACTERS = 100
"""Longest key; a longer run of words before a colon is no key."""

MAX_JSON_VALUES = 64
"""Most values that are tried as JSON in one line; the rest end at the next comma."""

_KEY_REVERSED = re.compile(r"[\w \-/]*")
_BARE = re.compile(r"\w[\w \-/]*")
_QUOTED = re.compile(r'"(?:\\.|[^\\"])++"(?=\s*(?:,|$))', re.DOTALL)
_SPACE = re.compile(r"\s*")
_END = re.compile(r"\s*(?:,|$)")
_JSON = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class FieldLine:
    """The fields of one line.

    Attributes:
        fields: Values by key, unquoted; of several with one key the last, as A1111 reads it.
        bare: Words that stand alone; a field whose value is its own key is written so.
    """

    fields: dict[str, str]
    bare: frozenset[str]


def split_fields(line: str) -> FieldLine:
    """The fields of a line; none where it holds no `Key: value`."""
    fields: dict[str, str] = {}
    bare: set[str] = set()
    start = json_values = 0
    while (colon := line.find(":", start)) >= 0:
        key = _key_before(line, start, colon)
        if key is None:
            start = colon + 1
            continue
        bare.update(_bare_words(line[start : colon - len(key)]))
        position = _after_space(line, colon + 1)
        if json_values < MAX_JSON_VALUES and line[position : position + 1] in ("[", "{"):
            json_values += 1
            end = _end_of_json(line, position)
        elif (quoted := _QUOTED.match(line, position)) is not None:
            end = quoted.end()
        else:
            end = None
        if end is None:
            comma = line.find(",", position)
            end = len(line) if comma < 0 else comma
        fields[key.rstrip()] = _unquoted(line[position:end].strip())
        start = _after_comma(line, end)
    bare.update(_bare_words(line[start:]))
    return FieldLine(fields, frozenset(bare))


def _key_before(line: str, start: int, colon: int) -> str | None:
    """The key that ends at the colon, or `None`: two characters at least, as in A1111."""
    first = max(start, colon - MAX_KEY_CHARACTERS - 1)
    match = _KEY_REVERSED.match(line[first:colon][::-1])
    run = "" if match is None else match[0][::-1]
    key = run.lstrip(" -/")
    return key if len(run) <= MAX_KEY_CHARACTERS and len(key) >= 2 else None


def _bare_words(between: str) -> list[str]:
    return [word for part in between.split(",") if _BARE.fullmatch(word := part.strip())]


def _after_space(line: str, position: int) -> int:
    space = _SPACE.match(line, position)
    return position if space is None else space.end()


def _after_comma(line: str, position: int) -> int:
    end = _END.match(line, position)
    return position if end is None else end.end()


def _end_of_json(line: str, position: int) -> int | None:
    """Where the JSON value ends that begins here and fills the field, else `None`."""
    try:
        _, end = _JSON.raw_decode(line, position)
    except (ValueError, RecursionError):
        return None
    return end if _END.match(line, end) else None


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(_JSON.decode(value))
    except (ValueError, RecursionError):
        return value

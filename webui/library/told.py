"""Values in answers of servers, which may be anything: taken where they are what they should be."""

from __future__ import annotations

from typing import Any, cast

_MAX_TEXT = 200


def object_in(value: object) -> dict[str, Any]:
    """The value where it is an object, else an empty one."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects in a list; empty where it is none."""
    rows = cast(list[Any], value) if isinstance(value, list) else []
    return [cast(dict[str, Any], row) for row in rows if isinstance(row, dict)]


def text_in(value: object) -> str | None:
    """The begin of a text that says something, else None."""
    return value[:_MAX_TEXT] if isinstance(value, str) and value.strip() else None


def number_in(value: object) -> int | None:
    """The value where it is a number from 0 on, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

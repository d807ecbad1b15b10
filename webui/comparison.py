"""What a sparse request, a preset's or a saved picture's, would change in another request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from webui.errors import BadRequestError
from webui.request import GenerationRequest, Group, group_of, nearest, parse_partial, parse_request

PLACE = "{prompt}"
"""Stands in a preset's text for the text that is there already, each for its own field."""

TEXTS = ("prompt", "negative_prompt")
"""The fields in which `PLACE` has a meaning."""


@dataclass(frozen=True)
class Difference:
    """One field and its two values, as JSON has them."""

    field: str
    group: Group
    now: Any
    then: Any


def differences(
    now: GenerationRequest, then: Mapping[str, Any], *, literal: bool = False
) -> tuple[Difference, ...]:
    """What taking over `then` would change in `now`, in the order of the fields.

    Fields that `then` does not name, or that are equal, are left out.

    Args:
        then: A sparse request, or a whole one.
        literal: Whether `{prompt}` is ordinary text, as in the recipe of a finished picture.

    Raises:
        BadRequestError: A key or value of `then` is wrong.
    """
    values = now.model_dump(mode="json")
    return tuple(
        Difference(field, group_of(field), values[field], value)
        for field, value in _filled(values, then, literal).items()
        if value != values[field]
    )


def apply(
    now: GenerationRequest,
    then: Mapping[str, Any],
    fields: Iterable[str],
    *,
    literal: bool = False,
) -> GenerationRequest:
    """`now` with the named fields, and no others, taken over from `then`.

    Raises:
        BadRequestError: A key or value of `then` is wrong, `fields` names what is not in it, or a
            text becomes too long by what is filled in.
    """
    values = now.model_dump(mode="json")
    filled = _filled(values, then, literal)
    taken = tuple(fields)
    for field in taken:
        group_of(field)
        if field not in filled:
            raise BadRequestError(
                f"{field!r} cannot be taken over: {nearest(field, tuple(filled))}", field=field
            )
    return parse_request(values | {field: filled[field] for field in taken})


def _filled(values: Mapping[str, Any], then: Mapping[str, Any], literal: bool) -> Mapping[str, Any]:
    partial = parse_partial(then)
    texts = {} if literal else {f: _fill(partial[f], values[f]) for f in TEXTS if f in partial}
    return MappingProxyType(partial | texts)


def _fill(template: str, text: str) -> str:
    """The template around the text; a text that has it around it already stays as it is."""
    before, place, after = template.partition(PLACE)
    if not place:
        return template
    alone = ", ".join(part for part in (before.strip(" ,"), after.strip(" ,")) if part)
    if text == alone or not text.strip(" ,"):
        return alone
    is_filled = text.startswith(before) and text.endswith(after)
    if is_filled and len(text) > len(before) + len(after):
        return text
    return before + text + after

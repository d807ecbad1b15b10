"""What of a foreign file's values our request can hold, and sentences about the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from webui.errors import BadRequestError
from webui.levels import NEVER_TAKEN
from webui.request import GenerationRequest, field_names, parse_partial

MAX_NAMES = 12
"""Most names in one sentence."""

MAX_SHOWN = 60
"""Most characters of a foreign value in a sentence."""

_LISTS = frozenset({"loras", "controls"})


def keep_valid(values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values that `webui.request.parse_partial` passes, and sentences about the others.

    Args:
        values: JSON values by field name; unknown names are reported in one sentence, a filter
            level, which is no field, in its own.

    Returns:
        A sparse request of JSON values in the fields' order, and the report.
    """
    known: dict[str, Any] = {}
    report: list[str] = []
    for name in field_names():
        if name in values:
            known[name], notice = _cut(name, values[name])
            report.extend(notice)
    if "level" in values:
        report.append(NEVER_TAKEN)
    unknown = values.keys() - known.keys() - {"level"}
    if unknown:
        names = listed(name for name in values if name in unknown)
        report.append(f"Not known here and left out: {names}.")
    try:
        return parse_partial(known), tuple(report)
    except BadRequestError:
        kept, refused = _kept_one_by_one(known)
        return kept, (*refused, *report)


def _cut(name: str, value: Any) -> tuple[Any, tuple[str, ...]]:
    """The value, a list without what is beyond its field's limit.

    Validation makes a record of every bad item, and a foreign file may hold very many.
    """
    if name not in _LISTS or not isinstance(value, list):
        return value, ()
    items, most = cast(list[Any], value), limit_of(name, "max_length")
    if len(items) <= most:
        return items, ()
    return items[:most], (f"Left out: all {name} but the first {most}.",)


def _kept_one_by_one(values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    kept: dict[str, Any] = {}
    report: list[str] = []
    for name, value in values.items():
        if name in _LISTS and isinstance(value, list):
            items, trouble = _valid_items(name, cast(list[Any], value))
            kept |= parse_partial({name: items})
            report.extend(trouble)
            continue
        try:
            kept |= parse_partial({name: value})
        except BadRequestError as error:
            report.append(f"Left out: {error.message}")
    return kept, tuple(report)


def _valid_items(name: str, items: list[Any]) -> tuple[list[Any], tuple[str, ...]]:
    """The items of a list that can be kept, and a sentence about the others."""
    kept: list[Any] = []
    refused: list[str] = []
    for position, item in enumerate(items):
        try:
            parse_partial({name: [item]})
        except BadRequestError as error:
            refused.append(error.message.replace(f"{name}.0", f"{name}.{position}", 1))
        else:
            kept.append(item)
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return kept, (f"Left out{more}: {refused[0]}",) if refused else ()


def limit_of(field: str, rule: Literal["ge", "le", "multiple_of", "max_length"]) -> int:
    """A limit of a field of the request, as it is declared there."""
    rules = GenerationRequest.model_fields[field].metadata
    return next(getattr(each, rule) for each in rules if hasattr(each, rule))


def shortened(text: str) -> str:
    """A foreign text as it is shown in a sentence."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def listed(names: Iterable[str]) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    shown = [shortened(name) for name in names]
    more = len(shown) - MAX_NAMES
    return ", ".join(shown[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")

"""What a preset's file says: reading, checking and writing it.

{"schema": 1, "name": "Wide", "about": "For SDXL models.", "request": {"width": 1216}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from types import MappingProxyType
from typing import Any, cast

from webui.comparison import PLACE, TEXTS
from webui.errors import BadRequestError
from webui.levels import NEVER_TAKEN
from webui.library.lines import is_plain_line
from webui.request import nearest, parse_partial

SCHEMA = 1
MAX_BYTES = 256 * 1024
MAX_NAME_CHARACTERS = 80
MAX_ABOUT_CHARACTERS = 300

_KEYS = ("schema", "name", "about", "request")
_LEVEL = "level"


@dataclass(frozen=True)
class Draft:
    """What a preset says.

    Attributes:
        about: One sentence, may be empty.
        request: Sparse request in canonical form (`webui.request.parse_partial`). Its texts may
            hold `{prompt}` once (`webui.comparison.PLACE`).
        notices: What of its file was left out, a sentence each.
    """

    name: str
    about: str
    request: Mapping[str, Any]
    _: KW_ONLY
    notices: tuple[str, ...] = ()


def make_draft(name: object, about: object, request: object) -> Draft:
    """A checked draft from plain data.

    Raises:
        BadRequestError: One sentence about the first thing that is wrong, with its field.
    """
    title = _line(name, "name", MAX_NAME_CHARACTERS)
    if not title:
        raise BadRequestError("A preset needs a name.", field="name")
    if not isinstance(request, Mapping) or not request:
        raise BadRequestError("A preset must name at least one field.", field="request")
    partial = parse_partial(cast(Mapping[str, Any], request))
    for field in TEXTS:
        if partial.get(field, "").count(PLACE) > 1:
            raise BadRequestError(f"{field} may hold {PLACE} only once.", field=field)
    return Draft(title, _line(about, "about", MAX_ABOUT_CHARACTERS), MappingProxyType(partial))


def read_draft(data: bytes) -> Draft:
    """The draft in a preset's file.

    Raises:
        BadRequestError: One sentence about what is wrong with it.
    """
    if len(data) > MAX_BYTES:
        raise BadRequestError(f"It is larger than the {MAX_BYTES // 1024} KiB a preset may have.")
    try:
        parsed: Any = json.loads(data)
    except RecursionError:
        raise BadRequestError("It is nested too deeply for a preset.") from None
    except ValueError as error:
        raise BadRequestError(f"It is not valid JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise BadRequestError("It must hold one JSON object.")
    content = cast(dict[str, Any], parsed)
    _check_schema(content)
    content, notices = _without_level(content)
    for key in content:
        if key not in _KEYS:
            raise BadRequestError(f"Unknown key {key[:60]!r}: {nearest(key, _KEYS)}")
    draft = make_draft(content.get("name", ""), content.get("about", ""), content.get("request"))
    return replace(draft, notices=notices)


def write_draft(draft: Draft) -> bytes:
    """The file of a draft.

    Raises:
        BadRequestError: It would be too large to be read again.
    """
    content = {
        "schema": SCHEMA,
        "name": draft.name,
        "about": draft.about,
        "request": dict(draft.request),
    }
    data = json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n"
    if len(data) > MAX_BYTES:
        raise BadRequestError(f"A preset may have at most {MAX_BYTES // 1024} KiB.")
    return data


def _without_level(content: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content without a filter level, wherever one is asked for; and a notice then."""
    request = content.get("request")
    kept = {key: value for key, value in content.items() if key != _LEVEL}
    if isinstance(request, dict):
        fields = cast(dict[str, Any], request)
        kept["request"] = {key: value for key, value in fields.items() if key != _LEVEL}
    return kept, () if kept == content else (NEVER_TAKEN,)


def _line(value: object, key: str, most: int) -> str:
    if not isinstance(value, str):
        raise BadRequestError(f"{key} must be text.", field=key)
    text = value.strip()
    if len(text) > most:
        raise BadRequestError(
            f"{key} is {len(text):,} characters long: at most {most} fit.", field=key
        )
    if not is_plain_line(text):
        raise BadRequestError(f"{key} must be one line of plain text.", field=key)
    return text


def _check_schema(content: Mapping[str, Any]) -> None:
    version = content.get("schema")
    if type(version) is int and version > SCHEMA:
        number = str(version)[:20]
        raise BadRequestError(
            f"It has schema {number}, of a newer version: update Easel to use it."
        )
    if type(version) is not int or version != SCHEMA:
        raise BadRequestError(f'It is no preset of a known schema: it must say "schema": {SCHEMA}.')

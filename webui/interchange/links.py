"""The recipe in a link: what of it is taken over, whoever has made the link.

The page packs the fields that differ from the defaults into the link's fragment; see link.js.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from webui.interchange.sparse import keep_valid

_PICTURES = ("init", "mask")
_NO_PICTURES = "A link carries no pictures: what it names of that kind was left out."


@dataclass(frozen=True)
class ReadLink:
    """What a link says.

    Attributes:
        request: Sparse request of JSON values, without pictures.
        report: One sentence for each thing that was left out or not understood.
    """

    request: dict[str, Any]
    report: tuple[str, ...]


def read_link(values: Mapping[str, Any]) -> ReadLink:
    """The recipe of a link.

    Args:
        values: JSON values by field name.
    """
    kept, report = keep_valid({key: value for key, value in values.items() if key not in _PICTURES})
    units = cast(list[dict[str, Any]], kept.get("controls", []))
    drawn = [unit for unit in units if unit["picture"] is None]
    if units:
        kept["controls"] = drawn
    has_pictures = len(drawn) < len(units) or any(values.get(name) for name in _PICTURES)
    return ReadLink(kept, (_NO_PICTURES, *report) if has_pictures else report)

"""The request's fields as the page's script needs them to make a widget of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from webui.request import GenerationRequest

WITHOUT_WIDGET = (
    "loras",
    "controls",
    "mask",
    "mask_blur",
    "mask_grow",
    "soft_mask",
    "inpaint_area",
    "inpaint_padding",
    "inpaint_fill",
    "outpaint",
)
"""Fields of the request that the page does not offer yet; every other one has a widget."""


@dataclass(frozen=True)
class Schema:
    """One field of the request as its JSON schema tells it; words about it are in the catalogue.

    Attributes:
        kind: JSON type: "string", "integer" or "number".
        optional: Whether empty is a value ("decide for me").
        choices: Allowed values; empty where any value of the type will do.
        low: Least value, where there is one.
        high: Greatest value, where there is one.
        step: Distance between neighbouring values of a number.
        longest: Most characters of a string.
    """

    name: str
    kind: str
    default: Any
    group: str
    optional: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float = 1
    longest: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What the page's script gets."""
        return asdict(self)


def schemas() -> tuple[Schema, ...]:
    """The fields that have a widget, in the order the request declares them."""
    properties = cast(
        Mapping[str, Mapping[str, Any]], GenerationRequest.model_json_schema()["properties"]
    )
    return tuple(_read(name, p) for name, p in properties.items() if name not in WITHOUT_WIDGET)


def _read(name: str, about: Mapping[str, Any]) -> Schema:
    alternatives = cast(list[dict[str, Any]], about.get("anyOf", [about]))
    typed = next(a for a in alternatives if a["type"] != "null")
    return Schema(
        name=name,
        kind=typed["type"],
        default=about["default"],
        group=about["group"],
        optional=len(alternatives) > 1,
        choices=tuple(typed.get("enum", ())),
        low=typed.get("minimum"),
        high=typed.get("maximum"),
        step=about.get("step", 1),
        longest=typed.get("maxLength"),
    )

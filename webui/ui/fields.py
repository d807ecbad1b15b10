"""The request's fields as the page's script needs them to make a widget of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from webui.generation.speed import GAINS
from webui.request import GenerationRequest


@dataclass(frozen=True)
class Schema:
    """One field of the request as its JSON schema tells it; words about it are in the catalogue.

    Attributes:
        kind: JSON type: "string", "integer", "number", "boolean", "array" or "object".
        optional: Whether empty is a value ("decide for me").
        choices: Allowed values; empty where any value of the type will do.
        low: Least value, where there is one.
        high: Greatest value, where there is one.
        step: Distance between neighbouring values of a number.
        longest: Most characters of a string, most items of an array.
        parts: Fields of an array's items, where those are objects.
        figures: Numbers that the words about a choice tell, by the choice, where they tell any.
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
    parts: tuple[Schema, ...] = ()
    figures: Mapping[str, Mapping[str, float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """What the page's script gets."""
        return asdict(self)


_About = Mapping[str, Any]


def schemas() -> tuple[Schema, ...]:
    """All fields, in the order the request declares them."""
    schema = GenerationRequest.model_json_schema()
    return _fields(schema, schema["$defs"])


def _fields(owner: _About, shared: Mapping[str, _About]) -> tuple[Schema, ...]:
    properties = cast(Mapping[str, _About], owner["properties"])
    return tuple(_read(name, about, shared) for name, about in properties.items())


def _read(name: str, about: _About, shared: Mapping[str, _About]) -> Schema:
    alternatives = cast(list[dict[str, Any]], about.get("anyOf", [about]))
    typed = _resolved(next(a for a in alternatives if a.get("type") != "null"), shared)
    items = cast(_About | bool, typed.get("items", False))
    return Schema(
        name=name,
        kind=typed["type"],
        default=about.get("default"),
        group=about.get("group", ""),
        optional=len(alternatives) > 1,
        choices=tuple(typed.get("enum", ())),
        low=typed.get("minimum"),
        high=typed.get("maximum"),
        step=about.get("step", 1),
        longest=typed.get("maxLength", typed.get("maxItems")),
        parts=() if isinstance(items, bool) else _parts(_resolved(items, shared), shared),
        figures=_figures() if name == "speed" else None,
    )


def _figures() -> Mapping[str, Mapping[str, float]]:
    return {str(speed): gain._asdict() for speed, gain in GAINS.items()}


def _parts(item: _About, shared: Mapping[str, _About]) -> tuple[Schema, ...]:
    return _fields(item, shared) if item.get("type") == "object" else ()


def _resolved(about: _About, shared: Mapping[str, _About]) -> _About:
    reference = about.get("$ref")
    return shared[reference.rpartition("/")[2]] if isinstance(reference, str) else about

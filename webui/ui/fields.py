"""Widgets made from the request's schema, and the way back to a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import gradio as gr
from gradio.components import Component

from webui.request import GenerationRequest, parse_request

WITHOUT_WIDGET = ("loras", "controls", "init", "mask")
"""Fields of the request that the page does not offer yet; every other one has a widget."""

_LONGEST_SLIDER = 200
"""Steps a slider may have: past that a finger cannot set it, so a number box is used."""


@dataclass(frozen=True)
class Schema:
    """One field of the request as its JSON schema tells it.

    Attributes:
        kind: JSON type: "string", "integer" or "number".
        optional: Whether empty is a value ("decide for me").
        empty: What happens then, in a word or two.
        choices: Allowed values; empty where any value of the type will do.
        low: Least value, where there is one.
        high: Greatest value, where there is one.
        step: Distance between neighbouring values of a number.
        longest: Most characters of a string.
    """

    name: str
    title: str
    help: str
    kind: str
    default: Any
    unit: str
    optional: bool = False
    empty: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float = 1
    longest: int | None = None


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
        title=about["title"],
        help=about["description"],
        kind=typed["type"],
        default=about["default"],
        unit=about["unit"],
        optional=len(alternatives) > 1,
        empty=about.get("empty", ""),
        choices=tuple(typed.get("enum", ())),
        low=typed.get("minimum"),
        high=typed.get("maximum"),
        step=about.get("step", 1),
        longest=typed.get("maxLength"),
    )


def make_widget(schema: Schema, models: tuple[str, ...]) -> Component:
    """The widget of one field, holding the field's default.

    Number boxes carry no bounds of their own: Gradio would answer a value outside them with a
    message that names neither the field nor what to do. `request_from_widgets` does.

    Args:
        models: Names on the shelf, offered for the field `model`.

    Raises:
        TypeError: No widget is known for a field of this type.
    """
    common: dict[str, Any] = {
        "label": schema.title,
        "info": schema.help,
        "value": schema.default,
        "elem_id": f"field-{schema.name}",
        "elem_classes": "field",
        "interactive": True,
    }
    match schema:
        case Schema(name="model"):
            return gr.Dropdown(choices=[*models], allow_custom_value=True, **common)
        case Schema(kind="string", choices=(_, *_)):
            return gr.Dropdown(choices=[*schema.choices], **common)
        case Schema(kind="string", optional=False, longest=int()):
            return gr.Textbox(lines=2, max_lines=8, **common)
        case Schema(kind="integer" | "number", optional=True):
            # Gradio's page turns an initial None into 0; an empty text stays empty.
            common["value"] = "" if schema.default is None else schema.default
            return gr.Number(step=schema.step, placeholder=schema.empty, **common)
        case Schema(kind="integer" | "number", low=low, high=high) if (
            low is not None and high is not None and (high - low) / schema.step <= _LONGEST_SLIDER
        ):
            return gr.Slider(minimum=low, maximum=high, step=schema.step, buttons=[], **common)
        case Schema(kind="integer" | "number"):
            return gr.Number(step=schema.step, **common)
        case _:
            raise TypeError(f"No widget is known for the field {schema.name!r} ({schema.kind}).")


def request_from_widgets(values: Mapping[str, Any]) -> GenerationRequest:
    """The request the widgets hold, by field name.

    Raises:
        BadRequestError: One sentence about the first value that cannot be used.
    """
    optional = {schema.name for schema in schemas() if schema.optional}
    return parse_request(
        {name: None if name in optional and v == "" else v for name, v in values.items()}
    )

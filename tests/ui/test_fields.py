from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import gradio as gr
import pytest
from gradio.components import Component

from webui.errors import BadRequestError
from webui.request import MAX_SEED, SAMPLERS, GenerationRequest, field_names
from webui.ui.fields import WITHOUT_WIDGET, Schema, make_widget, request_from_widgets, schemas

MODELS = ("postcard", "other")


def widgets() -> dict[str, Component]:
    return {schema.name: make_widget(schema, MODELS) for schema in schemas()}


def handed_over(widget: Component) -> Any:
    """What a handler is given when nobody touched the widget."""
    shown = cast(Any, widget).get_config()["value"]
    return cast(Any, widget).preprocess(shown)


def choices(dropdown: gr.Dropdown) -> list[str]:
    return [value for _, value in cast(Any, dropdown).choices]


def test_untouched_widgets_give_the_default_request() -> None:
    values = {name: handed_over(widget) for name, widget in widgets().items()}
    assert request_from_widgets(values) == GenerationRequest()


def test_every_field_has_a_widget_or_is_named_as_having_none() -> None:
    assert set(widgets()) | set(WITHOUT_WIDGET) == set(field_names())
    assert not set(widgets()) & set(WITHOUT_WIDGET)


def test_ranges_steps_defaults_and_help_come_from_the_schema() -> None:
    made = widgets()
    cfg = made["cfg"]
    assert isinstance(cfg, gr.Slider)
    assert (cfg.minimum, cfg.maximum, cfg.step, cfg.value) == (1, 30, 0.5, 5.0)
    assert cfg.info == GenerationRequest.model_fields["cfg"].description
    sampler, width, seed = made["sampler"], made["width"], made["seed"]
    assert isinstance(sampler, gr.Dropdown)
    assert choices(sampler) == list(SAMPLERS)
    assert isinstance(width, gr.Number)
    assert isinstance(seed, gr.Number)
    assert (width.step, width.placeholder, seed.placeholder) == (8, "model's own", "random")


def test_models_on_the_shelf_are_offered_and_another_name_reaches_the_engine() -> None:
    model = widgets()["model"]
    assert isinstance(model, gr.Dropdown)
    assert choices(model) == list(MODELS)
    assert cast(Any, model).preprocess("typed") == "typed"


def test_a_field_of_an_unknown_kind_is_an_error_and_not_a_guess() -> None:
    odd = Schema(name="odd", title="Odd", help="", kind="boolean", default=False, unit="")
    with pytest.raises(TypeError, match="odd"):
        make_widget(odd, MODELS)


def test_a_wide_range_becomes_a_number_box() -> None:
    steps = next(schema for schema in schemas() if schema.name == "steps")
    assert isinstance(make_widget(steps, MODELS), gr.Slider)
    assert isinstance(make_widget(replace(steps, high=100_000), MODELS), gr.Number)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("width", 63, "width is 63: it must be a multiple of 8, such as 64."),
        ("width", 0, "width is 0: it must be at least 64."),
        ("width", 100_000, "width is 100000: it must be at most 2048."),
        ("height", 130, "height is 130: it must be a multiple of 8, such as 136."),
        ("steps", 0, "steps is 0: it must be at least 1."),
        ("sampler", "Eular", "Unknown sampler 'Eular': did you mean 'Euler'?"),
        ("prompt", "x" * 100_000, "prompt is 100,000 characters long: at most 2,000 fit."),
        ("seed", MAX_SEED + 1, f"seed is {MAX_SEED + 1}: it must be at most {MAX_SEED}."),
    ],
)
def test_a_bad_value_is_one_sentence_about_its_field(
    name: str, value: object, sentence: str
) -> None:
    values = {n: handed_over(widget) for n, widget in widgets().items()}
    with pytest.raises(BadRequestError) as caught:
        request_from_widgets(values | {name: value})
    assert caught.value.message == sentence
    assert caught.value.field == name


def test_a_number_that_is_no_whole_one_is_not_rounded_in_silence() -> None:
    values = {n: handed_over(widget) for n, widget in widgets().items()}
    width = cast(Any, widgets()["width"]).preprocess(512.5)
    with pytest.raises(BadRequestError) as caught:
        request_from_widgets(values | {"width": width})
    assert caught.value.field == "width"


def test_the_largest_seed_survives_the_widget() -> None:
    values = {n: handed_over(widget) for n, widget in widgets().items()}
    seed = cast(Any, widgets()["seed"]).preprocess(MAX_SEED)
    assert request_from_widgets(values | {"seed": seed}).seed == MAX_SEED

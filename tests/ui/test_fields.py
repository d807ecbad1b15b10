from __future__ import annotations

import json

from webui.request import SAMPLERS, GenerationRequest, field_names
from webui.ui.fields import WITHOUT_WIDGET, Schema, schemas


def of(name: str) -> Schema:
    return next(schema for schema in schemas() if schema.name == name)


def test_every_field_has_a_widget_or_is_named_as_having_none() -> None:
    named = [schema.name for schema in schemas()]
    assert set(named) | set(WITHOUT_WIDGET) == set(field_names())
    assert not set(named) & set(WITHOUT_WIDGET)
    assert named == [name for name in field_names() if name in named]


def test_the_defaults_are_the_default_request() -> None:
    defaults = {schema.name: schema.default for schema in schemas()}
    assert GenerationRequest.model_validate(defaults) == GenerationRequest()


def test_ranges_and_choices_come_from_the_request() -> None:
    cfg, seed, sampler = of("cfg"), of("seed"), of("sampler")
    assert (cfg.low, cfg.high, cfg.step, cfg.default, cfg.group) == (1, 30, 0.5, 5.0, "sampling")
    assert (seed.optional, seed.default, seed.kind) == (True, None, "integer")
    assert sampler.choices == SAMPLERS
    assert (of("width").optional, of("width").step) == (True, 8)
    assert of("prompt").longest == 2_000


def test_what_the_script_gets_is_plain_json() -> None:
    sent = json.loads(json.dumps([schema.to_json() for schema in schemas()]))
    assert sent[0]["name"] == "prompt"
    assert {"name", "kind", "default", "group", "optional", "choices"} <= set(sent[0])

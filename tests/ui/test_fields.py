from __future__ import annotations

import json

from webui.request import CONTROL_KINDS, SAMPLERS, GenerationRequest, field_names
from webui.ui.fields import Schema, schemas


def of(name: str) -> Schema:
    return next(schema for schema in schemas() if schema.name == name)


def test_every_field_is_there_in_the_order_of_the_request() -> None:
    assert tuple(schema.name for schema in schemas()) == field_names()


def test_parts_of_a_row_have_their_ranges_and_defaults() -> None:
    loras, controls = of("loras"), of("controls")
    assert (loras.kind, loras.default, loras.longest, controls.longest) == ("array", [], 32, 8)
    weight = next(part for part in loras.parts if part.name == "weight")
    assert (weight.low, weight.high, weight.default) == (-4, 4, 1.0)
    kinds = next(part for part in controls.parts if part.name == "kind")
    assert (kinds.choices, kinds.default) == (CONTROL_KINDS, "pose")
    assert next(part for part in controls.parts if part.name == "pose").kind == "object"
    assert (of("outpaint").kind, of("outpaint").default) == ("array", [0, 0, 0, 0])
    assert of("soft_mask").kind == "boolean"


def test_the_defaults_are_the_default_request() -> None:
    defaults = {schema.name: schema.default for schema in schemas()}
    assert GenerationRequest.model_validate(defaults) == GenerationRequest()


def test_ranges_and_choices_come_from_the_request() -> None:
    cfg, seed, sampler = of("cfg"), of("seed"), of("sampler")
    assert (cfg.low, cfg.high, cfg.step, cfg.default, cfg.group) == (1, 30, 0.5, None, "sampling")
    assert (cfg.optional, sampler.optional, of("steps").optional) == (True, True, True)
    assert (seed.optional, seed.default, seed.kind) == (True, None, "integer")
    assert sampler.choices == SAMPLERS
    assert (of("width").optional, of("width").step) == (True, 8)
    assert of("prompt").longest == 2_000


def test_what_the_script_gets_is_plain_json() -> None:
    sent = json.loads(json.dumps([schema.to_json() for schema in schemas()]))
    assert sent[0]["name"] == "prompt"
    assert {"name", "kind", "default", "group", "optional", "choices"} <= set(sent[0])

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.errors import BadRequestError
from webui.generation.advice import (
    HIGH_WEIGHT,
    Advice,
    AdviceKind,
    Idle,
    IdleKind,
    advise,
    idle_fields,
)
from webui.generation.facts import ModelFacts
from webui.generation.families import FLUX, FLUX_SCHNELL, SD1, Family
from webui.generation.prompts import ParsedPrompt, parse_prompt
from webui.generation.sampling import sampling_of
from webui.library.distilled import Distilled
from webui.request import SAMPLERS, GenerationRequest, parse_request
from webui.settings import ROOT

TEXTS = ROOT / "webui" / "ui" / "assets" / "texts" / "en.json"

FACTS = ModelFacts(
    name="meadow",
    family=SD1,
    width=512,
    height=512,
    own=SD1.own,
    useful_cfg=(3.0, 12.0),
    useful_steps=(12, 40),
    text_layers=12,
    scheduler={},
)


def advice(facts: ModelFacts = FACTS, **fields: Any) -> dict[str, Advice]:
    return {a.field: a for a in advise(parse_request(fields), facts)}


def kinds(facts: ModelFacts = FACTS, **fields: Any) -> list[str]:
    return [a.kind for a in advise(parse_request(fields), facts)]


def test_the_defaults_need_no_advice() -> None:
    assert kinds() == []


@pytest.mark.parametrize(
    ("within", "beyond", "kind", "fix"),
    [
        ({"cfg": 12}, {"cfg": 12.5}, "cfg_high", {"cfg": 12.0}),
        ({"cfg": 3}, {"cfg": 2.5}, "cfg_low", {"cfg": 3.0}),
        ({"cfg": 3}, {"cfg": 1}, "cfg_off", {"cfg": 3.0}),
        ({"steps": 40}, {"steps": 41}, "steps_high", {"steps": 40}),
        ({"steps": 12}, {"steps": 11}, "steps_low", {"steps": 12}),
        ({"width": 768}, {"width": 776}, "size_large", {"width": 632, "height": 416}),
        (
            {"width": 768, "height": 512},
            {"width": 1024, "height": 1024},
            "size_large",
            {"width": 512, "height": 512},
        ),
        (
            {"width": 400, "height": 400},
            {"width": 392, "height": 392},
            "size_small",
            {"width": 512, "height": 512},
        ),
        (
            {"width": 728, "height": 352},
            {"width": 768, "height": 360},
            "size_stretched",
            {"width": 680, "height": 384},
        ),
        (
            {"width": 360, "height": 728},
            {"width": 352, "height": 768},
            "size_stretched",
            {"width": 384, "height": 680},
        ),
        (
            {"batch": 16},
            {"batch": 16, "width": 768},
            "batch_large",
            {"batch": 8, "count": 2},
        ),
        (
            {"batch": 6, "width": 768, "height": 768, "count": 3},
            {"batch": 9, "width": 768, "height": 768, "count": 3},
            "batch_large",
            {"batch": 3, "count": 9},
        ),
        (
            {"prompt": "a (red:1.5) ball"},
            {"prompt": "a (red:1.55) [ball"},
            "weight_high",
            {"prompt": "a (red:1.4) [ball"},
        ),
        (
            {"prompt": "((((red))))"},
            {"prompt": "(((((red))))) BREAK a [ball]"},
            "weight_high",
            {"prompt": "(red:1.4) BREAK a (ball:0.9091)"},
        ),
        (
            {"prompt": "a hill, red", "negative_prompt": "hill, red ball"},
            {"prompt": "a hill, Red ", "negative_prompt": "grey, (red:1.2), a  hill, (fog, red"},
            "phrase_in_both",
            {"negative_prompt": "grey, (fog"},
        ),
    ],
)
def test_advice_begins_beyond_the_bound_and_its_fix_ends_it(
    within: dict[str, Any], beyond: dict[str, Any], kind: AdviceKind, fix: dict[str, Any]
) -> None:
    field = {"size": "width"}.get(kind.split("_")[0], next(iter(fix)))
    assert field not in {a for a, b in advice(**within).items() if b.kind == kind}
    assert kind not in kinds(**within)
    found = {a.kind: a for a in advise(parse_request(beyond), FACTS)}
    assert found[kind].field == field
    assert found[kind].fix == fix
    assert kind not in kinds(**(beyond | fix))


@pytest.mark.parametrize("sampler", ["LCM", "TCD"])
def test_samplers_for_distilled_models_have_bounds_of_their_own(sampler: str) -> None:
    assert kinds(sampler=sampler, cfg=1, steps=4) == []
    found = advice(sampler=sampler, cfg=5, steps=20)
    assert (found["cfg"].kind, found["cfg"].fix) == ("cfg_high", {"cfg": 2.0})
    assert (found["steps"].kind, found["steps"].fix) == ("steps_high", {"steps": 12})
    assert found["cfg"].values["name"] == sampler


def test_slow_samplers_need_more_steps_than_the_model() -> None:
    quick = replace(FACTS, useful_steps=(6, 30))
    assert kinds(quick, steps=8) == []
    assert advice(quick, steps=8, sampler="PNDM")["steps"].fix == {"steps": 25}
    assert advice(quick, steps=8, sampler="Heun")["steps"].fix == {"steps": 12}
    assert kinds(quick, steps=25, sampler="PNDM") == []


def test_a_model_without_guidance_is_taken_at_its_word() -> None:
    distilled = replace(FACTS, useful_cfg=(1.0, 1.5), useful_steps=(4, 8))
    assert kinds(distilled, cfg=1, steps=4) == []
    assert kinds(distilled) == ["steps_high", "cfg_high"]


def test_a_size_is_judged_by_the_models_own() -> None:
    assert kinds(width=512, height=512) == []
    assert kinds(replace(FACTS, width=256, height=256), width=512, height=512) == ["size_large"]
    assert kinds(replace(FACTS, width=1024, height=1024), width=512, height=512) == ["size_small"]


def test_a_mended_batch_makes_the_same_pictures() -> None:
    request = parse_request({"batch": 12, "count": 2, "width": 1024, "height": 1024})
    (found,) = (a for a in advise(request, FACTS) if a.field == "batch")
    mended = parse_request(request.model_dump() | dict(found.fix))
    assert mended.batch * mended.count == request.batch * request.count


def test_what_no_click_can_mend_is_left_alone() -> None:
    many: dict[str, Any] = {"batch": 16, "count": 90, "width": 1024, "height": 1024}
    assert "batch_large" not in kinds(**many)
    full = "(((((" + "a(b)" * 490 + ")))))"
    assert kinds(prompt=full) == []


def test_without_guidance_the_negative_prompt_is_idle_and_not_advised_on() -> None:
    both: dict[str, Any] = {"prompt": "red", "negative_prompt": "red"}
    assert kinds(**both) == ["phrase_in_both"]
    assert kinds(**both, cfg=1) == ["cfg_off"]
    assert idle(SD1, cfg=1) == [Idle("negative_prompt", "guidance_off")]
    assert idle(SD1, cfg=1.1) == idle(SD1) == []


def test_where_guidance_is_asked_for_by_a_negative_prompt_cfg_is_idle_without_one() -> None:
    assert idle(FLUX) == idle(FLUX, cfg=3) == [Idle("cfg", "no_negative_prompt")]
    assert idle(FLUX, negative_prompt="grey") == [Idle("negative_prompt", "guidance_off")]
    assert idle(FLUX, negative_prompt="grey", cfg=3) == []
    assert idle(FLUX_SCHNELL) == []


def idle(family: Family, **fields: Any) -> list[Idle]:
    facts = replace(FACTS, family=family, own=family.own)
    request = parse_request(fields)
    return [*idle_fields(request, facts, sampling_of(request, facts.own))]


@pytest.mark.parametrize(
    "prompt", ["(red:2 AND ball)", "[a|b] ((c:1.4):1.4)", "(a:1.2.3)", "((a:9):9)"]
)
def test_a_prompt_that_cannot_be_read_gets_no_advice(prompt: str) -> None:
    assert kinds(prompt=prompt) == []


def test_a_long_phrase_is_shown_in_part() -> None:
    phrase = str(advice(prompt="red " * 99, negative_prompt="red " * 99)["negative_prompt"].values)
    assert "…" in phrase
    assert len(phrase) < 120


TEXT = st.lists(
    st.sampled_from(
        [
            *"()[]\\:,a",
            "red, ",
            "a hill",
            "BREAK ",
            ":1.4)",
            ":1.9)",
            ":3)",
            "B\\REAK",
            "🌊",
            "16:9)",
        ]
    ),
    max_size=24,
).map("".join)
SIDES = st.none() | st.integers(8, 256).map(lambda n: n * 8)
REQUESTS = st.fixed_dictionaries(
    {
        "prompt": TEXT,
        "negative_prompt": TEXT,
        "width": SIDES,
        "height": SIDES,
        "steps": st.none() | st.integers(1, 150),
        "cfg": st.none() | st.floats(1, 30),
        "sampler": st.none() | st.sampled_from(SAMPLERS),
        "batch": st.integers(1, 16),
        "count": st.integers(1, 100),
    }
)
MODELS = st.builds(
    ModelFacts,
    name=st.just("meadow"),
    family=st.just(SD1),
    width=(side := st.shared(st.sampled_from([256, 512, 768, 1024]))),
    height=side,
    own=st.just(SD1.own),
    useful_cfg=st.sampled_from([(1.0, 2.0), (1.0, 10.0), (3.0, 12.0)]),
    useful_steps=st.sampled_from([(4, 8), (8, 30), (12, 40)]),
    text_layers=st.just(12),
    scheduler=st.just({}),
)


def reads(prompt: str) -> bool:
    try:
        parse_prompt(prompt)
    except BadRequestError:
        return False
    return True


def test_tags_of_loras_become_rows_behind_those_there_are() -> None:
    prompt = "a (hill:2) <lora:ink:0.5>by day<lora:paper:0.2:0.7>"
    found = advice(prompt=prompt, loras=[{"name": "dusk"}])["prompt"]
    assert (found.kind, found.values) == ("lora_tags", {"names": "ink, paper"})
    assert found.fix["prompt"] == "a (hill:2) by day"
    rows = [(r["name"], r["weight"], r["text_encoder_weight"]) for r in found.fix["loras"]]
    assert rows == [("dusk", 1.0, None), ("ink", 0.5, None), ("paper", 0.7, 0.2)]
    # What else there is to say of the prompt comes next.
    assert kinds(**found.fix) == ["weight_high"]


@pytest.mark.parametrize("tag", ["<lora:ink:much>", "<hypernet:ink:1>", "<lora:ink:9>", "lora:ink"])
def test_tags_that_make_no_rows_get_no_advice(tag: str) -> None:
    assert kinds(prompt=f"a {tag}") == []


@settings(max_examples=300, deadline=None)
@given(REQUESTS, MODELS)
def test_any_fix_is_a_request_that_needs_no_more_advice_on_that_field(
    fields: dict[str, Any], facts: ModelFacts
) -> None:
    request = parse_request(fields)
    found = advise(request, facts)
    assert len({a.field for a in found}) == len(found)
    for each in found:
        mended = parse_request(request.model_dump() | dict(each.fix))
        assert each.field in each.fix
        assert each.field not in {a.field for a in advise(mended, facts)}, each
        assert reads(mended.prompt) or not reads(request.prompt)
        if each.kind == "weight_high":
            before, after = (parse_prompt(r.prompt) for r in (request, mended))
            assert words(before) == words(after)
            assert heaviest(after) <= HIGH_WEIGHT


def words(parsed: ParsedPrompt) -> list[list[str]]:
    return ["".join(s.text for s in block).split() for block in parsed.blocks]


def heaviest(parsed: ParsedPrompt) -> float:
    return max(s.weight for block in parsed.blocks for s in block)


def catalogue() -> dict[str, str]:
    return cast(dict[str, str], json.loads(TEXTS.read_text(encoding="utf-8")))


EXAMPLES: dict[AdviceKind, dict[str, Any]] = {
    "cfg_high": {"cfg": 20},
    "cfg_low": {"cfg": 2},
    "cfg_off": {"cfg": 1},
    "few_steps": {"steps": 30},
    "steps_high": {"steps": 90},
    "steps_low": {"steps": 5},
    "size_large": {"width": 1024, "height": 1024},
    "size_small": {"width": 64, "height": 64},
    "size_stretched": {"width": 832, "height": 320},
    "batch_large": {"batch": 16, "width": 768},
    "lora_tags": {"prompt": "a <lora:ink>"},
    "weight_high": {"prompt": "(a:2)"},
    "phrase_in_both": {"prompt": "a", "negative_prompt": "a"},
}


@pytest.mark.parametrize("kind", get_args(AdviceKind))
def test_every_kind_has_its_sentence_and_names_nothing_it_does_not_know(kind: AdviceKind) -> None:
    texts = catalogue()
    facts = FACTS
    if kind == "few_steps":
        facts = replace(FACTS, distilled=Distilled("lightning", 4))
    (found,) = (a for a in advise(parse_request(EXAMPLES[kind]), facts) if a.kind == kind)
    for key in (f"advice.{kind}", f"advice.{kind}.fix"):
        assert set(re.findall(r"\{(\w+)\}", texts[key])) <= set(found.values)
    assert found.field in GenerationRequest.model_fields


@pytest.mark.parametrize("kind", get_args(IdleKind))
def test_every_reason_to_be_idle_has_its_sentence(kind: IdleKind) -> None:
    assert f"idle.{kind}" in catalogue()

"""Where a request is likely to disappoint, with the change that mends it.

Advice never stops anything. Its sentences are the page's: here are a kind and the values in it.
The bounds of size and weight come from pictures of the embedded model: at 1.56 times its area
figures double, at half of it things are cut off, twice as wide as high they double again; from a
weight of 1.6 on, colours run beyond what was weighted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from webui.errors import BadRequestError
from webui.generation.facts import ModelFacts, Own, own_of
from webui.generation.prompt_plan import plan_prompt
from webui.generation.prompts import (
    ParsedPrompt,
    lighten_prompt,
    unmatched_brackets,
    write_prompt,
)
from webui.generation.samplers import SAMPLER_TABLE
from webui.generation.sampling import OPEN, Sampling, sampling_of
from webui.interchange.dynamicmarks import inert, is_dynamic
from webui.interchange.loratags import rows_for_tags, take_tags
from webui.interchange.sparse import listed
from webui.library.distilled import Distilled
from webui.request import MAX_STEPS, GenerationRequest, parse_request

AdviceKind = Literal[
    "cfg_high",
    "cfg_low",
    "cfg_off",
    "few_steps",
    "steps_high",
    "steps_low",
    "size_large",
    "size_small",
    "size_stretched",
    "batch_large",
    "lora_tags",
    "weight_high",
    "phrase_in_both",
]
IdleKind = Literal["guidance_off", "no_negative_prompt"]

MOST_AREA, LEAST_AREA = 1.5, 0.6
"""Times the trained area; a portrait of 512 x 768 with a model of 512 x 512 is just within."""

MOST_STRETCH, KEPT_STRETCH, MENDED_STRETCH = 2.1, 2.0, 16 / 9
"""Times that the longer side is as long as the shorter one; a mended size keeps at most the second,
so that rounding to whole latent pixels does not lead past the first."""

MOST_BATCH_PIXELS = 16 * 512 * 512
"""Pixels of all pictures that are made at once."""

HIGH_WEIGHT, MENDED_WEIGHT = 1.5, 1.4

_SIDE_STEP = 8
_WEIGHT = re.compile(r":\s*[+-]?[.\d]+\s*(?=\))")
_NO_BRACKETS = str.maketrans("", "", "()[]\\")
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Advice:
    """One thing about a request that could be better.

    Attributes:
        field: The request field it is about.
        values: What the sentence about it names.
        fix: The fields to change and their new values, None for the model's own; the advice is gone
            with them.
    """

    kind: AdviceKind
    field: str
    values: Mapping[str, str | int | float]
    fix: Mapping[str, Any]


@dataclass(frozen=True)
class Idle:
    """A field that has no effect as the other fields are now."""

    field: str
    kind: IdleKind


def advise(
    request: GenerationRequest,
    facts: ModelFacts,
    loras: Mapping[str, Distilled] = MappingProxyType({}),
) -> tuple[Advice, ...]:
    """Advice in the order of the fields, at most one a field; none for what cannot be read.

    Args:
        loras: Those of the request that were made for few steps, by name.
    """
    own = own_of(facts, loras)
    sampling = sampling_of(request, own.sampling)
    few = own.suited is not None
    found = (
        _tags(request) or _weights(request),
        _phrases(request, sampling.cfg),
        _size(request, facts),
        _few_steps(request, own, sampling) if few else _steps(sampling, facts),
        None if few else _cfg(request, sampling, facts),
        _batch(request, facts),
    )
    used = (a for a in found if a is not None and a.field not in facts.unused)
    return tuple(a for a in used if _can_be_taken(a, request))


def idle_fields(
    request: GenerationRequest, facts: ModelFacts, sampling: Sampling
) -> tuple[Idle, ...]:
    """Fields that could as well be empty as long as the rest stays as it is.

    Args:
        sampling: What the request is run with.
    """
    family = facts.family
    if family.guided == "never" or family.is_guided(sampling.cfg, request.negative_prompt):
        return ()
    if family.guided == "when asked" and not request.negative_prompt:
        return (Idle("cfg", "no_negative_prompt"),)
    return (Idle("negative_prompt", "guidance_off"),)


def _can_be_taken(advice: Advice, request: GenerationRequest) -> bool:
    """Whether the fix stays within the fields' ranges, such as a mended prompt's length."""
    try:
        parse_request(request.model_dump() | dict(advice.fix))
    except BadRequestError:
        return False
    return True


def _cfg(request: GenerationRequest, sampling: Sampling, facts: ModelFacts) -> Advice | None:
    family = facts.family
    if family.guided != "always" and not family.is_guided(sampling.cfg, request.negative_prompt):
        return None
    of_sampler = None if family.flow else SAMPLER_TABLE[sampling.sampler].useful_cfg
    low, high = of_sampler or facts.useful_cfg
    name = sampling.sampler if of_sampler else facts.name
    values = {"cfg": sampling.cfg, "low": low, "high": high, "name": name}
    if sampling.cfg > high:
        return Advice("cfg_high", "cfg", values, {"cfg": high})
    if sampling.cfg < low:
        kind = "cfg_off" if sampling.cfg == 1 else "cfg_low"
        return Advice(kind, "cfg", values, {"cfg": low})
    return None


def _few_steps(request: GenerationRequest, own: Own, sampling: Sampling) -> Advice | None:
    """To leave open what was set by hand for a distilled model or LoRA and does not suit it."""
    by_hand = any(getattr(request, name) is not None for name in OPEN)
    if own.suited is None or own.made_for is None or own.suited.suits(sampling) or not by_hand:
        return None
    best = asdict(own.suited.sampling)
    values = {"name": own.made_for} | {name: best[name] for name in OPEN}
    return Advice("few_steps", "steps", values, dict.fromkeys(OPEN))


def _steps(sampling: Sampling, facts: ModelFacts) -> Advice | None:
    of_sampler = None if facts.family.flow else SAMPLER_TABLE[sampling.sampler].useful_steps
    low, high = of_sampler or facts.useful_steps
    name = sampling.sampler if of_sampler else facts.name
    values = {"steps": sampling.steps, "low": low, "high": high, "name": name}
    if sampling.steps > high:
        return Advice("steps_high", "steps", values, {"steps": high})
    if sampling.steps < low:
        return Advice("steps_low", "steps", values, {"steps": low})
    return None


def _size(request: GenerationRequest, facts: ModelFacts) -> Advice | None:
    if request.init is not None:
        # What the init picture shows keeps figures whole at sizes the model was not trained at.
        return None
    width, height = _asked_size(request, facts)
    trained = facts.width * facts.height
    stretch = max(width, height) / min(width, height)
    kind: AdviceKind
    if width * height > MOST_AREA * trained:
        kind = "size_large"
    elif width * height < LEAST_AREA * trained:
        kind = "size_small"
    elif stretch > MOST_STRETCH:
        kind = "size_stretched"
    else:
        return None
    ratio = width / height
    if stretch > KEPT_STRETCH:
        ratio = MENDED_STRETCH if width > height else 1 / MENDED_STRETCH
    fit = {"width": _side(math.sqrt(trained * ratio)), "height": _side(math.sqrt(trained / ratio))}
    values = {
        "width": width,
        "height": height,
        "fit_width": fit["width"],
        "fit_height": fit["height"],
        "name": facts.name,
    }
    return Advice(kind, "width", values, fit)


def _asked_size(request: GenerationRequest, facts: ModelFacts) -> tuple[int, int]:
    return request.width or facts.width, request.height or facts.height


def _side(pixels: float) -> int:
    return round(pixels / _SIDE_STEP) * _SIDE_STEP


def _batch(request: GenerationRequest, facts: ModelFacts) -> Advice | None:
    width, height = _asked_size(request, facts)
    if request.batch == 1 or request.batch * width * height <= MOST_BATCH_PIXELS:
        return None
    fitting = max(1, MOST_BATCH_PIXELS // (width * height))
    batch = max(n for n in range(1, fitting + 1) if request.batch % n == 0)
    fix = {"batch": batch, "count": request.count * request.batch // batch}
    values = {
        "batch": request.batch,
        "width": width,
        "height": height,
        "fit_batch": fix["batch"],
        "fit_count": fix["count"],
    }
    return Advice("batch_large", "batch", values, fix)


def _tags(request: GenerationRequest) -> Advice | None:
    """Tags of LoRAs, which the engine takes out into rows of the stack when it comes to them."""
    try:
        rows, _ = rows_for_tags(request)
    except BadRequestError:
        return None
    if rows is request:
        return None
    names = listed(lora["name"] for lora in take_tags(request.prompt).loras)
    asked = rows.model_dump(mode="json")
    fix = {"prompt": asked["prompt"], "loras": asked["loras"]}
    return Advice("lora_tags", "prompt", {"names": names}, fix)


def _weights(request: GenerationRequest) -> Advice | None:
    heaviest = _heaviest(request.prompt)
    if heaviest <= HIGH_WEIGHT:
        return None
    mended = lighten_prompt(request.prompt, HIGH_WEIGHT, MENDED_WEIGHT)
    if _heaviest(mended) > HIGH_WEIGHT:
        # Several brackets make it up together.
        plan = plan_prompt(request.prompt, "prompt", MAX_STEPS)
        if not plan.is_plain or is_dynamic(request.prompt):
            return None
        mended = inert(write_prompt(_lighter(plan.prompts[0])))
    values = {"weight": round(heaviest, 2), "fit_weight": MENDED_WEIGHT}
    return Advice("weight_high", "prompt", values, {"prompt": mended})


def _heaviest(prompt: str) -> float:
    """The largest weight in it; 1 for a prompt that cannot be read."""
    try:
        prompts = plan_prompt(prompt, "prompt", MAX_STEPS).prompts
    except BadRequestError:
        return 1.0
    return max((s.weight for one in prompts for block in one.blocks for s in block), default=1.0)


def _lighter(parsed: ParsedPrompt) -> ParsedPrompt:
    return ParsedPrompt(
        tuple(
            tuple(s._replace(weight=MENDED_WEIGHT) if s.weight > HIGH_WEIGHT else s for s in block)
            for block in parsed.blocks
        )
    )


def _phrases(request: GenerationRequest, cfg: float) -> Advice | None:
    if cfg == 1:
        return None
    wanted = {_phrase(part) for part in request.prompt.split(",")}
    parts = request.negative_prompt.split(",")
    shared = [part for part in parts if _phrase(part) and _phrase(part) in wanted]
    if not shared:
        return None
    kept = ",".join(part for part in parts if part not in shared).strip(" ,")
    phrase = _phrase(shared[0])
    shown = phrase if len(phrase) <= _SHOWN_CHARACTERS else phrase[: _SHOWN_CHARACTERS - 1] + "…"
    values = {"phrase": shown, "others": len(shared) - 1}
    return Advice("phrase_in_both", "negative_prompt", values, {"negative_prompt": kept})


def _phrase(part: str) -> str:
    """What stands between two commas, for comparing; empty where a bracket reaches beyond it."""
    if unmatched_brackets(part):
        return ""
    bare = _WEIGHT.sub("", part).translate(_NO_BRACKETS)
    return " ".join(bare.casefold().split())

"""From what was asked to what is done: every open choice of a request is made here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from webui.clearance import Region
from webui.errors import BadRequestError
from webui.generation.backbones import BACKBONES
from webui.generation.canvas import Brought, Canvas, lay_out
from webui.generation.control import Control, about_control, resolve_control
from webui.generation.drawn import PictureTexts, picture_seeds
from webui.generation.facts import trained_size
from webui.generation.families import Family, family_of, refuse_unused
from webui.generation.hints import Area
from webui.generation.lora_plan import PlannedLora, plan_loras
from webui.generation.prompt_plan import PromptPlan, means_more, plan_plain, plan_prompt
from webui.generation.refining import check_refiner, steps_refined
from webui.generation.samplers import check_sampler, check_trained, trained_as
from webui.generation.strength import steps_left
from webui.interchange.dynamicprompts import without_escapes
from webui.library.checkpoints import Checkpoint
from webui.library.controlnets import ControlNetShelf
from webui.library.loras import LoraShelf
from webui.request import DRAWN_SEEDS, GenerationRequest, parse_request


@dataclass(frozen=True)
class Plan:
    """A request with nothing left open.

    Attributes:
        request: The request with size and first seed filled in.
        texts: What each batch's pictures are to show.
        prompts: The same as each batch's encoders are given it: the prompt, and the negative prompt
            unless guidance is off.
        loras: The rows of the stack that have an effect, with their files.
        width, height: Size of the picture in pixels.
        paint_width, paint_height: Size the model works at; another one where it paints an area.
        steps: How many steps are run; fewer than asked for where it starts from a picture.
        canvas: What it starts from, if not from noise alone.
        controls: The control units that have an effect.
        batches: The seeds of each batch, one a picture.
        refiner: The plan of the model that makes the last of the steps, if there is one.
    """

    request: GenerationRequest
    checkpoint: Checkpoint
    family: Family
    texts: tuple[PictureTexts, ...]
    prompts: tuple[tuple[PromptPlan, ...], ...]
    loras: tuple[PlannedLora, ...]
    width: int
    height: int
    paint_width: int
    paint_height: int
    steps: int
    canvas: Canvas | None
    controls: tuple[Control, ...]
    batches: tuple[tuple[int, ...], ...]
    refiner: Plan | None = None

    @property
    def steps_before_refiner(self) -> int:
        """How many of the steps are the model's own."""
        return self.steps - (0 if self.refiner is None else self.refiner.steps)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all pictures in order."""
        return tuple(seed for batch in self.batches for seed in batch)

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what will be otherwise than one may think."""
        of_canvas = () if self.canvas is None else self.canvas.notices
        of_loras = (lora.doubt for lora in self.loras if lora.doubt is not None)
        return (*of_canvas, *of_loras, *_unread(self))

    def recipe(self, seed: int) -> GenerationRequest:
        """The request that makes one of this plan's pictures again, alone."""
        texts = next(
            texts for texts, seeds in zip(self.texts, self.batches, strict=True) if seed in seeds
        )
        return parse_request(
            self.request.model_dump() | texts._asdict() | {"seed": seed, "count": 1, "batch": 1}
        )


def resolve(
    request: GenerationRequest,
    checkpoint: Checkpoint,
    loras: LoraShelf,
    controlnets: ControlNetShelf,
    brought: Mapping[str, Brought] = MappingProxyType({}),
    pictures: Sequence[PictureTexts] = (),
    refiner: Checkpoint | None = None,
) -> Plan:
    """Decides what the request leaves open.

    Args:
        refiner: The model of the name that the request has for its refiner.
        brought: The pictures brought in, by the names the request has for them.
        pictures: The texts of each picture, or of all; by default those of the request.

    Raises:
        BadRequestError: The model is not served, a field has no use, a prompt is malformed, a LoRA
            or ControlNet is missing or for other models, or a picture does not fit.
        BrokenFileError: The model's configuration, or a file of a LoRA or ControlNet, is damaged.
    """
    family = family_of(checkpoint)
    refuse_unused(request, family)
    check_sampler(request.sampler, request.schedule, request.steps, flow=family.flow)
    if not family.flow:
        trained_so = trained_as(checkpoint.config("scheduler"), request.prediction)
        check_trained(request.sampler, trained_so)
    trained = trained_size(checkpoint)
    canvas = None
    if request.init is not None:
        canvas = lay_out(request, brought, trained, family.side_step)
    width, height = (
        (request.width or trained, request.height or trained)
        if canvas is None
        else (canvas.source.width, canvas.source.height)
    )
    if canvas is None:
        _check_side(family, "width", width)
        _check_side(family, "height", height)
    area = None if canvas is None else _area(canvas)
    controls: list[Control | None] = []
    for place, choice in enumerate(request.controls):
        with about_control(place):
            controls.append(
                resolve_control(
                    place, choice, checkpoint, controlnets, brought, width, height, area
                )
                if choice.weight
                else None
            )
    seed = secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed
    filled = parse_request(
        request.model_dump()
        | {name: brought[picture].id for name, picture in _starts_from(request)}
        | {"controls": _filled(request, controls, brought)}
        | {"width": width, "height": height, "seed": seed}
        | {"guidance": family.guidance if request.guidance is None else request.guidance}
    )
    steps = request.steps if canvas is None else steps_left(request.steps, request.strength)
    own = PictureTexts(request.prompt, request.negative_prompt)
    batches = _batches(
        picture_seeds(request, seed),
        pictures if len(pictures) > 1 else [*(pictures or [own])] * request.count * request.batch,
        request.batch,
    )
    planned = {texts: _planned(texts, request, family, steps) for texts, _ in batches}
    plan = Plan(
        request=filled,
        checkpoint=checkpoint,
        family=family,
        texts=tuple(texts for texts, _ in batches),
        prompts=tuple(planned[texts] for texts, _ in batches),
        loras=plan_loras(request.loras, family, loras),
        width=width,
        height=height,
        paint_width=width if canvas is None else canvas.source.paint_width,
        paint_height=height if canvas is None else canvas.source.paint_height,
        steps=steps,
        canvas=canvas,
        controls=tuple(control for control in controls if control is not None),
        batches=tuple(seeds for _, seeds in batches),
    )
    return plan if refiner is None else replace(plan, refiner=_refined(plan, refiner))


def _batches(
    seeds: Sequence[int], pictures: Sequence[PictureTexts], most: int
) -> list[tuple[PictureTexts, tuple[int, ...]]]:
    """Pictures that are made at once: neighbours with the same texts, and no more than `most`."""
    batches: list[tuple[PictureTexts, tuple[int, ...]]] = []
    for seed, texts in zip(seeds, pictures, strict=True):
        if batches and batches[-1][0] == texts and len(batches[-1][1]) < most:
            batches[-1] = (texts, (*batches[-1][1], seed))
        else:
            batches.append((texts, (seed,)))
    return batches


def _planned(
    texts: PictureTexts, request: GenerationRequest, family: Family, steps: int
) -> tuple[PromptPlan, ...]:
    """The prompt and, unless guidance is off, the negative prompt over the steps.

    Raises:
        BadRequestError: One is malformed, or what it joins adds up to nothing.
    """
    if not BACKBONES[family.backbone].weights_prompts:
        prompt, negative = (plan_plain(without_escapes(text), steps) for text in texts)
        return (prompt, negative) if family.is_guided(request) else (prompt,)
    prompt = plan_prompt(texts.prompt, "prompt", steps)
    if family.is_guided(request):
        return prompt, plan_prompt(texts.negative_prompt, "negative_prompt", steps)
    if any(sum(weighted.weight for weighted in each) <= 0 for _, each in prompt.stretches):
        raise BadRequestError(
            "Prompt: the weights after AND add up to nothing, which needs a CFG above 1.",
            field="prompt",
        )
    return (prompt,)


def _unread(plan: Plan) -> tuple[str, ...]:
    """A sentence where a prompt's grammar is not read by the model."""
    if BACKBONES[plan.family.backbone].weights_prompts:
        return ()
    if not any(means_more(text, plan.steps) for texts in plan.texts for text in texts):
        return ()
    return (
        f"{plan.family.name} reads prompts as plain text: brackets, weights, BREAK and AND in them"
        " have no effect of their own.",
    )


def _check_side(family: Family, name: str, side: int) -> None:
    if side % family.side_step:
        near = round(side / family.side_step) * family.side_step
        raise BadRequestError(
            f"{family.name} makes pictures whose sides are multiples of {family.side_step}: set"
            f" {name} to {near}.",
            field=name,
        )


def _refined(plan: Plan, refiner: Checkpoint) -> Plan:
    """The plan of the last steps, which the refiner makes in its own way and without company."""
    return replace(
        plan,
        request=plan.request.model_copy(update={"prediction": None}),
        checkpoint=refiner,
        family=check_refiner(plan.request, plan.checkpoint, plan.family, refiner),
        loras=(),
        controls=(),
        steps=min(plan.steps, steps_refined(plan.request)),
    )


def _area(canvas: Canvas) -> Area | None:
    """The part that is worked on, where that is not the whole picture at its own size."""
    source = canvas.source
    area = Area(source.area, source.paint_width, source.paint_height)
    whole = Area(Region(0, 0, source.width, source.height), source.width, source.height)
    return None if area == whole else area


def _filled(
    request: GenerationRequest, controls: list[Control | None], brought: Mapping[str, Brought]
) -> list[dict[str, Any]]:
    """The control units with their pictures' content hashes and their ControlNets' names."""
    filled: list[dict[str, Any]] = []
    for choice, control in zip(request.controls, controls, strict=True):
        values = choice.model_dump()
        if choice.picture is not None:
            values["picture"] = brought[choice.picture].id
        if control is not None:
            values["model"] = control.net.name
        filled.append(values)
    return filled


def _starts_from(request: GenerationRequest) -> tuple[tuple[str, str], ...]:
    """The fields that name what it starts from, and their pictures' names."""
    named = (("init", request.init), ("mask", request.mask))
    return tuple((field, name) for field, name in named if name is not None)

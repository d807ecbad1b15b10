"""From what was asked to what is done: every open choice of a request is made here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from webui.clearance import Region
from webui.generation.canvas import Brought, Canvas, lay_out
from webui.generation.control import Control, about_control, resolve_control
from webui.generation.facts import trained_size
from webui.generation.families import Family, family_of, refuse_unused
from webui.generation.hints import Area
from webui.generation.lora_plan import PlannedLora, plan_loras
from webui.generation.prompts import ParsedPrompt, parse_prompt
from webui.generation.refining import check_refiner, steps_refined
from webui.generation.samplers import check_sampler, check_trained, trained_as
from webui.generation.strength import steps_left
from webui.library.checkpoints import Checkpoint
from webui.library.controlnets import ControlNetShelf
from webui.library.loras import LoraShelf
from webui.request import DRAWN_SEEDS, MAX_SEED, GenerationRequest, parse_request


@dataclass(frozen=True)
class Plan:
    """A request with nothing left open.

    Attributes:
        request: The request with size and first seed filled in.
        prompts: The prompt, and the negative prompt unless guidance is off.
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
    prompts: tuple[ParsedPrompt, ...]
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
        return (*of_canvas, *(lora.doubt for lora in self.loras if lora.doubt is not None))

    def recipe(self, seed: int) -> GenerationRequest:
        """The request that makes one of this plan's pictures again, alone."""
        return parse_request(self.request.model_dump() | {"seed": seed, "count": 1, "batch": 1})


def resolve(
    request: GenerationRequest,
    checkpoint: Checkpoint,
    loras: LoraShelf,
    controlnets: ControlNetShelf,
    brought: Mapping[str, Brought] = MappingProxyType({}),
    refiner: Checkpoint | None = None,
) -> Plan:
    """Decides what the request leaves open.

    Args:
        refiner: The model of the name that the request has for its refiner.
        brought: The pictures brought in, by the names the request has for them.

    Raises:
        BadRequestError: The model is not served, a field has no use, a prompt is malformed, a LoRA
            or ControlNet is missing or for other models, or a picture does not fit.
        BrokenFileError: The model's configuration, or a file of a LoRA or ControlNet, is damaged.
    """
    family = family_of(checkpoint)
    refuse_unused(request, family)
    check_sampler(request.sampler, request.schedule, request.steps)
    check_trained(request.sampler, trained_as(checkpoint.config("scheduler"), request.prediction))
    trained = trained_size(checkpoint)
    canvas = None if request.init is None else lay_out(request, brought, trained)
    width, height = (
        (request.width or trained, request.height or trained)
        if canvas is None
        else (canvas.source.width, canvas.source.height)
    )
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
    )
    guided = request.cfg > 1
    seeds = [(seed + k) % (MAX_SEED + 1) for k in range(request.count * request.batch)]
    plan = Plan(
        request=filled,
        checkpoint=checkpoint,
        family=family,
        prompts=(
            parse_prompt(request.prompt, field="prompt"),
            *((parse_prompt(request.negative_prompt, field="negative_prompt"),) if guided else ()),
        ),
        loras=plan_loras(request.loras, family, loras),
        width=width,
        height=height,
        paint_width=width if canvas is None else canvas.source.paint_width,
        paint_height=height if canvas is None else canvas.source.paint_height,
        steps=request.steps if canvas is None else steps_left(request.steps, request.strength),
        canvas=canvas,
        controls=tuple(control for control in controls if control is not None),
        batches=tuple(
            tuple(seeds[start : start + request.batch])
            for start in range(0, len(seeds), request.batch)
        ),
    )
    return plan if refiner is None else replace(plan, refiner=_refined(plan, refiner))


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

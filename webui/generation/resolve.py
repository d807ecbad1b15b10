"""From what was asked to what is done: every open choice of a request is made here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from webui.generation.facts import trained_size
from webui.generation.families import Family, family_of, refuse_unused
from webui.generation.lora_plan import PlannedLora, plan_loras
from webui.generation.prompts import ParsedPrompt, parse_prompt
from webui.generation.samplers import check_sampler
from webui.library.checkpoints import Checkpoint
from webui.library.loras import LoraShelf
from webui.request import MAX_SEED, GenerationRequest, parse_request

DRAWN_SEEDS = 2**32
"""A drawn seed stays within what other tools accept."""


@dataclass(frozen=True)
class Plan:
    """A request with nothing left open.

    Attributes:
        request: The request with size and first seed filled in.
        prompts: The prompt, and the negative prompt unless guidance is off.
        loras: The rows of the stack that have an effect, with their files.
        width, height: Size of the picture in pixels.
        batches: The seeds of each batch, one a picture.
    """

    request: GenerationRequest
    checkpoint: Checkpoint
    family: Family
    prompts: tuple[ParsedPrompt, ...]
    loras: tuple[PlannedLora, ...]
    width: int
    height: int
    batches: tuple[tuple[int, ...], ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all pictures in order."""
        return tuple(seed for batch in self.batches for seed in batch)

    def recipe(self, seed: int) -> GenerationRequest:
        """The request that makes one of this plan's pictures again, alone."""
        return parse_request(self.request.model_dump() | {"seed": seed, "count": 1, "batch": 1})


def resolve(request: GenerationRequest, checkpoint: Checkpoint, loras: LoraShelf) -> Plan:
    """Decides what the request leaves open.

    Raises:
        BadRequestError: The model is not served, a field has no use, a prompt is malformed, or a
            LoRA is missing or for other models.
        BrokenFileError: The model's configuration, or a LoRA's file, is damaged.
    """
    family = family_of(checkpoint)
    refuse_unused(request, family)
    check_sampler(request.sampler, request.schedule, request.steps)
    trained = trained_size(checkpoint)
    seed = secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed
    filled = parse_request(
        request.model_dump()
        | {
            "width": request.width or trained,
            "height": request.height or trained,
            "seed": seed,
        }
    )
    guided = request.cfg > 1
    seeds = [(seed + k) % (MAX_SEED + 1) for k in range(request.count * request.batch)]
    return Plan(
        request=filled,
        checkpoint=checkpoint,
        family=family,
        prompts=(
            parse_prompt(request.prompt, field="prompt"),
            *((parse_prompt(request.negative_prompt, field="negative_prompt"),) if guided else ()),
        ),
        loras=plan_loras(request.loras, family, loras),
        width=request.width or trained,
        height=request.height or trained,
        batches=tuple(
            tuple(seeds[start : start + request.batch])
            for start in range(0, len(seeds), request.batch)
        ),
    )

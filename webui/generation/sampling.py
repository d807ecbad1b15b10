"""How noise becomes a picture, with nothing left open."""

from __future__ import annotations

from dataclasses import dataclass

from webui.generation.samplers import SAMPLER_TABLE
from webui.request import GenerationRequest, SamplerName, ScheduleName

OPEN = ("steps", "cfg", "sampler", "schedule")
"""The fields of a request that are the model's own where they are left open."""


@dataclass(frozen=True)
class Sampling:
    """The values of a request's fields of that name.

    Attributes:
        guidance: Distilled guidance; None for models that have none.
    """

    steps: int
    cfg: float
    sampler: SamplerName
    schedule: ScheduleName
    guidance: float | None = None


def sampling_of(request: GenerationRequest, own: Sampling) -> Sampling:
    """What the request says, and where it says nothing the model's own.

    A schedule that is left open is one that the sampler asked for can run.
    """
    sampler = request.sampler or own.sampler
    able = SAMPLER_TABLE[sampler].schedules
    return Sampling(
        steps=own.steps if request.steps is None else request.steps,
        cfg=own.cfg if request.cfg is None else request.cfg,
        sampler=sampler,
        schedule=request.schedule or (own.schedule if own.schedule in able else able[0]),
        guidance=own.guidance if request.guidance is None else request.guidance,
    )

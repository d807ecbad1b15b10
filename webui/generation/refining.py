"""A second model that makes the last steps (Podell et al., arXiv 2307.01952, section 2.5)."""

from __future__ import annotations

from webui.errors import BadRequestError
from webui.generation.families import Family, family_of
from webui.generation.samplers import check_trained
from webui.library.checkpoints import Checkpoint
from webui.request import SamplerName

_NOISE_CHANNELS = 4


def check_refiner(
    sampler: SamplerName, checkpoint: Checkpoint, family: Family, refiner: Checkpoint
) -> Family:
    """The family of a refiner that fits the model.

    Raises:
        BadRequestError: It does not, or cannot run with the sampler.
        BrokenFileError: A configuration of it is damaged.
    """
    kind = family_of(refiner)
    if kind.name not in family.refiners:
        able = " or ".join(family.refiners)
        raise BadRequestError(
            f"The refiner {refiner.name!r} is a {kind.name} model, which does not fit"
            f" {checkpoint.name!r}: choose a model of the family {able}, or none.",
            field="refiner",
        )
    if refiner.key == checkpoint.key:
        raise BadRequestError(
            "The refiner is the model itself: choose another one, or none.", field="refiner"
        )
    if refiner.config("unet").get("in_channels", _NOISE_CHANNELS) != _NOISE_CHANNELS:
        raise BadRequestError(
            f"The refiner {refiner.name!r} is made for inpainting: choose another one, or none.",
            field="refiner",
        )
    check_trained(sampler, refiner.config("scheduler"))
    return kind


def steps_refined(steps: int, start: float) -> int:
    """How many of all steps the refiner makes: at least one, and not all of them.

    They are counted over the whole way from noise, also where it starts from a picture, since a
    refiner was trained on the last levels of noise alone.

    Args:
        start: Share of the steps after which it takes over.
    """
    before = int(steps * start + 0.5)
    return steps - max(1, min(steps - 1, before))

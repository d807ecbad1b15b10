"""A second model that makes the last steps (Podell et al., arXiv 2307.01952, section 2.5)."""

from __future__ import annotations

from webui.errors import BadRequestError
from webui.generation.families import Family, family_of
from webui.generation.samplers import check_trained
from webui.library.checkpoints import Checkpoint
from webui.request import GenerationRequest

_NOISE_CHANNELS = 4


def check_refiner(
    request: GenerationRequest, checkpoint: Checkpoint, family: Family, refiner: Checkpoint
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
    if refiner.sha256 == checkpoint.sha256:
        raise BadRequestError(
            "The refiner is the model itself: choose another one, or none.", field="refiner"
        )
    if refiner.config("unet").get("in_channels", _NOISE_CHANNELS) != _NOISE_CHANNELS:
        raise BadRequestError(
            f"The refiner {refiner.name!r} is made for inpainting: choose another one, or none.",
            field="refiner",
        )
    check_trained(request.sampler, refiner.config("scheduler"))
    return kind


def steps_refined(request: GenerationRequest) -> int:
    """How many of all steps the refiner makes: at least one, and not all of them.

    They are counted over the whole way from noise, also where it starts from a picture, since a
    refiner was trained on the last levels of noise alone.
    """
    before = int(request.steps * request.refiner_start + 0.5)
    return request.steps - max(1, min(request.steps - 1, before))

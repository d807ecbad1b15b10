"""Fields of a request that are set where they would have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from webui.errors import BadRequestError
from webui.generation.families import Family, Reason
from webui.request import GenerationRequest


class Words(NamedTuple):
    """Why a field has no use, and what is to be done, each as a half of a sentence."""

    why: str
    remedy: str


WORDS: Mapping[Reason, Words] = MappingProxyType(
    {
        "no_distilled_guidance": Words(
            "Models of this family have no distilled guidance", "leave it empty"
        ),
        "no_cfg": Words("Models of this family were made to run without CFG", "leave it empty"),
        "no_negative": Words(
            "A negative prompt acts through CFG, without which models of this family were made to"
            " run",
            "leave it empty",
        ),
        "no_refiner": Words("Models of this family have no refiner", "remove it"),
        "one_prediction": Words(
            "All models of this family predict the same thing", "leave the prediction empty"
        ),
        "pooled_clip": Words(
            "FLUX.1 takes CLIP's view of the whole alone", "leave clip skip as it was"
        ),
        "no_clip": Words(
            "Models of this family read prompts without CLIP", "leave clip skip as it was"
        ),
        "no_controlnets": Words(
            "diffusers, which runs the models, has no ControlNets for models of this family",
            "remove the controls",
        ),
    }
)
"""In English; the page has the first half in all its languages."""

_OF_AN_INIT_PICTURE = MappingProxyType({"mask": "A mask", "outpaint": "Outpainting"})
"""Fields that say where an init picture is painted anew, and how a sentence about each begins."""


def refuse_unused(request: GenerationRequest, family: Family) -> None:
    """Raises for a field that is set but would have no effect, so that nothing is ignored.

    Raises:
        BadRequestError: With the field and the reason.
    """
    for name, reason in family.unused.items():
        if _is_set(request, name):
            words = WORDS[reason]
            raise BadRequestError(f"{words.why}: {words.remedy}.", field=name)
    if request.init is None:
        for name, words in _OF_AN_INIT_PICTURE.items():
            if _is_set(request, name):
                sentence = f"{words} needs an init picture: bring one in, or remove the {name}."
                raise BadRequestError(sentence, field=name)


def _is_set(request: GenerationRequest, name: str) -> bool:
    if name == "cfg" and request.cfg == 1:
        # Off, which is how other tools write down that there was none.
        return False
    return getattr(request, name) != GenerationRequest.model_fields[name].default

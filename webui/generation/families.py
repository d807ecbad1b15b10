"""The families of models that are served: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from webui.errors import BadRequestError
from webui.library.checkpoints import Model
from webui.library.lora_facts import LoraFamily
from webui.request import GenerationRequest

BackboneName = Literal["sd", "sdxl"]
"""The architectures of `webui.generation.backbones`."""


@dataclass(frozen=True)
class LatentMap:
    """Linear map from latents to RGB in -1..1: `rgb = latents @ matrix + bias`.

    Attributes:
        matrix: One row of three numbers per latent channel.
    """

    matrix: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Family:
    """What is common to all models of one architecture.

    Attributes:
        name: Short name of the architecture.
        backbone: How it is run.
        pipeline: Class of diffusers that runs it.
        also: Classes for other uses of the same components, which a model may name instead.
        latent_map: For previews; a model may bring its own in `preview.json`.
        loras: The family of LoRAs that are made for it.
        refused: Request fields that models of this family have no use for, with the reason.
        useful_cfg, useful_steps: Lowest and highest that are worth it; a model may bring its own
            in `facts.json`.
        side: Pixels of the sides of pictures it was trained on, where its UNet does not say it.
        flow: Whether it was trained by flow matching (`webui.generation.flow`).
    """

    name: str
    backbone: BackboneName
    pipeline: str
    also: tuple[str, ...]
    latent_map: LatentMap
    loras: LoraFamily
    refused: MappingProxyType[str, str]
    useful_cfg: tuple[float, float]
    useful_steps: tuple[int, int]
    side: int | None = None
    flow: bool = False


SD1 = Family(
    name="Stable Diffusion 1",
    backbone="sd",
    pipeline="StableDiffusionPipeline",
    also=("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
    # Fitted on decoded pictures by Hugging Face forum user keturn ("Decoding latents to RGB
    # without upscaling", 2022).
    latent_map=LatentMap(
        (
            (0.298, 0.207, 0.208),
            (0.187, 0.286, 0.173),
            (-0.158, 0.189, 0.264),
            (-0.184, -0.271, -0.473),
        )
    ),
    loras="SD 1",
    refused=MappingProxyType({}),
    # Customary among its many fine-tunes, which differ: wide enough to be right for nearly all.
    useful_cfg=(3.0, 12.0),
    useful_steps=(12, 40),
)

SDXL = Family(
    name="Stable Diffusion XL",
    backbone="sdxl",
    pipeline="StableDiffusionXLPipeline",
    also=("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
    # As ComfyUI has it in `latent_formats.py`.
    latent_map=LatentMap(
        (
            (0.3651, 0.4232, 0.4341),
            (-0.2533, -0.0042, 0.1068),
            (0.1076, 0.1111, -0.0362),
            (-0.3165, -0.2492, -0.2188),
        ),
        (0.1084, -0.0175, -0.0011),
    ),
    loras="SDXL",
    refused=MappingProxyType({}),
    useful_cfg=(3.0, 10.0),
    useful_steps=(15, 40),
)

_OF_AN_INIT_PICTURE = MappingProxyType({"mask": "A mask", "outpaint": "Outpainting"})
"""Fields that say where an init picture is painted anew, and how a sentence about each begins."""

FAMILIES: tuple[Family, ...] = (SD1, SDXL)


def family_of(model: Model) -> Family:
    """The family whose pipeline the checkpoint names.

    Raises:
        BadRequestError: The model is of a kind that is not served.
    """
    for family in FAMILIES:
        if model.pipeline in (family.pipeline, *family.also):
            return family
    served = ", ".join(family.name for family in FAMILIES)
    raise BadRequestError(
        f"The model {model.name!r} is a {model.pipeline}; served are: {served}.",
        field="model",
    )


def refuse_unused(request: GenerationRequest, family: Family) -> None:
    """Raises for a field that is set but would have no effect, so that nothing is ignored.

    Raises:
        BadRequestError: With the field and the reason.
    """
    for name, reason in family.refused.items():
        if _is_set(request, name):
            raise BadRequestError(reason, field=name)
    if request.init is None:
        for name, words in _OF_AN_INIT_PICTURE.items():
            if _is_set(request, name):
                sentence = f"{words} needs an init picture: bring one in, or remove the {name}."
                raise BadRequestError(sentence, field=name)


def _is_set(request: GenerationRequest, name: str) -> bool:
    return getattr(request, name) != GenerationRequest.model_fields[name].default

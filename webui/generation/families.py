"""The families of models that are served: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from webui.errors import BadRequestError
from webui.library.checkpoints import INDEX, Model, read_json
from webui.library.lora_facts import LoraFamily
from webui.request import GenerationRequest

BackboneName = Literal["sd", "sdxl", "sdxl refiner"]
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
class Mark:
    """What the models of a family say that others of the same pipeline do not.

    Attributes:
        part: The component whose configuration says it; None: the index of the model.
    """

    part: str | None
    key: str
    value: Any

    def is_on(self, model: Model) -> bool:
        """Whether the model says it.

        Raises:
            BrokenFileError: The configuration is missing or damaged.
        """
        if self.part is not None:
            return model.config(self.part).get(self.key) == self.value
        return read_json(model.path / INDEX, model=model.name).get(self.key) == self.value


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
        mark: What tells its models from those of another family with the same pipeline.
        refiners: Names of the families whose models can take over its latents in mid-run.
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
    mark: Mark | None = None
    refiners: tuple[str, ...] = ()

    @property
    def unused(self) -> Mapping[str, str]:
        """Request fields that its models have no use for, with the reason."""
        alone = {} if self.refiners else dict.fromkeys(_OF_A_REFINER, _NO_REFINER)
        fixed = {} if self.backbone in _NOISE_BACKBONES else {"prediction": _ONE_PREDICTION}
        return MappingProxyType({**fixed, **alone, **self.refused})


_NOISE_BACKBONES: frozenset[BackboneName] = frozenset({"sd", "sdxl", "sdxl refiner"})
"""Those whose fine-tunes were trained to predict different things."""

_ONE_PREDICTION = "All models of this family predict the same thing: leave the prediction empty."
_OF_A_REFINER = ("refiner", "refiner_start")
_NO_REFINER = "Models of this family have no refiner: remove it."

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

SD2 = replace(
    SD1,
    name="Stable Diffusion 2",
    loras="SD 2",
    # The width of OpenCLIP's ViT-H, its text encoder.
    mark=Mark("unet", "cross_attention_dim", 1024),
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
    refiners=("Stable Diffusion XL refiner", "Stable Diffusion XL"),
)

SDXL_REFINER = replace(
    SDXL,
    name="Stable Diffusion XL refiner",
    backbone="sdxl refiner",
    pipeline="StableDiffusionXLImg2ImgPipeline",
    also=(),
    mark=Mark(None, "requires_aesthetics_score", True),
    refiners=(),
)

_OF_AN_INIT_PICTURE = MappingProxyType({"mask": "A mask", "outpaint": "Outpainting"})
"""Fields that say where an init picture is painted anew, and how a sentence about each begins."""

FAMILIES: tuple[Family, ...] = (SD2, SD1, SDXL_REFINER, SDXL)
"""The marked ones before those they are told from."""


def family_of(model: Model) -> Family:
    """The family whose pipeline, and mark if it has one, the checkpoint names.

    Raises:
        BadRequestError: The model is of a kind that is not served.
        BrokenFileError: The configuration that would tell is missing or damaged.
    """
    for family in FAMILIES:
        named = model.pipeline in (family.pipeline, *family.also)
        if named and (family.mark is None or family.mark.is_on(model)):
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
    for name, reason in family.unused.items():
        if _is_set(request, name):
            raise BadRequestError(reason, field=name)
    if request.init is None:
        for name, words in _OF_AN_INIT_PICTURE.items():
            if _is_set(request, name):
                sentence = f"{words} needs an init picture: bring one in, or remove the {name}."
                raise BadRequestError(sentence, field=name)


def _is_set(request: GenerationRequest, name: str) -> bool:
    return getattr(request, name) != GenerationRequest.model_fields[name].default

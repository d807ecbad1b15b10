"""The families of models that are served: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from webui.errors import BadRequestError
from webui.generation.latent_maps import FLUX2_MAP, FLUX_MAP, QWEN_IMAGE_MAP, LatentMap
from webui.library.checkpoints import INDEX, Model, read_json
from webui.library.lora_facts import LoraFamily
from webui.request import GenerationRequest

BackboneName = Literal[
    "sd",
    "sdxl",
    "sdxl refiner",
    "sd3",
    "flux",
    "flux2",
    "flux2-klein",
    "z-image",
    "qwen-image",
]
"""The architectures of `webui.generation.backbones`."""


Guided = Literal["always", "when asked", "never"]


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
        index = read_json(model.path / INDEX, model=model.name)
        return (index | dict(model.said.get(INDEX, {}))).get(self.key) == self.value


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
        flow: Whether it was trained by flow matching (`webui.generation.flow`).
        guided: When CFG acts; "when asked": where there is a negative prompt.
        guidance: The distilled guidance its models were made for; None: they have none.
        side_step: Pixels that the sides of its pictures are multiples of.
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
    flow: bool = False
    guided: Guided = "always"
    guidance: float | None = None
    side_step: int = 8
    refiners: tuple[str, ...] = ()

    @property
    def unused(self) -> Mapping[str, str]:
        """Request fields that its models have no use for, with the reason."""
        found: dict[str, str] = {}
        if self.guidance is None:
            found["guidance"] = _NO_DISTILLED
        if self.guided == "never":
            found |= dict.fromkeys(("cfg", "negative_prompt"), _NEVER_GUIDED)
        if not self.refiners:
            found |= dict.fromkeys(("refiner", "refiner_start"), _NO_REFINER)
        if self.flow:
            found["prediction"] = _ONE_PREDICTION
        return MappingProxyType(found | dict(self.refused))

    def is_guided(self, request: GenerationRequest) -> bool:
        """Whether the request has the denoiser run with the negative prompt too."""
        if self.guided == "always":
            return request.cfg > 1
        return self.guided == "when asked" and request.cfg > 1 and bool(request.negative_prompt)


_ONE_PREDICTION = "All models of this family predict the same thing: leave the prediction empty."
_NO_REFINER = "Models of this family have no refiner: remove it."
_NO_DISTILLED = "Models of this family have no distilled guidance: leave it empty and use CFG."
_NEVER_GUIDED = (
    "Models of this family were made to run without CFG and negative prompts: leave them as they"
    " were."
)


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

SD3 = Family(
    name="Stable Diffusion 3",
    backbone="sd3",
    pipeline="StableDiffusion3Pipeline",
    also=("StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
    # As ComfyUI has it in `latent_formats.py`.
    latent_map=LatentMap(
        (
            (-0.0922, -0.0175, 0.0749),
            (0.0311, 0.0633, 0.0954),
            (0.1994, 0.0927, 0.0458),
            (0.0856, 0.0339, 0.0902),
            (0.0587, 0.0272, -0.0496),
            (-0.0006, 0.1104, 0.0309),
            (0.0978, 0.0306, 0.0427),
            (-0.0042, 0.1038, 0.1358),
            (-0.0194, 0.0020, 0.0669),
            (-0.0488, 0.0130, -0.0268),
            (0.0922, 0.0988, 0.0951),
            (-0.0278, 0.0524, -0.0542),
            (0.0332, 0.0456, 0.0895),
            (-0.0069, -0.0030, -0.0810),
            (-0.0596, -0.0465, -0.0293),
            (-0.1448, -0.1463, -0.1189),
        ),
        (0.2394, 0.2135, 0.1925),
    ),
    loras="SD 3",
    refused=MappingProxyType({}),
    # Turbo, which looks the same to its configuration, is worth 4 steps at CFG 1.
    useful_cfg=(1.0, 8.0),
    useful_steps=(4, 40),
    side=1024,
    flow=True,
    side_step=16,
)

FLUX = Family(
    name="FLUX.1 dev",
    backbone="flux",
    pipeline="FluxPipeline",
    also=("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
    latent_map=FLUX_MAP,
    loras="Flux",
    refused=MappingProxyType(
        {"clip_skip": "FLUX.1 takes CLIP's view of the whole alone: leave clip skip as it was."}
    ),
    useful_cfg=(1.0, 4.0),
    useful_steps=(12, 50),
    side=1024,
    flow=True,
    guided="when asked",
    guidance=3.5,
    side_step=16,
)

FLUX_SCHNELL = replace(
    FLUX,
    name="FLUX.1 schnell",
    mark=Mark("transformer", "guidance_embeds", False),
    useful_cfg=(1.0, 1.0),
    useful_steps=(1, 8),
    guided="never",
    guidance=None,
)

FLUX_FILL = replace(
    FLUX,
    name="FLUX.1 Fill",
    also=("FluxFillPipeline",),
    mark=Mark("transformer", "in_channels", 384),
    guidance=30.0,
)

_NO_CLIP = "Models of this family read prompts without CLIP: leave clip skip as it was."
_NO_CONTROLNETS = "No ControlNets are run with models of this family: remove the controls."

FLUX2 = Family(
    name="FLUX.2 dev",
    backbone="flux2",
    pipeline="Flux2Pipeline",
    also=(),
    latent_map=FLUX2_MAP,
    loras="Flux 2",
    refused=MappingProxyType({"clip_skip": _NO_CLIP, "controls": _NO_CONTROLNETS}),
    useful_cfg=(1.0, 1.0),
    useful_steps=(20, 50),
    side=1024,
    flow=True,
    guided="never",
    guidance=4.0,
    side_step=16,
)

FLUX2_KLEIN_BASE = replace(
    FLUX2,
    name="FLUX.2 klein base",
    backbone="flux2-klein",
    pipeline="Flux2KleinPipeline",
    also=("Flux2KleinInpaintPipeline",),
    useful_cfg=(2.5, 6.0),
    guided="always",
    guidance=None,
)

FLUX2_KLEIN = replace(
    FLUX2_KLEIN_BASE,
    name="FLUX.2 klein",
    mark=Mark(None, "is_distilled", True),
    useful_cfg=(1.0, 1.0),
    useful_steps=(4, 8),
    guided="never",
)

Z_IMAGE = Family(
    name="Z-Image",
    backbone="z-image",
    pipeline="ZImagePipeline",
    also=("ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
    latent_map=FLUX_MAP,
    loras="Z-Image",
    refused=MappingProxyType({"clip_skip": _NO_CLIP, "controls": _NO_CONTROLNETS}),
    useful_cfg=(3.0, 6.0),
    useful_steps=(25, 50),
    side=1024,
    flow=True,
    side_step=16,
)

Z_IMAGE_TURBO = replace(
    Z_IMAGE,
    name="Z-Image Turbo",
    mark=Mark("scheduler", "shift", 3.0),
    useful_cfg=(1.0, 1.0),
    useful_steps=(7, 12),
    guided="never",
)

QWEN_IMAGE = Family(
    name="Qwen-Image",
    backbone="qwen-image",
    pipeline="QwenImagePipeline",
    also=("QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"),
    latent_map=QWEN_IMAGE_MAP,
    loras="Qwen-Image",
    refused=MappingProxyType({"clip_skip": _NO_CLIP}),
    useful_cfg=(2.5, 5.0),
    useful_steps=(20, 50),
    side=1024,
    flow=True,
    side_step=16,
)

_OF_AN_INIT_PICTURE = MappingProxyType({"mask": "A mask", "outpaint": "Outpainting"})
"""Fields that say where an init picture is painted anew, and how a sentence about each begins."""

FAMILIES: tuple[Family, ...] = (
    SD2,
    SD1,
    SDXL_REFINER,
    SDXL,
    SD3,
    FLUX_SCHNELL,
    FLUX_FILL,
    FLUX,
    FLUX2,
    FLUX2_KLEIN,
    FLUX2_KLEIN_BASE,
    Z_IMAGE_TURBO,
    Z_IMAGE,
    QWEN_IMAGE,
)
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
    if name == "cfg" and request.cfg == 1:
        # Off, which is how other tools write down that there was none.
        return False
    return getattr(request, name) != GenerationRequest.model_fields[name].default

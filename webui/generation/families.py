"""The families of models that are served: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from webui.errors import BadRequestError
from webui.generation.latent_maps import (
    FLUX2_MAP,
    FLUX_MAP,
    QWEN_IMAGE_MAP,
    SD1_MAP,
    SD3_MAP,
    SDXL_MAP,
    LatentMap,
)
from webui.generation.sampling import Sampling
from webui.library.checkpoints import INDEX, Model, read_json
from webui.library.lora_facts import LoraFamily

BackboneName = Literal[
    "sd",
    "sdxl",
    "sdxl refiner",
    "sd3",
    "flux",
    "flux-schnell",
    "flux2",
    "flux2-klein",
    "z-image",
    "qwen-image",
]
"""The architectures of `webui.generation.backbones`."""


Guided = Literal["always", "when asked", "never"]

Reason = Literal[
    "no_distilled_guidance",
    "no_cfg",
    "no_negative",
    "no_refiner",
    "one_prediction",
    "pooled_clip",
    "no_clip",
    "no_controlnets",
]
"""Why a request field has no use; in words in `webui.generation.unused` and on the page."""


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
        own: What its makers run it with, for what a request leaves open. A model may bring its own
            in `facts.json`, as it may what follows.
        useful_cfg, useful_steps: Lowest and highest that are worth it.
        side: Pixels of the sides of pictures it was trained on, where its UNet does not say it.
        mark: What tells its models from those of another family with the same pipeline.
        flow: Whether it was trained by flow matching (`webui.generation.flow`).
        guided: When CFG acts; "when asked": where there is a negative prompt.
        side_step: Pixels that the sides of its pictures are multiples of.
        refiners: Names of the families whose models can take over its latents in mid-run.
        hinted: Whether its models take the latents of one hint beside their own, by themselves.
    """

    name: str
    backbone: BackboneName
    pipeline: str
    also: tuple[str, ...]
    latent_map: LatentMap
    loras: LoraFamily
    refused: MappingProxyType[str, Reason]
    own: Sampling
    useful_cfg: tuple[float, float]
    useful_steps: tuple[int, int]
    side: int | None = None
    mark: Mark | None = None
    flow: bool = False
    guided: Guided = "always"
    side_step: int = 8
    refiners: tuple[str, ...] = ()
    hinted: bool = False

    @property
    def unused(self) -> Mapping[str, Reason]:
        """Request fields that its models have no use for, with the reason."""
        found: dict[str, Reason] = {}
        if self.own.guidance is None:
            found["guidance"] = "no_distilled_guidance"
        if self.guided == "never":
            found |= {"cfg": "no_cfg", "negative_prompt": "no_negative"}
        if not self.refiners:
            found |= {"refiner": "no_refiner", "refiner_start": "no_refiner"}
        if self.flow:
            found["prediction"] = "one_prediction"
        return MappingProxyType(found | dict(self.refused))

    @property
    def is_distilled(self) -> bool:
        """Whether its models were themselves made to make a picture in a few steps."""
        return self.own.steps <= _FEW

    def is_guided(self, cfg: float, negative_prompt: str) -> bool:
        """Whether the denoiser is run with the negative prompt too."""
        if self.guided == "when asked" and not negative_prompt:
            return False
        return self.guided != "never" and cfg > 1


_FEW = 8


SD1 = Family(
    name="Stable Diffusion 1",
    backbone="sd",
    pipeline="StableDiffusionPipeline",
    also=("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
    latent_map=SD1_MAP,
    loras="SD 1",
    refused=MappingProxyType({}),
    own=Sampling(20, 7.0, "DPM++ 2M", "normal"),
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

# Models that were distilled whole, not the LoRAs of the same name (Luo et al., arXiv 2310.04378).
LCM = replace(
    SD1,
    name="LCM",
    also=(*SD1.also, "LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
    # The width of the layer that its UNet takes guidance in by.
    mark=Mark("unet", "time_cond_proj_dim", 256),
    own=Sampling(4, 1.0, "LCM", "normal", guidance=8.5),
    useful_cfg=(1.0, 1.0),
    useful_steps=(2, 8),
    guided="never",
)

SDXL = Family(
    name="Stable Diffusion XL",
    backbone="sdxl",
    pipeline="StableDiffusionXLPipeline",
    also=("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
    latent_map=SDXL_MAP,
    loras="SDXL",
    refused=MappingProxyType({}),
    own=Sampling(20, 5.0, "DPM++ 2M", "normal"),
    useful_cfg=(3.0, 10.0),
    useful_steps=(15, 40),
    refiners=("Stable Diffusion XL refiner", "Stable Diffusion XL"),
)

SDXL_LCM = replace(
    SDXL,
    name="LCM of Stable Diffusion XL",
    mark=LCM.mark,
    own=replace(LCM.own, guidance=8.0),
    useful_cfg=LCM.useful_cfg,
    useful_steps=LCM.useful_steps,
    guided="never",
    refiners=(),
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
    latent_map=SD3_MAP,
    loras="SD 3",
    refused=MappingProxyType({}),
    # Turbo, whose configuration is the same, is told by its name (`few_steps`).
    own=Sampling(28, 4.5, "Euler", "normal"),
    useful_cfg=(2.5, 8.0),
    useful_steps=(15, 50),
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
    refused=MappingProxyType({"clip_skip": "pooled_clip"}),
    own=Sampling(28, 1.0, "Euler", "normal", guidance=3.5),
    useful_cfg=(1.0, 4.0),
    useful_steps=(12, 50),
    side=1024,
    flow=True,
    guided="when asked",
    side_step=16,
)

FLUX_SCHNELL = replace(
    FLUX,
    name="FLUX.1 schnell",
    backbone="flux-schnell",
    mark=Mark("transformer", "guidance_embeds", False),
    own=Sampling(4, 1.0, "Euler", "normal"),
    useful_cfg=(1.0, 1.0),
    useful_steps=(1, 8),
    guided="never",
)

FLUX_FILL = replace(
    FLUX,
    name="FLUX.1 Fill",
    also=("FluxFillPipeline",),
    mark=Mark("transformer", "in_channels", 384),
    own=replace(FLUX.own, guidance=30.0),
)

FLUX_CONTROL = replace(
    FLUX,
    name="FLUX.1 Canny, Depth",
    also=("FluxControlPipeline", "FluxControlImg2ImgPipeline", "FluxControlInpaintPipeline"),
    mark=Mark("transformer", "in_channels", 128),
    own=replace(FLUX.own, guidance=30.0),
    hinted=True,
)

FLUX2 = Family(
    name="FLUX.2 dev",
    backbone="flux2",
    pipeline="Flux2Pipeline",
    also=(),
    latent_map=FLUX2_MAP,
    loras="Flux 2",
    refused=MappingProxyType({"clip_skip": "no_clip", "controls": "no_controlnets"}),
    own=Sampling(28, 1.0, "Euler", "normal", guidance=4.0),
    useful_cfg=(1.0, 1.0),
    useful_steps=(20, 50),
    side=1024,
    flow=True,
    guided="never",
    side_step=16,
)

FLUX2_KLEIN_BASE = replace(
    FLUX2,
    name="FLUX.2 klein base",
    backbone="flux2-klein",
    pipeline="Flux2KleinPipeline",
    also=("Flux2KleinInpaintPipeline",),
    own=Sampling(50, 4.0, "Euler", "normal"),
    useful_cfg=(2.5, 6.0),
    guided="always",
)

FLUX2_KLEIN = replace(
    FLUX2_KLEIN_BASE,
    name="FLUX.2 klein",
    mark=Mark(None, "is_distilled", True),
    own=Sampling(4, 1.0, "Euler", "normal"),
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
    refused=MappingProxyType({"clip_skip": "no_clip"}),
    own=Sampling(50, 5.0, "Euler", "normal"),
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
    own=Sampling(8, 1.0, "Euler", "normal"),
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
    refused=MappingProxyType({"clip_skip": "no_clip"}),
    own=Sampling(50, 4.0, "Euler", "normal"),
    useful_cfg=(2.5, 5.0),
    useful_steps=(20, 50),
    side=1024,
    flow=True,
    side_step=16,
)

FAMILIES: tuple[Family, ...] = (
    LCM,
    SD2,
    SD1,
    SDXL_REFINER,
    SDXL_LCM,
    SDXL,
    SD3,
    FLUX_SCHNELL,
    FLUX_FILL,
    FLUX_CONTROL,
    FLUX,
    FLUX2,
    FLUX2_KLEIN,
    FLUX2_KLEIN_BASE,
    Z_IMAGE_TURBO,
    Z_IMAGE,
    QWEN_IMAGE,
)
"""The marked ones before those they are told from."""

PIPELINES = frozenset(name for family in FAMILIES for name in (family.pipeline, *family.also))
"""Classes of diffusers that a served model may name."""


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

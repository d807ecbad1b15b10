"""How each architecture is run: one class each, found by the name in its family's row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from webui.generation.backbones.base import Backbone
from webui.generation.backbones.clip import (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusionXLRefiner,
)
from webui.generation.backbones.flux import Flux, FluxSchnell
from webui.generation.backbones.flux2 import Flux2, Flux2Klein
from webui.generation.backbones.qwen_image import QwenImage
from webui.generation.backbones.sd3 import StableDiffusion3
from webui.generation.backbones.z_image import ZImage
from webui.generation.families import BackboneName

BACKBONES: Mapping[BackboneName, Backbone] = MappingProxyType(
    {
        "sd": StableDiffusion(),
        "sdxl": StableDiffusionXL(),
        "sdxl refiner": StableDiffusionXLRefiner(),
        "sd3": StableDiffusion3(),
        "flux": Flux(),
        "flux-schnell": FluxSchnell(),
        "flux2": Flux2(),
        "flux2-klein": Flux2Klein(),
        "z-image": ZImage(),
        "qwen-image": QwenImage(),
    }
)

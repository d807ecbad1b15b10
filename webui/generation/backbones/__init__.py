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
from webui.generation.families import BackboneName

BACKBONES: Mapping[BackboneName, Backbone] = MappingProxyType(
    {
        "sd": StableDiffusion(),
        "sdxl": StableDiffusionXL(),
        "sdxl refiner": StableDiffusionXLRefiner(),
    }
)

"""Which components a pipeline of each kind needs beside its denoiser, and where files keep them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Component = Literal[
    "clip-l",
    "clip-h",
    "clip-g",
    "t5-xxl",
    "qwen3-4b",
    "qwen3-8b",
    "qwen2.5-vl-7b",
    "mistral-small",
    "vae-sd",
    "vae-sdxl",
    "vae-sd3",
    "vae-flux",
    "vae-flux2",
    "vae-qwen",
]
"""Text encoders and VAEs by what is in them, whichever pipeline uses them."""

VAE_MODELS: Mapping[Component, str] = MappingProxyType(
    {
        "vae-sd": "Stable Diffusion",
        "vae-sdxl": "SDXL",
        "vae-sd3": "Stable Diffusion 3",
        "vae-flux": "FLUX.1",
        "vae-flux2": "FLUX.2",
        "vae-qwen": "Qwen-Image",
    }
)
"""The models that VAEs are of, as people know them."""

_CLIP_L: Mapping[str, Component] = MappingProxyType({"text_encoder": "clip-l"})
_SD1: Mapping[str, Component] = MappingProxyType({**_CLIP_L, "vae": "vae-sd"})
_SD2: Mapping[str, Component] = MappingProxyType({"text_encoder": "clip-h", "vae": "vae-sd"})
_SDXL: Mapping[str, Component] = MappingProxyType(
    {**_CLIP_L, "text_encoder_2": "clip-g", "vae": "vae-sdxl"}
)
_SD3: Mapping[str, Component] = MappingProxyType(
    {**_CLIP_L, "text_encoder_2": "clip-g", "text_encoder_3": "t5-xxl", "vae": "vae-sd3"}
)
_FLUX: Mapping[str, Component] = MappingProxyType(
    {**_CLIP_L, "text_encoder_2": "t5-xxl", "vae": "vae-flux"}
)
_Z_IMAGE: Mapping[str, Component] = MappingProxyType(
    {"text_encoder": "qwen3-4b", "vae": "vae-flux"}
)

COMPONENTS: Mapping[str, Mapping[str, Component]] = MappingProxyType(
    {
        "sd1": _SD1,
        "sd1-inpaint": _SD1,
        "sd2": _SD2,
        "sd2-v": _SD2,
        "sd2-inpaint": _SD2,
        "sdxl": _SDXL,
        "sdxl-inpaint": _SDXL,
        "sdxl-refiner": MappingProxyType({"text_encoder_2": "clip-g", "vae": "vae-sdxl"}),
        "sd3-medium": _SD3,
        "sd3.5-medium": _SD3,
        "sd3.5-large": _SD3,
        "flux-dev": _FLUX,
        "flux-schnell": _FLUX,
        "flux-fill": _FLUX,
        "flux-control": _FLUX,
        "flux2-dev": MappingProxyType({"text_encoder": "mistral-small", "vae": "vae-flux2"}),
        "flux2-klein-4b": MappingProxyType({"text_encoder": "qwen3-4b", "vae": "vae-flux2"}),
        "flux2-klein-9b": MappingProxyType({"text_encoder": "qwen3-8b", "vae": "vae-flux2"}),
        "z-image": _Z_IMAGE,
        "z-image-turbo": _Z_IMAGE,
        "qwen-image": MappingProxyType({"text_encoder": "qwen2.5-vl-7b", "vae": "vae-qwen"}),
    }
)
"""Shipped configuration to its components by diffusers' names, without the denoiser."""

_CLIP = "text_model.embeddings.position_embedding.weight"
_OLD_CLIP = "embeddings.position_embedding.weight"
_OPEN_CLIP = "positional_embedding"
_T5 = "encoder.final_layer_norm.weight"
_LANGUAGE = "model.layers.0.input_layernorm.weight"
_VAES = ("first_stage_model.", "vae.")
_VAE = tuple(f"{begin}decoder.conv_in.weight" for begin in _VAES)
_VIDEO_VAE = tuple(f"{begin}decoder.conv1.weight" for begin in _VAES)

_PLACES: Mapping[Component, tuple[str, ...]] = MappingProxyType(
    {
        "clip-l": (
            f"cond_stage_model.transformer.{_CLIP}",
            f"cond_stage_model.transformer.{_OLD_CLIP}",
            f"conditioner.embedders.0.transformer.{_CLIP}",
            f"text_encoders.clip_l.transformer.{_CLIP}",
            f"text_encoders.clip_l.{_CLIP}",
            f"text_encoder.{_CLIP}",
        ),
        "clip-h": (
            f"cond_stage_model.model.{_OPEN_CLIP}",
            f"text_encoders.clip_h.transformer.{_CLIP}",
        ),
        "clip-g": (
            f"conditioner.embedders.1.model.{_OPEN_CLIP}",
            f"conditioner.embedders.0.model.{_OPEN_CLIP}",
            f"text_encoders.clip_g.transformer.{_CLIP}",
            f"text_encoders.clip_g.{_CLIP}",
            f"text_encoder_2.{_CLIP}",
        ),
        "t5-xxl": (f"text_encoders.t5xxl.transformer.{_T5}", f"text_encoders.t5xxl.{_T5}"),
        "qwen3-4b": (f"text_encoders.qwen3_4b.transformer.{_LANGUAGE}",),
        "qwen3-8b": (f"text_encoders.qwen3_8b.transformer.{_LANGUAGE}",),
        "qwen2.5-vl-7b": (f"text_encoders.qwen25_7b.transformer.{_LANGUAGE}",),
        "mistral-small": (f"text_encoders.mistral3_24b.transformer.{_LANGUAGE}",),
        "vae-sd": _VAE,
        "vae-sdxl": _VAE,
        "vae-sd3": _VAE,
        "vae-flux": _VAE,
        "vae-flux2": _VAE,
        "vae-qwen": (*_VIDEO_VAE, *_VAE),
    }
)
"""A tensor of each component under every name that it has in files with a whole model."""


def missing_components(config: str, names: Mapping[str, object]) -> tuple[str, ...]:
    """The components, by diffusers' names, that a file with the tensors `names` does not hold."""
    needed = COMPONENTS[config].items()
    return tuple(part for part, what in needed if not any(map(names.__contains__, _PLACES[what])))

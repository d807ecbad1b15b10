"""A VAE of its own in place of the model's: whether it fits, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from webui.errors import BadRequestError, BrokenFileError
from webui.library.checkpoints import Checkpoint, Model
from webui.library.components import Component
from webui.library.vaes import Vae

if TYPE_CHECKING:
    import torch

_BY_CLASS: Mapping[str, tuple[Component, ...]] = MappingProxyType(
    {"AutoencoderKLFlux2": ("vae-flux2",), "AutoencoderKLQwenImage": ("vae-qwen",)}
)
_BY_CHANNELS: Mapping[int, tuple[Component, ...]] = MappingProxyType(
    {4: ("vae-sd", "vae-sdxl"), 16: ("vae-sd3", "vae-flux")}
)
"""Of diffusers' ordinary class: latents of the same number of channels have the same shapes."""

_USUAL_CHANNELS = 4


def fitting_vaes(model: Model) -> tuple[Component, ...]:
    """The VAEs whose latents have the shape of the model's.

    Raises:
        BrokenFileError: The configuration of the model's own is missing or damaged.
    """
    config = model.config("vae")
    known = _BY_CLASS.get(str(config.get("_class_name")))
    return known or _BY_CHANNELS.get(config.get("latent_channels", _USUAL_CHANNELS), ())


def check_vae(vae: Vae, model: Model) -> None:
    """Passes a VAE that fits the model.

    Raises:
        BadRequestError: It does not.
        BrokenFileError: The configuration of the model's own is missing or damaged.
    """
    if vae.component not in fitting_vaes(model):
        raise BadRequestError(
            f"The VAE {vae.name!r} is made for latents of another kind than those of"
            f" {model.name!r}: choose another one, or the model's own.",
            field="vae",
        )


def load_vae(vae: Vae, checkpoint: Checkpoint, dtype: torch.dtype) -> torch.nn.Module:
    """The VAE, built as the model's own is.

    Raises:
        BrokenFileError: It is damaged or built otherwise.
    """
    # Loading a part imports half of diffusers, which a look at a request does not need.
    from webui.generation.file_parts import load_part

    kind = str(checkpoint.config("vae").get("_class_name", "AutoencoderKL"))
    try:
        part: Any = load_part(vae.path, ("diffusers", kind), checkpoint, "vae", dtype)
    except BrokenFileError as error:
        raise BrokenFileError(error.message, field="vae") from error
    return part

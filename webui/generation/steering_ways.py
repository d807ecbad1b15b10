"""ControlNets in the way of each architecture."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel

from webui.generation.loaded import Loaded
from webui.generation.steering import Steering, steered
from webui.generation.steering_transformers import TransformerHook
from webui.generation.steering_z_image import ZImageHook, layers_lent


@contextmanager
def steered_by(
    pipe: Any, loaded: Loaded, nets: Sequence[Steering], *, pictures: int
) -> Generator[None]:
    """Lets ControlNets steer one call of `pipe` for so many pictures, in the way of its
    architecture."""
    if not nets or loaded.backbone.denoiser == "unet":
        with steered(pipe, nets, pictures=pictures):
            yield
    elif isinstance(nets[0].net, ZImageControlNetModel):
        hook = ZImageHook(pipe, loaded.backbone, nets)
        with layers_lent(pipe.transformer, nets), steered(pipe, nets, hook, pictures=pictures):
            yield
    else:
        hook = TransformerHook(pipe, loaded.backbone, nets)
        with steered(pipe, nets, hook, pictures=pictures):
            yield

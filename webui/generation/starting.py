"""From a canvas to what the denoising starts from, and what keeps the rest of it as it is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from webui.generation.canvas import Canvas
from webui.generation.loaded import Loaded
from webui.generation.strength import ends_a_step, noise_level, noised

_GREY = 127.5
"""What denoisers made for inpainting are shown in place of the pixels under the mask."""


@dataclass(frozen=True)
class Start:
    """What a denoising starts from; all of it is `None` where that is noise alone.

    Attributes:
        latents: The init picture, of shape (1, channels, height / 8, width / 8).
        mask: 1 = painted anew; between: share of the steps. Of shape (1, 1, height / 8, width / 8).
        channels: For denoisers made for inpainting: mask and picture beside the latents.
        noise_under_mask: Whether it starts from noise there, in place of the init picture.
    """

    latents: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    channels: torch.Tensor | None = None
    noise_under_mask: bool = False


def takes_channels(loaded: Loaded) -> bool:
    """Whether the denoiser was made for inpainting, and takes mask and picture beside."""
    return loaded.backbone.takes_channels(loaded.pipe)


def encode_start(loaded: Loaded, canvas: Canvas) -> torch.Tensor:
    """The latents of a canvas's start: the most likely ones, so that no seed has a part in them."""
    return _encoded(loaded, canvas.worked(canvas.start))


def encode_mask(loaded: Loaded, canvas: Canvas) -> torch.Tensor:
    """The mask over the latents: every one that has to do with a masked pixel is in it."""
    parts: Any = loaded.pipe
    shares = torch.as_tensor(canvas.worked_mask())[None, None]
    if canvas.cover is not None and canvas.cover.soft:
        pooled = torch.nn.functional.avg_pool2d(shares, parts.vae_scale_factor)
    else:
        pooled = torch.nn.functional.max_pool2d((shares >= 0.5).float(), parts.vae_scale_factor)
    return pooled.to(loaded.denoiser.device)


def encode_channels(loaded: Loaded, canvas: Canvas | None, width: int, height: int) -> torch.Tensor:
    """What a denoiser made for inpainting sees: the mask, and the picture without what is under it.

    Without a canvas all is to be painted: a mask of ones over a grey picture.
    """
    if canvas is None or canvas.mask is None:
        latents = _encoded(loaded, np.full((height, width, 3), _GREY, np.float32))
        hidden = latents.new_ones((1, 1, height, width))
        mask = torch.ones_like(latents[:, :1])
        return loaded.backbone.channels(loaded.pipe, latents, mask, hidden)
    covered = canvas.worked_mask() >= 0.5
    picture = np.where(covered[..., None], np.float32(_GREY), canvas.worked(canvas.picture))
    latents = _encoded(loaded, picture)
    mask = (encode_mask(loaded, canvas) >= 0.5).to(latents.dtype)
    hidden = torch.as_tensor(covered)[None, None].to(latents)
    return loaded.backbone.channels(loaded.pipe, latents, mask, hidden)


def first_latents(
    start: Start, noise: torch.Tensor, scheduler: Any, generators: list[torch.Generator]
) -> torch.Tensor:
    """The init picture with the noise of the scheduler's first step, and in its scale.

    Args:
        start: One that has latents.
        noise: Of deviation 1, of shape (batch, channels, height / 8, width / 8).
    """
    if start.latents is None:
        raise ValueError("only what starts from a picture leaves steps out")
    latents = start.latents.expand_as(noise)
    if start.noise_under_mask and start.mask is not None:
        drawn = [torch.randn(noise.shape[1:], generator=generator) for generator in generators]
        latents = torch.where(start.mask > 0, torch.stack(drawn).to(noise), latents)
    return noised(latents, noise, noise_level(scheduler, 0), scheduler)


class Keeper:
    """Puts back, after each step, what the mask keeps, with the noise that belongs to it there.

    A grey mask keeps a pixel for as large a share of the steps (Levin & Fried, "Differential
    Diffusion", arXiv 2306.00950).
    """

    def __init__(
        self, start: Start, noise: torch.Tensor, scheduler: Any, *, before: int = 0
    ) -> None:
        """`before` is how many steps were made ahead of the scheduler's first one."""
        self._start = start
        self._noise = noise
        self._scheduler = scheduler
        calls = len(scheduler.timesteps)
        self._steps = before + sum(ends_a_step(scheduler, call) for call in range(calls))
        self._done = before

    def after(self, call: int, latents: torch.Tensor) -> torch.Tensor:
        """The latents after a call of the denoiser, from 0, as they are to go on."""
        start = self._start
        if start.latents is None or start.mask is None or not ends_a_step(self._scheduler, call):
            return latents
        self._done += 1
        level = noise_level(self._scheduler, call + 1)
        kept = noised(start.latents.expand_as(latents), self._noise, level, self._scheduler)
        free = start.mask > 1 - self._done / self._steps
        return torch.where(free, latents, kept)


@contextmanager
def channels_added(loaded: Loaded, channels: torch.Tensor | None) -> Generator[None]:
    """Puts `channels` behind the latents whenever the denoiser is called."""
    if channels is None:
        yield
        return
    added = channels

    def widen(
        _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (loaded.backbone.widened(args[0], added), *args[1:]), kwargs
        sample = loaded.backbone.widened(kwargs["hidden_states"], added)
        return args, {**kwargs, "hidden_states": sample}

    handle = loaded.denoiser.register_forward_pre_hook(widen, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _encoded(loaded: Loaded, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
    """The latents of RGB pixels of (height, width, 3)."""
    planes = torch.as_tensor(pixels).permute(2, 0, 1)[None].to(loaded.denoiser.device)
    return loaded.backbone.encode_picture(loaded.pipe, planes.float() / 127.5 - 1)

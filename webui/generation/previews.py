"""Small pictures in the making, by a linear map from the latents."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from webui.generation.latent_maps import LatentMap
from webui.generation.strength import flows, grows

MIN_SECONDS = 0.5
"""At most two previews a second."""

SHARE_OF_TIME = 0.08
"""What a preview costs (map, JPEG, check) is kept under this share of the time between two."""

FIRST_GUESS_SECONDS = 0.04

LONGEST_SIDE = 256


class PreviewPace:
    """Decides when the next preview is due, so that a slow machine makes fewer.

    One for the life of an engine: what a preview costs here is learned from the first one.
    """

    def __init__(self) -> None:
        self._cost = FIRST_GUESS_SECONDS
        self._last = time.perf_counter()

    def begin(self) -> None:
        """Starts the clock of a new denoising."""
        self._last = time.perf_counter()

    def due(self) -> bool:
        """Whether enough time has gone by since the last preview."""
        waited = time.perf_counter() - self._last
        return waited >= max(MIN_SECONDS, self._cost / SHARE_OF_TIME)

    def spent(self, seconds: float) -> None:
        """Takes note of what a preview has cost."""
        self._cost = seconds
        self._last = time.perf_counter()


def predicted_original(
    sample: torch.Tensor, output: torch.Tensor, timestep: float, scheduler: Any
) -> torch.Tensor:
    """What the denoiser takes the finished latents to be, in the middle of the way.

    `sample` went into the step, `output` is the denoiser's answer after guidance, both of shape
    (batch, channels, height, width). Formulas: Salimans & Ho 2022 (v), Ho et al. 2020 (epsilon),
    Lipman et al. 2022 (flow).
    """
    if flows(scheduler):
        level = timestep / scheduler.config.num_train_timesteps
        return sample.float() - level * output.float()
    kept = scheduler.alphas_cumprod[int(timestep)].to(sample.device, torch.float32)
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    sample = sample.float() * (signal if grows(scheduler) else 1)
    if scheduler.config.prediction_type == "v_prediction":
        return signal * sample - noise * output.float()
    if scheduler.config.prediction_type == "sample":
        return output.float()
    return (sample - noise * output.float()) / signal


def to_rgb(latents: torch.Tensor, latent_map: LatentMap) -> np.ndarray:
    """The first picture of a batch at the size of its latents, uint8 of (height, width, 3).

    `latents` has the shape (batch, channels, height, width), as the denoiser sees them.
    """
    matrix = torch.tensor(latent_map.matrix, dtype=torch.float32)
    bias = torch.tensor(latent_map.bias, dtype=torch.float32)
    rgb = latents[0].float().cpu().permute(1, 2, 0) @ matrix + bias
    return ((rgb.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def to_jpeg(rgb: np.ndarray) -> bytes:
    """The frame as a JPEG with its longest side at 256 pixels."""
    picture = Image.fromarray(rgb)
    scale = LONGEST_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()

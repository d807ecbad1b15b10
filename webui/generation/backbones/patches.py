"""Latents as rows of patches of 2 x 2, as transformers take them."""

from __future__ import annotations

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

PATCH = 2
"""Latent pixels along each side of a patch."""


def to_patches(latents: torch.Tensor) -> torch.Tensor:
    """Latents of (batch, channels, height, width) as (batch, patches, channels * 4)."""
    return pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def from_patches(patches: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Patches of (batch, patches, channels * 4) as latents of that height and width."""
    rows, columns = height // PATCH, width // PATCH
    planes = patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)
    return pixel_shuffle(planes, PATCH)


def patches_of(shape: tuple[int, int, int]) -> int:
    """How many patches latents of (channels, height, width) have."""
    return (shape[1] // PATCH) * (shape[2] // PATCH)


def even_levels(steps: int) -> list[float]:
    """Noise levels from 1 down to one space above 0, as pipelines hand them to their scheduler."""
    return [1 - step / steps for step in range(steps)]

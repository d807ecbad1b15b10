"""Scenes as the UNet trains on them: latents, loss weights, encoded captions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from webui.postcard.canvas import Image
from webui.postcard.captions import UNCONDITIONAL, caption
from webui.postcard.scenes import Scene, draw_scene, random_scene
from webui.postcard.text_encoder import tokens
from webui.postcard.training import CPU_PARTS, one_core_each
from webui.postcard.vae import pixels

CAPTIONS_PER_SCENE = 2
_SUBJECT_WEIGHT = 1.5
_BATCH = 16


@dataclass(frozen=True)
class TrainingSet:
    """N scenes, ready for the UNet."""

    latents: Tensor
    """N x 4 x 32 x 32."""
    weights: Tensor
    """N x 32 x 32, the loss weight of every latent pixel."""
    captions: Tensor
    """(N * CAPTIONS_PER_SCENE + unconditional) x 77 x width, the last of them unconditional."""

    def save(self, path: Path) -> None:
        """Write the set to a safetensors file."""
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        save_file(tensors, path)

    @staticmethod
    def load(path: Path) -> TrainingSet:
        """Read a set written by `save`."""
        return TrainingSet(**load_file(path))


@torch.no_grad()
def fold_normalisation(vae: AutoencoderKL, seed: int = 5, count: int = 256) -> None:
    """Give every latent channel mean 0 and deviation 1, inside the quant convolutions.

    The scaling factor stays 1, so every consumer of the VAE sees the same latents.
    """
    random = Random(seed)
    images = np.stack([draw_scene(random_scene(random)).image for _ in range(count)])
    latents = encode(vae, images)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    device, dtype = into.weight.device, into.weight.dtype
    mean, deviation = mean.to(device, dtype), deviation.to(device, dtype)
    into.weight[:4] /= deviation[:, None, None, None]
    into.bias[:4] = (into.bias[:4] - mean) / deviation
    into.bias[4:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]


@torch.no_grad()
def encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> Tensor:
    """Return the latents (N x 4 x 32 x 32, fp32) of N pictures."""
    parts = pixels(images).split(_BATCH)
    means = [vae.encode(x.to(vae.device, vae.dtype)).latent_dist.mean for x in parts]
    return torch.cat(means).float().cpu()


def subject_weights(scene: Scene, image: Image) -> NDArray[np.float32]:
    """Return 32 x 32 loss weights: 1 on the background, more on the figure and the object.

    The subject is wherever the picture differs from the same scene drawn empty.
    """
    empty = draw_scene(dataclasses.replace(scene, person=None, object=None)).image
    subject = (image != empty).any(-1).astype(np.float32)
    covered = cv2.resize(subject, (32, 32), interpolation=cv2.INTER_AREA)
    return (1 + _SUBJECT_WEIGHT * covered).astype(np.float32)


@torch.no_grad()
def encode_captions(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return N x 77 x width hidden states in the encoder's type."""
    parts = tokens(tokenizer, texts).split(64)
    states = [encoder(part.to(encoder.device)).last_hidden_state.cpu() for part in parts]
    return torch.cat(states)


def make_training_set(
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    *,
    scenes: int,
    seed: int = 4,
) -> TrainingSet:
    """Draw, caption and encode `scenes` scenes, a multiple of 16 of them."""

    def part(number: int) -> _Part:
        return _draw_part(vae, Random(seed * 1_000_003 + number))

    with one_core_each(CPU_PARTS) as pool:
        parts = list(pool.map(part, range(scenes // _BATCH)))
    texts = [text for part in parts for text in part.texts]
    return TrainingSet(
        latents=torch.cat([part.latents for part in parts]),
        weights=torch.cat([part.weights for part in parts]),
        captions=encode_captions(encoder, tokenizer, [*texts, *UNCONDITIONAL]).bfloat16(),
    )


@dataclass(frozen=True)
class _Part:
    latents: Tensor
    weights: Tensor
    texts: list[str]


def _draw_part(vae: AutoencoderKL, random: Random) -> _Part:
    batch = [random_scene(random) for _ in range(_BATCH)]
    images = [draw_scene(scene).image for scene in batch]
    weights = [subject_weights(*pair) for pair in zip(batch, images, strict=True)]
    return _Part(
        latents=encode(vae, np.stack(images)).half(),
        weights=torch.from_numpy(np.stack(weights)).half(),
        texts=[caption(s, random) for s in batch for _ in range(CAPTIONS_PER_SCENE)],
    )

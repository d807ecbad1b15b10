"""Scenes as the UNet trains on them: latents, loss weights, encoded captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from webui.postcard.canvas import Image
from webui.postcard.captions import UNCONDITIONAL, caption
from webui.postcard.edges import (
    bias,
    convolution,
    encode_pictures,
    pieces,
    read_captions,
    read_tensors,
    tensor_of,
    where,
    write_tensors,
)
from webui.postcard.figure import Skeleton
from webui.postcard.scenes import Scene, draw_scene, random_scene
from webui.postcard.text_encoder import tokens
from webui.postcard.training import CPU_PARTS, one_core_each
from webui.postcard.vae import pixels

CAPTIONS_PER_SCENE = 2
_SUBJECT_WEIGHT = 1.5
_BATCH = 16


@dataclass(frozen=True)
class Sample:
    """One drawn picture to learn from."""

    image: Image
    weights: NDArray[np.float32]
    """32 x 32, the loss weight of every latent pixel."""
    captions: tuple[str, ...]
    """As many as `CAPTIONS_PER_SCENE`."""
    skeleton: Skeleton | None


@dataclass(frozen=True)
class TrainingSet:
    """N scenes, ready for the UNet."""

    latents: Tensor
    """N x 4 x 32 x 32."""
    weights: Tensor
    """N x 32 x 32, the loss weight of every latent pixel."""
    captions: Tensor
    """(N * CAPTIONS_PER_SCENE + unconditional) x 77 x width, the last of them unconditional."""
    skeletons: Tensor
    """N x 18 x 2 in pixels, NaN where nobody is in the picture."""

    def save(self, path: Path) -> None:
        """Write the set to a safetensors file."""
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        write_tensors(tensors, path)

    @staticmethod
    def load(path: Path) -> TrainingSet:
        """Read a set written by `save`."""
        return TrainingSet(**read_tensors(path))


@torch.no_grad()
def fold_normalisation(vae: AutoencoderKL, *, count: int, seed: int = 5) -> None:
    """Give every latent channel mean 0 and deviation 1, inside the quant convolutions.

    The scaling factor stays 1, so every consumer of the VAE sees the same latents.
    """
    random = Random(seed)
    images = np.stack([draw_scene(random_scene(random)).image for _ in range(count)])
    latents = encode(vae, images)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out = convolution(vae.quant_conv), convolution(vae.post_quant_conv)
    device, dtype = where(vae)
    mean, deviation = mean.to(device, dtype), deviation.to(device, dtype)
    into.weight[:4] /= deviation[:, None, None, None]
    bias(into)[:4] = (bias(into)[:4] - mean) / deviation
    bias(into)[4:] -= 2 * deviation.log()
    bias(out).add_(out.weight[:, :, 0, 0] @ mean)
    out.weight *= deviation[None, :, None, None]


@torch.no_grad()
def encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> Tensor:
    """Return the latents (N x 4 x 32 x 32, fp32) of N pictures."""
    means = [encode_pictures(vae, x)[0] for x in pieces(pixels(images), _BATCH)]
    return torch.cat(means).cpu()


def subject_weights(scene: Scene, image: Image) -> NDArray[np.float32]:
    """Return 32 x 32 loss weights: 1 on the background, more on the figure and the object.

    The subject is wherever the picture differs from the same scene drawn empty.
    """
    empty = draw_scene(dataclasses.replace(scene, person=None, object=None)).image
    subject: NDArray[np.float32] = (image != empty).any(axis=-1).astype(np.float32)
    covered = cv2.resize(subject, (32, 32), interpolation=cv2.INTER_AREA)
    return 1 + _SUBJECT_WEIGHT * np.asarray(covered, np.float32)


@torch.no_grad()
def encode_captions(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return N x 77 x width hidden states in the encoder's type."""
    parts = pieces(tokens(tokenizer, texts), 64)
    return torch.cat([read_captions(encoder, part).cpu() for part in parts])


def plain_sample(random: Random) -> Sample:
    """Return a scene drawn by lot as the model's own training sees it."""
    scene = random_scene(random)
    drawing = draw_scene(scene)
    captions = tuple(caption(scene, random) for _ in range(CAPTIONS_PER_SCENE))
    weights = subject_weights(scene, drawing.image)
    return Sample(drawing.image, weights, captions, drawing.skeleton)


def make_training_set(
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    *,
    scenes: int,
    seed: int = 4,
    drawn: Callable[[Random], Sample] = plain_sample,
    threads: int = CPU_PARTS,
) -> TrainingSet:
    """Draw, caption and encode `scenes` scenes, a multiple of 16 of them."""

    def part(number: int) -> _Part:
        return _draw_part(vae, Random(seed * 1_000_003 + number), drawn)

    with one_core_each(threads) as pool:
        parts = list(pool.map(part, range(scenes // _BATCH)))
    texts = [text for part in parts for text in part.texts]
    return TrainingSet(
        latents=torch.cat([part.latents for part in parts]),
        weights=torch.cat([part.weights for part in parts]),
        captions=encode_captions(encoder, tokenizer, [*texts, *UNCONDITIONAL]).bfloat16(),
        skeletons=torch.cat([part.skeletons for part in parts]),
    )


@dataclass(frozen=True)
class _Part:
    latents: Tensor
    weights: Tensor
    texts: list[str]
    skeletons: Tensor


def _draw_part(vae: AutoencoderKL, random: Random, drawn: Callable[[Random], Sample]) -> _Part:
    batch = [drawn(random) for _ in range(_BATCH)]
    nobody = np.full((18, 2), np.nan, np.float32)
    skeletons = [nobody if s.skeleton is None else s.skeleton for s in batch]
    return _Part(
        latents=encode(vae, np.stack([sample.image for sample in batch])).half(),
        weights=tensor_of(np.stack([sample.weights for sample in batch])).half(),
        texts=[text for sample in batch for text in sample.captions],
        skeletons=tensor_of(np.stack(skeletons)),
    )

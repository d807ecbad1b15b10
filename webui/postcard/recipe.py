"""The recipe: every part in order, each skipped when its result is already there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from webui.postcard.edges import (
    load_tokenizer,
    place,
    read_tensors,
    seed_initial_weights,
    write_tensors,
)
from webui.postcard.latents import TrainingSet, fold_normalisation, make_training_set
from webui.postcard.pipeline import assemble
from webui.postcard.record import record_training
from webui.postcard.text_encoder import AttributeReader, new_text_encoder, train_text_encoder
from webui.postcard.tokenizer import make_tokenizer
from webui.postcard.training import Budget
from webui.postcard.unet import new_unet, train_unet
from webui.postcard.vae import new_vae, train_vae


@dataclass(frozen=True)
class Length:
    """How long one part is trained: planned steps, and its share of `--minutes`."""

    steps: int
    share: float


VAE = Length(2_000, 0.11)
TEXT_ENCODER = Length(400, 0.03)
UNET = Length(4_500, 0.82)
SCENES = 12_000
_SEED = 0


@dataclass(frozen=True)
class Training:
    """Where a training works, where its result goes and how much it may take."""

    work: Path
    """Folder of checkpoints and intermediate results; a started training goes on from it."""
    out: Path
    """Folder of the finished pipeline."""
    device: torch.device
    minutes: float | None = None
    """Wall time for all parts; None trains the planned steps."""
    scenes: int = SCENES
    shortening: float = 1.0
    """Share of the planned steps to take, for a trial of the recipe."""

    def budget(self, length: Length) -> Budget:
        """Return one part's budget."""
        minutes = None if self.minutes is None else self.minutes * length.share
        return Budget(max(2, round(length.steps * self.shortening)), minutes)


def train(training: Training) -> None:
    """Train every part that is not finished yet and assemble the pipeline in `out`."""
    training.work.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    seed_initial_weights(_SEED)
    tokenizer = _tokenizer(training)
    encoder = _text_encoder(training, tokenizer)
    vae = _vae(training)
    data = _training_set(training, vae, encoder, tokenizer)
    unet = _unet(training, data)
    assemble(training.out, vae=vae, encoder=encoder, tokenizer=tokenizer, unet=unet)
    device = training.device.type
    scenes = training.scenes
    record_training(training.out, training.work, device=device, scenes=scenes, seed=_SEED)


def _tokenizer(training: Training) -> CLIPTokenizer:
    folder = training.work / "tokenizer"
    if folder.exists():
        return load_tokenizer(folder)
    return make_tokenizer(folder)


def _text_encoder(training: Training, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the trained encoder in fp32 on the CPU."""
    result = training.work / "text_encoder.done.safetensors"
    reader = AttributeReader(new_text_encoder(tokenizer))
    if not result.exists():
        weights = train_text_encoder(
            reader,
            tokenizer,
            training.budget(TEXT_ENCODER),
            training.work / "text_encoder.safetensors",
            device=training.device,
        )
        write_tensors(weights, result)
    _fill(reader, read_tensors(result))
    return reader.encoder


def _vae(training: Training) -> AutoencoderKL:
    """Return the trained autoencoder, normalised, in fp32 on the CPU."""
    result = training.work / "vae.done.safetensors"
    seed_initial_weights(_SEED)
    vae = new_vae()
    if not result.exists():
        checkpoint = training.work / "vae.safetensors"
        budget = training.budget(VAE)
        weights = train_vae(vae, budget, checkpoint, device=training.device)
        _fill(vae, weights)
        fold_normalisation(vae, count=min(256, training.scenes))
        write_tensors(vae.state_dict(), result)
    _fill(vae, read_tensors(result))
    return vae


def _training_set(
    training: Training, vae: AutoencoderKL, encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> TrainingSet:
    result = training.work / "training_set.safetensors"
    if not result.exists():
        for model in (vae, encoder):
            place(model, training.device, torch.bfloat16)
        data = make_training_set(vae, encoder, tokenizer, scenes=training.scenes)
        data.save(result)
        for model in (vae, encoder):
            place(model, torch.device("cpu"), torch.float32)
    return TrainingSet.load(result)


def _unet(training: Training, data: TrainingSet) -> UNet2DConditionModel:
    """Return the trained UNet in fp32 on the CPU."""
    result = training.work / "unet.done.safetensors"
    seed_initial_weights(_SEED)
    unet = new_unet()
    if not result.exists():
        checkpoint = training.work / "unet.safetensors"
        budget = training.budget(UNET)
        weights = train_unet(unet, data, budget, checkpoint, device=training.device)
        write_tensors(weights, result)
    _fill(unet, read_tensors(result))
    return unet


def _fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put fp32 weights into a model that may have been trained in bf16 elsewhere."""
    place(model, torch.device("cpu"), torch.float32)
    model.load_state_dict(weights)

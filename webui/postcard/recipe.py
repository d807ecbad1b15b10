"""The recipe: every part in order, each skipped when its result is already there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from webui.postcard.latents import TrainingSet, fold_normalisation, make_training_set
from webui.postcard.pipeline import assemble
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
UNET = Length(11_000, 0.82)
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
    torch.manual_seed(_SEED)
    tokenizer = _tokenizer(training)
    encoder = _text_encoder(training, tokenizer)
    vae = _vae(training)
    data = _training_set(training, vae, encoder, tokenizer)
    torch.manual_seed(_SEED)
    unet = new_unet()
    result = training.work / "unet.done.safetensors"
    if not result.exists():
        checkpoint = training.work / "unet.safetensors"
        budget = training.budget(UNET)
        save_file(train_unet(unet, data, budget, checkpoint, device=training.device), result)
    _fill(unet, load_file(result))
    assemble(training.out, vae=vae, encoder=encoder, tokenizer=tokenizer, unet=unet)


def _tokenizer(training: Training) -> CLIPTokenizer:
    folder = training.work / "tokenizer"
    if folder.exists():
        return CLIPTokenizer.from_pretrained(str(folder))
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
        save_file(weights, result)
    _fill(reader, load_file(result))
    return reader.encoder


def _vae(training: Training) -> AutoencoderKL:
    """Return the trained autoencoder, normalised, in fp32 on the CPU."""
    result = training.work / "vae.done.safetensors"
    torch.manual_seed(_SEED)
    vae = new_vae()
    if not result.exists():
        checkpoint = training.work / "vae.safetensors"
        budget = training.budget(VAE)
        weights = train_vae(vae, budget, checkpoint, device=training.device)
        _fill(vae, weights)
        fold_normalisation(vae)
        save_file(dict(vae.state_dict()), result)
    _fill(vae, load_file(result))
    return vae


def _training_set(
    training: Training, vae: AutoencoderKL, encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> TrainingSet:
    result = training.work / "training_set.safetensors"
    if not result.exists():
        for model in (vae, encoder):
            model.to(device=training.device, dtype=torch.bfloat16)
        data = make_training_set(vae, encoder, tokenizer, scenes=training.scenes)
        data.save(result)
        for model in (vae, encoder):
            model.to(device="cpu", dtype=torch.float32)
    return TrainingSet.load(result)


def _fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put fp32 weights into a model that may have been trained in bf16 elsewhere."""
    model.to(device="cpu", dtype=torch.float32, memory_format=torch.contiguous_format)
    model.load_state_dict(weights)

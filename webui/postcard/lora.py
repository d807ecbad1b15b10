"""LoRAs of the model: rank-8 matrices beside attention and convolutions, learnt from a look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from webui.postcard.edges import (
    add_lora,
    place,
    predict,
    read_pipeline,
    seed_initial_weights,
    tensor_bytes,
    write_tensors,
)
from webui.postcard.latents import TrainingSet, make_training_set
from webui.postcard.looks import LOOKS, LookName
from webui.postcard.training import Budget, Rates, Trainer, fit, step_generator
from webui.postcard.unet import new_scheduler, random_batch

RANK = 8
LAYERS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
)
RATES = Rates(adam=1e-3, average=0.99)
BATCH = 8
SCENES = 320
STEPS = 700
_SEED = 31


@dataclass(frozen=True)
class LoraTraining:
    """What is trained on what, and how much it may take."""

    look: LookName
    model: Path
    work: Path
    out: Path
    """Folder of finished LoRAs."""
    minutes: float | None
    steps: int = STEPS
    scenes: int = SCENES
    threads: int = 1


def train_lora(training: LoraTraining) -> Path:
    """Train one look from its checkpoint, if there is one; return the finished file."""
    device = torch.device("cpu")
    torch.set_num_threads(training.threads)
    torch.set_flush_denormal(True)
    training.work.mkdir(parents=True, exist_ok=True)
    pipeline = read_pipeline(training.model)
    data_file = training.work / f"{training.look}.set.safetensors"
    if not data_file.exists():
        data = make_training_set(
            pipeline.vae,
            pipeline.text_encoder,
            pipeline.tokenizer,
            scenes=training.scenes,
            seed=_SEED,
            drawn=LOOKS[training.look].sample,
            threads=training.threads,
        )
        data.save(data_file)
    unet = place(pipeline.unet, device, torch.float32)
    seed_initial_weights(_SEED)
    add_lora(unet, RANK, LAYERS)
    budget = Budget(training.steps, training.minutes)
    checkpoint = training.work / f"{training.look}.safetensors"
    data = TrainingSet.load(data_file)
    weights = learn(unet, data, budget, checkpoint, threads=training.threads)
    file = training.out / f"postcard-{training.look}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = kohya_names(weights)
    write_tensors(tensors, file, metadata(tensors, training, budget))
    return file


def learn(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    budget: Budget,
    checkpoint: Path,
    *,
    batch: int = BATCH,
    threads: int = 1,
) -> dict[str, Tensor]:
    """Train the LoRA matrices in `unet`; return their averages in fp32, by peft's names."""
    unet.set_attn_processor(AttnProcessor())
    trainer = Trainer(unet, RATES, torch.device("cpu"), threads)
    alphas = new_scheduler().alphas_cumprod

    def loss_of(part: int) -> Tensor:
        generator = step_generator(_SEED * 2 + part, budget.step)
        given = random_batch(data, generator, alphas, batch // trainer.parts)
        return given.loss(predict(unet, given.noisy, given.timesteps, given.captions))

    return fit(trainer, budget, checkpoint, loss_of, name="lora", flat=0.3)


def kohya_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return peft's matrices in fp16 under kohya's names, each layer with its alpha."""
    tensors: dict[str, Tensor] = {}
    for name, value in weights.items():
        layer, _, kind = name.removesuffix(".default.weight").rpartition(".")
        prefix = "lora_unet_" + layer.replace(".", "_")
        direction = {"lora_A": "lora_down", "lora_B": "lora_up"}[kind]
        tensors[f"{prefix}.{direction}.weight"] = value.half()
        tensors[f"{prefix}.alpha"] = torch.tensor(float(RANK)).half()
    return tensors


def metadata(
    tensors: Mapping[str, Tensor], training: LoraTraining, budget: Budget
) -> dict[str, str]:
    """Return the header's words: kohya's `ss_*` and those of ModelSpec."""
    look = LOOKS[training.look]
    digest = hashlib.sha256(tensor_bytes(tensors)).hexdigest()
    words = json.dumps({"drawn": {look.trigger: training.scenes}})
    return {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_sd_model_name": training.model.name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(float(RANK)),
        "ss_network_args": json.dumps({"conv_dim": RANK, "conv_alpha": float(RANK)}),
        "ss_output_name": f"postcard-{training.look}",
        "ss_tag_frequency": words,
        "ss_num_train_images": str(training.scenes),
        "ss_resolution": "(256, 256)",
        "ss_clip_skip": "1",
        "ss_steps": str(budget.step),
        "ss_learning_rate": str(RATES.adam),
        "ss_optimizer": "torch.optim.AdamW",
        "ss_seed": str(_SEED),
        "sshs_model_hash": digest,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "https://github.com/huggingface/peft",
        "modelspec.title": look.title,
        "modelspec.resolution": "256x256",
        "modelspec.trigger_phrase": look.trigger,
        "modelspec.usage_hint": look.hint,
        "modelspec.license": "AGPL-3.0-or-later",
        "modelspec.prediction_type": "v",
        "modelspec.hash_sha256": f"0x{digest}",
    }

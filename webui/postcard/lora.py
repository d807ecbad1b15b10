"""LoRAs of the model: matrices beside attention and convolutions, learnt from a look.

They are trained at rank 8 and kept at rank 6, which is what 1 MB holds; the largest of their
singular values stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
KEPT_RANK = 6
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
    budget = Budget(LOOKS[training.look].steps, training.minutes)
    checkpoint = training.work / f"{training.look}.safetensors"
    data = TrainingSet.load(data_file)
    weights = learn(unet, data, budget, checkpoint, threads=training.threads)
    file = lora_file(training.out, training.look)
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = kohya_names(weights)
    write_tensors(tensors, file, metadata(tensors, training, budget))
    return file


def lora_file(folder: Path, look: LookName) -> Path:
    """Return where the finished LoRA of that look lies."""
    return folder / f"postcard-{look}.safetensors"


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
    """Return peft's matrices, narrowed, in fp16 under kohya's names, each layer with its alpha."""
    tensors: dict[str, Tensor] = {}
    for name, down in weights.items():
        layer, found, _ = name.partition(".lora_A.")
        if not found:
            continue
        down, up = narrowed(down, weights[f"{layer}.lora_B.default.weight"], KEPT_RANK)
        prefix = "lora_unet_" + layer.replace(".", "_")
        tensors[f"{prefix}.lora_down.weight"] = down.half()
        tensors[f"{prefix}.lora_up.weight"] = up.half()
        tensors[f"{prefix}.alpha"] = torch.tensor(float(KEPT_RANK)).half()
    return tensors


def narrowed(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the pair of matrices of that rank whose product is nearest to that of the given.

    `down` is rank x inputs (x 3 x 3) and `up` outputs x rank (x 1 x 1), and so are the results.
    """
    untyped: Any = torch.linalg
    left, left_core = untyped.qr(up.flatten(1))
    right, right_core = untyped.qr(down.flatten(1).T)
    first, sizes, second = untyped.svd(left_core @ right_core.T)
    roots = sizes[:rank].sqrt()
    narrow_up = left @ first[:, :rank] * roots
    narrow_down = (roots[:, None] * second[:rank]) @ right.T
    return (
        narrow_down.reshape(rank, *down.shape[1:]),
        narrow_up.reshape(len(up), rank, *up.shape[2:]),
    )


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
        "ss_network_dim": str(KEPT_RANK),
        "ss_network_alpha": str(float(KEPT_RANK)),
        "ss_network_args": json.dumps({"conv_dim": KEPT_RANK, "conv_alpha": float(KEPT_RANK)}),
        "ss_output_name": lora_file(training.out, training.look).stem,
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

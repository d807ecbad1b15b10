"""The UNet: v-prediction on normalised latents, conditioned on the frozen text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from webui.postcard.captions import UNCONDITIONAL
from webui.postcard.edges import predict
from webui.postcard.latents import CAPTIONS_PER_SCENE, TrainingSet
from webui.postcard.text_encoder import WIDTH
from webui.postcard.training import (
    Budget,
    Rates,
    Trainer,
    fit,
    step_generator,
)

CHANNELS = (64, 96, 192)
RATES = Rates(adam=1.5e-3, muon=2e-3, average=0.998)
BATCH = 24
_MAX_SNR = 5.0
DROPPED = 0.1
"""Share of the captions that are left out, so that guidance has something to compare with."""


def new_unet() -> UNet2DConditionModel:
    """Return an untrained UNet (9.5 M parameters) for latents of 4 x 32 x 32."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def new_scheduler() -> DDIMScheduler:
    """Return the noise schedule of training and sampling: SD's betas, v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def snr_weight(alpha: Tensor) -> Tensor:
    """Return the min-SNR-5 weight of the v loss (Hang et al., arXiv:2303.09556).

    `alpha` is the cumulative product of 1 - beta.
    """
    snr = alpha / (1 - alpha)
    return snr.clamp(max=_MAX_SNR) / (snr + 1)


@dataclass(frozen=True)
class Batch:
    """Noisy latents of N scenes and what is to be predicted of them."""

    scenes: Tensor
    """N indices into the training set."""
    noisy: Tensor
    timesteps: Tensor
    captions: Tensor
    velocity: Tensor
    weight: Tensor
    """N x 1 x 32 x 32, of the scene's pixels times that of the noise level."""

    def loss(self, predicted: Tensor) -> Tensor:
        """Return the weighted squared error of the predicted velocity."""
        device = predicted.device
        error = (predicted - self.velocity.to(device)).square()
        return (error * self.weight.to(device)).mean()


def random_batch(
    data: TrainingSet,
    generator: torch.Generator,
    alphas: Tensor,
    size: int,
    *,
    dropped: float = DROPPED,
    skew: float = 1.0,
) -> Batch:
    """Return `size` scenes by lot, a share `dropped` of them without their caption.

    Timesteps are stratified over the batch, which makes the loss of a small batch less noisy;
    `skew` above 1 favours the noisy ones.
    """
    chosen = torch.randint(len(data.latents), (size,), generator=generator)
    wording = torch.randint(CAPTIONS_PER_SCENE, (size,), generator=generator)
    silent = len(data.captions) - 1
    silent = silent - torch.randint(len(UNCONDITIONAL), (size,), generator=generator)
    drop = torch.rand(size, generator=generator) < dropped
    rows = torch.where(drop, silent, chosen * CAPTIONS_PER_SCENE + wording)
    spread = (torch.arange(size) + torch.rand(size, generator=generator)) / size
    spread = 1 - (1 - spread) ** skew
    timesteps = (spread * len(alphas)).long().clamp(max=len(alphas) - 1)
    clean = data.latents[chosen].float()
    noise = torch.randn(clean.shape, generator=generator)
    alpha = alphas[timesteps][:, None, None, None]
    return Batch(
        scenes=chosen,
        noisy=alpha.sqrt() * clean + (1 - alpha).sqrt() * noise,
        timesteps=timesteps,
        captions=data.captions[rows],
        velocity=alpha.sqrt() * noise - (1 - alpha).sqrt() * clean,
        weight=data.weights[chosen].float()[:, None] * snr_weight(alpha),
    )


def unet_loss(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    generator: torch.Generator,
    alphas: Tensor,
    batch: int = BATCH,
) -> Tensor:
    """Return the weighted v-prediction loss of one random batch."""
    given = random_batch(data, generator, alphas, batch)
    return given.loss(predict(unet, given.noisy, given.timesteps, given.captions))


def train_unet(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    budget: Budget,
    checkpoint: Path,
    *,
    device: torch.device,
    batch: int = BATCH,
    seed: int = 6,
) -> dict[str, Tensor]:
    """Train until the budget is spent, from the checkpoint when there is one.

    Returns the averaged weights in fp32, by name.
    """
    if device.type == "cpu":
        # The fused CPU attention spends 30 % of a step in its backward pass at these small sizes.
        unet.set_attn_processor(AttnProcessor())
    trainer = Trainer(unet, RATES, device)
    alphas = new_scheduler().alphas_cumprod

    def loss_of(part: int) -> Tensor:
        generator = step_generator(seed * 2 + part, budget.step)
        return unet_loss(unet, data, generator, alphas, batch // trainer.parts)

    return fit(trainer, budget, checkpoint, loss_of, name="unet", flat=0.4)

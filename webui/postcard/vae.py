"""The autoencoder: 256x256 pictures to 32x32 latents with four live channels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from webui.postcard.canvas import SIZE
from webui.postcard.edges import (
    bias,
    convolution,
    decode_latents,
    encode_pictures,
    new_autoencoder,
    pieces,
    tensor_of,
)
from webui.postcard.scenes import draw_scene, random_scene
from webui.postcard.training import (
    Budget,
    Rates,
    Trainer,
    fit,
    step_generator,
)

CHANNELS = (16, 32, 64, 64)
_CARRIED = 8
_ANCHOR = 4.0
_KL = 1e-6
_CROPS_PER_SCENE = 4


@dataclass(frozen=True)
class Stage:
    """Batches of `batch` crops of `size` x `size` pixels until the training's `until` (0..1)."""

    until: float
    size: int
    batch: int


STAGES = (Stage(0.25, 64, 16), Stage(0.75, 128, 8), Stage(1.0, 256, 2))
RATES = Rates(adam=2e-3, muon=3e-3, average=0.995)


def new_vae() -> AutoencoderKL:
    """Return an untrained autoencoder (0.94 M parameters) that already carries colours through."""
    levels = len(CHANNELS)
    vae = new_autoencoder(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=SIZE,
        scaling_factor=1.0,
        force_upcast=False,
    )
    _carry_colours(vae)
    return vae


@torch.no_grad()
def _carry_colours(vae: AutoencoderKL) -> None:
    """Start as an identity on blurred colours, some 20 dB before the first step.

    The trunk carries +-RGB in channels 0..5 and two constants in 6 and 7, which anchor the
    GroupNorm's scale; silu(x) - silu(-x) = x reads the colours out again.
    """
    for module in vae.modules():
        match module:
            case ResnetBlock2D():
                _quieten(module)
            case Downsample2D():
                _carry(convolution(module.conv), [(0, 0), (0, 1), (1, 0), (1, 1)])
            case Upsample2D():
                _carry(convolution(module.conv), [(1, 1)])
            case _:
                pass
    for layer, gain in ((vae.encoder.conv_in, 1.0), (vae.decoder.conv_in, 0.5)):
        _split_signs(layer, gain)
    _read_out(vae.encoder.conv_out, keep=slice(3, 4))
    vae.encoder.conv_out.weight[4:] *= 0.1
    bias(vae.encoder.conv_out)[4:] = -5.0
    _read_out(vae.decoder.conv_out, keep=slice(0, 0))
    for quant in (convolution(vae.quant_conv), convolution(vae.post_quant_conv)):
        quant.weight.copy_(torch.eye(len(quant.weight))[:, :, None, None])
        bias(quant).zero_()


def _quieten(block: ResnetBlock2D) -> None:
    last = convolution(block.conv2)
    last.weight *= 0.3
    last.weight[:_CARRIED] *= 0.3
    bias(last).zero_()
    if isinstance(block.conv_shortcut, nn.Conv2d):
        _carry(block.conv_shortcut, [(0, 0)])


def _carry(layer: nn.Conv2d, taps: list[tuple[int, int]]) -> None:
    """Pass the carried channels on, averaged over the given taps of the kernel."""
    layer.weight[:_CARRIED] = 0
    bias(layer)[:_CARRIED] = 0
    for channel in range(_CARRIED):
        for row, column in taps:
            layer.weight[channel, channel, row, column] = 1 / len(taps)


def _split_signs(layer: nn.Conv2d, gain: float) -> None:
    """Put three input channels into the carried ones: as they are, negated, and two constants."""
    layer.weight[:_CARRIED] = 0
    bias(layer)[:_CARRIED] = 0
    for colour in range(3):
        layer.weight[colour, colour, 1, 1] = gain
        layer.weight[colour + 3, colour, 1, 1] = -gain
    bias(layer)[6], bias(layer)[7] = _ANCHOR, -_ANCHOR


def _read_out(layer: nn.Conv2d, keep: slice) -> None:
    """Read RGB from the carried +-RGB; `keep` are outputs that stay as initialised."""
    kept = layer.weight[keep].clone() * 4
    layer.weight[:3] *= 0.1
    for colour in range(3):
        layer.weight[colour, colour, 1, 1] += 2
        layer.weight[colour, colour + 3, 1, 1] -= 2
    layer.weight[keep] = kept
    bias(layer).zero_()


def pixels(images: np.ndarray) -> Tensor:
    """Return N x H x W x 3 pictures (0..255) as N x 3 x H x W in -1..1, channels last."""
    values = tensor_of(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return values.contiguous(memory_format=torch.channels_last)


def scene_crops(stage: Stage, count: int, random: Random) -> Tensor:
    """Return crops of freshly drawn scenes, count x 3 x size x size in -1..1."""
    crops = np.empty((count, stage.size, stage.size, 3), np.uint8)
    per_scene = 1 if stage.size == SIZE else _CROPS_PER_SCENE
    image = draw_scene(random_scene(random)).image
    for index in range(count):
        if index and index % per_scene == 0:
            image = draw_scene(random_scene(random)).image
        top, left = (random.randint(0, SIZE - stage.size) for _ in range(2))
        crops[index] = image[top : top + stage.size, left : left + stage.size]
    return pixels(crops)


def reconstruction_loss(decoded: Tensor, target: Tensor, progress: float) -> Tensor:
    """Return L1, squared and gradient error; the last third is led by the squared error."""
    squared = F.mse_loss(decoded, target)
    if progress > 0.66:
        return 8 * squared + 0.25 * F.l1_loss(decoded, target)
    edges = F.l1_loss(decoded.diff(dim=-1), target.diff(dim=-1))
    edges = edges + F.l1_loss(decoded.diff(dim=-2), target.diff(dim=-2))
    return F.l1_loss(decoded, target) + 3 * squared + edges


def vae_loss(vae: AutoencoderKL, x: Tensor, noise: Tensor, progress: float) -> Tensor:
    """Return the loss of a batch x (N x 3 x H x W); `noise` is that of the latents."""
    mean, logvar = encode_pictures(vae, x)
    decoded = decode_latents(vae, mean + torch.exp(0.5 * logvar) * noise)
    divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return reconstruction_loss(decoded, x, progress) + _KL * divergence


def train_vae(
    vae: AutoencoderKL,
    budget: Budget,
    checkpoint: Path,
    *,
    device: torch.device,
    seed: int = 1,
    stages: tuple[Stage, ...] = STAGES,
) -> dict[str, Tensor]:
    """Train until the budget is spent, from the checkpoint when there is one.

    Returns the averaged weights in fp32, by name.
    """
    trainer = Trainer(vae, RATES, device)

    def loss_of(part: int) -> Tensor:
        stage = next(s for s in stages if budget.progress < s.until)
        number = seed * 2 + part
        random = Random(number * 1_000_003 + budget.step)
        x = scene_crops(stage, stage.batch // trainer.parts, random)
        shape = (len(x), 4, stage.size // 8, stage.size // 8)
        noise = torch.randn(shape, generator=step_generator(number, budget.step))
        return vae_loss(vae, x.to(device), noise.to(device), budget.progress)

    return fit(trainer, budget, checkpoint, loss_of, name="vae", flat=0.3)


@torch.no_grad()
def measure_vae(vae: AutoencoderKL, images: np.ndarray) -> tuple[float, list[float]]:
    """Return the PSNR in dB over N x H x W x 3 pictures and each latent channel's deviation."""
    x = pixels(images)
    latents = [encode_pictures(vae, part)[0] for part in pieces(x, 4)]
    decoded = torch.cat([decode_latents(vae, z).cpu() for z in latents])
    error = ((decoded.clamp(-1, 1) - x) / 2).square().mean()
    deviations = torch.cat(latents).std((0, 2, 3))
    return float(-10 * error.log10()), [round(float(d), 3) for d in deviations]

"""A model in memory, ready to run, and how it gets there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from webui.errors import BrokenFileError
from webui.generation.attention import attention_of, use_attention
from webui.generation.backbones import BACKBONES
from webui.generation.backbones.base import Backbone
from webui.generation.companions import Companions, FoundPart
from webui.generation.compiling import BlockCompiler
from webui.generation.devices import Device, bytes_on, held_by
from webui.generation.failures import while_loading
from webui.generation.families import Family
from webui.generation.latent_maps import LatentMap
from webui.generation.loading import load_pipe
from webui.generation.loras import Loras
from webui.generation.placement import place
from webui.generation.rereading import Rereader
from webui.library.checkpoints import Checkpoint
from webui.library.lora_facts import LoraPart
from webui.settings import PlanName


@dataclass(frozen=True)
class Loaded:
    """A model in memory, ready to run.

    Attributes:
        pipe: The diffusers pipeline; its scheduler is replaced for each request.
        scheduler_config: The model's own scheduler configuration, as it was on disk.
        latent_map: Latents to RGB for previews.
        loras: What is merged into the weights, and what takes it out again.
        compiler: Runs the denoiser's blocks compiled where that is asked for.
        laid_out: The plan by which its weights lie in memory.
        rereader: Reads the parts that are not always there.
        parts: Its networks that came from elsewhere than its own file or folder.
    """

    checkpoint: Checkpoint
    family: Family
    pipe: DiffusionPipeline
    scheduler_config: Mapping[str, Any]
    latent_map: LatentMap
    loras: Loras
    compiler: BlockCompiler
    laid_out: PlanName
    rereader: Rereader
    parts: tuple[FoundPart, ...] = ()

    @property
    def backbone(self) -> Backbone:
        """How the pipeline is fed."""
        return BACKBONES[self.family.backbone]

    @property
    def denoiser(self) -> Any:
        """The network that predicts the noise, one of diffusers' models."""
        return self.pipe.components[self.backbone.denoiser]

    @cached_property
    def attention(self) -> str:
        """How the denoiser computes attention."""
        return attention_of(self.denoiser)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, wherever they lie, and of what is kept to take LoRAs out again."""
        weights = (
            held_by(tensor) for part in self.networks.values() for tensor in weights_of(part)
        )
        return sum(weights) + self.loras.kept_bytes

    def bytes_on(self, device: str) -> int:
        """Bytes of all that which lie on that device now."""
        weights = (tensor for part in self.networks.values() for tensor in weights_of(part))
        return bytes_on(weights, device) + self.loras.bytes_on(device)

    @cached_property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The components that have weights, by diffusers' names."""
        return networks_of(self.pipe)


def load_model(
    checkpoint: Checkpoint,
    family: Family,
    plan: PlanName,
    device: Device,
    others: Mapping[str, Path] = MappingProxyType({}),
) -> Loaded:
    """Reads a model from its files and lays it out.

    Args:
        plan: The name of the plan by which its weights are to lie.
        others: As in `webui.generation.loading.load_pipe`.

    Raises:
        WebuiError: As `webui.generation.loading.load_pipe`, or memory has run out.
    """
    scheduler_config = checkpoint.config("scheduler")
    backbone = BACKBONES[family.backbone]
    rereader = Rereader(device)
    with while_loading(f"the model {checkpoint.name!r}", "model", device.name):
        pipe = load_pipe(
            checkpoint,
            family.pipeline,
            device.dtype,
            others=others,
            layout=device.memory_format,
            in_fp8=plan == "fp8",
            aside=rereader.add if plan == "drop" else None,
        )
        denoiser: Any = pipe.components[backbone.denoiser]
        use_attention(denoiser, device.attention)
        staying = {n: p for n, p in networks_of(pipe).items() if n not in rereader.names}
        place(staying, plan, device)
    loras = Loras(_changeable(pipe, backbone), bring=rereader.bring)
    rereader.on_leaving(loras.forget_merged)
    return Loaded(
        checkpoint,
        family,
        pipe,
        MappingProxyType(scheduler_config),
        _latent_map(checkpoint) or family.latent_map,
        loras,
        BlockCompiler(denoiser),
        plan,
        rereader,
        Companions(checkpoint).elsewhere,
    )


def networks_of(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The pipeline's components that have weights."""
    return {
        name: component
        for name, component in pipe.components.items()
        if isinstance(component, torch.nn.Module)
    }


def weights_of(part: torch.nn.Module) -> Iterator[torch.Tensor]:
    """A network's weights and buffers."""
    yield from part.parameters()
    yield from part.buffers()


def _changeable(pipe: DiffusionPipeline, backbone: Backbone) -> dict[LoraPart, torch.nn.Module]:
    """The components that LoRAs can change; a model may lack a text encoder."""
    found: dict[LoraPart, torch.nn.Module] = {}
    for name in backbone.parts:
        part = pipe.components[name]
        if isinstance(part, torch.nn.Module):
            found[name] = part
    return found


def _latent_map(checkpoint: Checkpoint) -> LatentMap | None:
    """The model's own map for previews, `preview.json`, where it brings one."""
    try:
        data = json.loads((checkpoint.path / "preview.json").read_bytes())
        matrix = tuple((float(r), float(g), float(b)) for r, g, b in data["matrix"])
        red, green, blue = (float(value) for value in data["bias"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        raise BrokenFileError(
            f"The model {checkpoint.name!r} has a damaged preview.json: remove or mend it.",
            field="model",
        ) from None
    return LatentMap(matrix, (red, green, blue))

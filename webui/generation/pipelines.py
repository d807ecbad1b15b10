"""One set of model components in memory, loaded once and shared by everything that runs."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from tqdm import tqdm

from webui.errors import BrokenFileError, OutOfMemoryError
from webui.generation.backbones import BACKBONES
from webui.generation.backbones.base import Backbone
from webui.generation.devices import Device
from webui.generation.families import Family, LatentMap
from webui.generation.loras import Loras
from webui.library.checkpoints import Checkpoint
from webui.library.lora_facts import LoraPart


@dataclass(frozen=True)
class Loaded:
    """A model in memory, ready to run.

    Attributes:
        pipe: The diffusers pipeline; its scheduler is replaced for each request.
        scheduler_config: The model's own scheduler configuration, as it was on disk.
        latent_map: Latents to RGB for previews.
        loras: What is merged into the weights, and what takes it out again.
    """

    checkpoint: Checkpoint
    family: Family
    pipe: DiffusionPipeline
    scheduler_config: Mapping[str, Any]
    latent_map: LatentMap
    loras: Loras

    @property
    def backbone(self) -> Backbone:
        """How the pipeline is fed."""
        return BACKBONES[self.family.backbone]

    @property
    def denoiser(self) -> Any:
        """The network that predicts the noise, one of diffusers' models."""
        return self.pipe.components[self.backbone.denoiser]

    @property
    def attention(self) -> str:
        """Name of diffusers' attention processor that the denoiser uses."""
        return type(next(iter(self.denoiser.attn_processors.values()))).__name__


def quiet_libraries() -> None:
    """Keeps progress bars and advice meant for programmers off the console."""
    # tqdm's own lock takes a semaphore of the system, reported as leaked when a process is killed.
    bars: Any = tqdm
    bars.set_lock(threading.RLock())
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


class Pipelines:
    """Keeps the models of the last request; those of another one take their place."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: dict[str, Loaded] = {}

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Whether that very model, by content, is in memory."""
        return checkpoint.sha256 in self._kept

    @property
    def loaded(self) -> Loaded | None:
        """The model that was loaded last."""
        return next(reversed(self._kept.values()), None)

    def get(
        self, checkpoint: Checkpoint, family: Family, beside: Checkpoint | None = None
    ) -> Loaded:
        """The model, loaded when it is not in memory yet.

        Args:
            beside: Another model that is to stay if it is in memory.

        Raises:
            BrokenFileError: A part is missing or does not fit its configuration.
            OutOfMemoryError: The device cannot hold it.
        """
        wanted = {one.sha256 for one in (checkpoint, beside) if one is not None}
        for sha256 in [*self._kept]:
            if sha256 not in wanted:
                del self._kept[sha256]
        if not self.holds(checkpoint):
            # Freed first, so that models that nobody asked for never lie beside it.
            gc.collect()
            self._kept[checkpoint.sha256] = self._load(checkpoint, family)
        return self._kept[checkpoint.sha256]

    def _load(self, checkpoint: Checkpoint, family: Family) -> Loaded:
        scheduler_config = checkpoint.config("scheduler")
        try:
            pipe = _from_folder(checkpoint, family, self._device.dtype)
            self._place(pipe)
        except (torch.OutOfMemoryError, MemoryError):
            raise OutOfMemoryError(
                f"{self._device.name} has not enough memory for the model {checkpoint.name!r}."
            ) from None
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
            raise BrokenFileError(
                f"The model {checkpoint.name!r} could not be loaded: {reason}", field="model"
            ) from error
        return Loaded(
            checkpoint,
            family,
            pipe,
            MappingProxyType(scheduler_config),
            _latent_map(checkpoint) or family.latent_map,
            Loras(_changeable(pipe, BACKBONES[family.backbone])),
        )

    def _place(self, pipe: DiffusionPipeline) -> None:
        for name, component in pipe.components.items():
            if isinstance(component, torch.nn.Module):
                convolves = name in ("unet", "vae")
                own(component, self._device, convolves=convolves)


def _changeable(pipe: DiffusionPipeline, backbone: Backbone) -> dict[LoraPart, torch.nn.Module]:
    """The components that LoRAs can change; a model may lack a text encoder."""
    found: dict[LoraPart, torch.nn.Module] = {}
    for name in backbone.parts:
        part = pipe.components[name]
        if isinstance(part, torch.nn.Module):
            found[name] = part
    return found


def own(module: torch.nn.Module, device: Device, *, convolves: bool) -> None:
    """Gives the module weights of its own on the device, in the device's layout.

    Straight from loading they are views of the mapped file: a second copy beside the converted
    ones for as long as any of them is left, and a crash when somebody cuts the file short.
    """
    module.eval().requires_grad_(False)
    for tensor in (*module.parameters(), *module.buffers()):
        layout = torch.contiguous_format
        if convolves and tensor.ndim == 4:
            layout = device.memory_format
        tensor.data = tensor.data.to(device.name, copy=True, memory_format=layout)


def _from_folder(checkpoint: Checkpoint, family: Family, dtype: torch.dtype) -> DiffusionPipeline:
    # diffusers declares neither its classes' keyword arguments nor what they give back.
    pipeline: Any = getattr(diffusers, family.pipeline)
    # Only some of the pipelines have a checker of their own, and would fetch one.
    unchecked = (
        {"safety_checker": None, "requires_safety_checker": False}
        if "safety_checker" in pipeline._optional_components
        else {}
    )
    pipe = pipeline.from_pretrained(
        checkpoint.path, dtype=dtype, local_files_only=True, use_safetensors=True, **unchecked
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


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

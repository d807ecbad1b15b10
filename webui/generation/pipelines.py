"""One set of model components in memory, loaded once and shared by everything that runs."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from tqdm import tqdm

from webui.errors import BrokenFileError, OutOfMemoryError
from webui.generation.attention import attention_of, use_attention
from webui.generation.backbones import BACKBONES
from webui.generation.backbones.base import Backbone
from webui.generation.devices import (
    Device,
    free_bytes,
    give_back,
    is_out_of_memory,
    memory_of,
)
from webui.generation.families import Family
from webui.generation.latent_maps import LatentMap
from webui.generation.loading import load_pipe
from webui.generation.loras import Loras
from webui.generation.memory import (
    LADDER,
    USUAL,
    MemoryPlan,
    PictureSize,
    Sizes,
    leaner,
    plan_memory,
    retried,
)
from webui.generation.placement import decode_in_tiles, place
from webui.generation.weight_sizes import sizes_for
from webui.library.checkpoints import Checkpoint
from webui.library.lora_facts import LoraPart
from webui.settings import MemoryName, PlanName


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
        """How the denoiser computes attention."""
        return attention_of(self.denoiser)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, wherever they lie, and of what is kept to take LoRAs out again."""
        weights = (tensor.nbytes for part in self.networks.values() for tensor in _tensors(part))
        return sum(weights) + self.loras.kept_bytes

    def bytes_on(self, device: str) -> int:
        """Bytes of the weights that lie on that device now."""
        kind = torch.device(device).type
        return sum(
            tensor.nbytes
            for part in self.networks.values()
            for tensor in _tensors(part)
            if tensor.device.type == kind
        )

    @cached_property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The components that have weights, by diffusers' names."""
        return networks_of(self.pipe)


def quiet_libraries() -> None:
    """Keeps progress bars and advice meant for programmers off the console."""
    # tqdm's own lock takes a semaphore of the system, reported as leaked when a process is killed.
    bars: Any = tqdm
    bars.set_lock(threading.RLock())
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


class Pipelines:
    """The model last asked for, and those before it as long as there is room, laid out as planned.

    Another model's weights are not read before there is room for them.
    """

    def __init__(
        self, device: Device, *, memory: MemoryName = "auto", keep_bytes: int | None = None
    ) -> None:
        """`memory` and `keep_bytes` are those of `webui.settings.Settings`."""
        self._device = device
        self._memory: MemoryName = memory
        self._keep_bytes = keep_bytes
        # The one in use is the last.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._leanest: dict[str, PlanName] = {}
        self._plan: MemoryPlan | None = None

    @property
    def plan(self) -> MemoryPlan:
        """How the model last asked for is laid out; it may not have been loaded.

        Raises:
            LookupError: None has been asked for.
        """
        if self._plan is None:
            raise LookupError("no model has been asked for")
        return self._plan

    @property
    def loaded(self) -> Loaded | None:
        """The model in use."""
        return next(reversed(self._kept.values())).loaded if self._kept else None

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the models in memory, the one in use last."""
        return tuple(kept.loaded.checkpoint.name for kept in self._kept.values())

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Whether that very model, by content, is in memory."""
        return checkpoint.sha256 in self._kept

    def get(
        self,
        checkpoint: Checkpoint,
        family: Family,
        size: PictureSize = USUAL,
        *,
        beside: Checkpoint | None = None,
    ) -> Loaded:
        """The model, loaded when it is not in memory yet, laid out for pictures of that size.

        Args:
            beside: Another model that is to stay if it is in memory.

        Raises:
            BrokenFileError: A part is missing or does not fit its configuration.
            OutOfMemoryError: The device cannot hold it.
        """
        held = self._kept.get(checkpoint.sha256)
        itemsize = self._device.dtype.itemsize
        sizes = held.sizes if held else sizes_for(checkpoint, family.loras, itemsize=itemsize)
        if held is not None:
            self._kept.move_to_end(checkpoint.sha256)
        self._make_room(sizes, size, checkpoint, beside)
        plan = self._planned(sizes, size, checkpoint.sha256)
        if held is not None and LADDER.index(plan.name) > LADDER.index(held.name):
            held = None
            self._drop(checkpoint.sha256)
            plan = self._planned(sizes, size, checkpoint.sha256)
        self._plan = plan
        if held is None:
            loaded = self._load(checkpoint, family, plan)
            held = self._kept[checkpoint.sha256] = _Kept(loaded, plan.name, sizes)
        elif held.name != plan.name:
            # Leaner than it would have to be by now: it stays, since changing costs a loading.
            self._plan = replace(plan, name=held.name)
        decode_in_tiles(held.loaded.networks["vae"], tiled=plan.tiled)
        return held.loaded

    def retreat(self, checkpoint: Checkpoint) -> MemoryPlan | None:
        """Makes the model lie leaner from now on, after the plan has run out of memory.

        All models leave memory.

        Returns:
            The plan that comes next; None where there is nothing leaner.
        """
        self.release()
        name = leaner(self.plan, self._device)
        if name is None:
            return None
        self._leanest[checkpoint.sha256] = name
        return retried(self.plan, name)

    def release(self) -> None:
        """Lets all models go."""
        self._kept.clear()
        give_back(self._device.name)

    def _planned(self, sizes: Sizes, size: PictureSize, sha256: str) -> MemoryPlan:
        """The plan for a model, as if it were not in memory, beside the others that are."""
        held = self._kept.get(sha256)
        own = held.loaded.bytes_on(self._device.name) if held else 0
        return self._plan_with(free_bytes(self._device.name) + own, sizes, size, sha256)

    def _plan_with(self, free: int, sizes: Sizes, size: PictureSize, sha256: str) -> MemoryPlan:
        host = free_bytes("cpu") if self._device.apart else None
        plan = plan_memory(sizes, free, self._device, *size, host=host, asked=self._memory)
        least = self._leanest.get(sha256)
        if least is not None and LADDER.index(plan.name) <= LADDER.index(least):
            return retried(plan, least)
        return plan

    def _make_room(
        self, sizes: Sizes, size: PictureSize, wanted: Checkpoint, beside: Checkpoint | None
    ) -> None:
        """Drops other models, the one longest not used first, as far as they are in the way."""
        staying = {one.sha256 for one in (wanted, beside) if one is not None}
        for sha256 in [sha256 for sha256 in self._kept if sha256 not in staying]:
            if self._is_room_beside_others(sizes, size, wanted.sha256):
                return
            self._drop(sha256)

    def _is_room_beside_others(self, sizes: Sizes, size: PictureSize, but: str) -> bool:
        others = [kept.loaded for sha256, kept in self._kept.items() if sha256 != but]
        held = sum(loaded.nbytes for loaded in others)
        if self._keep_bytes is not None:
            fits = held <= self._keep_bytes
        else:
            fits = held + sizes.weights <= memory_of(self._device.name).total // 2
        if not fits:
            return False
        there = sum(loaded.bytes_on(self._device.name) for loaded in others)
        plan = self._planned(sizes, size, but)
        best = self._plan_with(plan.free + there, sizes, size, but)
        return (plan.name, plan.tiled) == (best.name, best.tiled)

    def _drop(self, sha256: str) -> None:
        del self._kept[sha256]
        give_back(self._device.name)

    def _load(self, checkpoint: Checkpoint, family: Family, plan: MemoryPlan) -> Loaded:
        scheduler_config = checkpoint.config("scheduler")
        try:
            pipe = load_pipe(checkpoint, family.pipeline, self._device.dtype)
            use_attention(
                pipe.components[BACKBONES[family.backbone].denoiser], self._device.attention
            )
            place(networks_of(pipe), plan.name, self._device)
        except (
            OSError,
            ValueError,
            RuntimeError,
            KeyError,
            TypeError,
            AttributeError,
            MemoryError,
        ) as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"{self._device.name} has not enough memory for the model {checkpoint.name!r}."
                ) from None
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


@dataclass(frozen=True)
class _Kept:
    """A model in memory.

    Attributes:
        name: The plan it is laid out by.
    """

    loaded: Loaded
    name: PlanName
    sizes: Sizes


def networks_of(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The pipeline's components that have weights."""
    return {
        name: component
        for name, component in pipe.components.items()
        if isinstance(component, torch.nn.Module)
    }


def _tensors(part: torch.nn.Module) -> Iterator[torch.Tensor]:
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

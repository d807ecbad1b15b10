"""One set of model components in memory, loaded once and shared by everything that runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from webui.generation.companions import Companions
from webui.generation.devices import (
    Device,
    bytes_on,
    free_bytes,
    give_back,
    memory_of,
)
from webui.generation.families import Family
from webui.generation.loaded import Loaded, load_model, weights_of
from webui.generation.memory import (
    LADDER,
    USUAL,
    MemoryPlan,
    PictureSize,
    leaner,
    plan_memory,
)
from webui.generation.part_names import VAE
from webui.generation.placement import decode_in_tiles, place
from webui.generation.separate_vae import load_vae
from webui.generation.sizes import Sizes
from webui.generation.weight_sizes import sizes_for, vae_bytes
from webui.library.checkpoints import Checkpoint
from webui.library.vaes import Vae
from webui.settings import MemoryName, PlanName


@dataclass(frozen=True)
class Company:
    """What lies in memory beside a model while it runs.

    Attributes:
        model: Another model, which stays if it is in memory.
        sizes: What all of it takes: that model, ControlNets, LoRAs.
        there: Bytes of the ControlNets that are on the device by now.
    """

    model: Checkpoint | None = None
    sizes: tuple[Sizes, ...] = ()
    there: int = 0


ALONE = Company()


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
        self._plans: dict[str, MemoryPlan] = {}
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

    def holds(self, checkpoint: Checkpoint, vae: Vae | None = None) -> bool:
        """Whether that very model, as its files are now, is in memory, with that VAE if any."""
        held = self._kept.get(checkpoint.key)
        return (
            held is not None
            and held.loaded.rereader.is_current
            and (vae is None or held.vae == vae.key)
        )

    def sizes(self, checkpoint: Checkpoint, family: Family, vae: Vae | None = None) -> Sizes:
        """What a model takes, with a VAE in place of its own, which stays in memory.

        Raises:
            BrokenFileError: A file is truncated or damaged.
        """
        held = self._kept.get(checkpoint.key)
        own = held.sizes if held else sizes_for(checkpoint, family.loras, self._device.dtype)
        return self._and_vae(own, checkpoint, vae)

    def _and_vae(self, own: Sizes, checkpoint: Checkpoint, vae: Vae | None) -> Sizes:
        if vae is None:
            return own
        return replace(own, vae=own.vae + vae_bytes(vae, checkpoint, self._device.dtype))

    def get(
        self,
        checkpoint: Checkpoint,
        family: Family,
        size: PictureSize = USUAL,
        *,
        beside: Company = ALONE,
        vae: Vae | None = None,
    ) -> Loaded:
        """The model, loaded when it is not in memory yet, laid out for pictures of that size.

        Args:
            vae: What it has in place of its own VAE.

        Raises:
            BrokenFileError: A part does not fit its configuration.
            NotFoundError: A part is missing.
            OutOfMemoryError: The device cannot hold it.
        """
        held = self._kept.get(checkpoint.key)
        # Of a model that has no VAE of its own, there may be one by now; loading tells.
        without_vae = vae is None and held is not None and held.lacks_vae
        if held is not None and (without_vae or not held.loaded.rereader.is_current):
            held = None
            self._drop(checkpoint.key)
        own = self.sizes(checkpoint, family)
        if held is not None:
            self._kept.move_to_end(checkpoint.key)
        need = _Need(checkpoint.key, self._and_vae(own, checkpoint, vae), size, beside)
        self._make_room(need)
        plan = self._planned(need)
        if held is not None and LADDER.index(plan.name) > LADDER.index(held.name):
            held = None
            self._drop(checkpoint.key)
            plan = self._planned(need)
        elif held is not None and held.name != plan.name:
            # Leaner than it would have to be by now: it stays, since changing costs a loading.
            plan = self._planned(need, kept=held.name)
        self._plans[checkpoint.key] = self._plan = plan
        if held is None:
            held = self._kept[checkpoint.key] = self._load(checkpoint, family, plan.name, own, vae)
        held = self._kept[checkpoint.key] = self._with_vae(held, vae)
        decode_in_tiles(held.loaded.networks["vae"], tiled=plan.tiled)
        return held.loaded

    def retreat(self, *together: Checkpoint) -> PlanName | None:
        """Makes models that are used together lie leaner from now on, after they have run out of
        memory.

        All models leave memory.

        Returns:
            The plan that comes next; None where there is nothing leaner.
        """
        self.release()
        plans = [self._plans[one.key] for one in together if one.key in self._plans]
        # The least lean of them has the most to give.
        plans.sort(key=lambda plan: (LADDER.index(plan.name), plan.tiled))
        name = leaner(plans[0]) if plans else None
        if name is not None:
            self._leanest |= {one.key: name for one in together}
        return name

    def release(self) -> None:
        """Lets all models go."""
        self._kept.clear()
        give_back(self._device.name)

    def _planned(
        self, need: _Need, *, kept: PlanName | None = None, without: Sequence[_Kept] = ()
    ) -> MemoryPlan:
        """The plan for a model, as if neither it nor what runs beside it were in memory.

        Args:
            kept: As in `plan_memory`.
            without: Other models that are to be thought away too.
        """
        own = [kept for key, kept in self._kept.items() if key in need.together]

        def free_on(device: str) -> int:
            return free_bytes(device) + sum(one.bytes_on(device) for one in (*own, *without))

        return plan_memory(
            need.sizes,
            free_on(self._device.name) + need.beside.there,
            self._device,
            *need.size,
            beside=need.beside.sizes,
            host=free_on("cpu") if self._device.apart else None,
            asked=self._memory,
            after=self._leanest.get(need.key),
            kept=kept,
        )

    def _make_room(self, need: _Need) -> None:
        """Drops other models, the one longest not used first, as far as they are in the way."""
        for key in [key for key in self._kept if key not in need.together]:
            if self._is_room_beside_others(need):
                return
            self._drop(key)

    def _is_room_beside_others(self, need: _Need) -> bool:
        others = [kept for key, kept in self._kept.items() if key != need.key]
        held = sum(kept.nbytes for kept in others)
        if self._keep_bytes is not None:
            fits = held <= self._keep_bytes
        else:
            fits = held + need.sizes.weights <= memory_of(self._device.name).total // 2
        if not fits:
            return False
        in_the_way = [kept for key, kept in self._kept.items() if key not in need.together]
        plan, best = self._planned(need), self._planned(need, without=in_the_way)
        return plan.layout == best.layout

    def _load(
        self, checkpoint: Checkpoint, family: Family, plan: PlanName, own: Sizes, vae: Vae | None
    ) -> _Kept:
        """The model with its own VAE, or with the given one where it has none."""
        if vae is None or Companions(checkpoint).place(VAE) is not None:
            return _Kept(load_model(checkpoint, family, plan, self._device), plan, own)
        loaded = load_model(checkpoint, family, plan, self._device, {VAE: vae.path})
        return _Kept(loaded, plan, own, vae=vae.key)

    def _with_vae(self, held: _Kept, vae: Vae | None) -> _Kept:
        """The model with that VAE, or with its own, which is kept."""
        key = None if vae is None else vae.key
        if key == held.vae:
            return held
        own = None if held.lacks_vae else held.own_vae or held.loaded.networks[VAE]
        part = own
        if vae is not None:
            part = load_vae(vae, held.loaded.checkpoint, self._device.dtype)
            place({"vae": part}, held.name, self._device)
        pipe: Any = held.loaded.pipe
        pipe.register_modules(vae=part)
        # Its networks are looked up anew.
        return replace(held, loaded=replace(held.loaded), vae=key, own_vae=own)

    def _drop(self, key: str) -> None:
        del self._kept[key]
        give_back(self._device.name)


@dataclass(frozen=True)
class _Kept:
    """A model in memory.

    Attributes:
        name: The plan it is laid out by.
        vae: Key of the VAE that it has in place of its own.
        own_vae: Its own, once it has had another; None also where it has none.
    """

    loaded: Loaded
    name: PlanName
    sizes: Sizes
    vae: str | None = None
    own_vae: torch.nn.Module | None = None

    @property
    def lacks_vae(self) -> bool:
        """Whether it has no VAE of its own, only the one that was chosen."""
        return self.vae is not None and self.own_vae is None

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept, wherever it lies."""
        return self.loaded.nbytes + sum(tensor.nbytes for tensor in self._unused)

    def bytes_on(self, device: str) -> int:
        """Bytes of that which lie on a device now."""
        return self.loaded.bytes_on(device) + bytes_on(self._unused, device)

    @property
    def _unused(self) -> tuple[torch.Tensor, ...]:
        """The weights of its own VAE while another one is in its place."""
        return () if self.vae is None or self.own_vae is None else tuple(weights_of(self.own_vae))


@dataclass(frozen=True)
class _Need:
    """A model that is asked for.

    Attributes:
        key: Its checkpoint's.
        sizes: What it takes, with a VAE in place of its own.
    """

    key: str
    sizes: Sizes
    size: PictureSize
    beside: Company

    @property
    def together(self) -> tuple[str, ...]:
        """Keys of the models that are to be in memory then."""
        return (self.key,) if self.beside.model is None else (self.key, self.beside.model.key)

"""Text encoders and denoiser that are in memory only while they are used.

Each is read from its files when it is called and let go when the others are: for devices whose
memory is the machine's own, where nothing is gained by parts that wait outside of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import (  # pyright: ignore[reportMissingTypeStubs]
    ModelHook,
    add_hook_to_module,
)
from torch import nn

from webui.errors import BrokenFileError
from webui.generation.devices import Device, give_back
from webui.generation.placement import kind_of, own
from webui.generation.sizes import Kind
from webui.library.facts_cache import stamp_of

ReadPart = Callable[[], nn.Module]


class Rereader:
    """The parts of one loaded model that are read again and again.

    A part that is not there keeps its modules, hooks and buffers. Its parameters keep their shapes,
    formats and device, and hold nothing.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._parts: dict[str, _Part] = {}
        self._forget: Callable[[str], None] = _nothing

    @property
    def names(self) -> frozenset[str]:
        """The parts it has, by diffusers' names of the components."""
        return frozenset(self._parts)

    @property
    def is_current(self) -> bool:
        """Whether the files are still those that the parts were read from."""
        return all(part.stamps == _stamps(part.place) for part in self._parts.values())

    def add(self, name: str, module: nn.Module, read: ReadPart, place: Path) -> None:
        """Takes a part that has just been read; those of the other kind leave memory.

        Args:
            read: Reads it again.
            place: The file or folder that it is read from.
        """
        kind = kind_of(name)
        if kind not in ("text", "denoiser"):
            return
        self._send_away(but=kind)
        own(module, self._device, convolves=kind == "denoiser")
        self._parts[name] = _Part(module, kind, read, place, _stamps(place))
        add_hook_to_module(module, _Bring(self, name))

    def on_leaving(self, forget: Callable[[str], None]) -> None:
        """Has somebody be told the name of each part that leaves memory."""
        self._forget = forget

    def bring(self, name: str) -> None:
        """Has a part be in memory, and none of the other kind; nothing for those it has not.

        Raises:
            BrokenFileError: Its files are no longer those it was read from before, or damaged.
        """
        part = self._parts.get(name)
        if part is None:
            return
        self._send_away(but=part.kind)
        if part.is_there:
            return
        if part.stamps != _stamps(part.place):
            raise BrokenFileError(
                f"{part.place.name} has changed while its model was in use: start once more.",
                field="model",
            )
        fresh = part.read()
        own(fresh, self._device, convolves=part.kind == "denoiser")
        weights = dict(fresh.named_parameters())
        for path, parameter in part.module.named_parameters():
            parameter.data = weights[path].data
        part.is_there = True

    def done_with_text(self) -> None:
        """Lets the text encoders go once a prompt has been read."""
        self._send_away(but="denoiser")

    def _send_away(self, *, but: Kind) -> None:
        leaving = [one for one in self._parts.items() if one[1].kind != but and one[1].is_there]
        for name, part in leaving:
            for parameter in part.module.parameters():
                parameter.data = _blank(parameter.data)
            part.is_there = False
            self._forget(name)
        if leaving:
            give_back(self._device.name)


@dataclass
class _Part:
    module: nn.Module
    kind: Kind
    read: ReadPart
    place: Path
    stamps: Mapping[str, str]
    is_there: bool = True


class _Bring(ModelHook):
    """Has its module be in memory when it is called."""

    def __init__(self, rereader: Rereader, name: str) -> None:
        self._rereader = rereader
        self._name = name

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Called by accelerate before the module's own forward."""
        self._rereader.bring(self._name)
        return args, kwargs


def _nothing(_name: str) -> None:
    """Where nobody has to be told."""


def _blank(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of that kind which takes one number: none that anything could be made of."""
    number = math.nan if tensor.is_floating_point() else 0
    one = torch.tensor(number, device=tensor.device).to(tensor.dtype)
    return one.expand(tensor.shape)


def _stamps(place: Path) -> dict[str, str]:
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    try:
        return {file.name: stamp_of(file.stat()) for file in files}
    except OSError:
        return {}

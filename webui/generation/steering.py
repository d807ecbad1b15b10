"""ControlNets beside the shared denoiser: put on for one run, whatever pipeline runs it.

They are no part of the pipeline. A hook on the UNet asks each ControlNet for its residuals before
the UNet computes and adds them up (Zhang et al., arXiv 2302.05543), so txt2img, img2img and
inpainting are steered alike over one set of components, and nothing stays behind. A union model
is asked once for all of its hints, as it was trained (ControlNet++, xinsir 2024).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

from webui.errors import BrokenFileError, OutOfMemoryError
from webui.generation.control import Control
from webui.generation.control_kinds import is_union
from webui.generation.devices import Device
from webui.generation.placement import own
from webui.library.controlnets import ControlNetFolder

_ROUNDING = 1e-6
"""Share of a step by which a start or an end may miss a boundary."""


@dataclass(frozen=True)
class Steering:
    """A ControlNet at work.

    Attributes:
        net: The ControlNet.
        drawn: The hint as bytes of RGB, 3 x height x width.
        hint: The same as the ControlNet takes it, 1 x 3 x height x width, on its device.
    """

    control: Control
    net: Any
    drawn: torch.Tensor
    hint: torch.Tensor

    @staticmethod
    def of(control: Control, net: Any, drawn: torch.Tensor) -> Steering:
        """The ControlNet with the hint it is shown."""
        return Steering(control, net, drawn, as_input(drawn, net))

    @property
    def frame(self) -> np.ndarray:
        """The hint as a picture, height x width x 3."""
        return self.drawn.permute(1, 2, 0).numpy()


class ControlNets:
    """Keeps the ControlNets of the last steered request in memory, one copy of each."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._nets: dict[str, Any] = {}

    def holds(self, nets: Sequence[ControlNetFolder]) -> bool:
        """Whether all of them, by content, are in memory."""
        return all(net.sha256 in self._nets for net in nets)

    def get(self, nets: Sequence[ControlNetFolder]) -> tuple[Any, ...]:
        """The ControlNets in order; those that are not among them leave memory.

        Raises:
            BrokenFileError: One does not fit its configuration.
            OutOfMemoryError: The device cannot hold them.
        """
        wanted = {net.sha256: net for net in nets}
        self._nets = {sha256: self._nets[sha256] for sha256 in wanted if sha256 in self._nets}
        for sha256, net in wanted.items():
            if sha256 not in self._nets:
                self._nets[sha256] = self._load(net)
        return tuple(self._nets[net.sha256] for net in nets)

    def release(self) -> None:
        """Frees their memory."""
        self._nets = {}

    def _load(self, net: ControlNetFolder) -> Any:
        untyped: Any = ControlNetUnionModel if is_union(net) else ControlNetModel
        try:
            loaded = untyped.from_pretrained(
                net.path,
                dtype=self._device.dtype,
                local_files_only=True,
                use_safetensors=True,
            )
            own(loaded, self._device, convolves=True)
        except (torch.OutOfMemoryError, MemoryError):
            raise OutOfMemoryError(
                f"{self._device.name} has not enough memory for the ControlNet {net.name!r}."
            ) from None
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
            raise BrokenFileError(
                f"The ControlNet {net.name!r} could not be loaded: {reason}", field="controls"
            ) from error
        return loaded


@contextmanager
def steered(pipe: Any, steerings: Sequence[Steering]) -> Generator[None]:
    """Lets the ControlNets steer one call of `pipe`, whose UNet is as before afterwards."""
    if not steerings:
        yield
        return
    hook = _Hook(pipe, steerings)
    handle = pipe.unet.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class _Hook:
    """Counts the UNet's calls, of which every round of the pipeline's loop makes one."""

    def __init__(self, pipe: Any, steerings: Sequence[Steering]) -> None:
        self._pipe = pipe
        self._steerings = steerings
        self._calls = 0

    def __call__(
        self, _unet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        sample, timestep = args
        rounds = self._pipe.num_timesteps
        down: list[torch.Tensor] | None = None
        middle: torch.Tensor | None = None
        at_work = [s for s in self._steerings if steers(s.control, self._calls, rounds)]
        for together in _asked_together(at_work):
            more_down, more_middle = _residuals(together, sample, timestep, kwargs)
            down = (
                more_down if down is None else [a + b for a, b in zip(down, more_down, strict=True)]
            )
            middle = more_middle if middle is None else middle + more_middle
        self._calls += 1
        if down is None:
            return args, dict(kwargs)
        residuals = {
            "down_block_additional_residuals": down,
            "mid_block_additional_residual": middle,
        }
        return args, {**kwargs, **residuals}


def _asked_together(steerings: Sequence[Steering]) -> list[list[Steering]]:
    """One group for each pass: all hints of a union model, or the one of another ControlNet."""
    groups: dict[tuple[int, int | None], list[Steering]] = {}
    for number, steering in enumerate(steerings):
        alone = steering.control.union_type is None
        groups.setdefault((id(steering.net), number if alone else None), []).append(steering)
    return list(groups.values())


def steers(control: Control, call: int, calls: int) -> bool:
    """Whether a control acts in a call of the UNet (from 0), which it does if its time overlaps it.

    diffusers asks for the whole call to lie within, so that a short time can be none.
    """
    return control.start * calls < call + 1 - _ROUNDING and control.end * calls > call + _ROUNDING


def _residuals(
    together: Sequence[Steering], sample: torch.Tensor, timestep: Any, kwargs: Mapping[str, Any]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    net = together[0].net
    hints = [steering.hint.expand(len(sample), -1, -1, -1) for steering in together]
    weights = [steering.control.weight for steering in together]
    types = [steering.control.union_type for steering in together]
    known = [kind for kind in types if kind is not None]
    about = (
        {"controlnet_cond": hints, "conditioning_scale": weights, **_types(known, net, sample)}
        if known
        else {"controlnet_cond": hints[0], "conditioning_scale": weights[0]}
    )
    # A UNet for inpainting takes mask and picture behind the latents.
    latents = sample[:, : net.config.in_channels]
    down, middle = net(
        latents,
        timestep,
        encoder_hidden_states=kwargs["encoder_hidden_states"],
        added_cond_kwargs=kwargs.get("added_cond_kwargs"),
        return_dict=False,
        **about,
    )
    return list(down), middle


def _types(types: Sequence[int], net: Any, sample: torch.Tensor) -> dict[str, Any]:
    """What the hints of a union model are: as a list, and as 0 or 1 for each type it knows."""
    asked = torch.zeros(len(sample), net.config.num_control_type)
    asked[:, types] = 1
    return {"control_type": asked.to(sample.device, sample.dtype), "control_type_idx": [*types]}


def as_input(hint: torch.Tensor, net: Any) -> torch.Tensor:
    """The hint's bytes as its ControlNet takes them, 1 x 3 x height x width in 0..1."""
    values = hint[None].to(net.device, torch.float32) / 255
    if net.config.controlnet_conditioning_channel_order == "bgr":
        values = values.flip(1)
    return values.to(net.dtype)

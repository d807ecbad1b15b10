"""ControlNets beside the shared denoiser: put on for one run, whatever pipeline runs it.

They are no part of the pipeline. A hook on the UNet asks each ControlNet for its residuals before
the UNet computes and adds them up (Zhang et al., arXiv 2302.05543), so txt2img, img2img and
inpainting are steered alike over one set of components, and nothing stays behind. A union model
is asked once for all of its hints, as it was trained (ControlNet++, xinsir 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel
from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel

from webui.errors import BrokenFileError
from webui.generation.control import Control
from webui.generation.control_kinds import is_union
from webui.generation.controlnet_loading import load_net
from webui.generation.devices import Device, bytes_on
from webui.generation.failures import while_loading
from webui.generation.masked import Masked
from webui.generation.placement import place
from webui.library.controlnets import ControlNetFolder
from webui.library.pipeline_folders import variant_in
from webui.settings import PlanName

_CLASSES: Mapping[str, Any] = MappingProxyType(
    {
        "FluxControlNetModel": FluxControlNetModel,
        "QwenImageControlNetModel": QwenImageControlNetModel,
        "SD3ControlNetModel": SD3ControlNetModel,
        "ZImageControlNetModel": ZImageControlNetModel,
    }
)

_ROUNDING = 1e-6
"""Share of a step by which a start or an end may miss a boundary."""


@dataclass(frozen=True)
class Steering:
    """A control unit at work.

    Attributes:
        net: The ControlNet; None where the model reads the hint itself, with a LoRA or without.
        drawn: The hint as bytes of RGB, 3 x height x width.
        hint: The same in 0..1 as a ControlNet takes it, 1 x 3 x height x width, on its device.
        masked: The picture that is painted anew in part, for ControlNets that see which.
    """

    control: Control
    net: Any
    drawn: torch.Tensor
    hint: torch.Tensor
    masked: Masked | None = None

    @staticmethod
    def of(
        control: Control, net: Any, drawn: torch.Tensor, masked: Masked | None = None
    ) -> Steering:
        """The unit with the hint as what reads it is shown it."""
        if masked is not None and control.inpaints:
            drawn = drawn * ~masked.mask[0].to(drawn.device)
        hint = drawn[None].float() / 255 if net is None else as_input(drawn, net)
        if masked is not None and control.inpaints and isinstance(net, ControlNetModel):
            # Those of UNets are told so, the others by a channel of their own.
            hint = hint.masked_fill(masked.mask.to(hint.device), -1)
        return Steering(control, net, drawn, hint, masked)

    @property
    def frame(self) -> np.ndarray:
        """The hint as a picture, height x width x 3."""
        return self.drawn.permute(1, 2, 0).numpy()


class ControlNets:
    """Keeps the ControlNets of the last steered request in memory, one copy of each.

    They are laid out as the model is that they steer, except that they take no turns: they are at
    work whenever its denoiser is.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._nets: dict[str, Any] = {}
        self._laid_out: PlanName = "resident"

    def holds(self, nets: Sequence[ControlNetFolder], plan: PlanName) -> bool:
        """Whether all of them, by content, are in memory, laid out by that plan."""
        held = self._nets if self._laid_out == _without_turns(plan) else {}
        return all(net.sha256 in held for net in nets)

    def bytes_on(self, device: str) -> int:
        """Bytes of their weights that lie on a device."""
        return sum(bytes_on(net.parameters(), device) for net in self._nets.values())

    def get(self, nets: Sequence[ControlNetFolder], plan: PlanName = "resident") -> tuple[Any, ...]:
        """The ControlNets in order; those that are not among them leave memory.

        Raises:
            BrokenFileError: One does not fit its configuration.
            OutOfMemoryError: The device cannot hold them.
        """
        layout = _without_turns(plan)
        wanted = {net.sha256: net for net in nets}
        self.keep_only(wanted if layout == self._laid_out else ())
        self._laid_out = layout
        for sha256, net in wanted.items():
            if sha256 not in self._nets:
                self._nets[sha256] = self._load(net)
        return tuple(self._nets[net.sha256] for net in nets)

    def keep_only(self, wanted: Container[str]) -> None:
        """Frees the memory of those whose content is not among the wanted."""
        self._nets = {sha256: net for sha256, net in self._nets.items() if sha256 in wanted}

    def _load(self, net: ControlNetFolder) -> Any:
        untyped: Any = _CLASSES.get(net.class_name, ControlNetModel)
        if is_union(net):
            untyped = ControlNetUnionModel
        what = f"the ControlNet {net.name!r}"
        try:
            with while_loading(what, "controls", self._device.name):
                if net.file is not None:
                    loaded: Any = load_net(untyped, net, net.file, self._device.dtype)
                else:
                    loaded = untyped.from_pretrained(
                        net.path,
                        dtype=self._device.dtype,
                        local_files_only=True,
                        use_safetensors=True,
                        variant=variant_in(net.path),
                    )
                place({"controlnet": loaded}, self._laid_out, self._device)
        except BrokenFileError as error:
            raise BrokenFileError(error.message, field="controls") from None
        return loaded


def _without_turns(plan: PlanName) -> PlanName:
    return "resident" if plan == "turns" else plan


@contextmanager
def steered(
    pipe: Any,
    steerings: Sequence[Steering],
    hook: Callable[..., Any] | None = None,
    *,
    pictures: int,
) -> Generator[None]:
    """Lets the ControlNets steer one call of `pipe`, whose denoiser is as before afterwards.

    Args:
        pictures: How many are made at once.
        hook: What asks them, called before each call of the transformer; None: of the UNet.
    """
    if not steerings:
        yield
        return
    denoiser = pipe.unet if hook is None else pipe.transformer
    with ExitStack() as stack:
        if hook is None:
            hook = _Hook(pipe, steerings, pictures)
            # Ahead of the hook that puts in rows for each of several prompts.
            look = denoiser.register_forward_pre_hook(hook.look, prepend=True)
            stack.callback(look.remove)
        handle = denoiser.register_forward_pre_hook(hook, with_kwargs=True)
        stack.callback(handle.remove)
        yield


class _Hook:
    """Counts the UNet's calls, of which every round of the pipeline's loop makes one."""

    def __init__(self, pipe: Any, steerings: Sequence[Steering], pictures: int) -> None:
        self._pipe = pipe
        self._steerings = steerings
        self._pictures = pictures
        self._calls = 0
        self._negative = 0

    def look(self, _unet: Any, args: tuple[Any, ...]) -> None:
        """Sees how many of a call's first rows are the negative prompt's."""
        self._negative = self._pictures if len(args[0]) == 2 * self._pictures else 0

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
            if together[0].net.config.global_pool_conditions:
                more_down = [_of_prompts(one, self._negative) for one in more_down]
                more_middle = _of_prompts(more_middle, self._negative)
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


def _of_prompts(residual: torch.Tensor, negative: int) -> torch.Tensor:
    """What the prompts' rows are given alone: a ControlNet whose residuals are means over the
    whole picture, as that of shuffled ones, was trained to act on them and not on the negative
    prompt's."""
    return torch.cat([torch.zeros_like(residual[:negative]), residual[negative:]])


def _types(types: Sequence[int], net: Any, sample: torch.Tensor) -> dict[str, Any]:
    """What the hints of a union model are: as a list, and as 0 or 1 for each type it knows."""
    asked = torch.zeros(len(sample), net.config.num_control_type)
    asked[:, types] = 1
    return {"control_type": asked.to(sample.device, sample.dtype), "control_type_idx": [*types]}


def as_input(hint: torch.Tensor, net: Any) -> torch.Tensor:
    """The hint's bytes as its ControlNet takes them, 1 x 3 x height x width in 0..1."""
    values = hint[None].to(net.device, torch.float32) / 255
    if net.config.get("controlnet_conditioning_channel_order") == "bgr":
        values = values.flip(1)
    return values.to(net.dtype)

"""Weights that lie in memory in fewer bits than are computed with, and are widened one layer at a
time, as it runs.

What LoRAs do to such a weight is done to what it is widened to: rounded to its own format most of
it would be lost, and a packed one cannot be written to at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import nn

Change = Callable[[torch.Tensor], torch.Tensor]
"""What makes another of a widened weight, in the same format and shape."""

_NAME = "layerwise_casting"
"""What diffusers calls its own hook of that kind, which rounds biases to fp8 as well."""


class Widening(ModelHook):
    """Gives a layer its weight in the format of the computation for as long as it runs.

    Attributes:
        compute_dtype: That format; diffusers takes it for the whole model's.
        change: What is made of the weight each time; None: nothing.
    """

    _is_stateful = False

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.compute_dtype = dtype
        self.change: Change | None = None

    def widened(self, weight: torch.Tensor) -> torch.Tensor:
        """The numbers that a weight stands for, in the format of the computation."""
        return unpacked(weight).to(self.compute_dtype)

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """In place of the layer's own."""
        # diffusers declares what is None until the hook is registered.
        forward = cast(Any, self.fn_ref).original_forward
        untyped: Any = module
        parameters = untyped._parameters
        stored: torch.Tensor = parameters["weight"]
        if self.change is None and is_packed(stored):
            # diffusers' own layers unpack what they compute with.
            return forward(*args, **kwargs)
        wide = self.widened(stored)
        parameters["weight"] = wide if self.change is None else self.change(wide)
        try:
            return forward(*args, **kwargs)
        finally:
            # Also of a run that is cut short, whose weight would be taken for the model's own.
            parameters["weight"] = stored


def widen_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Makes a layer with a weight compute in a format, if that is not arranged yet.

    Must come before the hooks that bring weights to the device, which then run around it.
    """
    registry: Any = HookRegistry.check_if_exists_or_initialize(module)
    if registry.get_hook(_NAME) is None:
        registry.register_hook(Widening(dtype), _NAME)


def compute_packed_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes every layer of the model whose weight is packed compute in a format."""
    for module in model.modules():
        if is_packed(getattr(module, "weight", None)):
            widen_in(module, dtype)


def widening_of(model: nn.Module, name: str) -> Widening | None:
    """What widens a parameter of the model; None of one that lies as it is computed with."""
    path, _, kind = name.rpartition(".")
    registry: Any = getattr(model.get_submodule(path), "_diffusers_hook", None)
    return None if registry is None or kind != "weight" else registry.get_hook(_NAME)


def is_packed(weight: object) -> bool:
    """Whether it is a weight as a GGUF file has it, bytes that diffusers unpacks."""
    return hasattr(weight, "quant_type")


def unpacked(weight: torch.Tensor) -> torch.Tensor:
    """The numbers of a packed weight; any other as it is."""
    if not is_packed(weight):
        return weight
    # The optional half of diffusers: it imports the gguf package.
    from diffusers.quantizers.gguf import utils

    return cast(Any, utils).dequantize_gguf_tensor(weight)

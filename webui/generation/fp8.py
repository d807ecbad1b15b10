"""Weights that lie in memory as fp8 and are converted one layer at a time, as it is used."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import nn

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Formats that weights can be stored in but not computed with."""

_NAME = "layerwise_casting"
"""What diffusers calls its own hook of that kind, which rounds biases to fp8 as well."""


class WeightInFp8(ModelHook):
    """Gives a layer its weight in the format of the computation for as long as it runs."""

    _is_stateful = False

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._stored: torch.Tensor | None = None

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Before the layer runs."""
        weight: Any = module.weight
        self._stored = weight.data
        weight.data = weight.data.to(self._dtype)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """After it has run."""
        weight: Any = module.weight
        weight.data = self._stored
        self._stored = None
        return output


def compute_fp8_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes every layer of the model whose weight is fp8 compute in another format."""
    for module in model.modules():
        if has_fp8_weight(module):
            registry: Any = HookRegistry.check_if_exists_or_initialize(module)
            registry.register_hook(WeightInFp8(dtype), _NAME)


def has_fp8_weight(module: nn.Module) -> bool:
    """Whether it is a layer that multiplies with a weight stored in fp8."""
    return isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.dtype in FP8

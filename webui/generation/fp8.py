"""Weights that lie in memory as fp8 and are converted one layer at a time, as it is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from torch import nn

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Formats that weights can be stored in but not computed with."""

_NAME = "layerwise_casting"
"""What diffusers calls its own hook of that kind, which rounds biases to fp8 as well."""


class WeightInFp8(ModelHook):
    """Gives a layer its weight in the format of the computation for as long as it runs.

    Attributes:
        compute_dtype: That format; diffusers takes it for the whole model's.
    """

    _is_stateful = False

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.compute_dtype = dtype
        self._stored: torch.Tensor | None = None

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Before the layer runs."""
        weight: Any = module.weight
        self._stored = weight.data
        weight.data = weight.data.to(self.compute_dtype)
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
            if registry.get_hook(_NAME) is None:
                registry.register_hook(WeightInFp8(dtype), _NAME)


def weights_for_fp8(denoiser: nn.Module) -> frozenset[str]:
    """Names of the weights that a denoiser bears to have in fp8: those of nearly all its layers.

    Left out are the first and last ones, and what diffusers knows to suffer from it. Of what it
    takes for norms only those are: the layers that modulate them are a quarter of FLUX.1.
    """
    untyped: Any = denoiser
    more = cast(list[str] | None, untyped._skip_layerwise_casting_patterns) or []
    left_out = [one for one in (*DEFAULT_SKIP_MODULES_PATTERN, *more) if one != "norm"]
    modules = cast(Iterator[tuple[str, nn.Module]], denoiser.named_modules())
    return frozenset(
        f"{name}.weight"
        for name, module in modules
        if isinstance(module, (nn.Linear, nn.Conv2d))
        and module.weight.is_floating_point()
        and not any(re.search(pattern, name) for pattern in left_out)
    )


def store_in_fp8(denoiser: nn.Module, dtype: torch.dtype) -> None:
    """Rounds what weights it can to fp8, one after the other, and has them computed in `dtype`."""
    for name in weights_for_fp8(denoiser):
        weight = denoiser.get_parameter(name)
        if weight.dtype not in FP8:
            weight.data = weight.data.to(FP8[0])
    compute_fp8_in(denoiser, dtype)


def has_fp8_weight(module: nn.Module) -> bool:
    """Whether it is a layer that multiplies with a weight stored in fp8."""
    return isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.dtype in FP8

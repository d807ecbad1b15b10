"""Weights that lie in memory as fp8 and are converted one layer at a time, as it is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from torch import nn

from webui.generation.widening import widen_in

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Formats that weights can be stored in but not computed with."""


def compute_fp8_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes every layer of the model whose weight is fp8 compute in another format."""
    for module in model.modules():
        if has_fp8_weight(module):
            widen_in(module, dtype)


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

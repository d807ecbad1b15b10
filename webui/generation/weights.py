"""Weights of a file: read by name, without a second copy, and given to a model of their class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs]
from safetensors import safe_open
from torch import nn

from webui.errors import BrokenFileError
from webui.generation.fp8 import FP8
from webui.library.headers import Header, read_header

Tensors = dict[str, torch.Tensor]

_SCALES = (".scale_weight", ".weight_scale")
"""What an fp8 weight is multiplied with, by the names that ComfyUI's and BFL's files have."""

_NOT_WEIGHTS = (*_SCALES, ".scale_input", ".input_scale", ".comfy_quant")


class WeightFile:
    """A file with weights, of which the tensors under a prefix can be taken.

    Attributes:
        header: What the file says of itself; it has been found whole.
    """

    def __init__(self, path: Path) -> None:
        """Raises `BrokenFileError`: truncated, damaged, or stored in a way that is not read."""
        self.path = path
        self.header: Header = read_header(path)
        if any(".quant_state.bitsandbytes__" in name for name in self.header.shapes):
            raise BrokenFileError(
                f"{path.name} is packed by bitsandbytes (nf4), which is read only as a diffusers"
                " folder: take its fp8 or GGUF version.",
                field="model",
            )

    def has(self, name: str) -> bool:
        """Whether it has that tensor."""
        return name in self.header.shapes

    def take(self, prefix: str, dtype: torch.dtype, *, but: tuple[str, ...] = ()) -> Tensors:
        """The tensors whose names begin with a prefix, by the rest of their names.

        They are views of the mapped file, fp8 weights with a scale already multiplied with it.

        Args:
            dtype: The format that scaled weights are given.
            but: What names begin with that are left out, with the prefix or without.
        """
        names = [n for n in self.header.shapes if n.startswith(prefix) and not n.startswith(but)]
        if self.header.is_gguf:
            return _read_gguf(self.path, names, prefix)
        with cast(Any, safe_open)(self.path, framework="pt", device="cpu") as file:
            tensors: Tensors = {n.removeprefix(prefix): file.get_tensor(n) for n in names}
        return _scaled(tensors, dtype)


def _read_gguf(path: Path, names: list[str], prefix: str) -> Tensors:
    # The optional half of diffusers: it imports the gguf package.
    from diffusers.models import model_loading_utils

    try:
        tensors: Tensors = cast(Any, model_loading_utils).load_gguf_checkpoint(str(path))
    except ValueError as error:
        raise BrokenFileError(
            f"{path.name} is stored in a GGUF format that is not read: take its Q8_0 or Q4_K_M"
            " version.",
            field="model",
        ) from error
    return {name.removeprefix(prefix): tensors[name] for name in names}


def _scaled(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The weights times their scales, which are left out."""
    for name in [name for name in tensors if name.endswith(_SCALES)]:
        weight = name[: name.rindex(".")] + ".weight"
        if weight in tensors and tensors[weight].dtype in FP8:
            scale = tensors[name].to(torch.float32)
            tensors[weight] = (tensors[weight].to(torch.float32) * scale).to(dtype)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith(_NOT_WEIGHTS) and name != "scaled_fp8"
    }


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """A model without weights: its parameters take no memory until they are assigned."""
    with init_empty_weights():
        return make()


def assign(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    *,
    what: str,
    keep: Callable[[str, torch.Tensor], torch.dtype | None] = lambda _name, _tensor: None,
) -> None:
    """Gives a model from `build` its weights, converted where their format is another.

    Args:
        tensors: By the model's own names; what it has no place for is left out.
        dtype: The format of everything that is a number with a fraction.
        what: The model and file in words, such as "The unet in a.safetensors".
        keep: The format of a weight that shall have another one.

    Raises:
        BrokenFileError: A weight is missing or of another shape.
    """
    expected = model.state_dict()
    for name in expected.keys() & tensors.keys():
        if expected[name].shape != tensors[name].shape:
            raise BrokenFileError(
                f"{what} does not fit its configuration: {name} is"
                f" {_size(tensors[name])}, not {_size(expected[name])}.",
                field="model",
            )
    fitting: Tensors = {}
    for name in expected.keys() & tensors.keys():
        tensor = tensors[name]
        wanted = keep(name, tensor) or dtype
        fitting[name] = tensor.to(wanted) if tensor.is_floating_point() else tensor
    model.load_state_dict(fitting, strict=False, assign=True)
    tie: Any = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    missing = [name for name, weight in model.named_parameters() if weight.is_meta]
    if missing:
        raise BrokenFileError(
            f"{what} is incomplete: it lacks {len(missing)} tensors, such as {missing[0]}; fetch"
            " the file again.",
            field="model",
        )
    model.eval().requires_grad_(False)


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def layers_in_fp8(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> frozenset[str]:
    """Names of the weights that can stay in fp8, as their file has them."""
    modules = cast(Iterator[tuple[str, nn.Module]], model.named_modules())
    names = (f"{at}.weight" for at, m in modules if isinstance(m, (nn.Linear, nn.Conv2d)))
    return frozenset(n for n in names if n in tensors and tensors[n].dtype in FP8)

"""Weights of a file: read by name, without a second copy, and given to a model of their class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs]
from safetensors import safe_open
from torch import nn
from transformers.initialization import no_init_weights

from webui.errors import BrokenFileError
from webui.generation import four_bits
from webui.generation.fp8 import FP8
from webui.library.headers import Header, read_header
from webui.library.pipeline_folders import part_files

Tensors = dict[str, torch.Tensor]

SCALES = (".scale_weight", ".weight_scale")
"""What an fp8 weight is multiplied with, by the names that ComfyUI's and BFL's files have."""

NOT_WEIGHTS = (
    *(*SCALES, ".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8"),
    *("spiece_model", "tekken_model"),
)
"""How names end that are of no weight, but say how one is stored, or hold a tokenizer."""


class WeightFile:
    """A file with weights, of which the tensors under a prefix can be taken.

    Attributes:
        header: What the file says of itself; it has been found whole.
    """

    def __init__(self, path: Path) -> None:
        """Raises `BrokenFileError`: truncated or damaged."""
        self.path = path
        self.header: Header = read_header(path)

    def names(
        self,
        prefix: str,
        but: tuple[str, ...] = (),
        wanted: Callable[[str], bool] = lambda _: True,
    ) -> list[str]:
        """The names of all tensors that `take` takes."""
        return [
            name
            for name in self.header.shapes
            if name.startswith(prefix)
            and not name.startswith(but)
            and wanted(name.removeprefix(prefix))
        ]

    def take(
        self,
        prefix: str,
        dtype: torch.dtype,
        *,
        but: tuple[str, ...] = (),
        wanted: Callable[[str], bool] = lambda _: True,
        packed: bool = False,
    ) -> Tensors:
        """The tensors whose names begin with a prefix, by the rest of their names.

        They are views of the mapped file, fp8 weights with a scale already multiplied with it, and
        what bitsandbytes or llama.cpp has packed unpacked.

        Args:
            dtype: The format that scaled and unpacked weights are given.
            but: What names begin with that are left out, with the prefix or without.
            wanted: Whether a tensor is taken, by the rest of its name.
            packed: Whether the weights of a GGUF file are left as they are, for diffusers.
        """
        names = self.names(prefix, but, wanted)
        if self.header.is_gguf:
            read = _read_gguf(self.path, names) if packed else self._unpack_gguf(names, dtype)
            return {name.removeprefix(prefix): tensor for name, tensor in read.items()}
        tensors = _read(self.path, names)
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        return _scaled(_unpacked(tensors, dtype, self.path), dtype)

    def _unpack_gguf(self, names: Iterable[str], dtype: torch.dtype) -> Tensors:
        # The optional half of diffusers; slow to import, and few have such files.
        import gguf

        stored = {tensor.name: tensor for tensor in gguf.GGUFReader(str(self.path)).tensors}
        shapes = self.header.shapes
        return {
            name: unpack_gguf(stored[name], self.path, dtype).view(shapes[name]) for name in names
        }


def take_folder(
    folder: Path, dtype: torch.dtype, wanted: Callable[[str], bool] = lambda _: True
) -> Tensors:
    """The tensors of a part's folder, however many files it is in; see `WeightFile.take`.

    Raises:
        BrokenFileError: A file is truncated or damaged, or there is none.
    """
    tensors: Tensors = {}
    for file in part_files(folder):
        tensors |= _read(file, filter(wanted, read_header(file).shapes))
    if not tensors:
        raise BrokenFileError(f"{folder.name} holds no safetensors weights.", field="model")
    return _unpacked(tensors, dtype, folder)


def _read(path: Path, names: Iterable[str]) -> Tensors:
    with cast(Any, safe_open)(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in names}


def _unpacked(tensors: Tensors, dtype: torch.dtype, path: Path) -> Tensors:
    if not four_bits.is_packed(tensors):
        return tensors
    try:
        return four_bits.unpacked(tensors, dtype)
    except ValueError as error:
        raise BrokenFileError(
            f"{path.name} is damaged: {error}; fetch it again.", field="model"
        ) from error


def _read_gguf(path: Path, names: Iterable[str]) -> Tensors:
    # The optional half of diffusers: it imports the gguf package.
    from diffusers.models import model_loading_utils

    try:
        tensors: Tensors = cast(Any, model_loading_utils).load_gguf_checkpoint(str(path))
    except ValueError as error:
        raise unread_gguf(path) from error
    return {name: tensors[name] for name in names}


def unpack_gguf(tensor: Any, path: Path, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of a tensor that the gguf package has read from that file, in that format.

    Raises:
        BrokenFileError: It is packed in a way that is not read.
    """
    import gguf

    try:
        numbers: Any = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise unread_gguf(path) from error
    return cast(Any, torch).from_numpy(numbers.copy()).to(dtype)


def unread_gguf(path: Path) -> BrokenFileError:
    """The error of a file that is packed in a way nothing here unpacks."""
    return BrokenFileError(
        f"{path.name} is stored in a GGUF format that is not read: take its Q8_0 or Q4_K_M"
        " version.",
        field="model",
    )


def _scaled(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The weights times their scales, which are left out."""
    for name in [name for name in tensors if name.endswith(SCALES)]:
        weight = name[: name.rindex(".")] + ".weight"
        if weight in tensors and tensors[weight].dtype in FP8:
            scale = tensors[name].to(torch.float32)
            tensors[weight] = (tensors[weight].to(torch.float32) * scale).to(dtype)
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(NOT_WEIGHTS)}


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """A model without weights: its parameters take no memory until they are assigned."""
    with init_empty_weights(), no_init_weights():
        return make()


def assign(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    *,
    what: str,
    layout: torch.memory_format = torch.contiguous_format,
    keep: Callable[[str, torch.Tensor], torch.dtype | None] = lambda _name, _tensor: None,
) -> None:
    """Gives a model from `build` its weights, converted where their format is another.

    Args:
        tensors: By the model's own names; what it has no place for is left out.
        dtype: The format of everything that is a number with a fraction.
        what: The model and file in words, such as "The unet in a.safetensors".
        layout: Of the convolutions' weights that are converted: to bring one into it on the way
            costs less than the conversion alone.
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
        fitting[name] = _converted(tensor, wanted, layout)
    model.load_state_dict(fitting, strict=False, assign=True)
    tie: Any = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    missing = [name for name, weight in model.named_parameters() if weight.is_meta]
    if missing:
        raise incomplete(what, missing)
    model.eval().requires_grad_(False)


def incomplete(what: str, missing: Sequence[str]) -> BrokenFileError:
    """The error of a file that lacks tensors of those names; `what` as in `assign`."""
    return BrokenFileError(
        f"{what} is incomplete: it lacks {len(missing)} tensors, such as {missing[0]}; fetch"
        " the file again.",
        field="model",
    )


def _converted(
    tensor: torch.Tensor, dtype: torch.dtype, layout: torch.memory_format
) -> torch.Tensor:
    """The tensor in that format; itself where it is in it already, or counts."""
    if tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype, memory_format=layout if tensor.ndim == 4 else torch.contiguous_format)


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def layers_in_fp8(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> frozenset[str]:
    """Names of the weights that can stay in fp8, as their file has them."""
    modules = cast(Iterator[tuple[str, nn.Module]], model.named_modules())
    names = (f"{at}.weight" for at, m in modules if isinstance(m, (nn.Linear, nn.Conv2d)))
    return frozenset(n for n in names if n in tensors and tensors[n].dtype in FP8)

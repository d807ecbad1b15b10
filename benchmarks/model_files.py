"""Full-size models with random weights as people have them: a single file, a diffusers folder.

Both hold the same numbers. They are written tensor by tensor, so that no model is ever whole in
memory here.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from safetensors import safe_open

from benchmarks.ldm_layout import Tensors, ldm_unet, ldm_vae, open_clip
from webui.generation.clip_tokenizers import END, PAD_ZERO, clip_tokenizer
from webui.settings import ROOT

CONFIGS = ROOT / "webui" / "generation" / "configs"
"""The shipped configurations."""

Config = Mapping[str, Any]
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class FullModel:
    """A model whose configuration is shipped.

    Attributes:
        name: What the figures call it.
        config: Its configuration's folder.
        side: Side in pixels of the pictures it is measured with.
        tokens: How long its denoiser's text is.
        steps: Denoising steps of a picture on the CPU; of those without files none are made there.
        rounds: How often each side is loaded, and how many pictures it makes.
        tiny: What is otherwise for quick runs, by part: as little as is still recognised.
    """

    name: str
    config: str
    side: int
    tokens: int
    tiny: Mapping[str, Config]
    steps: int = 0
    rounds: int = 0


_TINY_VAE: Config = MappingProxyType({"block_out_channels": [32] * 4, "layers_per_block": 1})
_TINY_TEXT: Config = MappingProxyType({"num_hidden_layers": 3, "intermediate_size": 64})
_TINY_PARTS: Mapping[str, Config] = MappingProxyType({"vae": _TINY_VAE, "text_encoder": _TINY_TEXT})

MODELS: Mapping[str, FullModel] = MappingProxyType(
    {
        "sd15": FullModel(
            "random-sd15",
            "sd1",
            512,
            77,
            _TINY_PARTS | {"unet": {"block_out_channels": [32] * 4}},
            steps=5,
            rounds=5,
        ),
        "sdxl": FullModel(
            "random-sdxl",
            "sdxl",
            1024,
            77,
            _TINY_PARTS
            | {
                "unet": {"block_out_channels": [32] * 3, "attention_head_dim": [4] * 3},
                "text_encoder_2": _TINY_TEXT,
            },
            steps=4,
            rounds=2,
        ),
        "sd35": FullModel(
            "random-sd3.5-large",
            "sd3.5-large",
            1024,
            77 + 256,
            {
                "vae": _TINY_VAE,
                "transformer": {
                    "num_layers": 1,
                    "num_attention_heads": 2,
                    "attention_head_dim": 16,
                    "caption_projection_dim": 32,
                    "joint_attention_dim": 32,
                    "pooled_projection_dim": 32,
                },
            },
        ),
        "flux": FullModel(
            "random-flux-dev",
            "flux-dev",
            1024,
            512,
            {
                "vae": _TINY_VAE,
                "transformer": {
                    "num_layers": 1,
                    "num_single_layers": 1,
                    "num_attention_heads": 2,
                    "attention_head_dim": 16,
                    "axes_dims_rope": [4, 6, 6],
                    "joint_attention_dim": 32,
                    "pooled_projection_dim": 32,
                },
            },
        ),
    }
)
"""By the names that `--models` takes."""

WITH_FILES = ("sd15", "sdxl")
"""Those that are written to files; of the others only the denoiser is run."""


def write_configs(folder: Path, model: FullModel, *, tiny: bool) -> Path:
    """The configuration of the model, tiny where asked for, under its own name in `folder`."""
    config = folder / model.config
    shutil.copytree(CONFIGS / model.config, config)
    for part, values in (model.tiny if tiny else {}).items():
        file = config / part / "config.json"
        file.write_text(json.dumps(_json(file) | dict(values)), encoding="utf-8")
    return config


def write_models(config: Path, single: Path, folder: Path) -> None:
    """The model of a configuration with random weights in fp16, as a file and as a folder."""
    shutil.copytree(config, folder)
    written: dict[str, Path] = {}
    for number, part in enumerate(networks := parts_of(config)):
        shapes = published_shapes(part, shapes_of(networks[part]))
        file = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
        written[part] = folder / part / f"{file}.safetensors"
        write_weights(written[part], shapes, _random(shapes, seed=number))
    for tokenizer in (part for part in _index(config) if part.startswith("tokenizer")):
        encoder = _json(config / tokenizer.replace("tokenizer", "text_encoder") / "config.json")
        pad = PAD_ZERO if encoder["hidden_act"] == "gelu" else END
        clip_tokenizer(pad).save_pretrained(folder / tokenizer)
    # Views of the mapped files.
    views = {part: _views(file) for part, file in written.items()}
    tensors = single_file_names(config, views)
    single.parent.mkdir(parents=True, exist_ok=True)
    write_weights(single, {name: t.shape for name, t in tensors.items()}, tensors.__getitem__)


def write_other(single: Path, other: Path) -> None:
    """Another file with the same tensors, which only its title tells from the first."""
    views = _views(single)
    write_weights(other, {n: t.shape for n, t in views.items()}, views.__getitem__, title="other")


def bytes_of(config: Path) -> int:
    """Bytes of the weights of all parts in fp16."""
    networks = parts_of(config).values()
    tensors = (tensor for network in networks for tensor in network.state_dict().values())
    return sum(tensor.numel() for tensor in tensors) * torch.float16.itemsize


def parts_of(config: Path) -> dict[str, torch.nn.Module]:
    """The networks of a configuration by diffusers' names of them, without memory for weights."""
    found: dict[str, torch.nn.Module] = {}
    for part, (library, kind) in _index(config).items():
        file = config / part / "config.json"
        if file.exists():
            with torch.device("meta"):
                found[part] = make_network(library, kind, _json(file))
    return found


def make_network(library: str, kind: str, config: Config) -> torch.nn.Module:
    """A network of diffusers or transformers of that configuration."""
    cls: Any = getattr(importlib.import_module(library), kind)
    if library == "diffusers":
        return cls.from_config(dict(config))
    return cls(cls.config_class.from_dict(dict(config)))


def import_parts(config: Path) -> None:
    """Imports the classes of all parts and of the pipeline, which both libraries put off."""
    for library, kind in _index(config).values():
        getattr(importlib.import_module(library), kind)
    pipeline_of(config)


def pipeline_of(config: Path) -> Any:
    """The pipeline's class."""
    return getattr(importlib.import_module("diffusers"), _json(config / _INDEX)["_class_name"])


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights by torch's names of them."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def published_shapes(part: str, shapes: Shapes) -> dict[str, Sequence[int]]:
    """The same by the names that published folders have, older than transformers' own today."""
    if not part.startswith("text_encoder"):
        return dict(shapes)
    return {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": size
        for name, size in shapes.items()
    }


def single_file_names(config: Path, views: Mapping[str, Tensors]) -> Tensors:
    """The tensors of a folder's parts by the names of LDM (Stable Diffusion 1) or SGM (XL)."""
    unet, vae = (_json(config / part / "config.json") for part in ("unet", "vae"))
    is_xl = "text_encoder_2" in views
    clip = "conditioner.embedders.0." if is_xl else "cond_stage_model."
    named = {
        **ldm_unet(views["unet"], unet["layers_per_block"]),
        **ldm_vae(views["vae"], len(vae["block_out_channels"])),
        **{f"{clip}transformer.{name}": t for name, t in views["text_encoder"].items()},
    }
    if is_xl:
        named |= open_clip(views["text_encoder_2"], "conditioner.embedders.1.model.")
    return named


def write_weights(
    path: Path,
    shapes: Shapes,
    tensor: Callable[[str], torch.Tensor] | None,
    **metadata: str,
) -> None:
    """A safetensors file of fp16 tensors, one in memory at a time.

    Args:
        tensor: Gives each by its name; None: the file is as long, and all of it a hole.
    """
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * torch.float16.itemsize
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in shapes if tensor is not None else ():
            assert tensor is not None
            file.write(tensor(name).contiguous().view(torch.uint8).numpy().data)
        file.truncate(8 + len(text) + end)
        file.flush()
        os.fsync(file.fileno())


def read_through(files: Sequence[Path]) -> None:
    """Reads files from end to end, so that the system has them in memory."""
    buffer = bytearray(1 << 24)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def let_go(files: Sequence[Path]) -> None:
    """Has the system drop files from memory, where it can be told to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _random(shapes: Shapes, *, seed: int) -> Callable[[str], torch.Tensor]:
    """As torch begins layers, drawn in the order asked for: norms and biases are left alone."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(name: str) -> torch.Tensor:
        shape = tuple(shapes[name])
        if len(shape) < 2:
            make = torch.zeros if name.endswith("bias") else torch.ones
            return make(shape, dtype=torch.float16)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        return torch.empty(shape, dtype=torch.float16).uniform_(-bound, bound, generator=generator)

    return tensor


def _views(path: Path) -> Tensors:
    with cast(Any, safe_open)(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


_INDEX = "model_index.json"


def _index(config: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each part that there is."""
    named = {part: value for part, value in _json(config / _INDEX).items() if part[0] != "_"}
    return {
        part: (value[0], value[1])
        for part, value in named.items()
        if isinstance(value, list) and value[0] is not None
    }


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())

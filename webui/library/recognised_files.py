"""What lies where weights lie: each file or folder recognised, read anew only when it changes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pydantic import TypeAdapter

from webui.errors import BrokenFileError
from webui.library.architectures import ModelFamily
from webui.library.distilled import read_distilled
from webui.library.facts_cache import FactsCache
from webui.library.headers import PICKLE_SUFFIXES, pickle_problem, read_header
from webui.library.recognition import Recognised, recognise
from webui.library.weight_files import INDEX, Found, weights_in

CACHE = "models.json"
"""What headers said, beside the book of hashes."""

_RULES = "1"
"""Goes into every stamp: another number when the rules of recognition have changed."""


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file without its weights.

    Attributes:
        data_start: Offset in bytes at which the tensors of a safetensors file begin; 0 for others.
    """

    recognised: Recognised
    data_start: int = 0


class RecognisedFiles:
    """Recognises files; safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the cache."""
        self._cache = FactsCache(folder / CACHE, TypeAdapter(dict[str, tuple[str, FileFacts]]))

    def of(self, found: Iterable[Found]) -> list[FileFacts]:
        """The facts of each."""
        stamped = [(one.path, f"{_RULES}:{one.stamp}") for one in found]
        return self._cache.of(stamped, read_file_facts)


def read_file_facts(path: Path) -> FileFacts:
    """The facts of a file or of a folder in the diffusers layout, whatever is wrong with it."""
    suffix = path.suffix.casefold()
    try:
        if path.is_dir():
            return FileFacts(_read_folder(path))
        if suffix in PICKLE_SUFFIXES:
            return FileFacts(Recognised(problem=pickle_problem(path)))
        header = read_header(path)
    except BrokenFileError as error:
        return FileFacts(Recognised(problem=error.message))
    start = 0 if header.is_gguf else header.data_start
    return FileFacts(recognise(header, file=path.name), start)


def _read_folder(path: Path) -> Recognised:
    """A folder by its configurations, and by the headers of all its weights."""
    pipeline = str(_json(path / INDEX).get("_class_name", ""))
    scheduler = _json(path / "scheduler" / "scheduler_config.json")
    unet = _json(path / "unet" / "config.json")
    family = _family(pipeline, unet)
    noise = "v_prediction" if scheduler.get("prediction_type") == "v_prediction" else "epsilon"
    known = Recognised(
        kind="model",
        family=family,
        prediction=noise if family in _NOISE else "flow",
        zero_snr=scheduler.get("rescale_betas_zero_snr") is True,
        distilled=read_distilled({}, _own_name(path)),
    )
    try:
        weights = weights_in(path)
        if not weights:
            raise BrokenFileError(f"{_own_name(path)} holds no safetensors weights.")
        headers = {file: read_header(file) for file in weights}
    except BrokenFileError as error:
        return replace(known, problem=error.message)
    heaviest = max(headers, key=lambda file: sum(headers[file].sizes.values()))
    looked = recognise(headers[heaviest], file=f"{_own_name(path)}.safetensors")
    return replace(known, precision=looked.precision)


def _family(pipeline: str, unet: Mapping[str, Any]) -> ModelFamily:
    for start, family in _PIPELINES:
        if pipeline.startswith(start):
            is_second = family == "SD 1" and unet.get("cross_attention_dim") == _SD2_WIDTH
            return "SD 2" if is_second else family
    return "unknown"


_PIPELINES: tuple[tuple[str, ModelFamily], ...] = (
    ("StableDiffusionXL", "SDXL"),
    ("StableDiffusion3", "SD 3"),
    ("StableDiffusion", "SD 1"),
    ("LatentConsistencyModel", "SD 1"),
    ("Flux2", "Flux 2"),
    ("Flux", "Flux"),
    ("ZImage", "Z-Image"),
    ("QwenImage", "Qwen-Image"),
)
"""How the names of each family's pipelines begin."""

_SD2_WIDTH = 1024
_NOISE = frozenset({"SD 1", "SD 2", "SDXL"})


def _own_name(path: Path) -> str:
    """A folder's name, in the hub's cache that of the repository."""
    if path.parent.name == "snapshots":
        return path.parent.parent.name.rpartition("--")[2]
    return path.name


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return MappingProxyType({})
    return cast(dict[str, Any], value) if isinstance(value, dict) else MappingProxyType({})

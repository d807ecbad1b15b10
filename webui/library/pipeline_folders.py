"""Folders in the diffusers layout: which pipeline it is, and whether all it names is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from webui.errors import BrokenFileError
from webui.library.architectures import ModelFamily
from webui.library.headers import folder_of_pickles_problem
from webui.library.weight_files import INDEX

_NAMES: Mapping[ModelFamily, tuple[str, ...]] = MappingProxyType(
    {
        "SD 1": (
            *("StableDiffusion", "StableDiffusionImg2Img", "StableDiffusionInpaint"),
            *("LatentConsistencyModel", "LatentConsistencyModelImg2Img"),
        ),
        "SDXL": ("StableDiffusionXL", "StableDiffusionXLImg2Img", "StableDiffusionXLInpaint"),
        "SD 3": ("StableDiffusion3", "StableDiffusion3Img2Img", "StableDiffusion3Inpaint"),
        "Flux": (
            *("Flux", "FluxImg2Img", "FluxInpaint", "FluxFill"),
            *("FluxControl", "FluxControlImg2Img", "FluxControlInpaint"),
        ),
        "Flux 2": ("Flux2", "Flux2Klein", "Flux2KleinInpaint"),
        "Z-Image": ("ZImage", "ZImageImg2Img", "ZImageInpaint"),
        "Qwen-Image": ("QwenImage", "QwenImageImg2Img", "QwenImageInpaint"),
    }
)
PIPELINES: Mapping[str, ModelFamily] = MappingProxyType(
    {f"{name}Pipeline": family for family, names in _NAMES.items() for name in names}
)
"""Classes of diffusers' pipelines that are served; Stable Diffusion 2 has those of 1."""

NEVER_LOADED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that need not be there: Easel has a content filter of its own."""

_NETWORK = "diffusion_pytorch_model"
_WEIGHTS = re.compile(
    rf"(?:{_NETWORK}|model)(?:\.(?P<variant>\w+))?(?P<piece>-\d+-of-\d+)?\.safetensors"
)
_WITHOUT_WEIGHTS = re.compile(r"Tokenizer|(?:Scheduler|Processor|Extractor)$")
"""In the names of classes whose folders hold configurations and vocabularies alone."""


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """What `model_index.json` says.

    Args:
        name: What to call the folder in the sentence about what is wrong.

    Raises:
        BrokenFileError: It cannot be read, or names no pipeline.
    """
    index = read_object(folder / INDEX)
    if not isinstance(index.get("_class_name"), str):
        raise BrokenFileError(f"{name} has a damaged {INDEX}: fetch it again.")
    return index


def check_folder(folder: Path, index: Mapping[str, Any], name: str) -> None:
    """Passes a folder whose pipeline is served, with every part and shard that it names.

    The weights themselves are not looked at.

    Raises:
        BrokenFileError: Something is missing, or only there as a pickle; says what to do.
    """
    pipeline: str = index["_class_name"]
    if pipeline not in PIPELINES:
        raise BrokenFileError(
            f"{name} is a {pipeline[:60]}, which is not served: take a model of Stable Diffusion,"
            " FLUX, Z-Image or Qwen-Image."
        )
    for part, (_, kind) in parts_of(index).items():
        for missing in _missing_in(folder / Path(part).name, kind, name):
            raise BrokenFileError(f"{name} is incomplete, {missing}: fetch it again.")


def variant_in(part: Path) -> str | None:
    """What the names of a part's weights have before their ending, such as "fp16".

    `None` where there are plain ones, or none at all.
    """
    found = filter(None, (_WEIGHTS.fullmatch(file.name) for file in part.glob("*.safetensors")))
    variants = {match["variant"] for match in found}
    return None if None in variants else min(variants, default=None)


def network_file(folder: Path) -> Path | None:
    """The weights that diffusers reads of a network's own folder, the plain ones or those of
    `variant_in`; None where there are none in one file."""
    named = (_NETWORK, variant_in(folder), "safetensors")
    file = folder / ".".join(filter(None, named))
    return file if file.is_file() else None


def has_network_name(file: Path) -> bool:
    """Whether it is called as diffusers calls a network's weights, or a piece of them."""
    return _WEIGHTS.fullmatch(file.name) is not None


def part_files(part: Path) -> list[Path]:
    """The files with a part's weights, where there may be several versions of them.

    The plain ones, else those of `variant_in`; of each those that an index names, else whole ones.
    """
    shards = _shards_of(part)
    if shards:
        return [part / name for name in shards]
    files = sorted(part.glob("*.safetensors"))
    variant = variant_in(part)
    found = ((file, _WEIGHTS.fullmatch(file.name)) for file in files)
    named = [(file, match) for file, match in found if match and match["variant"] == variant]
    whole = [file for file, match in named if match["piece"] is None]
    return whole or [file for file, _ in named] or files


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def sizes_within(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration with the sizes of the language model in a network that sees as well."""
    within: Any = config.get("text_config")
    return {**config, **(within if isinstance(within, dict) else {})}


def parts_of(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of each part that a pipeline with that index has."""
    found: dict[str, tuple[str, str]] = {}
    for part, named in index.items():
        values = cast(list[Any], named) if isinstance(named, list) else []
        told = [value for value in values if isinstance(value, str)]
        if len(values) == len(told) == 2 and part not in NEVER_LOADED:
            found[part] = (told[0], told[1])
    return found


def _missing_in(part: Path, kind: str, name: str) -> Iterator[str]:
    """What is missing of a part, as the middle of a sentence.

    Raises:
        BrokenFileError: Its weights are there as pickles alone.
    """
    wanted = "scheduler_config.json" if part.name == "scheduler" else "*.json"
    if not any(part.glob(wanted)):
        yield f"{part.name} is missing"
    if _WITHOUT_WEIGHTS.search(kind):
        return
    if not read_object(part / "config.json"):
        yield f"{part.name}/config.json is missing or damaged"
    files = {file.name for file in part.glob("*.safetensors")}
    if not files:
        if any(part.glob("*.bin")):
            raise BrokenFileError(folder_of_pickles_problem(name))
        yield f"the weights of {part.name} are missing"
    for shard in _shards_of(part):
        if shard not in files:
            yield f"{part.name}/{shard} is missing"


def _shards_of(part: Path) -> list[str]:
    """The files that a part's weights are spread over, where its index says so."""
    variant = variant_in(part)
    whole = "model.safetensors" if variant is None else f"model.{variant}.safetensors"
    # Of weights that are there whole, transformers takes those.
    if (part / whole).exists():
        return []
    ending = "json" if variant is None else f"{variant}.json"
    files: set[str] = set()
    for path in part.glob(f"*.safetensors.index.{ending}"):
        places = read_object(path).get("weight_map")
        if isinstance(places, dict):
            files |= {str(file) for file in cast(dict[str, Any], places).values()}
    return sorted(files)

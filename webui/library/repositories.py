"""Which files of a repository make a folder in the diffusers layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, cast

from webui.errors import NotFoundError

MAX_CONFIG_BYTES = 32 * 1024**2
"""Longest configuration or vocabulary."""

_LEFT_OUT = frozenset({"safety_checker", "image_encoder"})
"""Parts that nothing here uses."""

_WEIGHTS = ("diffusion_pytorch_model", "model")
_BESIDE = frozenset({".json", ".txt", ".model", ".jinja"})
_INDEX = ".safetensors.index.json"


def names_of_parts(index: Mapping[str, Any]) -> tuple[str, ...]:
    """The components that a `model_index.json` names."""
    return tuple(
        name
        for name, of in index.items()
        if not name.startswith("_")
        and name not in _LEFT_OUT
        and isinstance(of, list)
        and all(isinstance(one, str) for one in cast(list[Any], of))
        and "/" not in name
    )


def folder_files(
    repo: str, files: Mapping[str, tuple[int, str | None]], parts: tuple[str, ...]
) -> dict[str, str]:
    """Paths in the repository to paths in the folder.

    Half-precision weights are preferred where there are two, and stored under the plain name.

    Args:
        parts: Folders of the repository; "" is its root.

    Raises:
        NotFoundError: A part has no weights that can be fetched.
    """
    wanted: dict[str, str] = {"model_index.json": "model_index.json"} if parts != ("",) else {}
    for part in parts:
        within = {path: PurePosixPath(path).name for path in files if _folder(path) == part}
        weights = _weights(within)
        if not weights and any(_is_weights(name) for name in within.values()):
            raise NotFoundError(
                f"{repo} has no safetensors weights in {part or 'its folder'}; other formats are"
                " not fetched."
            )
        beside = {
            path: path
            for path, name in within.items()
            if PurePosixPath(name).suffix in _BESIDE
            and not name.endswith(".index.json")
            and not name.endswith(".fp16.json")
            and (part or name == "config.json")
            and files[path][0] <= MAX_CONFIG_BYTES
        }
        wanted |= beside | weights
    return wanted


def _weights(within: Mapping[str, str]) -> dict[str, str]:
    """The weights of one part: half precision in one file, else one file, else shards."""
    by_name = {name: path for path, name in within.items()}
    for stem in _WEIGHTS:
        plain = f"{stem}.safetensors"
        for name in (f"{stem}.fp16.safetensors", plain):
            if name in by_name:
                path = by_name[name]
                return {path: str(PurePosixPath(path).with_name(plain))}
        if stem + _INDEX in by_name:
            shards = {path: path for path, name in within.items() if _is_shard(name, stem)}
            return shards | {by_name[stem + _INDEX]: by_name[stem + _INDEX]}
    return {}


def _is_shard(name: str, stem: str) -> bool:
    return name.startswith(f"{stem}-0") and "-of-" in name and name.endswith(".safetensors")


def _is_weights(name: str) -> bool:
    return PurePosixPath(name).suffix in (".bin", ".safetensors", ".ckpt", ".pt", ".msgpack")


def _folder(path: str) -> str:
    parent = PurePosixPath(path).parent.as_posix()
    return "" if parent == "." else parent

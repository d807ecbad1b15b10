"""Which files of a repository make a folder: one in the diffusers layout, or a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, cast

from webui.errors import NotFoundError

Files = Mapping[str, tuple[int, str | None]]
"""Size in bytes and SHA-256, where it is told, of a repository's files, by their paths."""

MAX_CONFIG_BYTES = 32 * 1024**2
"""Longest configuration or vocabulary."""

_LEFT_OUT = frozenset({"safety_checker", "image_encoder"})
"""Parts that nothing here uses."""

_WEIGHTS = ("diffusion_pytorch_model", "model")
_BESIDE = frozenset({".json", ".txt", ".model", ".jinja"})
_INDEX = ".safetensors.index.json"

_VOCABULARIES = frozenset({"tokenizer.json", "spiece.model", "vocab.json", "tekken.json"})
_TOKENIZER = _VOCABULARIES | {
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
}
"""Files of tokenizers: none of them holds a program."""


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


def folder_files(repo: str, files: Files, parts: tuple[str, ...]) -> dict[str, str]:
    """Paths in the repository to paths in the folder.

    Half-precision weights are preferred where there are two, and stored under the plain name.

    Args:
        parts: Folders of the repository; "" is its root.

    Raises:
        NotFoundError: A part has no weights that can be fetched.
    """
    wanted: dict[str, str] = {"model_index.json": "model_index.json"} if parts != ("",) else {}
    for part in parts:
        within = {path: PurePosixPath(path).name for path in files if folder_of(path) == part}
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


def tokenizer_files(files: Files, folder: str) -> dict[str, str]:
    """Paths of a tokenizer's files to their names; empty where the folder holds none.

    Args:
        folder: Of the repository; "" is its root.
    """
    within = {path: PurePosixPath(path).name for path in files if folder_of(path) == folder}
    wanted = {
        path: name
        for path, name in within.items()
        if name in _TOKENIZER and files[path][0] <= MAX_CONFIG_BYTES
    }
    names = set(wanted.values())
    # Its configuration tells whose tokenizer it is.
    return wanted if "tokenizer_config.json" in names and names & _VOCABULARIES else {}


def folder_of(path: str) -> str:
    """The folder of a repository that a file lies in; "" is its root."""
    parent = PurePosixPath(path).parent.as_posix()
    return "" if parent == "." else parent


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

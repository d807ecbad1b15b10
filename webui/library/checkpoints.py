"""The shelf of models: folders in the diffusers layout, by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from webui.errors import BrokenFileError, NotFoundError
from webui.library.hashes import HashBook
from webui.library.headers import read_header
from webui.request import nearest

INDEX = "model_index.json"


@dataclass(frozen=True)
class ModelFolder:
    """A model by what its configurations say; its weights have not been looked at.

    Attributes:
        pipeline: Class name in `model_index.json`, such as "StableDiffusionPipeline".
    """

    name: str
    path: Path
    pipeline: str

    def config(self, part: str) -> dict[str, Any]:
        """The JSON configuration of a component such as "unet" or "scheduler".

        Raises:
            BrokenFileError: The component's configuration is missing or damaged.
        """
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        return read_json(self.path / part / name, model=self.name)


@dataclass(frozen=True)
class Checkpoint(ModelFolder):
    """A model on the shelf whose files have been found whole.

    Attributes:
        sha256: Hex digest over the weight files' names and digests.
    """

    sha256: str


class CheckpointShelf:
    """Finds models under a few folders, the first to hold a name wins; no name leads out."""

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        self._folders = folders
        self._hashes = hashes

    def names(self) -> tuple[str, ...]:
        """Names of all models, sorted; empty when the folders are missing."""
        return tuple(sorted(self._paths()))

    def _paths(self) -> dict[str, Path]:
        found = [index.parent for folder in self._folders for index in folder.glob(f"*/{INDEX}")]
        return {path.name: path for path in reversed(found)}

    def folder(self, name: str) -> ModelFolder:
        """The model of that name without a look at its weights: a matter of a millisecond.

        Raises:
            NotFoundError: There is no such model; names the nearest.
            BrokenFileError: Its index is missing or damaged.
        """
        paths = self._paths()
        if not paths:
            raise NotFoundError(
                f"There is no model in {self._folders[0]}: put one there or name another folder"
                " with --models.",
                field="model",
            )
        if name not in paths:
            raise NotFoundError(
                f"Unknown model {name!r}: {nearest(name, self.names())}", field="model"
            )
        index = read_json(paths[name] / INDEX, model=name)
        return ModelFolder(name, paths[name], str(index.get("_class_name")))

    def find(self, name: str) -> Checkpoint:
        """The model of that name.

        Raises:
            NotFoundError: There is no such model; names the nearest.
            BrokenFileError: A file of it is missing, truncated or damaged.
        """
        folder = self.folder(name)
        weights = _weights(folder.path)
        if not weights:
            raise BrokenFileError(
                f"The model {name!r} holds no safetensors weights; other formats are not read.",
                field="model",
            )
        for file in weights:
            read_header(file)
        digest = _digest(folder.path, {file: self._sha256(file) for file in weights})
        return Checkpoint(name, folder.path, folder.pipeline, digest)

    def known_hashes(self) -> list[tuple[str, str]]:
        """Name and digest of each model; the digest is empty until it has been computed once."""
        known: list[tuple[str, str]] = []
        for name, path in sorted(self._paths().items()):
            files = {file: self._hashes.known(file) or "" for file in _weights(path)}
            known.append((name, _digest(path, files) if all(files.values()) else ""))
        return known

    def _sha256(self, file: Path) -> str:
        try:
            return self._hashes.sha256(file)
        except OSError as error:
            raise BrokenFileError(f"{file.name} cannot be read: {error.strerror}.") from None


def _weights(model: Path) -> list[Path]:
    return sorted(model.glob("*/*.safetensors"))


def _digest(model: Path, weights: dict[Path, str]) -> str:
    """One digest over the names and digests of all weight files."""
    digest = hashlib.sha256()
    for file, sha256 in weights.items():
        digest.update(f"{file.relative_to(model).as_posix()} {sha256}\n".encode())
    return digest.hexdigest()


def read_json(path: Path, *, model: str) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        BrokenFileError: The file is missing or is no JSON object.
    """
    try:
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        where = f"{path.parent.name}/{path.name}" if path.name != INDEX else INDEX
        raise BrokenFileError(
            f"The model {model!r} is incomplete: {where} is missing or damaged.", field="model"
        )
    return cast(dict[str, Any], data)

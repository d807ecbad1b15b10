"""The shelf of ControlNets: folders in the diffusers layout under `controlnet/`, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.errors import BrokenFileError, NotFoundError
from webui.library.checkpoints import read_json
from webui.library.hashes import HashBook
from webui.library.headers import read_header
from webui.request import nearest

FOLDER = "controlnet"
"""Name of the folder in each folder of models that the ControlNets lie in."""

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
OWN_FACTS = "facts.json"
"""What a ControlNet may say of itself: `{"kind": "pose"}`."""


@dataclass(frozen=True)
class ControlNetFolder:
    """A ControlNet on the shelf; equal to another when its content is.

    Attributes:
        class_name: Class of diffusers that runs it.
        kind: What its hints show, where it says so itself, else empty.
        config: Its configuration.
        sha256: Hex digest of its weights and its configuration; empty before `find`.
    """

    name: str
    path: Path
    class_name: str
    kind: str
    config: Mapping[str, Any] = field(compare=False, repr=False)
    sha256: str = ""


class ControlNetShelf:
    """Finds ControlNets under a few folders, the first to hold a name wins; no name leads out."""

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        """`folders` are those of the models."""
        self._folders = tuple(folder / FOLDER for folder in folders)
        self._hashes = hashes

    @property
    def place(self) -> Path:
        """The folder to put a ControlNet in."""
        return self._folders[0]

    def names(self) -> tuple[str, ...]:
        """Names of all ControlNets, sorted; empty when the folders are missing."""
        return tuple(sorted(self._paths()))

    def folder(self, name: str) -> ControlNetFolder:
        """The ControlNet of that name without a look at its weights.

        Raises:
            NotFoundError: There is no such ControlNet; names the nearest.
            BrokenFileError: Its configuration is missing or damaged.
        """
        paths = self._paths()
        if name not in paths:
            known = nearest(name, self.names()) if paths else f"there is none in {self.place}."
            raise NotFoundError(f"Unknown ControlNet {name!r}: {known}", field="controls")
        path = paths[name]
        config = _read(path / CONFIG, name)
        own = _read(path / OWN_FACTS, name) if (path / OWN_FACTS).exists() else {}
        return ControlNetFolder(
            name, path, str(config.get("_class_name")), str(own.get("kind", "")), config
        )

    def find(self, name: str) -> ControlNetFolder:
        """The ControlNet of that name, its files found whole.

        Raises:
            NotFoundError: There is no such ControlNet; names the nearest.
            BrokenFileError: A file of it is missing, truncated or damaged.
        """
        found = self.folder(name)
        weights = found.path / WEIGHTS
        if not weights.is_file():
            raise BrokenFileError(
                f"The ControlNet {name!r} has no {WEIGHTS}; other formats are not read.",
                field="controls",
            )
        read_header(weights)
        try:
            digest = hashlib.sha256(self._hashes.sha256(weights).encode())
            digest.update((found.path / CONFIG).read_bytes())
        except OSError as error:
            raise BrokenFileError(f"The ControlNet {name!r}: {error.strerror}.") from None
        return ControlNetFolder(
            found.name,
            found.path,
            found.class_name,
            found.kind,
            found.config,
            digest.hexdigest(),
        )

    def _paths(self) -> dict[str, Path]:
        found = [file.parent for folder in self._folders for file in folder.glob(f"*/{CONFIG}")]
        return {path.name: path for path in sorted(found, key=self._rank, reverse=True)}

    def _rank(self, path: Path) -> int:
        return self._folders.index(path.parent)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        return read_json(path, model=name)
    except BrokenFileError:
        raise BrokenFileError(
            f"The ControlNet {name!r} has a damaged {path.name}: mend it.", field="controls"
        ) from None

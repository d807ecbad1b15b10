"""The shelf of ControlNets: folders in the diffusers layout and single files, by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webui.errors import BrokenFileError, NotFoundError
from webui.library.checkpoints import read_json
from webui.library.controlnet_files import read_net
from webui.library.hashes import HashBook
from webui.library.headers import GGUF_SUFFIX, PICKLE_SUFFIXES, pickle_problem, read_header
from webui.library.pipeline_folders import has_network_name, network_file
from webui.library.weight_files import Found, find_weights, label_of
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
        path: Its folder, also where it is a single file.
        class_name: Class of diffusers that runs it, or `controlnet_files.CONTROL_LORA`.
        kind: What its hints show, where it says so itself, else empty.
        config: Its configuration, of a single file as its shapes tell it.
        sha256: Hex digest of its weights and its configuration; empty before `find`.
        file: The single file with its weights; None where the folder is in the diffusers layout.
        prefix: What the names of that file's tensors begin with.
    """

    name: str
    path: Path
    class_name: str
    kind: str
    config: Mapping[str, Any] = field(compare=False, repr=False)
    sha256: str = ""
    file: Path | None = None
    prefix: str = ""

    @property
    def weights(self) -> Path:
        """The file with its weights."""
        return self.file or network_file(self.path) or self.path / WEIGHTS


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
            BrokenFileError: Its configuration is missing or damaged, or it has no weights.
        """
        paths = self._paths()
        if name not in paths:
            known = nearest(name, self.names()) if paths else f"there is none in {self.place}."
            raise NotFoundError(f"Unknown ControlNet {name!r}: {known}", field="controls")
        return _read_net(name, paths[name])

    def read_all(self) -> Mapping[str, ControlNetFolder | BrokenFileError]:
        """All ControlNets as `folder` gives them, by name, or what is wrong with each."""
        read: dict[str, ControlNetFolder | BrokenFileError] = {}
        for name, path in sorted(self._paths().items()):
            try:
                read[name] = _read_net(name, path)
            except BrokenFileError as error:
                read[name] = error
        return read

    def find(self, name: str) -> ControlNetFolder:
        """The ControlNet of that name, its files found whole.

        Raises:
            NotFoundError: There is no such ControlNet; names the nearest.
            BrokenFileError: A file of it is missing, truncated or damaged.
        """
        found = self.folder(name)
        read_header(found.weights)
        try:
            digest = hashlib.sha256(self._hashes.sha256(found.weights).encode())
            if found.file is None:
                digest.update((found.path / CONFIG).read_bytes())
            elif found.config.get("global_pool_conditions"):
                # All else of its configuration is read off the weights.
                digest.update(b"global_pool_conditions")
        except OSError as error:
            raise BrokenFileError(f"The ControlNet {name!r}: {error.strerror}.") from None
        return replace(found, sha256=digest.hexdigest())

    def _paths(self) -> dict[str, Path]:
        """Folders with a configuration, and all weights that lie in none of them."""
        found: dict[str, Path] = {}
        for folder in reversed(self._folders):
            layouts = {file.parent for file in folder.glob(f"*/{CONFIG}")}
            weights = [one for one in find_weights(folder) if not one.is_folder]
            within = [one for one in weights if not layouts.isdisjoint(one.path.parents)]
            # Such as the second one that xinsir's union has in its folder.
            more = [one for one in within if _is_one_more(one.path)]
            found |= {one.long: one.path for one in more}
            whole = _wholes(one for one in weights if one not in within)
            times = Counter(Path(long).name for long in whole)
            for long, path in whole.items():
                short = Path(long).name
                found[short if times[short] == 1 else long] = path
            without = {one.path.parent for one in more if network_file(one.path.parent) is None}
            found |= {path.name: path for path in layouts - without}
        return found


def _is_one_more(weights: Path) -> bool:
    """Whether weights beside a configuration are no version of those that it is for."""
    is_read = weights.suffix.casefold() == ".safetensors"
    return is_read and weights.with_name(CONFIG).is_file() and not has_network_name(weights)


def _wholes(weights: Iterable[Found]) -> dict[str, Path]:
    """The folders of weights in the diffusers layout, and all others alone, by their long names."""
    found: dict[str, Path] = {}
    for one in weights:
        folder = one.path.parent
        read = network_file(folder) if (folder / CONFIG).is_file() else None
        if read is None or not has_network_name(one.path):
            found[one.long] = one.path
        elif one.path == read:
            found[label_of(Path(one.file).with_name(WEIGHTS).as_posix())] = folder
    return found


def _read_net(name: str, path: Path) -> ControlNetFolder:
    if path.is_file():
        return _in_file(name, path)
    if network_file(path) is None:
        raise BrokenFileError(
            f"The ControlNet {name!r} has no {WEIGHTS}; other formats are not read.",
            field="controls",
        )
    config = _read(path / CONFIG, name)
    own = _read(path / OWN_FACTS, name) if (path / OWN_FACTS).exists() else {}
    return ControlNetFolder(
        name, path, str(config.get("_class_name")), str(own.get("kind", "")), config
    )


def _in_file(name: str, path: Path) -> ControlNetFolder:
    if path.suffix.casefold() in PICKLE_SUFFIXES:
        raise BrokenFileError(pickle_problem(path), field="controls")
    if path.suffix.casefold() == GGUF_SUFFIX:
        raise BrokenFileError(
            f"{path.name} is a ControlNet as GGUF, which is not read: take a safetensors one.",
            field="controls",
        )
    try:
        net = read_net(read_header(path), file=path.as_posix())
    except BrokenFileError as error:
        raise BrokenFileError(error.message, field="controls") from None
    if net.wrong is not None:
        raise BrokenFileError(net.wrong, field="controls")
    return ControlNetFolder(
        name, path.parent, net.class_name, "", net.config, file=path, prefix=net.prefix
    )


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        return read_json(path, model=name)
    except BrokenFileError:
        raise BrokenFileError(
            f"The ControlNet {name!r} has a damaged {path.name}: mend it.", field="controls"
        ) from None

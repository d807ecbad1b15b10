"""Where weights lie under a folder: files, folders in diffusers' layout, the hub's cache."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from webui.library.facts_cache import stamp_of
from webui.library.headers import PICKLE_SUFFIXES, WEIGHT_SUFFIXES

INDEX = "model_index.json"
"""What makes a folder one in the diffusers layout."""

_SUFFIXES = WEIGHT_SUFFIXES | PICKLE_SUFFIXES
_HUB_FOLDER = re.compile(r"models--(?:(?P<owner>.+?)--)?(?P<name>.+)")
_DEEPEST = 12
_NAMED_BY_FOLDER = frozenset(
    {"adapter_model", "pytorch_lora_weights", "diffusion_pytorch_model", "model"}
)


@dataclass(frozen=True)
class Found:
    """A weight file, or a folder with a whole model.

    Attributes:
        file: Where it lies, counted from the folder that was searched.
        short, long: What it may be called, without and with what is needed to tell it from others.
        size: Bytes of the file, of a folder of all its weights.
        modified: Time of the last change in seconds since 1970.
        stamp: Changes when it does.
    """

    file: str
    path: Path
    short: str
    long: str
    size: int
    modified: float
    stamp: str
    is_folder: bool = False

    @property
    def key(self) -> str:
        """Stands for it as it lies there: no two have the same, and each change makes another."""
        return hashlib.sha256(f"{self.path.resolve()}|{self.stamp}".encode()).hexdigest()


def find_weights(folder: Path, *, but: Collection[str] = ()) -> Iterator[Found]:
    """Everything with weights under a folder, in order; links are followed, each folder once.

    Hidden files and folders are left out.

    Args:
        but: Names of folders directly in it that are left out.
    """
    yield from _walk(folder, folder, frozenset(but), set())


def find_in_hub(cache: Path, name: str | None = None) -> Iterator[Found]:
    """What may be a whole model in the hub's own cache, called by its repository's name.

    Other programs keep theirs there too: what lies in it as parts and shards is passed over.

    Args:
        name: Only the repository that something of this name is in.
    """
    steps = (name or "").split("/")
    only = {f"models--{'--'.join(steps[:count])}" for count in (1, 2)}
    try:
        entries = sorted(os.scandir(cache), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        hub = _HUB_FOLDER.fullmatch(entry.name)
        if hub is None or (name is not None and entry.name not in only):
            continue
        snapshot = _snapshot(Path(entry.path))
        if snapshot is None:
            continue
        repository = "/".join(filter(None, (hub["owner"], hub["name"])))
        if (snapshot / INDEX).is_file():
            yield _model_folder(cache, snapshot, repository, repository)
        for one in _walk(cache, snapshot, frozenset(), set()):
            if not one.is_folder and _may_be_whole(one.path):
                within = one.path.relative_to(snapshot).with_suffix("").as_posix()
                called = f"{repository}/{within}"
                yield replace(one, short=called, long=called)


def _may_be_whole(file: Path) -> bool:
    named = file.stem.partition(".")[0] in _NAMED_BY_FOLDER
    return file.suffix.casefold() in WEIGHT_SUFFIXES and not named and "-of-" not in file.stem


def find_files(folders: Iterable[Path]) -> list[Found]:
    """The weight files under a few folders; the first folder to hold a path wins."""
    found: dict[str, Found] = {}
    for folder in folders:
        for one in find_weights(folder):
            if not one.is_folder:
                found.setdefault(one.file, one)
    return list(found.values())


def label_of(file: str) -> str:
    """A file's path without suffix; of one that every repository calls the same, its folder's."""
    path = Path(file)
    if path.stem not in _NAMED_BY_FOLDER or path.parent == Path():
        return path.with_suffix("").as_posix()
    if path.parent.parent.name == "snapshots":
        return path.parent.parent.parent.name.removeprefix("models--").replace("--", "/")
    return path.parent.as_posix()


def stem_of(path: Path) -> str:
    """A file's stem, which tells what it is; of one that is called as in every repository, as
    "model.fp16" is too, the name of its folder or repository."""
    plain = path.stem.partition(".")[0]
    if plain not in _NAMED_BY_FOLDER:
        return path.stem
    return label_of(path.with_name(f"{plain}{path.suffix}").as_posix()).rpartition("/")[2]


def weights_in(model: Path) -> list[Path]:
    """The safetensors files of a folder in the diffusers layout."""
    return sorted(model.glob("*/*.safetensors"))


def _walk(root: Path, folder: Path, but: frozenset[str], seen: set[str]) -> Iterator[Found]:
    real = os.path.realpath(folder)
    if real in seen or len(folder.parts) - len(root.parts) > _DEEPEST:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in but:
            continue
        path = Path(entry.path)
        if entry.is_dir():
            yield from _in_folder(root, path, seen)
        elif os.path.splitext(entry.name)[1].casefold() in _SUFFIXES:
            yield from _file(root, path)


def _in_folder(root: Path, path: Path, seen: set[str]) -> Iterator[Found]:
    hub = _HUB_FOLDER.fullmatch(path.name)
    if hub is not None and (path / "snapshots").is_dir():
        snapshot = _snapshot(path)
        if snapshot is not None:
            long = "/".join(filter(None, (hub["owner"], hub["name"])))
            yield from _from_hub(root, snapshot, hub["name"], long, seen)
    elif (path / INDEX).is_file():
        yield _model_folder(root, path, path.name, path.relative_to(root).as_posix())
    else:
        yield from _walk(root, path, frozenset(), seen)


def _from_hub(root: Path, snapshot: Path, short: str, long: str, seen: set[str]) -> Iterator[Found]:
    if (snapshot / INDEX).is_file():
        yield _model_folder(root, snapshot, short, long)
    else:
        yield from _walk(root, snapshot, frozenset(), seen)


def _snapshot(hub_folder: Path) -> Path | None:
    """The snapshot that "main" stands for, otherwise the latest."""
    snapshots = hub_folder / "snapshots"
    try:
        main = (hub_folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = ""
    if main and "/" not in main and (snapshots / main).is_dir():
        return snapshots / main
    try:
        folders = [path for path in snapshots.iterdir() if path.is_dir()]
        return max(folders, key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None


def _file(root: Path, path: Path) -> Iterator[Found]:
    try:
        found = path.stat()
    except OSError:
        # Gone since the folder was listed, or a link that leads nowhere.
        return
    file = path.relative_to(root).as_posix()
    long = label_of(file)
    yield Found(
        file=file,
        path=path,
        short=Path(long).name,
        long=long,
        size=found.st_size,
        modified=found.st_mtime,
        stamp=stamp_of(found),
    )


def _model_folder(root: Path, path: Path, short: str, long: str) -> Found:
    stats: list[os.stat_result] = []
    for file in (path / INDEX, *sorted(path.glob("*/*.json")), *weights_in(path)):
        try:
            stats.append(file.stat())
        except OSError:
            continue
    return Found(
        file=path.relative_to(root).as_posix(),
        path=path,
        short=short,
        long=long,
        size=sum(found.st_size for found in stats),
        modified=max((found.st_mtime for found in stats), default=0.0),
        stamp="|".join(map(stamp_of, stats)),
        is_folder=True,
    )

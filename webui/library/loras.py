"""The shelf of LoRAs: safetensors files and peft's folders, by name, by their headers alone."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from webui.errors import BrokenFileError, NotFoundError, StorageError
from webui.library.files import write_atomically
from webui.library.hashes import HashBook
from webui.library.headers import read_header
from webui.library.lora_facts import LoraFacts, read_facts
from webui.request import nearest

CACHE = "loras.json"
"""What headers said, beside the book of hashes."""

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER = "adapter_model.safetensors"
_NAMED_BY_FOLDER = (_ADAPTER, "pytorch_lora_weights.safetensors")
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".bin"})
_MAX_CONFIG_BYTES = 1024**2
_MOST_NAMED = 4

_FACTS: TypeAdapter[LoraFacts] = TypeAdapter(LoraFacts)


@dataclass(frozen=True)
class LoraCard:
    """A LoRA on the shelf.

    Attributes:
        name: What a request calls it: the file's stem (of a folder its name), with the folders
            before it where several have the same.
        file: Where it lies, counted from its shelf's folder.
        config: peft's configuration beside the file, where there is one.
        size: Bytes of the file.
    """

    name: str
    file: str
    path: Path
    config: Path | None
    size: int
    facts: LoraFacts

    @property
    def stem(self) -> str:
        """`file` without suffix; of a folder, the folder."""
        return _stem(self.file)


@dataclass(frozen=True)
class LoraHashes:
    """Digests of a LoRA in hex, as other tools name them.

    Attributes:
        sha256: Of the whole file; with peft's configuration, of both.
        auto_v2: First 10 digits of the file's SHA-256.
        auto_v3: First 12 digits of the SHA-256 of its tensors, which metadata do not change.
    """

    sha256: str
    auto_v2: str
    auto_v3: str


@dataclass(frozen=True)
class _Found:
    """A file as the walk over the folders found it; `stem` may hold folders, without suffix."""

    stem: str
    file: str
    path: Path
    size: int
    modified: int


class LoraShelf:
    """Finds LoRAs under a few folders, subfolders too; the first folder to hold a path wins.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        self._folders = folders
        self._hashes = hashes
        self._cache = hashes.folder / CACHE
        self._known: dict[str, tuple[str, LoraFacts]] | None = None
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where LoRAs are looked for first."""
        return self._folders[0]

    def cards(self) -> tuple[LoraCard, ...]:
        """All LoRAs by name; those that cannot be used too, with the reason in `facts.problem`.

        Only headers of files that are new or have changed are read.
        """
        found = self._walk()
        with self._lock:
            facts = self._facts_of(found)
        stems = [Path(one.stem).name for one in found]
        times = Counter(stems)
        cards = (
            LoraCard(
                name=stem if times[stem] == 1 else one.stem,
                file=one.file,
                path=one.path,
                config=_config_of(one.path),
                size=one.size,
                facts=said,
            )
            for one, stem, said in zip(found, stems, facts, strict=True)
        )
        return tuple(sorted(cards, key=lambda card: card.name.casefold()))

    def find(self, name: str) -> LoraCard:
        """The LoRA of that name: its path without suffix, its file's stem or its alias.

        Raises:
            NotFoundError: There is none, or the name stands for several; names them.
            BrokenFileError: It cannot be used; says why.
        """
        cards = self.cards()
        card = self._named(name, cards)
        if card.facts.problem is not None:
            raise BrokenFileError(card.facts.problem, field="loras")
        return card

    def hashes(self, card: LoraCard) -> LoraHashes:
        """The LoRA's digests, computed when they are first asked for.

        Raises:
            BrokenFileError: The file cannot be read.
        """
        try:
            whole = self._hashes.sha256(card.path)
            tensors = self._hashes.sha256(card.path, start=read_header(card.path).data_start)
            sha256 = whole
            if card.config is not None:
                config = hashlib.sha256(card.config.read_bytes()).hexdigest()
                sha256 = hashlib.sha256(f"{whole} {config}".encode()).hexdigest()
        except OSError as error:
            raise BrokenFileError(
                f"{card.file} cannot be read: {error.strerror}.", field="loras"
            ) from None
        return LoraHashes(sha256, whole[:10], tensors[:12])

    def _named(self, name: str, cards: tuple[LoraCard, ...]) -> LoraCard:
        for known_as in (_paths_of, _stems_of, _aliases_of):
            fitting = [card for card in cards if name in known_as(card)]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                files = ", ".join(card.file for card in fitting[:_MOST_NAMED])
                more = f" and {len(fitting) - _MOST_NAMED} more"
                raise NotFoundError(
                    f"{name!r} stands for {len(fitting)} LoRAs, {files}"
                    f"{more if len(fitting) > _MOST_NAMED else ''}: choose one by its path.",
                    field="loras",
                )
        if not cards:
            raise NotFoundError(
                f"There is no LoRA in {self._folders[0]}: put {name!r} there or remove its row.",
                field="loras",
            )
        known = tuple(dict.fromkeys(card.name for card in cards))
        raise NotFoundError(f"Unknown LoRA {name!r}: {_nearest(name, known)}", field="loras")

    def _walk(self) -> list[_Found]:
        found: dict[str, _Found] = {}
        for folder in self._folders:
            for path, stat in _files(folder):
                file = path.relative_to(folder).as_posix()
                one = _Found(_stem(file), file, path, stat.st_size, stat.st_mtime_ns)
                found.setdefault(file, one)
        return list(found.values())

    def _facts_of(self, found: list[_Found]) -> list[LoraFacts]:
        known = self._read_cache() if self._known is None else self._known
        fresh: dict[str, tuple[str, LoraFacts]] = {}
        for one in found:
            key, stamp = str(one.path), _stamp(one)
            kept = known.get(key)
            fresh[key] = kept if kept and kept[0] == stamp else (stamp, _read(one))
        if fresh != known:
            self._write_cache(fresh)
        self._known = fresh
        return [fresh[str(one.path)][1] for one in found]

    def _read_cache(self) -> dict[str, tuple[str, LoraFacts]]:
        try:
            entries: Any = json.loads(self._cache.read_bytes())
            return {
                path: (stamp, _FACTS.validate_python(facts))
                for path, (stamp, facts) in entries.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, ValidationError):
            return {}

    def _write_cache(self, entries: dict[str, tuple[str, LoraFacts]]) -> None:
        plain = {path: (stamp, asdict(facts)) for path, (stamp, facts) in entries.items()}
        try:
            write_atomically(self._cache, json.dumps(plain).encode())
        except StorageError:
            # Without it the headers are read once more by the next process, and nothing is lost.
            return


def read_adapter_config(path: Path) -> dict[str, Any]:
    """peft's `adapter_config.json`.

    Raises:
        BrokenFileError: It is damaged, or far too long.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG_BYTES + 1)
        data: Any = json.loads(text) if len(text) <= _MAX_CONFIG_BYTES else None
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BrokenFileError(
            f"{path.parent.name}/{path.name} is damaged: fetch it again.", field="loras"
        )
    return cast(dict[str, Any], data)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Weight files under a folder, hidden ones left out; links are followed, each folder once."""
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(where, name)
            if name.startswith(".") or path.suffix.casefold() not in _PICKLES | {".safetensors"}:
                continue
            try:
                yield path, path.stat()
            except OSError:
                # Gone since the folder was listed, or a link that leads nowhere.
                continue


def _stem(file: str) -> str:
    path = Path(file)
    if path.name in _NAMED_BY_FOLDER and path.parent != Path():
        return path.parent.as_posix()
    return path.with_suffix("").as_posix()


def _read(one: _Found) -> LoraFacts:
    if one.path.suffix.casefold() in _PICKLES:
        return LoraFacts(
            problem=f"{one.path.name} is a pickle, which can hold programs and is not read:"
            " save it as safetensors."
        )
    try:
        config = _config_of(one.path)
        said = None if config is None else read_adapter_config(config)
        return read_facts(read_header(one.path), said, file=one.path.name)
    except BrokenFileError as error:
        return LoraFacts(problem=error.message)


def _config_of(path: Path) -> Path | None:
    config = path.with_name(ADAPTER_CONFIG)
    return config if path.name == _ADAPTER and config.is_file() else None


def _stamp(one: _Found) -> str:
    config = _config_of(one.path)
    stamp = f"{one.size}:{one.modified}"
    if config is None:
        return stamp
    stat = config.stat()
    return f"{stamp}:{stat.st_size}:{stat.st_mtime_ns}"


def _paths_of(card: LoraCard) -> Iterable[str]:
    return (card.file, card.stem)


def _stems_of(card: LoraCard) -> Iterable[str]:
    return (Path(card.stem).name,)


def _aliases_of(card: LoraCard) -> Iterable[str]:
    return () if card.facts.alias is None else (card.facts.alias,)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    """As `webui.request.nearest`, but without a list of a thousand names."""
    said = nearest(name, known)
    return said if said.startswith("did") or len(known) <= _MOST_NAMED else "there is none like it."

"""The shelf of presets: sparse requests with a name and a sentence, one JSON file each."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import threading
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from anyascii import anyascii

from webui.errors import BadRequestError, NotFoundError, StorageError
from webui.library.files import write_atomically
from webui.library.lines import is_plain_line
from webui.library.presetfile import (
    MAX_BYTES,
    MAX_NAME_CHARACTERS,
    Draft,
    make_draft,
    read_draft,
    write_draft,
)

MAX_OWN = 2_000
"""How many files the user's own folder may hold for more to be saved there."""

_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d")
"""File names that Windows keeps for devices, whatever their ending."""


class NameTakenError(BadRequestError):
    """There is an own preset of that name, which may be replaced."""

    status = 409


@dataclass(frozen=True)
class Preset(Draft):
    """A preset on the shelf.

    Attributes:
        id: 16 hex digits that stay the same while the file keeps its name.
        file: Name of its file.
        own: Whether it is the user's, not one that comes with Easel.
    """

    id: str
    file: str
    own: bool


@dataclass(frozen=True)
class BrokenFile:
    """A file of the shelf that cannot be used, and why, in one sentence."""

    file: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """All that is on the shelf, presets sorted by name."""

    presets: tuple[Preset, ...]
    broken: tuple[BrokenFile, ...]


def file_name(name: str) -> str:
    """A file name for a preset's name: ASCII letters, digits and dashes, valid everywhere."""
    stem = re.sub(r"[^a-z0-9]+", "-", anyascii(name).lower()).strip("-")[:60].strip("-")
    if not stem or _RESERVED.fullmatch(stem):
        stem = f"preset-{stem}".rstrip("-")
    return f"{stem}.json"


class PresetShelf:
    """The presets that come with Easel and the user's own. Safe to use from several threads."""

    def __init__(self, shipped: Path, own: Path) -> None:
        """`own` is made when the first preset is saved."""
        self._shipped = shipped
        self._own = own
        self._lock = threading.Lock()
        self._known: Mapping[Path, tuple[object, Draft | BrokenFile]] = MappingProxyType({})

    def listing(self) -> Listing:
        """What is in the folders now; files that did not change are not read again."""
        presets: dict[str, Preset] = {}
        broken: list[BrokenFile] = []
        known: dict[Path, tuple[object, Draft | BrokenFile]] = {}
        for path in (*self._files(self._shipped, broken), *self._files(self._own, broken)):
            stamp = _stamp(path)
            then, result = self._known.get(path, (None, None))
            if result is None or then != stamp:
                result = _read(path)
            known[path] = stamp, result
            if isinstance(result, BrokenFile):
                broken.append(result)
            elif other := presets.get(_key(result.name)):
                reason = f"{other.file} has the same name, {other.name!r}: give it another one."
                broken.append(BrokenFile(_shown(path), reason))
            else:
                own = path.parent == self._own
                presets[_key(result.name)] = _shelved(result, path.name, own=own)
        self._known = MappingProxyType(known)
        return Listing(tuple(presets[key] for key in sorted(presets)), tuple(broken))

    def find(self, id: str) -> Preset:
        """The preset of that id.

        Raises:
            NotFoundError: It is not there, or not any more.
        """
        for preset in self.listing().presets:
            if preset.id == id:
                return preset
        raise NotFoundError("This preset is not there any more.")

    def store(self, name: str, about: str, request: Mapping[str, Any], *, replace: bool) -> Preset:
        """Writes an own preset, with `replace` over one of the same name.

        Raises:
            BadRequestError: A value is wrong, the name is that of a shipped preset, or there are
                `MAX_OWN` presets.
            NameTakenError: There is one of that name and `replace` was not asked for.
            StorageError: Disk full or folder not writable; nothing is changed.
        """
        draft = make_draft(name, about, request)
        with self._lock:
            other = {_key(p.name): p for p in self.listing().presets}.get(_key(draft.name))
            if other is not None and not other.own:
                raise BadRequestError(
                    f"{other.name!r} comes with Easel: choose another name.", field="name"
                )
            if other is not None and not replace:
                raise NameTakenError(
                    f"There is a preset named {other.name!r}: choose another name or replace it.",
                    field="name",
                )
            file = other.file if other else _free_file(draft.name, self._taken_files(more=1))
            write_atomically(self._own / file, write_draft(draft))
        return _shelved(draft, file, own=True)

    def add(self, drafts: Sequence[Draft]) -> tuple[Preset, ...]:
        """Writes drafts as own presets, all or none; a name that is taken gets a number.

        Raises:
            BadRequestError: One is too large, or there would be more than `MAX_OWN`.
            StorageError: Disk full or folder not writable; nothing is added.
        """
        added: list[Preset] = []
        with self._lock:
            names = {_key(preset.name) for preset in self.listing().presets}
            files = self._taken_files(more=len(drafts))
            try:
                for draft in drafts:
                    named = replace(draft, name=_free_name(draft.name, names))
                    file = _free_file(named.name, files)
                    write_atomically(self._own / file, write_draft(named))
                    added.append(_shelved(named, file, own=True))
                    names.add(_key(named.name))
                    files.add(file)
            except (BadRequestError, StorageError):
                for preset in added:
                    with contextlib.suppress(OSError):
                        (self._own / preset.file).unlink()
                raise
        return tuple(added)

    def import_file(self, data: bytes, file: str) -> Preset:
        """Adds the preset in a file's bytes; `file`, its name, begins an error's sentence.

        Raises:
            BadRequestError: It is no preset, or a value in it is wrong.
            StorageError: Disk full or folder not writable.
        """
        try:
            draft = read_draft(data)
        except BadRequestError as error:
            named = "".join(each if is_plain_line(each) else " " for each in file[:100])
            raise BadRequestError(f"{named}: {error.message}", field=error.field) from None
        return self.add((draft,))[0]

    def export(self, id: str) -> bytes:
        """The file of a preset, as `import_file` reads it.

        Raises:
            NotFoundError: There is no such preset.
        """
        return write_draft(self.find(id))

    def delete(self, id: str) -> Preset:
        """Removes an own preset and gives it back, so that it can be saved again.

        Raises:
            NotFoundError: There is no such preset.
            BadRequestError: It comes with Easel.
            StorageError: The file cannot be removed.
        """
        with self._lock:
            preset = self.find(id)
            if not preset.own:
                raise BadRequestError(f"{preset.name!r} comes with Easel and stays.")
            try:
                (self._own / preset.file).unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"{preset.file} cannot be deleted: {error.strerror}.") from None
        return preset

    def _files(self, folder: Path, broken: list[BrokenFile]) -> Iterator[Path]:
        """The preset files of a folder by name; a folder that is not there holds none."""
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            broken.append(BrokenFile(_shown(folder), f"It cannot be read: {error.strerror}."))
            return
        for name in names:
            if name.casefold().endswith(".json") and not name.startswith("."):
                yield folder / name

    def _taken_files(self, *, more: int) -> set[str]:
        """Names of the own files, folded, after checking that `more` may be added."""
        taken = {path.name.casefold() for path in self._files(self._own, [])}
        if len(taken) + more > MAX_OWN:
            raise BadRequestError(
                f"There can be {MAX_OWN:,} presets of your own at most: delete some first."
            )
        return taken


def _free_file(name: str, taken: Collection[str]) -> str:
    first = file_name(name)
    file, number = first, 1
    while file in taken:
        number += 1
        file = f"{first.removesuffix('.json')}-{number}.json"
    return file


def _free_name(name: str, taken: Collection[str]) -> str:
    free, number = name, 1
    while _key(free) in taken:
        number += 1
        ending = f" ({number})"
        free = name[: MAX_NAME_CHARACTERS - len(ending)].rstrip() + ending
    return free


def _key(name: str) -> str:
    """What makes two names the same, and the order they are sorted in."""
    return unicodedata.normalize("NFKC", name).casefold()


def _shown(path: Path) -> str:
    """The last two parts of a path, readable whatever its bytes are."""
    return os.fsencode(Path(path.parent.name) / path.name).decode(errors="replace")


def _shelved(draft: Draft, file: str, *, own: bool) -> Preset:
    digest = hashlib.sha256(b"own " * own + os.fsencode(file)).hexdigest()
    about = draft.name, draft.about, draft.request
    return Preset(*about, digest[:16], file, own, notices=draft.notices)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _read(path: Path) -> Draft | BrokenFile:
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            return BrokenFile(_shown(path), "It is not a file.")
        with path.open("rb") as file:
            return read_draft(file.read(MAX_BYTES + 1))
    except OSError as error:
        return BrokenFile(_shown(path), f"It cannot be read: {error.strerror}.")
    except BadRequestError as error:
        return BrokenFile(_shown(path), error.message)

"""The picture files under a folder: what is there, since when, and whether that has changed."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from webui.errors import NotFoundError

TRASH = ".trash"
"""Folder of pictures that were thrown away, each under the path it had before."""

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
)
"""The files that are pictures, by their suffix in lower case."""

SETTLED_SECONDS = 2
"""Coarsest file time (FAT). What changed more lately may change again within the same tick."""

_SAVED_AS = re.compile(r"(?:.*/)?(\d{4}-\d{2}-\d{2})/(\d{6})-[^/]*")
"""A path as `webui.library.gallery.Gallery` makes it."""


class Stamp(NamedTuple):
    """What changes when a file does; the size in bytes."""

    mtime_ns: int
    size: int


@dataclass(frozen=True)
class Folder:
    """A folder that has been listed.

    Attributes:
        path: Relative to the pictures' folder, with "/" between the parts; "" is that itself.
        mtime_ns: Its modification time; -1 when it or a file in it was too fresh to tell a later
            change by.
        subfolders: Paths of the folders in it that are looked into.
    """

    path: str
    mtime_ns: int
    subfolders: tuple[str, ...]


def joined(folder: str, name: str) -> str:
    """The relative path of something in a folder."""
    return f"{folder}/{name}" if folder else name


def is_trashed(folder: str) -> bool:
    """Whether a relative folder lies in the trash."""
    return folder == TRASH or folder.startswith(f"{TRASH}/")


def origin_of(folder: str) -> str:
    """The folder that a thrown away picture came from; any other folder as it is."""
    return folder[len(TRASH) + 1 :] if is_trashed(folder) else folder


def picture_id(folder: str, name: str, stamp: Stamp) -> str:
    """24 hex digits that stay the same in the trash and differ for a changed file.

    They say nothing of a row's place in a database, so that an id from before a rebuild can
    never mean another picture.
    """
    path = os.fsencode(joined(origin_of(folder), name))
    return hashlib.blake2b(b"%d %d %s" % (*stamp, path), digest_size=12).hexdigest()


def made_at(folder: str, name: str, stamp: Stamp) -> datetime:
    """When a picture was made, local time: by its file time, or its name where they disagree.

    A copied folder has new file times; the gallery's names keep the right ones to the second.
    """
    try:
        changed = datetime.fromtimestamp(stamp.mtime_ns / 1e9)
    except (OverflowError, ValueError, OSError):
        changed = datetime(1970, 1, 1)
    saved = _SAVED_AS.fullmatch(joined(origin_of(folder), name))
    if saved is None:
        return changed
    try:
        named = datetime.strptime(" ".join(saved.groups()), "%Y-%m-%d %H%M%S")
    except ValueError:
        return changed
    return changed if abs((changed - named).total_seconds()) < 60 else named


def list_folder(root: Path, path: str) -> tuple[Folder, dict[str, Stamp]]:
    """A folder and the pictures in it by name; links and hidden folders are left out.

    Raises:
        OSError: It is gone or cannot be read.
    """
    place = root / path
    began = time.time_ns()
    changed = place.stat().st_mtime_ns
    subfolders = [TRASH] if not path and _is_own_folder(root / TRASH) else []
    files: dict[str, Stamp] = {}
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    subfolders.append(joined(path, entry.name))
            elif _is_picture(entry.name) and entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                files[entry.name] = Stamp(stat.st_mtime_ns, stat.st_size)
    times = [changed, *(stamp.mtime_ns for stamp in files.values())]
    fresh = any(abs(began - at) < SETTLED_SECONDS * 10**9 for at in times)
    return Folder(path, -1 if fresh else changed, tuple(subfolders)), files


def changed_folders(
    root: Path, known: Mapping[str, Folder]
) -> Iterator[tuple[Folder, dict[str, Stamp] | None]]:
    """Every folder, with its pictures where it is not as it is known; unreadable ones are left out.

    Adding, removing and renaming change a folder's modification time; a file that is rewritten in
    place is found when `known` is empty.
    """
    paths = [""]
    while paths:
        path = paths.pop()
        before = known.get(path)
        try:
            if before is not None and (root / path).stat().st_mtime_ns == before.mtime_ns:
                folder, files = before, None
            else:
                folder, files = list_folder(root, path)
        except OSError:
            continue
        yield folder, files
        paths.extend(folder.subfolders)


def is_stale(root: Path, known: Mapping[str, Folder]) -> bool:
    """Whether any folder may hold other pictures than when it was listed."""
    if not known:
        return True
    for path, folder in known.items():
        try:
            if (root / path).stat().st_mtime_ns != folder.mtime_ns:
                return True
        except OSError:
            return True
    return False


def locate(root: Path, folder: str, name: str) -> Path:
    """The file itself, which no link leads to or out of `root` (resolved).

    Raises:
        NotFoundError: It is not there any more.
        OSError: Whether it is there cannot be told.
    """
    path = root / folder / name
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(root):
        raise NotFoundError(f"{shown(name)} is not in its folder any more.")
    return path


def shown(name: str) -> str:
    """A file name as text; bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in MEDIA_TYPES


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()

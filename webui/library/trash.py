"""Moving pictures to the trash and back: paths are kept, and nothing is overwritten."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from webui.errors import NotFoundError, StorageError
from webui.library.picture_files import TRASH, joined, locate, origin_of, shown


class Trash:
    """The folder `.trash` under `root` (resolved). All paths are relative (folder, name) pairs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, folder: str, name: str) -> tuple[str, str]:
        """Moves a picture into the trash; gives where it lies now.

        Raises:
            NotFoundError: It is not there any more.
            StorageError: It cannot be moved.
        """
        return self._move(folder, name, joined(TRASH, folder) if folder else TRASH)

    def take_back(self, folder: str, name: str) -> tuple[str, str]:
        """Moves a picture from the trash to where it was; "name (2)" if that is taken now.

        Raises:
            NotFoundError: It is not there any more.
            StorageError: It cannot be moved.
        """
        return self._move(folder, name, origin_of(folder))

    def delete(self, folder: str, name: str) -> None:
        """Deletes a file for good.

        Raises:
            NotFoundError: It is not there any more.
            StorageError: It cannot be deleted.
        """
        try:
            locate(self._root, folder, name).unlink()
        except OSError as error:
            raise StorageError(_sentence(name, "deleted", error)) from None

    def remove_empty_folders(self) -> None:
        """Removes the trash's folders that hold nothing."""
        for path, _, _ in os.walk(self._root / TRASH, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def _move(self, folder: str, name: str, to: str) -> tuple[str, str]:
        target = self._root / to
        try:
            source = locate(self._root, folder, name)
            target.mkdir(parents=True, exist_ok=True)
            if target.resolve() != target:
                raise StorageError(f"{shown(name)} could not be moved: {shown(to)} is a link.")
            free = _free_name(target, name)
            os.rename(source, target / free)
        except FileNotFoundError:
            raise NotFoundError(f"{shown(name)} is not in its folder any more.") from None
        except OSError as error:
            raise StorageError(_sentence(name, "moved", error)) from None
        return to, free


def _free_name(folder: Path, name: str) -> str:
    stem, suffix = os.path.splitext(name)
    free, number = name, 1
    while os.path.lexists(folder / free):
        number += 1
        free = f"{stem} ({number}){suffix}"
    return free


def _sentence(name: str, what: str, error: OSError) -> str:
    return f"{shown(name)} could not be {what}: {error.strerror}."

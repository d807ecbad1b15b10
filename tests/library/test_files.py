from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from webui.errors import StorageError
from webui.library.files import PREFIX, remove_leftovers, write_atomically


def test_the_folder_is_made_and_the_file_is_whole(tmp_path: Path):
    path = tmp_path / "new" / "picture.png"
    write_atomically(path, b"data")
    assert path.read_bytes() == b"data"
    assert os.listdir(path.parent) == ["picture.png"]


def test_a_full_disk_is_one_sentence_and_the_older_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "picture.png"
    write_atomically(path, b"older")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"The disk is full: picture\.png was not saved"):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["picture.png"]


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path):
    (tmp_path / "outputs").write_text("not a folder")
    with pytest.raises(StorageError, match="could not be saved"):
        write_atomically(tmp_path / "outputs" / "picture.png", b"data")


def test_an_interruption_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "picture.png", b"data")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path):
    (tmp_path / "2026-01-01").mkdir()
    kept = tmp_path / "2026-01-01" / "picture.png"
    kept.write_bytes(b"data")
    for folder in (tmp_path, kept.parent):
        (folder / f"{PREFIX}abc").write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]

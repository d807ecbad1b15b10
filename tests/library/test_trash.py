from __future__ import annotations

import os
from pathlib import Path

import pytest

from webui.errors import NotFoundError, StorageError
from webui.library.trash import Trash


def write(path: Path, text: str = "picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_goes_to_the_trash_and_back(tmp_path: Path):
    write(tmp_path / "a" / "b" / "x.png")
    trash = Trash(tmp_path)
    assert trash.put("a/b", "x.png") == (".trash/a/b", "x.png")
    assert (tmp_path / ".trash" / "a" / "b" / "x.png").read_text() == "picture"
    (tmp_path / "a" / "b").rmdir()
    assert trash.take_back(".trash/a/b", "x.png") == ("a/b", "x.png")
    assert (tmp_path / "a" / "b" / "x.png").read_text() == "picture"
    write(tmp_path / "y.png")
    assert trash.put("", "y.png") == (".trash", "y.png")
    assert trash.take_back(".trash", "y.png") == ("", "y.png")


def test_nothing_is_overwritten_on_either_way(tmp_path: Path):
    trash = Trash(tmp_path)
    for text in ("first", "second", "third"):
        write(tmp_path / "x.png", text)
        trash.put("", "x.png")
    assert {p.name: p.read_text() for p in (tmp_path / ".trash").iterdir()} == {
        "x.png": "first",
        "x (2).png": "second",
        "x (3).png": "third",
    }
    write(tmp_path / "x.png", "new")
    assert trash.take_back(".trash", "x.png") == ("", "x (2).png")
    assert (tmp_path / "x.png").read_text() == "new"
    assert (tmp_path / "x (2).png").read_text() == "first"


def test_what_is_not_there_is_one_sentence(tmp_path: Path):
    trash = Trash(tmp_path)
    for act in (trash.put, trash.take_back, trash.delete):
        with pytest.raises(NotFoundError, match=r"x\.png is not in its folder any more"):
            act("a", "x.png")


def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "x.png")
    write(tmp_path / ".trash", "a file where the folder should be")
    with pytest.raises(StorageError, match=r"x\.png could not be moved: File exists"):
        Trash(tmp_path).put("", "x.png")

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match="could not be deleted: Permission denied"):
        Trash(tmp_path).delete("", "x.png")
    assert (tmp_path / "x.png").is_file()


def test_links_lead_nowhere(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(root / "x.png")
    write(outside / "y.png")
    (root / "linked").symlink_to(outside)
    (root / "y.png").symlink_to(outside / "y.png")
    (root / ".trash").symlink_to(outside)
    trash = Trash(root)
    with pytest.raises(StorageError, match="is a link"):
        trash.put("", "x.png")
    for act in (trash.put, trash.delete):
        with pytest.raises(NotFoundError):
            act("linked", "y.png")
        with pytest.raises(NotFoundError):
            act("", "y.png")
    assert os.listdir(outside) == ["y.png"]


def test_empty_folders_of_the_trash_are_removed_and_no_others(tmp_path: Path):
    (tmp_path / ".trash" / "a" / "b").mkdir(parents=True)
    write(tmp_path / ".trash" / "c" / "notes.txt")
    (tmp_path / "empty").mkdir()
    Trash(tmp_path).remove_empty_folders()
    assert sorted(os.listdir(tmp_path / ".trash")) == ["c"]
    assert (tmp_path / "empty").is_dir()

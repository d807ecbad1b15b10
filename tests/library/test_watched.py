from __future__ import annotations

import os
from pathlib import Path

import pytest

from webui.library.watched import Watched


class Reader:
    """Reads a file and counts how often."""

    def __init__(self, file: Path) -> None:
        self.file, self.times = file, 0

    def __call__(self) -> str:
        self.times += 1
        return self.file.read_text()


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    (tmp_path / "a").write_text("one")
    return Reader(tmp_path / "a")


def test_a_file_is_read_again_only_when_it_changes(reader: Reader):
    watched = Watched[str](2)
    assert [watched.get((reader.file,), reader) for _ in range(3)] == ["one"] * 3
    assert reader.times == 1
    reader.file.write_text("two!")
    assert watched.get((reader.file,), reader) == "two!"
    os.utime(reader.file, ns=(1, 1))
    assert watched.get((reader.file,), reader) == "two!"
    assert reader.times == 3


def test_a_file_that_comes_or_goes_is_a_change(reader: Reader, tmp_path: Path):
    watched = Watched[str](2)
    files = (reader.file, tmp_path / "b")
    watched.get(files, reader)
    (tmp_path / "b").touch()
    watched.get(files, reader)
    assert reader.times == 2


def test_an_error_is_not_kept(reader: Reader):
    watched = Watched[str](2)
    reader.file.unlink()
    with pytest.raises(FileNotFoundError):
        watched.get((reader.file,), reader)
    reader.file.write_text("back")
    assert watched.get((reader.file,), reader) == "back"


def test_the_least_used_goes_first(tmp_path: Path):
    readers = [Reader(tmp_path / name) for name in "abc"]
    for reader in readers:
        reader.file.touch()
    watched = Watched[str](2)
    for index in (0, 1, 0, 2, 0, 1):
        watched.get((readers[index].file,), readers[index])
    assert [reader.times for reader in readers] == [1, 2, 1]

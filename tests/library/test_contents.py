from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from tests.library.test_checkpoints import put_model
from webui.errors import BrokenFileError
from webui.library import contents
from webui.library.checkpoints import CheckpointShelf
from webui.library.contents import Contents
from webui.library.hashes import HashBook

WAIT = 60.0


class SlowBook(HashBook):
    """A book that reads nothing before it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.begun = threading.Event()
        self.read: list[str] = []

    def sha256(self, path: Path, *, start: int = 0) -> str:
        self.begun.set()
        assert self.go.wait(WAIT)
        self.read.append(path.parent.parent.name)
        return super().sha256(path, start=start)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, nobody reads what the background will come to."""
    monkeypatch.setattr(contents, "_PATIENCE", WAIT)


@pytest.fixture
def book(tmp_path: Path) -> SlowBook:
    return SlowBook(tmp_path / "hashes.json")


@pytest.fixture
def shelf(tmp_path: Path, book: SlowBook) -> CheckpointShelf:
    put_model(tmp_path / "models", "harbour")
    put_model(tmp_path / "models", "meadow", 1.0)
    return CheckpointShelf((tmp_path / "models",), book)


@pytest.mark.usefixtures("patient")
def test_nobody_waits_for_a_hash_but_who_wants_it(shelf: CheckpointShelf, book: SlowBook):
    content = shelf.find("meadow").content
    content.begin()
    assert book.begun.wait(WAIT)
    assert content.known is None
    other = shelf.find("harbour").content
    other.begin()
    book.go.set()
    assert shelf.find("meadow").sha256 == content.sha256 == content.known
    assert other.sha256 != content.sha256
    assert book.read == ["meadow", "harbour"]


@pytest.mark.usefixtures("patient")
def test_a_model_found_again_while_it_is_read_is_read_once(shelf: CheckpointShelf, book: SlowBook):
    first = shelf.find("meadow").content
    first.begin()
    assert shelf.find("meadow").content is first
    book.go.set()
    assert first.sha256
    again = shelf.find("meadow")
    assert again.content is not first
    assert again.sha256 == first.sha256
    assert book.read == ["meadow"]


def test_a_file_exchanged_while_it_is_in_use_is_not_given_the_others_hash(
    shelf: CheckpointShelf, book: SlowBook, tmp_path: Path
):
    found = shelf.find("meadow")
    weights = tmp_path / "models" / "meadow" / "unet" / "part.safetensors"
    found.content.begin()
    other = tmp_path / "other"
    other.write_bytes(weights.read_bytes()[:-1] + b"\1")
    other.replace(weights)
    book.go.set()
    with pytest.raises(BrokenFileError, match="was exchanged while it was in use"):
        _ = found.sha256
    assert shelf.find("meadow").key != found.key
    assert shelf.find("meadow").sha256
    weights.unlink()
    with pytest.raises(BrokenFileError, match="cannot be read"):
        _ = Contents(HashBook(tmp_path / "b")).of("k", {weights: "0:0:0"}, None).sha256


def test_the_key_is_of_the_place_and_everything_in_it(shelf: CheckpointShelf, tmp_path: Path):
    harbour, meadow = shelf.find("harbour"), shelf.find("meadow")
    assert shelf.find("meadow").key == meadow.key != harbour.key
    copy = put_model(tmp_path / "models", "copy", 1.0)
    assert shelf.find("copy").key != meadow.key
    (copy / "scheduler").mkdir()
    config = copy / "scheduler" / "scheduler_config.json"
    seen = {shelf.find("copy").key}
    for text in ('{"prediction_type": "epsilon"}', '{"prediction_type": "v_prediction"}'):
        config.write_text(text)
        os.utime(config, ns=(0, 0))
        seen.add(shelf.find("copy").key)
    assert len(seen) == 3


def test_the_hash_of_a_file_is_that_of_its_bytes_and_its_size_is_known(tmp_path: Path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    stat = file.stat()
    stamp = f"3:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
    content = Contents(HashBook(tmp_path / "b")).of("k", {file: stamp}, None)
    assert content.size == 3
    assert content.sha256 == hashlib.sha256(b"abc").hexdigest()


def test_who_wants_a_hash_reads_it_when_the_background_does_not_get_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class HeldBook(SlowBook):
        """A book that is slow in the background alone."""

        def sha256(self, path: Path, *, start: int = 0) -> str:
            if threading.current_thread() is threading.main_thread():
                return HashBook.sha256(self, path, start=start)
            return super().sha256(path, start=start)

    monkeypatch.setattr(contents, "_PATIENCE", 0.05)
    put_model(tmp_path / "models", "meadow")
    book = HeldBook(tmp_path / "hashes.json")
    content = CheckpointShelf((tmp_path / "models",), book).find("meadow").content
    content.begin()
    assert book.begun.wait(WAIT)
    asked = content.sha256
    assert content.is_being_read
    assert asked == content.known
    book.go.set()
    assert content.sha256 == asked

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from webui.library.hashes import HashBook


def test_the_digest_is_that_of_the_bytes_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, book = tmp_path / "weights", tmp_path / "hashes.json"
    file.write_bytes(b"one")
    assert HashBook(book).sha256(file) == hashlib.sha256(b"one").hexdigest()
    expected = hashlib.sha256(b"one").hexdigest()
    monkeypatch.delattr(hashlib, "sha256")
    assert HashBook(book).sha256(file) == expected


def test_a_changed_file_is_read_again(tmp_path: Path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    book = HashBook(tmp_path / "hashes.json")
    book.sha256(file)
    file.write_bytes(b"three")
    assert book.sha256(file) == hashlib.sha256(b"three").hexdigest()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"x": 5}', b"\xff"])
def test_a_damaged_book_is_begun_anew(tmp_path: Path, content: bytes):
    file, book = tmp_path / "weights", tmp_path / "hashes.json"
    file.write_bytes(b"one")
    book.write_bytes(content)
    assert HashBook(book).sha256(file) == hashlib.sha256(b"one").hexdigest()


def test_what_another_process_has_computed_is_known(tmp_path: Path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    here, there = HashBook(tmp_path / "hashes.json"), HashBook(tmp_path / "hashes.json")
    assert here.known(file) is None
    digest = there.sha256(file)
    assert here.known(file) == digest
    file.write_bytes(b"three")
    assert here.known(file) is None

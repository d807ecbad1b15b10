from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from webui.errors import StorageError
from webui.library.keys import BYTES, kept_key


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "a.key"
    first = kept_key(path)
    assert len(first) == BYTES
    assert kept_key(path) == first != kept_key(tmp_path / "b.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["a.key"]


def test_all_who_ask_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(kept_key, [tmp_path / "a.key"] * 32))) == 1


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.key"
    assert kept_key(path) == kept_key(path)


def test_a_key_of_another_process_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.key"
    link = os.link

    def too_late(source: Path, target: Path) -> None:
        path.write_bytes(b"k" * BYTES)
        link(source, target)

    monkeypatch.setattr(os, "link", too_late)
    assert kept_key(path) == b"k" * BYTES


def test_a_damaged_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"short")
    with pytest.raises(StorageError, match="damaged"):
        kept_key(path)
    assert path.read_bytes() == b"short"


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        kept_key(tmp_path / "folder.key")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be"):
        kept_key(tmp_path / "file" / "a.key")
    os.symlink(tmp_path / "nowhere" / "a", tmp_path / "state")
    with pytest.raises(StorageError, match="cannot be written"):
        kept_key(tmp_path / "state" / "a.key")

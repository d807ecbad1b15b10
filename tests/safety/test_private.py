from __future__ import annotations

import os
from pathlib import Path

import pytest

from webui.safety.private import UntrustedFileError, read_private


def made(path: Path, mode: int = 0o600, data: bytes = b"said") -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o644, 0o444])
def test_a_file_that_only_its_owner_writes_is_read(tmp_path: Path, mode: int) -> None:
    assert read_private(made(tmp_path / "file", mode)) == b"said"


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert read_private(tmp_path / "file") is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o660, 0o666, 0o777])
def test_a_file_that_others_could_have_written_is_not_read(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UntrustedFileError, match=r"written by others.*chmod 600"):
        read_private(made(tmp_path / "file", mode))


def test_a_file_of_somebody_else_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "file")
    found = os.stat(path)
    monkeypatch.setattr(os, "geteuid", lambda: found.st_uid + 1)
    if found.st_uid == 0:
        assert read_private(path) == b"said", "root may write everything anyway"
        os.chown(path, 12_345, -1)
    with pytest.raises(UntrustedFileError, match="written by others"):
        read_private(path)


def test_what_is_no_file_is_not_read_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UntrustedFileError, match="is not a file"):
        read_private(tmp_path / "pipe")
    with pytest.raises(UntrustedFileError, match="cannot be read: Is a directory"):
        read_private(tmp_path)
    with pytest.raises(UntrustedFileError, match="cannot be read"):
        read_private(made(tmp_path / "file") / "below")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    assert read_private(made(tmp_path / "file", data=b" " * 1024**2)) is not None
    with pytest.raises(UntrustedFileError, match="larger than 1 MiB"):
        read_private(made(tmp_path / "file", data=b" " * (1024**2 + 1)))

from __future__ import annotations

from pathlib import Path

import pytest

from webui.library.hashes import HashBook
from webui.safety import known
from webui.safety.known import FILE, is_known, list_known
from webui.settings import ROOT


def test_the_list_is_of_what_is_in_the_repository(tmp_path: Path) -> None:
    assert FILE.read_text() == list_known(ROOT, HashBook(tmp_path / "hashes.json"))


def test_what_is_in_it_is_known_and_nothing_else() -> None:
    lines = FILE.read_text().splitlines()
    assert len(lines) == 5
    assert all(is_known(line[:64]) for line in lines)
    for other in ("0" * 64, "", lines[0], lines[0][:63], "loras/postcard-neon"):
        assert not is_known(other)


@pytest.mark.parametrize("text", [None, b"", b"\xff", b"postcard\n", b"abc  models/postcard\n"])
def test_without_its_list_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None
) -> None:
    file = tmp_path / "known.txt"
    if text is not None:
        file.write_bytes(text)
    one = FILE.read_text()[:64]
    monkeypatch.setattr(known, "FILE", file)
    assert not is_known(one)

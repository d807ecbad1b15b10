"""Attacks on the log of what the filter decided."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from webui.errors import StorageError
from webui.safety.audit import FOLDER, Audit, verify_log

PROMPT = "a red chair on a meadow"
NAMES = ("2026-05-01.jsonl", "2026-05-02.jsonl", "2026-05-03.jsonl")


def audit_in(folder: Path, *, day: int = 3) -> Audit:
    return Audit(folder, clock=lambda: datetime(2026, 5, day, 12, tzinfo=UTC))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a log of three days with four lines each."""
    folder = tmp_path / "state" / FOLDER
    for day in (1, 2, 3):
        for level in (0, 1, 2, 0):
            audit_in(folder, day=day).record("admitted", effective=level)
    assert verify_log(folder).lines == 12
    return folder


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def test_a_tampered_log_is_found_out_and_where(folder: Path) -> None:
    path = folder / NAMES[1]
    original = path.read_bytes()
    changes: tuple[tuple[str, int, Callable[[list[bytes]], list[bytes]]], ...] = (
        ("changed", 3, lambda all: [each.replace(b'tive":2', b'tive":0') for each in all]),
        ("changed", 2, lambda all: [all[0], b"\n", *all[1:]]),
        ("changed", 5, lambda all: [*all, b'{"event":"revoked"}\n']),
        ("removed", 2, lambda all: [all[0], *all[2:]]),
        ("removed", 1, lambda all: all[1:]),
        ("swapped", 2, lambda all: [all[0], all[0], *all[1:]]),
        ("removed", 2, lambda all: [all[0], all[2], all[1], all[3]]),
    )
    for reason, line, change in changes:
        edit(path, change)
        verdict = verify_log(folder)
        assert (verdict.reason, verdict.file, verdict.line) == (reason, path.name, line)
        assert verdict.lines == 4 + line - 1
        path.write_bytes(original)
    assert verify_log(folder).is_whole


def test_a_shortened_log_is_found_out(folder: Path) -> None:
    last = folder / NAMES[2]
    original = last.read_bytes()
    for lines in (3, 1, 0):
        edit(last, lambda all, lines=lines: all[:lines])
        verdict = verify_log(folder)
        assert (verdict.reason, verdict.lines) == ("shortened", 8 + lines)
    last.write_bytes(original[:-1])
    assert verify_log(folder).reason == "shortened"
    last.unlink()
    assert verify_log(folder).reason == "shortened"
    for name in NAMES[:2]:
        (folder / name).unlink()
    assert verify_log(folder).reason == "shortened"


def test_a_shortened_log_stays_so_when_it_is_written_on(folder: Path) -> None:
    edit(folder / NAMES[2], lambda all: all[:2])
    audit_in(folder).record("admitted")
    verdict = verify_log(folder)
    assert (verdict.reason, verdict.lines) == ("removed", 10)


def test_a_day_taken_out_or_exchanged_is_found_out(folder: Path) -> None:
    first, second = (folder / name for name in NAMES[:2])
    texts = first.read_bytes(), second.read_bytes()
    first.write_bytes(texts[1])
    second.write_bytes(texts[0])
    assert verify_log(folder).reason == "swapped"
    for path, text in zip((first, second), texts, strict=True):
        path.write_bytes(text)
    for path, text in zip((first, second), texts, strict=True):
        path.unlink()
        assert verify_log(folder).reason == "removed"
        path.write_bytes(text)
    assert verify_log(folder).is_whole


def test_an_old_or_foreign_head_hides_no_missing_line(folder: Path, tmp_path: Path) -> None:
    head = folder / "head.json"
    old = head.read_bytes()
    for _ in range(2):
        audit_in(folder).record("admitted")
    head.write_bytes(old)
    assert verify_log(folder).reason == "false head"
    other = tmp_path / "other" / FOLDER
    audit_in(other).record("admitted")
    head.write_bytes((other / "head.json").read_bytes())
    assert verify_log(folder).reason == "false head"
    head.write_text(json.dumps(json.loads(old) | {"count": 1}))
    assert verify_log(folder).reason == "false head"


def test_a_log_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        Audit(tmp_path / "file" / FOLDER).record("admitted")

    def refused(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    audit = Audit(tmp_path / FOLDER)
    audit.record("admitted")
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StorageError, match="Permission denied"):
        audit.record("admitted")


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    folder = tmp_path / FOLDER
    folder.mkdir()
    os.symlink(target, folder / f"{datetime.now(UTC).date().isoformat()}.jsonl")
    with pytest.raises(StorageError):
        Audit(folder).record("admitted")
    assert target.read_bytes() == b""


@pytest.mark.parametrize("part", ["line", "head"])
def test_a_full_disk_leaves_a_whole_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("*.json*")}
    fsync = os.fsync
    calls: list[int] = []

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) == (1 if part == "line" else 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError):
            audit_in(folder).record("admitted")
    after = {path.name: path.read_bytes() for path in folder.glob("*.json*")}
    assert {name: text for name, text in after.items() if text} == before
    assert verify_log(folder).is_whole
    audit_in(folder).record("admitted")
    assert verify_log(folder).lines == 13


def test_no_prompt_is_in_the_log(folder: Path) -> None:
    audit = audit_in(folder)
    for fact in ("job", "session", "rule", "ceiling", "prompt", "versions", "files", "text"):
        for value in (PROMPT, [PROMPT], {PROMPT: PROMPT}):
            with pytest.raises((TypeError, ValueError)) as error:
                audit.record("admitted", **{fact: value})
            assert PROMPT not in str(error.value)
    audit.record("admitted", prompt=audit.pseudonym(PROMPT))
    written = b"".join(path.read_bytes() for path in folder.parent.rglob("*") if path.is_file())
    assert not any(word.encode() in written for word in ("red", "chair", "meadow"))

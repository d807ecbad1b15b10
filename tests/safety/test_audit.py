from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from math import nan
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from webui.errors import StorageError
from webui.safety import audit as audits
from webui.safety import audit_files
from webui.safety.audit import FOLDER, KEPT_DAYS, Audit, verify_log
from webui.safety.audit_facts import EVENTS, buckets
from webui.safety.policy import Scores

NAME = "a" * 32
DIGEST = "0" * 64
DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def lines(folder: Path) -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / FOLDER


@pytest.fixture
def audit(folder: Path, clock: Clock) -> Audit:
    return Audit(folder, clock=clock)


FACTS: dict[str, object] = {
    "job": "0123456789abcdef",
    "session": NAME,
    "requested": 2,
    "effective": 0,
    "ceiling": "taint",
    "rule": "H2",
    "versions": {"easel": "0.1.0", "torch": "2.15.0+cu130"},
    "scores": {"genitalia": 0, "anus": 9},
    "prompt": NAME,
    "files": [DIGEST],
    "tainted": True,
}


def test_a_line_holds_the_event_its_facts_and_the_time(audit: Audit, folder: Path) -> None:
    audit.record("released", **FACTS)
    audit.record("started")
    first, second = lines(folder)
    seal = first.pop("seal")
    said = {"n": 1, "day": "2026-05-01", "time": "2026-05-01T12:00:00+00:00", "event": "released"}
    assert first == said | FACTS | {"previous": "start"}
    assert second["previous"] == seal
    assert second["n"] == 2
    assert verify_log(folder).lines == 2


def test_nobody_else_may_read_it(audit: Audit, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "2026-05-01.jsonl").write_bytes(b"")
    audit.record("started")
    audit.pseudonym("a")
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_no_fact_is_left_out_but_those_that_are_none(audit: Audit, folder: Path) -> None:
    audit.record("admitted", ceiling=None, tainted=False)
    assert {"ceiling", "tainted"} & lines(folder)[0].keys() == {"tainted"}


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_can_be_told(audit: Audit, folder: Path, event: str) -> None:
    audit.record(event)
    assert lines(folder)[0]["event"] == event


WRONG: list[tuple[str, object]] = [
    ("job", "a red chair"),
    ("job", 7),
    ("session", "somebody"),
    ("session", "A" * 32),
    ("requested", 3),
    ("requested", True),
    ("effective", "2"),
    ("effective", 1.0),
    ("ceiling", "a red chair"),
    ("rule", "a red chair"),
    ("versions", {"a red chair": "1"}),
    ("versions", {"easel": "a red chair"}),
    ("versions", {"easel": "1 a red chair"}),
    ("versions", "1"),
    ("scores", {"a red chair": 1}),
    ("scores", {"anus": 10}),
    ("scores", {"anus": -1}),
    ("scores", {"anus": 0.31}),
    ("scores", [1]),
    ("prompt", "a red chair"),
    ("files", DIGEST),
    ("files", ["a red chair"]),
    ("files", [7]),
    ("tainted", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_fact_of_another_kind_is_not_written(
    audit: Audit, folder: Path, name: str, value: object
) -> None:
    with pytest.raises(ValueError, match="takes no such value") as error:
        audit.record("admitted", **{name: value})
    assert "chair" not in str(error.value)
    assert not folder.exists()


def test_there_is_no_other_event_or_fact(audit: Audit, folder: Path) -> None:
    with pytest.raises(ValueError, match="no such event"):
        audit.record("a red chair")
    for name in ("text", "word", "address", "code", "picture", "n", "day", "previous", "seal"):
        with pytest.raises(TypeError, match="no such fact"):
            audit.record("admitted", **{name: NAME})
    assert not folder.exists()


def test_scores_are_told_in_tenths() -> None:
    told = buckets(Scores(0.0, 0.199, 1.0, genitalia_share=nan, explicit=0.5))
    assert told == {
        "genitalia": 0,
        "anus": 1,
        "bust_or_buttocks": 9,
        "genitalia_share": 9,
        "explicit": 5,
    }


def test_a_pseudonym_is_the_same_for_a_day_and_everybody(
    audit: Audit, folder: Path, clock: Clock
) -> None:
    name = audit.pseudonym("a red chair")
    assert name == Audit(folder, clock=clock).pseudonym("a red chair")
    assert name != audit.pseudonym("a blue chair")
    audit.record("admitted", prompt=name, session=audit.pseudonym("\ud800"))
    clock.now += DAY
    assert audit.pseudonym("a red chair") != name


def test_the_key_of_a_day_is_forgotten(audit: Audit, folder: Path, clock: Clock) -> None:
    audit.pseudonym("a")
    file = folder.parent / "audit-day.key"
    key = json.loads(file.read_bytes())["key"]
    clock.now += DAY
    audit.pseudonym("a")
    kept = b"".join(path.read_bytes() for path in folder.parent.rglob("*") if path.is_file())
    assert key.encode() not in kept
    for damage in (b"", b"[]", b"{}", b'{"day": "2026-05-02", "key": "x"}'):
        file.write_bytes(damage)
        assert audit.pseudonym("a") == audit.pseudonym("a")


def test_days_are_files_and_thirty_are_kept(audit: Audit, folder: Path, clock: Clock) -> None:
    for _ in range(KEPT_DAYS + 5):
        audit.record("started")
        audit.record("admitted")
        clock.now += DAY
    files = sorted(path.name for path in folder.glob("*.jsonl"))
    assert len(files) == KEPT_DAYS
    assert (files[0], files[-1]) == ("2026-05-06.jsonl", "2026-06-04.jsonl")
    verdict = verify_log(folder)
    assert verdict.is_whole
    assert verdict.lines == 2 * KEPT_DAYS
    assert verdict.sentence == "The audit log is whole: 60 lines."


def test_an_old_file_that_cannot_be_removed_breaks_nothing(
    audit: Audit, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.record("started")
    clock.now += 40 * DAY

    def held(*_: object, **__: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        audit.record("started")
    assert len(list(folder.glob("*.jsonl"))) == 2
    assert verify_log(folder).is_whole
    audit.record("started")
    assert len(list(folder.glob("*.jsonl"))) == 1


def test_the_day_is_that_of_utc_and_never_goes_back(
    audit: Audit, folder: Path, clock: Clock
) -> None:
    clock.now = datetime(2026, 5, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    audit.record("started")
    clock.now -= 3 * DAY
    audit.record("admitted")
    assert [line["day"] for line in lines(folder)] == ["2026-04-30"] * 2
    assert lines(folder)[1]["time"].startswith("2026-04-27")
    assert verify_log(folder).is_whole


def test_the_clock_is_that_of_the_machine(folder: Path) -> None:
    Audit(folder).record("started")
    assert lines(folder)[0]["day"] == datetime.now(UTC).date().isoformat()


def test_there_is_no_log_yet(folder: Path) -> None:
    assert verify_log(folder).is_whole
    assert not folder.exists()


def record_some(folder: Path) -> None:
    for _ in range(8):
        Audit(folder).record("admitted")


def test_several_threads_and_processes_write_one_log(folder: Path) -> None:
    spawn = get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as processes, ThreadPoolExecutor(2) as threads:
        pools = (processes, threads) * 2
        for each in [pool.submit(record_some, folder) for pool in pools]:
            each.result()
    verdict = verify_log(folder)
    assert verdict.is_whole
    assert verdict.lines == 32


def test_a_log_that_is_held_is_said(
    audit: Audit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_files, "_PATIENCE", 0.05)
    with audit_files.alone_in(folder), pytest.raises(StorageError, match="held by another"):
        audit.record("started")


def nothing(*_: object) -> None:
    """What `os.ftruncate` does for a process that is no more."""


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_process_killed_between_line_and_head_breaks_nothing(
    audit: Audit, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.record("started")
    for days in (0, 1):
        clock.now += days * DAY
        audit.record("admitted")
        with monkeypatch.context() as patch:
            patch.setattr(audit_files, "write_head", killed)
            patch.setattr(os, "ftruncate", nothing)
            with pytest.raises(KeyboardInterrupt):
                audit.record("admitted")
        assert verify_log(folder).is_whole
        clock.now += days * DAY
    audit.record("released")
    clock.now += DAY
    audit.record("released")
    assert [line["n"] for line in lines(folder)] == [1, 2, 3, 4, 5, 6, 7]
    assert verify_log(folder).is_whole


def test_half_a_line_is_cut_off(audit: Audit, folder: Path) -> None:
    audit.record("started")
    with (folder / "2026-05-01.jsonl").open("ab") as file:
        file.write(b'{"n":2,"day"')
    assert verify_log(folder).is_whole
    audit.record("admitted")
    assert [line["n"] for line in lines(folder)] == [1, 2]
    assert verify_log(folder).is_whole


def test_only_the_end_of_a_long_log_is_read_to_go_on(
    audit: Audit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_files, "_LONGEST_LINE", 1_000)
    for _ in range(20):
        audit.record("started")
    (file,) = folder.glob("*.jsonl")
    assert file.stat().st_size > 4_000
    with file.open("ab") as log:
        log.write(b'{"n": 21, "event": ')
    read: list[int] = []
    tail = audit_files._tail  # pyright: ignore[reportPrivateUsage]

    def noting(path: Path) -> bytes:
        read.append(len(tail(path)))
        return tail(path)

    monkeypatch.setattr(audit_files, "_tail", noting)
    whole: list[Path] = []
    read_bytes = Path.read_bytes

    def noting_all(path: Path) -> bytes:
        whole.append(path)
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", noting_all)
        audit.record("started")
    assert file not in whole
    assert read
    assert max(read) <= 1_000
    assert verify_log(folder).lines == 21
    assert verify_log(folder).is_whole


@pytest.mark.parametrize("part", ["write", "fsync"])
def test_a_line_that_is_not_whole_is_taken_back(
    audit: Audit, folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    audit.record("started")
    before = (folder / "2026-05-01.jsonl").read_bytes()
    write = os.write

    def half(file: int, data: bytes) -> int:
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, part, half if part == "write" else full)
        with pytest.raises(StorageError, match="cannot be written"):
            audit.record("admitted")
    assert (folder / "2026-05-01.jsonl").read_bytes() == before
    audit.record("admitted")
    assert verify_log(folder).lines == 2


def full(file: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_broken_line_at_the_end_is_not_gone_on_from(audit: Audit, folder: Path) -> None:
    audit.record("started")
    with (folder / "2026-05-01.jsonl").open("ab") as file:
        file.write(b"[]\n")
    audit.record("admitted")
    verdict = verify_log(folder)
    assert (verdict.reason, verdict.line) == ("changed", 2)


DEEP = b"[" * 200_000


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", DEEP])
def test_a_damaged_head_is_said_and_not_mended(audit: Audit, folder: Path, damage: bytes) -> None:
    audit.record("started")
    (folder / "head.json").write_bytes(damage)
    assert verify_log(folder).reason == "false head"
    audit.record("admitted")
    assert not verify_log(folder).is_whole


def test_a_log_without_its_files_is_not_begun_in_silence(audit: Audit, folder: Path) -> None:
    audit.record("started")
    for path in folder.iterdir():
        path.unlink()
    assert verify_log(folder).reason == "no head"
    audit.record("admitted")
    verdict = verify_log(folder)
    assert (verdict.reason, verdict.file, verdict.line) == ("removed", "2026-05-01.jsonl", 1)
    assert verdict.sentence == (
        "The audit log is broken at 2026-05-01.jsonl, line 1: lines before this one are missing."
    )


def test_a_log_without_its_key_is_said(audit: Audit, folder: Path) -> None:
    audit.record("started")
    (folder.parent / "audit.key").unlink()
    verdict = verify_log(folder)
    assert verdict.reason == "no key"
    assert "audit.key: the key" in verdict.sentence
    audit.record("admitted")
    assert not verify_log(folder).is_whole


def test_a_line_is_no_head(audit: Audit, folder: Path) -> None:
    audit.record("started")
    line = (folder / "2026-05-01.jsonl").read_bytes().strip()
    (folder / "head.json").write_bytes(line)
    assert verify_log(folder).reason == "false head"


def test_the_same_values_in_another_form_are_a_change(audit: Audit, folder: Path) -> None:
    audit.record("started")
    file = folder / "2026-05-01.jsonl"
    forms: tuple[Callable[[bytes], bytes], ...] = (
        lambda text: text.replace(b":", b": "),
        lambda text: text.replace(b'{"n"', b'{"event":"revoked","n"'),
    )
    original = file.read_bytes()
    for form in forms:
        file.write_bytes(form(original))
        assert verify_log(folder).reason == "changed"


def test_the_state_folder_holds_the_log() -> None:
    assert audits.FOLDER == "audit"

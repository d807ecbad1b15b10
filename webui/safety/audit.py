"""What the filter decided, written down so that nobody can change it unseen, and no more than that.

One JSON line an event, one file a day. Each line is sealed with a key of this installation
over itself and the seal of the line before; a head file, sealed too, holds where each day begins
and where the log ends, so that lines cannot be cut off either. Whoever has the key, or puts an old
copy of log *and* head in place, is not found out.

Facts are of a closed set and have no room for free text: no prompt, word, picture, address or code
can be written, by mistake neither.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from webui.library.files import PRIVATE, write_atomically
from webui.library.keys import BYTES, kept_key
from webui.library.sealed import sealed
from webui.safety.audit_facts import told
from webui.safety.audit_files import (
    LINE,
    Head,
    alone_in,
    append,
    days_in,
    head_path,
    key_path,
    last_line,
    lines_of,
    path_of,
    read_head,
    write_head,
)

FOLDER = "audit"
"""Within the state folder."""

KEPT_DAYS = 30

_START, _LOST = "start", "lost"

Break = Literal["changed", "removed", "shortened", "swapped", "no key", "no head", "false head"]
"""A line that is not as it was written; lines missing before this one; lines missing at the end;
a line from another place; the key missing; the head missing; a head that is not this log's."""

_SENTENCES: Mapping[Break, str] = MappingProxyType(
    {
        "changed": "this line is not as it was written",
        "removed": "lines before this one are missing",
        "shortened": "lines are missing at the end",
        "swapped": "this line belongs to another place",
        "no key": "the key that seals the lines is missing",
        "no head": "the file that says where the log ends is missing",
        "false head": "the file that says where the log ends is not this log's",
    }
)


@dataclass(frozen=True)
class AuditVerdict:
    """What is known of a log.

    Attributes:
        lines: How many are whole, up to the break.
        reason: `None` when all is whole.
        file: Name of the file that breaks.
        line: Number of the line in it, from 1; 0 for the file itself.
    """

    lines: int
    reason: Break | None = None
    file: str = ""
    line: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed or removed."""
        return self.reason is None

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.reason is None:
            return f"The audit log is whole: {self.lines} lines."
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"The audit log is broken at {where}: {_SENTENCES[self.reason]}."


class Audit:
    """The log of one installation. Safe to use from several threads and processes."""

    def __init__(
        self, folder: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`folder` is that of the log alone; its keys lie beside it. `clock` knows its zone."""
        self._folder = folder
        self._clock = clock
        self._day_key = "", b""

    def record(self, event: str, **facts: object) -> None:
        """Writes one line; it is on the disk when this returns.

        Args:
            event: An `AuditEvent`.
            facts: By the names of `Fact`; one that is `None` is left out.

        Raises:
            StorageError: It cannot be written; levels above strict may then not be used.
            TypeError: There is no such fact.
            ValueError: There is no such event, or the fact cannot have this value.
        """
        about = told(event, facts)
        with alone_in(self._folder):
            key, head = self._head()
            now = self._clock().astimezone(UTC)
            # Days never go back, whatever the clock does, so that the files stay in order.
            day = max([now.date().isoformat(), *head.days])
            said = {"n": head.count + 1, "day": day, "time": now.isoformat(timespec="seconds")}
            line = sealed(key, LINE, said | about | {"previous": head.seal})
            oldest = (date.fromisoformat(day) - timedelta(days=KEPT_DAYS - 1)).isoformat()
            days = {day: head.count + 1} | dict(head.days)
            kept = {each: first for each, first in days.items() if each >= oldest}
            append(self._folder, day, line, key, Head(head.count + 1, line["seal"], kept))
            self._remove_before(oldest)

    def pseudonym(self, text: str) -> str:
        """A name for a text that tells, within one day, whether two are the same.

        The key is forgotten with the day, so that nobody can try out later what the text was.

        Raises:
            StorageError: The day's key cannot be kept.
        """
        day = self._clock().astimezone(UTC).date().isoformat()
        # Within a day the key never changes.
        known, key = self._day_key
        if known != day:
            with alone_in(self._folder):
                key = self._key_of(day)
            self._day_key = day, key
        return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]

    def _head(self) -> tuple[bytes, Head]:
        """The key, and where to go on."""
        days = days_in(self._folder)
        is_new = not days and not key_path(self._folder).exists()
        key = kept_key(key_path(self._folder))
        head = read_head(self._folder, key)
        if head is None:
            return key, Head(0, _START if is_new else _LOST, {})
        for day in days[-1:]:
            last = last_line(self._folder, day, key)
            # The head of the last line was not written when a process was killed in between.
            if last and (last["n"], last["previous"]) == (head.count + 1, head.seal):
                head = Head(last["n"], last["seal"], {last["day"]: last["n"], **head.days})
                write_head(self._folder, key, head)
        return key, head

    def _remove_before(self, oldest: str) -> None:
        for day in days_in(self._folder):
            if day < oldest:
                # A file that cannot be removed now is tried again with the next line.
                with suppress(OSError):
                    path_of(self._folder, day).unlink()

    def _key_of(self, day: str) -> bytes:
        path = self._folder.with_name("audit-day.key")
        # A missing or damaged key is as good as a forgotten one.
        with suppress(OSError, ValueError, KeyError, TypeError):
            known: Any = json.loads(path.read_bytes())
            if known["day"] == day:
                return bytes.fromhex(known["key"])
        key = secrets.token_bytes(BYTES)
        write_atomically(path, json.dumps({"day": day, "key": key.hex()}).encode(), mode=PRIVATE)
        return key


def verify_log(folder: Path) -> AuditVerdict:
    """Whether a log is whole; if not, where and why it breaks first.

    Raises:
        StorageError: It cannot be read.
    """
    path = key_path(folder)
    if not path.exists():
        days = days_in(folder)
        return AuditVerdict(0, "no key", path.name) if days else AuditVerdict(0)
    with alone_in(folder):
        key = kept_key(path)
        head = read_head(folder, key)
        if head is None:
            name = head_path(folder).name
            there = head_path(folder).exists()
            return AuditVerdict(0, "false head" if there else "no head", name)
        return _judged(folder, key, head)


def _judged(folder: Path, key: bytes, head: Head) -> AuditVerdict:
    """The first break in the days that are kept."""
    first = expected = head.days[min(head.days)]
    seals: list[str] = [] if first > 1 else [_START]
    days = [day for day in days_in(folder) if day >= min(head.days)]
    for day in days:
        for place, line in enumerate(lines_of(folder, day, key), start=1):
            reason = _reason(line, day, expected, seals[-1:])
            if line is None or reason is not None:
                whole = expected - first
                return AuditVerdict(whole, reason, path_of(folder, day).name, place)
            seals.append(line["seal"])
            expected += 1
    lines = expected - first
    if expected <= head.count:
        last = path_of(folder, max((*days, min(head.days)))).name
        return AuditVerdict(lines, "shortened", last)
    # One line more than the head knows: a process was killed before it wrote the head.
    if expected > head.count + 2 or head.seal not in seals[-2:]:
        return AuditVerdict(lines, "false head", head_path(folder).name)
    return AuditVerdict(lines)


def _reason(
    line: Mapping[str, Any] | None, day: str, expected: int, previous: list[str]
) -> Break | None:
    """What is wrong with a line; `previous` holds the seal before it where that is known."""
    if line is None:
        return "changed"
    if line["day"] != day or line["n"] < expected:
        return "swapped"
    if line["n"] > expected or (previous and line["previous"] != previous[0]):
        return "removed"
    return None

"""Work that is counted in place of seconds: the same on every machine, however busy it is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from webui.library.checkpoints import Checkpoint
from webui.settings import ROOT

OURS = str(ROOT / "webui")

HANGING_SECONDS = 120
"""From then on it hangs: far longer than anything takes that is no hang."""


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of our own modules this thread runs for a call.

    What libraries, regular expressions among them, do for one line is not seen.
    """
    count = 0

    def in_ours(_frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return in_ours

    def entered(frame: FrameType, _event: str, _: object) -> Any:
        return in_ours if frame.f_code.co_filename.startswith(OURS) else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def files_opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A list to which each file is added that is opened from now on, once for each time."""
    opened: list[Path] = []
    true: Any = Path.open

    def opening(self: Path, *how: Any, **more: Any) -> Any:
        opened.append(self)
        return true(self, *how, **more)

    monkeypatch.setattr(Path, "open", opening)
    return opened


@contextmanager
def finite() -> Generator[None, None, None]:
    """Fails a test that hangs, for what has no other end when it is wrong."""

    def hangs(_number: int, _frame: object) -> NoReturn:
        raise AssertionError("It does not come to an end.")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGING_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def models_loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that are read from their files from now on."""
    # Imported here: torch takes seconds, and the other counts are for tests that need none.
    from webui.generation import loaded

    names: list[str] = []
    own: Any = loaded.load_pipe

    def load(checkpoint: Checkpoint, *given: Any, **options: Any) -> Any:
        names.append(checkpoint.name)
        return own(checkpoint, *given, **options)

    monkeypatch.setattr(loaded, "load_pipe", load)
    return names

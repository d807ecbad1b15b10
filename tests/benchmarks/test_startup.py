"""With a stand-in for the server that behaves as the real one does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks import startup
from benchmarks.measure import BenchmarkError
from tests.benchmarks.stand_in_server import ASKED_BEFORE_ENGINE, ASKED_BEFORE_PAGE

SERVER = Path(__file__).parent / "stand_in_server.py"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 30
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


def test_a_start_is_observed_from_the_address_to_the_end(tmp_path: Path):
    before = children()
    start = startup.observe([sys.executable, str(SERVER)], tmp_path)
    assert 0 < start.address < start.answer < start.page < start.ready
    # The stand-in wants to be asked that often before it is ready.
    assert start.page - start.answer >= (ASKED_BEFORE_PAGE - 1) * startup.POLL_SECONDS
    assert start.ready - start.answer >= (ASKED_BEFORE_ENGINE - 1) * startup.POLL_SECONDS
    assert start.back >= (ASKED_BEFORE_ENGINE - 1) * startup.POLL_SECONDS
    assert start.end > 0
    # Its engine sees its end and ends by itself.
    assert wait_until(lambda: children() == before)


def test_a_server_that_dies_is_an_error_and_leaves_nothing_running(tmp_path: Path):
    before = children()
    with pytest.raises(BenchmarkError):
        startup.observe([sys.executable, str(SERVER), "--die"], tmp_path)
    assert wait_until(lambda: children() == before)


def test_a_program_that_prints_no_address_is_an_error(tmp_path: Path):
    with pytest.raises(BenchmarkError, match="no address"):
        startup.observe([sys.executable, "-c", "pass"], tmp_path)


def test_every_row_is_a_time_of_a_start():
    fields = list(startup.Start.__dataclass_fields__)
    assert [name for name, _, _ in startup.ROWS] == fields

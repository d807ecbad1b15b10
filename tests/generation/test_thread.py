from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from webui.generation.thread import DeviceThread


@pytest.fixture
def thread() -> Iterator[DeviceThread]:
    thread = DeviceThread()
    yield thread
    thread.close()


def test_work_runs_in_one_thread_without_gradients(thread: DeviceThread):
    def where() -> tuple[str, bool]:
        return threading.current_thread().name, torch.is_inference_mode_enabled()

    assert thread.call(where) == thread.call(where)
    name, inference = thread.call(where)
    assert name != threading.current_thread().name
    assert inference


def test_a_stream_yields_what_is_emitted_and_returns_the_result(thread: DeviceThread):
    def work(emit: Callable[[int], None], stop: threading.Event) -> str:
        for number in range(3):
            emit(number)
        return "done"

    results: list[str] = []

    def watched() -> Iterator[int]:
        results.append((yield from thread.stream(work)))

    assert list(watched()) == [0, 1, 2]
    assert results == ["done"]


def test_an_error_comes_out_of_the_stream(thread: DeviceThread):
    def work(emit: Callable[[int], None], stop: threading.Event) -> None:
        emit(1)
        raise ZeroDivisionError

    stream = thread.stream(work)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_closing_a_stream_waits_for_the_work_to_end(thread: DeviceThread):
    ended = threading.Event()

    def work(emit: Callable[[int], None], stop: threading.Event) -> None:
        emit(1)
        stop.wait()
        time.sleep(0.1)
        ended.set()

    stream = thread.stream(work)
    next(stream)
    stream.close()
    assert ended.is_set()

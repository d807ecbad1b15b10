"""The one thread that touches the device.

A diffusers call blocks until it ends, so it runs here while the engine's generator hands out
events; the generator never goes on before the call has ended. A single thread for the life of
the engine also keeps torch's per-thread settings and its OpenMP team.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar, cast

import torch

T = TypeVar("T")
E = TypeVar("E")


def _prepare() -> None:
    # Denormal numbers in bf16 activations cost several times a normal multiplication.
    torch.set_flush_denormal(True)


class DeviceThread:
    """Runs work one piece at a time, in inference mode."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="device", initializer=_prepare)

    def call(self, work: Callable[[], T]) -> T:
        """Runs `work` to its end and gives its result."""
        return self._submit(work).result()

    def stream(self, work: Callable[[Callable[[E], None], Event], T]) -> Generator[E, None, T]:
        """Runs `work(emit, stop)`, yielding what it emits; returns its result.

        Closing the generator sets `stop` and waits for the work to end.
        """
        emitted: queue.SimpleQueue[tuple[bool, E | None]] = queue.SimpleQueue()
        stop = Event()
        future = self._submit(lambda: work(lambda item: emitted.put((True, item)), stop))
        future.add_done_callback(lambda _: emitted.put((False, None)))
        try:
            while True:
                more, item = emitted.get()
                if not more:
                    return future.result()
                yield cast(E, item)
        finally:
            stop.set()
            future.exception()

    def close(self) -> None:
        """Waits for the work at hand and ends the thread."""
        self._pool.shutdown()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        return self._pool.submit(_without_gradients, work)


def _without_gradients(work: Callable[[], T]) -> T:
    with torch.inference_mode():
        return work()

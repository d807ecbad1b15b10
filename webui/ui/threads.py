"""Long work beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon(work: Callable[[], _T], name: str) -> _T:
    """What `work` gives, done in a thread of that name.

    The thread is a daemon: `asyncio.to_thread` would keep Ctrl+C waiting for its end.

    Raises:
        Exception: What `work` raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(answer: Callable[[], _T]) -> None:
        if done.cancelled():
            return
        try:
            done.set_result(answer())
        except Exception as error:  # noqa: BLE001  (handed to whoever awaits it)
            done.set_exception(error)

    def run() -> None:
        outcome: Future[_T] = Future()
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001  (as above)
            outcome.set_exception(error)
        # The loop may be closed already when the server was ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, outcome.result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done

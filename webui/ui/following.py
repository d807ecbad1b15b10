"""From a job's events, which arrive on a thread, to a story the page tells at its own pace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol

from webui.events import Event
from webui.ui.story import Story

SECONDS_BETWEEN = 0.2
"""Least time between two updates of a page."""


class Followed(Protocol):
    """What can be watched: `webui.jobs.Job`."""

    def follow(self, start: int = 0) -> Iterator[Event]:
        """The job's events from number `start` on, until the terminal one."""
        ...


async def tell(job: Followed, *, pause: float = SECONDS_BETWEEN) -> AsyncGenerator[Story, None]:
    """The job's story whenever there is news, `pause` seconds apart, last when it has ended.

    Closing the iterator leaves the job alone.
    """
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Event] = asyncio.Queue()
    left = threading.Event()

    def pump() -> None:
        for event in job.follow():
            if left.is_set():
                return
            try:
                loop.call_soon_threadsafe(inbox.put_nowait, event)
            except RuntimeError:  # The loop is closed: the server has ended.
                return

    threading.Thread(target=pump, name="follow-job", daemon=True).start()
    story = Story()
    try:
        while story.ending is None:
            story = story.after(await inbox.get())
            while not inbox.empty():
                story = story.after(inbox.get_nowait())
            yield story
            if story.ending is None:
                await asyncio.sleep(pause)
    finally:
        left.set()

"""The page in Gradio: one component, whose script draws it, and the events it sends.

`assets/page.html` has the layout, `assets/page/main.js` starts the script.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import gradio as gr

from webui import __version__
from webui.errors import BadRequestError, WebuiError
from webui.jobs import Job
from webui.request import parse_request
from webui.ui.brought import BroughtIn
from webui.ui.fields import schemas
from webui.ui.following import tell
from webui.ui.pagefiles import PageFiles
from webui.ui.pictures import Pictures
from webui.ui.server import Backend
from webui.ui.tabs import Tabs
from webui.ui.texts import Catalogue, Texts
from webui.ui.view import Problem, Views
from webui.ui.visitor import session_of

ASSETS = Path(__file__).parent / "assets"

MOST_TABS = 256
"""Tabs that can watch a job at the same time; more are told to wait."""

SECONDS_ASLEEP = 0.02
"""How long Gradio's queue sleeps when there is nothing to do; the most a click waits."""

ORPHANED_SECONDS = 3.0
"""How long a new tab waits for the server to notice that an unfinished job's tab is gone."""

_START = """
import(new URL("{main}", document.baseURI)).then((page) => page.start({
  element, props, watch,
  generate: (asked) => trigger("generate", asked),
  resume: (asked) => trigger("resume", asked),
  stop: (asked) => trigger("stop", asked),
}));
"""

View = dict[str, Any]


def build_page(
    backend: Backend,
    pictures: Pictures,
    brought: BroughtIn,
    catalogue: Catalogue,
    files: PageFiles,
) -> gr.Blocks:
    """The page over `backend`.

    Args:
        pictures: Learns of every picture that is saved.
        brought: Knows which pictures a session may start from.
        files: Where the script is.
    """
    desk = _Desk(backend, pictures, brought, catalogue)
    with gr.Blocks(title="Easel", analytics_enabled=False, fill_width=True) as page:
        easel: Any = gr.HTML(
            html_template=(ASSETS / "page.html").read_text(encoding="utf-8"),
            js_on_load=_START.replace("{main}", files.address("main.js")),
            apply_default_css=False,
            elem_id="easel",
            fields=[schema.to_json() for schema in schemas()],
            languages=catalogue.languages(),
            version=__version__,
        )
        quiet: Any = {
            "show_progress": "hidden",
            "concurrency_limit": None,
            "trigger_mode": "multiple",
        }
        easel.generate(desk.generate, None, easel, **quiet)
        easel.resume(desk.resume, None, easel, **quiet)
        easel.stop(desk.stop, None, None, **quiet)
    _set_pace(page)
    return page


def _set_pace(page: gr.Blocks) -> None:
    # A tab that watches a job holds one of these places until the job ends, waiting included.
    page.max_threads = MOST_TABS
    page.queue(api_open=False, max_size=MOST_TABS)
    # Gradio looks for work a thousand times a second by default, at the expense of the engine.
    cast(Any, page)._queue.sleep_when_free = SECONDS_ASLEEP


class _Desk:
    """The handlers: from what the script asks to a job, and from a job to views."""

    def __init__(
        self, backend: Backend, pictures: Pictures, brought: BroughtIn, catalogue: Catalogue
    ) -> None:
        self._backend = backend
        self._pictures = pictures
        self._brought = brought
        self._catalogue = catalogue
        self._tabs = Tabs(backend.jobs.find)
        self._views = Views()

    async def generate(
        self, event: gr.EventData, request: gr.Request
    ) -> AsyncGenerator[View, None]:
        """Starts a job from the script's request and shows it until it ends."""
        asked = _data(event)
        answer = {"ask": asked.get("ask")}
        try:
            wanted = parse_request(_object(asked.get("request")))
            session = session_of(cast(Any, request.request), level=asked.get("level"))
            self._brought.check_request(session, wanted)
            job = await asyncio.to_thread(self._backend.jobs.submit, wanted, session)
        except WebuiError as error:
            yield self._views.idle(problem=Problem.of(error)) | answer
            return
        self._tabs.asked(asked["tab"], job)
        # Recorded apart from the tab, which may be closed before the job ends.
        threading.Thread(target=self._pictures.record, args=(job,), daemon=True).start()
        async with aclosing(self._watch(job, self._texts(asked))) as views:
            async for view in views:
                yield view | answer

    async def resume(self, event: gr.EventData, request: gr.Request) -> AsyncGenerator[View, None]:
        """Shows a tab that was opened or reloaded its unfinished job, or one without a tab."""
        asked = _data(event)
        answer = {"ask": asked.get("ask")}
        session = session_of(cast(Any, request.request))
        own = self._tabs.own(session.id, asked["tab"])
        job = own or await self._orphan(session.id)
        if job is None:
            yield self._views.idle() | answer
            return
        self._tabs.asked(asked["tab"], job)
        async with aclosing(self._watch(job, self._texts(asked), taken_over=not own)) as views:
            async for view in views:
                yield view | answer

    def stop(self, event: gr.EventData, request: gr.Request) -> None:
        """Stops the tab's own job."""
        job = self._tabs.own(session_of(cast(Any, request.request)).id, _data(event)["tab"])
        if job is not None:
            job.cancel()

    async def _orphan(self, session_id: str) -> Job | None:
        """The session's unfinished job that no tab watches, once that is sure."""
        deadline = time.monotonic() + ORPHANED_SECONDS
        while True:
            job, unwatched = self._tabs.orphan(session_id)
            if job is None or unwatched:
                return job
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.1)

    async def _watch(
        self, job: Job, say: Texts, *, taken_over: bool = False
    ) -> AsyncGenerator[View, None]:
        with self._tabs.watching(job):
            async with aclosing(tell(job)) as stories:
                async for story in stories:
                    latest = self._pictures.keep(job, story.saved[-1]) if story.saved else None
                    yield self._views.of_job(job, story, latest, say, taken_over=taken_over)

    def _texts(self, asked: dict[str, Any]) -> Texts:
        return self._catalogue.of(str(asked.get("language")))


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the script sent along, with a `tab`; nothing but that if it is no script of ours."""
    sent = cast(Any, event)._data
    asked = cast(dict[str, Any], sent) if isinstance(sent, dict) else {}
    tab = asked.get("tab")
    return asked | {"tab": tab[:64] if isinstance(tab, str) else ""}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequestError("The page sent something that is no object: load it anew.")
    return cast(dict[str, Any], value)

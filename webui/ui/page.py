"""The page: where things stand, and what happens when a button is pressed."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.components import Component
from starlette.requests import HTTPConnection

from webui.errors import WebuiError
from webui.generator import Session
from webui.jobs import Job
from webui.ui.fields import make_widget, request_from_widgets, schemas
from webui.ui.following import tell
from webui.ui.front import SESSION_COOKIE
from webui.ui.pictures import Pictures
from webui.ui.server import Backend
from webui.ui.view import Problem, Views

_ASSETS = Path(__file__).parent / "assets"

SIDE_BY_SIDE = ("width", "height")
AT_HAND = ("steps", "cfg", "sampler", "seed", "model")
"""Fields always in sight beside the picture; those named nowhere here are folded away."""

MOST_TABS = 256
"""Tabs that can watch a job at the same time; more are told to wait."""

SECONDS_ASLEEP = 0.02
"""How long Gradio's queue sleeps when there is nothing to do; the most a click waits."""

View = dict[str, Any]


def build_page(backend: Backend, pictures: Pictures) -> gr.Blocks:
    """The page over `backend`; `pictures` learns of every picture that is saved."""
    widgets = {schema.name: make_widget(schema, backend.models()) for schema in schemas()}
    desk = _Desk(backend, pictures, widgets)
    with gr.Blocks(title="Easel", analytics_enabled=False, fill_width=True) as page:
        _constant("header.html", elem_id="head")
        with gr.Column(elem_id="ask"):
            widgets["prompt"].render()
            with gr.Row(elem_id="act"):
                generate = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Stop", variant="secondary", elem_id="stop")
            _constant("problem.html", elem_id="problem-line")
        with gr.Row(elem_id="studio"):
            with gr.Column(elem_id="middle"):
                viewer = gr.HTML(
                    html_template=_asset("viewer.html"),
                    js_on_load=_asset("page.js"),
                    apply_default_css=False,
                    elem_id="viewer",
                )
            with gr.Column(elem_id="side"):
                _lay_out(widgets)
        job: gr.State = gr.State(None)
        shown: list[Component] = [viewer, job]
        quiet: Any = {"show_progress": "hidden", "concurrency_limit": None}
        generate.click(desk.generate, set(widgets.values()), shown, **quiet)
        stop.click(desk.stop, job, None, **quiet)
        page.load(desk.models, None, widgets["model"], **quiet)
        page.load(desk.resume, None, shown, **quiet)
    _set_pace(page)
    return page


def _set_pace(page: gr.Blocks) -> None:
    # A tab that watches a job holds one of these places until the job ends, waiting included.
    page.max_threads = MOST_TABS
    page.queue(api_open=False, max_size=MOST_TABS)
    # Gradio looks for work a thousand times a second by default, at the expense of the engine.
    cast(Any, page)._queue.sleep_when_free = SECONDS_ASLEEP


def _lay_out(widgets: Mapping[str, Component]) -> None:
    with gr.Row(elem_classes="pair"):
        _render(widgets, SIDE_BY_SIDE)
    _render(widgets, AT_HAND)
    with gr.Accordion("More settings", open=False, elem_id="more"):
        _render(widgets, [n for n in widgets if n not in {"prompt", *SIDE_BY_SIDE, *AT_HAND}])


def _render(widgets: Mapping[str, Component], names: Iterable[str]) -> None:
    for name in names:
        widgets[name].render()


def _constant(asset: str, *, elem_id: str) -> None:
    gr.HTML(html_template=_asset(asset), js_on_load=None, apply_default_css=False, elem_id=elem_id)


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


class _Desk:
    """The handlers: from widgets to a job, and from a job to views."""

    def __init__(
        self, backend: Backend, pictures: Pictures, widgets: Mapping[str, Component]
    ) -> None:
        self._backend = backend
        self._pictures = pictures
        self._widgets = widgets
        self._views = Views()

    async def generate(
        self, values: dict[Component, Any], request: gr.Request
    ) -> AsyncGenerator[tuple[View, Job | None], None]:
        """Starts a job from the widgets and shows it until it ends."""
        session = _session(request)
        try:
            asked = request_from_widgets({n: values[w] for n, w in self._widgets.items()})
            job = self._backend.jobs.submit(asked, session)
        except WebuiError as error:
            mine = self._pictures.newest_first(session.id)
            yield self._views.show(mine, problem=Problem.of(error)), None
            return
        # Recorded apart from the tab, which may be closed before the job ends.
        record = (session.id, job.follow(), job.request)
        threading.Thread(target=self._pictures.record, args=record, daemon=True).start()
        async with aclosing(self._watch(job)) as views:
            async for view in views:
                yield view, job

    async def resume(self, request: gr.Request) -> AsyncGenerator[tuple[View, Job | None], None]:
        """Shows a freshly opened tab its session's pictures and unfinished job."""
        session = _session(request)
        job = self._backend.jobs.find(session.id)
        yield self._views.show(self._pictures.newest_first(session.id)), job
        if job is not None:
            async with aclosing(self._watch(job)) as views:
                async for view in views:
                    yield view, job

    def stop(self, job: Job | None, request: gr.Request) -> None:
        """Stops the tab's own job, or the session's newest when the tab has none yet."""
        job = job or self._backend.jobs.find(_session(request).id)
        if job is not None:
            job.cancel()

    def models(self) -> Any:
        """The models that are on the shelf now."""
        return gr.update(choices=[*self._backend.models()])

    async def _watch(self, job: Job) -> AsyncGenerator[View, None]:
        session = job.session.id
        async with aclosing(tell(job)) as stories:
            async for story in stories:
                for saved in story.saved:
                    self._pictures.keep(session, saved, job.request)
                yield self._views.show(self._pictures.newest_first(session), story=story)


def _session(request: gr.Request) -> Session:
    http = cast(HTTPConnection, request.request)
    remote = http.client is None or not ipaddress.ip_address(http.client.host).is_loopback
    return Session(id=http.cookies[SESSION_COOKIE], remote=remote)

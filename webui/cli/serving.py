"""`serve`: starts the page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from webui.cli.building import build_backend, build_warm_engine
from webui.cli.places import add_places, settings_of
from webui.errors import StartError
from webui.settings import ServerSettings, Settings

MOST_HOURS = 168.0
"""A share link that lasts longer than a week was forgotten."""


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Gives the parser this command's flags."""
    defaults = ServerSettings()
    parser.set_defaults(run=_serve)
    parser.add_argument("--host", default=defaults.host, help="address to listen on")
    parser.add_argument("--port", type=int, default=defaults.port, help="port to listen on")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="further host name the page may be called by, such as a proxy's; can be repeated",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="open a link to the page for others, through Gradio's share service",
    )
    parser.add_argument(
        "--password",
        metavar="TEXT",
        help="what visitors who are not at this machine have to give; with --share and without"
        " this one is made up and printed",
    )
    parser.add_argument(
        "--share-hours",
        type=float,
        default=defaults.share_hours,
        metavar="HOURS",
        help="how long the link lasts",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="do not open the page in a browser"
    )
    parser.add_argument(
        "--outputs", type=Path, default=Settings().outputs, metavar="DIR", help="folder of pictures"
    )
    add_places(parser)


def _serve(options: argparse.Namespace) -> int:
    from webui.jobs import Jobs
    from webui.process import EngineProcess
    from webui.process.heap import share_one_arena
    from webui.ui.hosts import is_loopback
    from webui.ui.server import bind, serve
    from webui.ui.share import gradio_tunnel

    share_one_arena()

    server = _server_settings(options)
    exposed = options.share or not is_loopback(server.host)
    settings = replace(settings_of(options, options.outputs), exposed=exposed)
    listener = bind(server)
    engine = EngineProcess(build_warm_engine, settings)
    jobs = Jobs(engine, consider=engine.consider)
    backend = build_backend(settings, jobs, engine.status, engine.answer)
    try:
        serve(
            listener,
            server,
            backend,
            announce=partial(print, flush=True),
            tunnel=partial(gradio_tunnel, settings.state / "share") if options.share else None,
        )
    finally:
        backend.close()
        jobs.close()
        engine.close()
    return 0


def _server_settings(options: argparse.Namespace) -> ServerSettings:
    """What the flags say about the server.

    Raises:
        StartError: The password is too short, or the link would last too long.
    """
    from webui.ui.door import FEWEST_LETTERS

    password: str | None = options.password
    if password is not None and len(password.strip()) < FEWEST_LETTERS:
        raise StartError(f"The password is too short: it needs {FEWEST_LETTERS} letters or more.")
    if not 0 < options.share_hours <= MOST_HOURS:
        raise StartError(
            f"--share-hours is {options.share_hours:g}: it must be above 0 and at most"
            f" {MOST_HOURS:g}."
        )
    return ServerSettings(
        host=options.host,
        port=options.port,
        open_browser=not options.no_browser,
        allowed_hosts=tuple(options.allow_host),
        password=password,
        share_hours=options.share_hours,
    )

"""`serve`: starts the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from webui.cli.building import build_backend, build_warm_engine
from webui.cli.places import add_places, settings_of
from webui.settings import ServerSettings, Settings


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
        "--no-browser", action="store_true", help="do not open the page in a browser"
    )
    parser.add_argument(
        "--outputs", type=Path, default=Settings().outputs, metavar="DIR", help="folder of pictures"
    )
    add_places(parser)


def _serve(options: argparse.Namespace) -> int:
    from webui.jobs import Jobs
    from webui.process import EngineProcess
    from webui.ui.server import bind, serve, share_one_arena

    share_one_arena()

    settings = settings_of(options, options.outputs)
    server = ServerSettings(
        host=options.host,
        port=options.port,
        open_browser=not options.no_browser,
        allowed_hosts=tuple(options.allow_host),
    )
    listener = bind(server)
    engine = EngineProcess(build_warm_engine, settings)
    jobs = Jobs(engine, consider=engine.consider)
    backend = build_backend(settings, jobs, engine.status)
    try:
        serve(listener, server, backend)
    finally:
        backend.history.close()
        jobs.close()
        engine.close()
    return 0

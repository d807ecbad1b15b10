"""Serves the real page over a fake generator: `python -m tests.ui.fake_server FOLDER PORT PACE`."""

from __future__ import annotations

import sys
from pathlib import Path

from fastapi import FastAPI

from tests.ui import controlnet_files, lora_files
from tests.ui.stand_in import GatedGenerator, StandInGate, routes
from webui.cli.building import build_backend
from webui.jobs import Jobs
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.process import EngineStatus
from webui.settings import ServerSettings, Settings
from webui.ui.server import Backend, bind, serve, share_one_arena

READY = EngineStatus(phase="ready", message="cpu · float32 · contiguous")


def _answer_first(gate: StandInGate) -> None:
    """Has every page that is built from now on look here first for the gate's script."""
    from webui.ui import app

    build = app.build_app

    def build_with_gate(backend: Backend) -> FastAPI:
        built = build(backend)
        built.router.routes[:0] = routes(gate).routes
        return built

    app.build_app = build_with_gate


def main(outputs: Path, port: int, seconds_per_step: float) -> None:
    """Serves until it is told to end."""
    share_one_arena()
    settings = ServerSettings(port=port, open_browser=False)
    listener = bind(settings)
    places = Settings(
        outputs=outputs,
        state=outputs / ".state",
        own_presets=outputs / ".presets",
        models=controlnet_files.stock(outputs / ".models"),
        loras=lora_files.stock(outputs / ".loras"),
    )
    hashes = HashBook(places.state / "hashes.json")
    gate = StandInGate()
    generator = GatedGenerator(
        outputs,
        seconds_per_step=seconds_per_step,
        loras=LoraShelf((places.loras,), hashes),
        controlnets=ControlNetShelf((places.models,), hashes),
        gate=gate,
    )
    jobs = Jobs(generator)
    backend = build_backend(places, jobs, lambda: READY, gate.answer)
    _answer_first(gate)
    try:
        serve(listener, settings, backend)
    finally:
        backend.history.close()
        jobs.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))

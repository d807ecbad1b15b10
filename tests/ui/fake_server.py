"""Serves the real page over a fake generator: `python -m tests.ui.fake_server FOLDER PORT PACE`.

A fourth argument is the memory of a graphics card in GiB. The hub it downloads from is its own.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI
from huggingface_hub import constants

from tests.library.download_server import DownloadServer, serving
from tests.ui import controlnet_files, library_files, lora_files
from tests.ui.stand_in import GatedGenerator, StandInGate, routes
from webui.cli.building import build_backend
from webui.jobs import Jobs
from webui.library.catalogue import Catalogue
from webui.library.controlnets import ControlNetShelf
from webui.library.downloads import Downloads
from webui.library.hashes import HashBook
from webui.library.kinds import Places
from webui.library.loras import LoraShelf
from webui.library.offers import Offers
from webui.library.outward import Outward
from webui.process import EngineStatus
from webui.process.heap import share_one_arena
from webui.settings import GIB, ROOT, ServerSettings, Settings
from webui.ui.fetched import SERVED, keep_origin, kind_and_family
from webui.ui.first import FirstModels
from webui.ui.server import Backend, bind, serve

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


def main(outputs: Path, port: int, seconds_per_step: float, graphics: float = 0) -> None:
    """Serves until it is told to end."""
    share_one_arena()
    with serving() as hub:
        library_files.stock_hub(hub)
        _serve(outputs, port, seconds_per_step, int(graphics * GIB), hub)


def _serve(
    outputs: Path, port: int, seconds_per_step: float, graphics: int, hub: DownloadServer
) -> None:
    settings = ServerSettings(port=port, open_browser=False)
    listener = bind(settings)
    constants.HF_HUB_CACHE = str(outputs / ".hub")
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
    backend = _over(hub, backend, places, graphics)
    _answer_first(gate)
    try:
        serve(listener, settings, backend)
    finally:
        backend.close()
        jobs.close()


def _over(hub: DownloadServer, backend: Backend, places: Settings, graphics: int) -> Backend:
    """The backend with the loopback in the place of the network."""
    outward = Outward(loopback=True)
    hashes = HashBook(places.state / "hashes.json")
    cards = Catalogue((places.models, ROOT / "models"), (places.loras,), hashes).cards
    return replace(
        backend,
        offers=Offers(outward, kind_and_family, SERVED, hub=hub.address, civitai=hub.address),
        downloads=Downloads(
            outward, Places(places.models, places.loras), places.state, finished=keep_origin
        ),
        first=FirstModels(cards, "postcard", lambda: graphics or None, outward, hub.address),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:]))

"""The only place where objects are built and joined."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from webui.generation.annotator_files import FOLDER as ANNOTATORS
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.uploads import Uploads
from webui.request import GenerationRequest, pictures_of
from webui.settings import ROOT, Settings

if TYPE_CHECKING:
    from webui.engine import Engine
    from webui.jobs import Jobs
    from webui.process import EngineStatus, Report
    from webui.provenance.certificate import Trust
    from webui.ui.server import Backend


def build_engine(settings: Settings, report: Report, *, by_date: bool = True) -> Engine:
    """The engine with everything it works with, reporting how far it is.

    Raises:
        GuardError: A guard that must be loaded is missing.
        StartError: The settings name a device that does not exist.
    """
    report("loading", "Loading torch")
    from webui.generation.devices import choose_device

    device = choose_device(settings.device, settings.dtype)
    report("loading", "Loading diffusers")
    from webui.engine import Engine
    from webui.generation.painting import Painter
    from webui.generation.pipelines import quiet_libraries
    from webui.library.files import remove_leftovers
    from webui.library.gallery import Drafts, Gallery
    from webui.provenance.c2pa import Signer
    from webui.provenance.certificate import identity_in
    from webui.safety.guard import Guard

    quiet_libraries()
    report("loading", "Loading the content filter")
    guard = Guard.load(threads=min(4, os.cpu_count() or 1))
    remove_leftovers(settings.outputs)
    remove_leftovers(settings.state / "drafts")
    drafts = Drafts(settings.state / "drafts")
    drafts.tidy()
    return Engine(
        painter=Painter(
            device,
            cache_bytes=settings.cache_bytes,
            annotators=_annotators(settings),
        ),
        guard=guard,
        shelf=checkpoint_shelf(settings),
        loras=lora_shelf(settings),
        controlnets=_controlnet_shelf(settings),
        uploads=Uploads(settings.state / "uploads"),
        gallery=Gallery(settings.outputs, by_date=by_date),
        drafts=drafts,
        signer=Signer(identity_in(settings.state)),
    )


def build_warm_engine(settings: Settings, report: Report) -> Engine:
    """An engine for a server: the default model is loaded before the first job comes."""
    engine = build_engine(settings, report)
    model = GenerationRequest().model
    report("loading", f"Loading the model {model}")
    engine.warm(model)
    report("ready", engine.description)
    return engine


def build_backend(settings: Settings, jobs: Jobs, status: Callable[[], EngineStatus]) -> Backend:
    """What the page works with, over an engine of any kind."""
    from webui.library.history import History
    from webui.library.presets import PresetShelf
    from webui.library.wordlists import WordLists
    from webui.provenance.indexing import read_for_history
    from webui.ui.server import Backend

    shipped, own = settings.presets, settings.own_presets
    history = History(settings.outputs, read_for_history)

    def in_use() -> set[str]:
        return {name for request in jobs.requests() for _, name in pictures_of(request)}

    def trust() -> Trust | None:
        from webui.provenance.certificate import trust_in

        return trust_in(settings.state)

    history.start()
    return Backend(
        jobs=jobs,
        status=status,
        models=checkpoint_shelf(settings),
        loras=lora_shelf(settings),
        controlnets=_controlnet_shelf(settings),
        annotators=_annotators(settings),
        history=history,
        presets=PresetShelf(shipped, own),
        words=WordLists(shipped / "words", own / "words"),
        uploads=Uploads(settings.state / "uploads", in_use=in_use),
        trust=trust,
    )


def checkpoint_shelf(settings: Settings) -> CheckpointShelf:
    """The models of the user's folder and the embedded one."""
    return CheckpointShelf(_model_folders(settings), HashBook(settings.state / "hashes.json"))


def _model_folders(settings: Settings) -> tuple[Path, ...]:
    """The user's folder first, then the one with the embedded model."""
    return tuple(dict.fromkeys((settings.models, ROOT / "models")))


def _controlnet_shelf(settings: Settings) -> ControlNetShelf:
    return ControlNetShelf(_model_folders(settings), HashBook(settings.state / "hashes.json"))


def _annotators(settings: Settings) -> tuple[Path, ...]:
    """Folders with the weights of networks that draw hints."""
    return tuple(folder / ANNOTATORS for folder in _model_folders(settings))


def lora_shelf(settings: Settings) -> LoraShelf:
    """The LoRAs of the user's folder first, then the embedded model's."""
    folders = tuple(dict.fromkeys((settings.loras, ROOT / "loras")))
    return LoraShelf(folders, HashBook(settings.state / "hashes.json"))

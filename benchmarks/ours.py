"""Easel's engine, joined as the server joins it, and watched while it makes a picture."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar, cast

import torch
from PIL import Image

from benchmarks.measure import BenchmarkError, Run, between
from webui.admission import Admission
from webui.cli.building import build_safety
from webui.engine import Engine
from webui.events import Event, Failed, Finished, Preview, Saved, StageDone, StageName, Step
from webui.generation.denoise import Observer, Prepared, denoise
from webui.generation.devices import Device
from webui.generation.finishing import decode
from webui.generation.loaded import Loaded
from webui.generation.painting import Painter
from webui.generation.planning import Planner
from webui.generation.quiet import quiet_libraries
from webui.generation.speed import Rung
from webui.generator import Cancel, Session
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.gallery import Gallery
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.shelves import Shelves
from webui.library.uploads import Kind, Uploads
from webui.library.wildcards import WildcardShelf
from webui.minutes import Minutes
from webui.provenance.c2pa import Signer
from webui.provenance.certificate import identity_in
from webui.recipes import RecipeWriter
from webui.release import Release
from webui.request import GenerationRequest
from webui.settings import GIB, Settings

R = TypeVar("R")


UNWATCHED = Observer(
    before_call=lambda _call, _calls: None,
    emit=lambda _done: None,
    stopped=lambda: False,
    tell=lambda _sentence: None,
)


@dataclass(frozen=True)
class FirstStep:
    """Seconds from the request to the denoiser's first call, and from there to the step's end."""

    until: float
    step: float


class Ours:
    """An engine on a device, with models from some folders and its files in `work`."""

    def __init__(
        self, device: Device, models: Sequence[Path], work: Path, configs: Path | None = None
    ) -> None:
        """`configs` are the configurations of single files; without it there are none."""
        quiet_libraries()
        self.device = device
        hashes = HashBook(work / "hashes.json")
        self._uploads = uploads = Uploads(work / "uploads")
        shelves = Shelves(
            models=CheckpointShelf(tuple(models), hashes, configs),
            loras=LoraShelf((work / "loras",), hashes),
            controlnets=ControlNetShelf(tuple(models), hashes),
            embeddings=EmbeddingShelf((), hashes),
            wildcards=WildcardShelf(()),
            uploads=uploads,
        )
        self._planner = Planner(shelves)
        self._painter = Painter(device, cache_bytes=GIB, annotators=tuple(models))
        guard, gate = build_safety(Settings(state=work))
        minutes = Minutes(gate)
        self._engine = Engine(
            painter=self._painter,
            planner=self._planner,
            guard=guard,
            admission=Admission(guard=guard, gate=gate, minutes=minutes, uploads=uploads),
            gate=gate,
            minutes=minutes,
            release=Release(
                guard=guard,
                signer=Signer(identity_in(work)),
                minutes=minutes,
                uploads=uploads,
                gallery=Gallery(work / "outputs"),
                drafts=Gallery(work / "drafts"),
            ),
            recipes=RecipeWriter(device),
        )

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def loaded(self, request: GenerationRequest) -> Loaded:
        """The components the engine runs that request on."""
        return _result(self._painter.load(self._planner.plan(request)))

    def run(
        self,
        request: GenerationRequest,
        *,
        previews: bool = False,
        may_reuse: Collection[StageName] = ("load",),
    ) -> Run:
        """Makes one picture; `may_reuse` are the stages that the cache may answer.

        Raises:
            BenchmarkError: The job failed, or the cache answered what should have been computed.
        """
        return watch(lambda: self.events(request, previews=previews), may_reuse)

    def events(self, request: GenerationRequest, *, previews: bool = False) -> Iterator[Event]:
        """What the engine tells while it makes a picture."""
        session = Session(id="benchmark", previews=previews)
        return self._engine.generate(request, session, Cancel())

    def first_step(self, request: GenerationRequest) -> FirstStep:
        """Runs a request of one step up to the end of that step; nothing is decoded.

        Raises:
            BenchmarkError: The job failed, or the cache answered what should have been computed.
        """
        unet: Any = self.loaded(request).pipe.components["unet"]
        calls: list[float] = []
        hook = unet.register_forward_pre_hook(lambda *_: calls.append(perf_counter()))
        began = perf_counter()
        session = Session(id="benchmark", previews=False)
        events = self._engine.generate(request, session, Cancel())
        try:
            for event in events:
                match event:
                    case Step():
                        return FirstStep(calls[0] - began, perf_counter() - calls[0])
                    case Failed():
                        raise BenchmarkError(f"The engine failed: {event.message}")
                    case _:
                        pass
        finally:
            hook.remove()
            cast(Generator[Event, None, None], events).close()
        raise BenchmarkError("The cache answered the denoising.")

    def bring(self, picture: Image.Image, *, kind: Kind = "picture") -> str:
        """Puts a picture on the shelf of pictures brought in; gives the name it has there."""
        file = io.BytesIO()
        picture.save(file, "PNG")
        return self._uploads.take(file.getvalue(), kind=kind).id

    def networks(self, request: GenerationRequest) -> list[torch.nn.Module]:
        """The networks the engine runs that request on, ControlNets last."""
        loaded = self.loaded(request)
        steerings = _result(self._painter.steer(self._planner.plan(request)))
        parts = [loaded.pipe.components[name] for name in ("unet", "vae", "text_encoder")]
        return cast(list[torch.nn.Module], [*parts, *(steering.net for steering in steerings)])

    def picture(self, request: GenerationRequest) -> Image.Image:
        """The picture as it is before the check, for comparing."""
        plan = self._planner.plan(request)
        loaded = self.loaded(request)
        timeline = _result(self._painter.encode(loaded, plan))
        start = _result(self._painter.prepare(loaded, plan))
        steerings = _result(self._painter.steer(plan))
        prepared = Prepared(timeline, start, steerings)
        painting = self._painter.paint(loaded, plan, 0, prepared, pace=None, stopped=lambda: False)
        return Image.open(io.BytesIO(_result(painting).pictures[0]))

    def denoised(self, request: GenerationRequest, rung: Rung) -> tuple[float, Image.Image]:
        """Seconds of the denoising with what a rung leaves out, and the picture it leads to."""
        plan = self._planner.plan(request)
        loaded = self.loaded(request)
        timeline = _result(self._painter.encode(loaded, plan))
        start = _result(self._painter.prepare(loaded, plan))
        seeds = plan.batches[0]
        with torch.inference_mode():
            began = perf_counter()
            latents = denoise(loaded, plan, seeds, Prepared(timeline, start), rung, UNWATCHED)
            seconds = perf_counter() - began
            return seconds, Image.open(io.BytesIO(decode(loaded, latents, None)[0]))


def watch(
    start: Callable[[], Iterator[Event]], may_reuse: Collection[StageName] = ("load",)
) -> Run:
    """Starts a job and takes the time of its events.

    Raises:
        BenchmarkError: The job failed, or the cache answered what should have been computed.
    """
    began = before = perf_counter()
    decoded, saved = began, None
    stages: dict[str, float] = {}
    ends: list[float] = []
    previews: list[float] = []
    for event in start():
        now = perf_counter()
        match event:
            case StageDone():
                if event.reused and event.name not in may_reuse:
                    raise BenchmarkError(f"The cache answered the stage {event.name!r}.")
                stages[event.name] = event.seconds
                decoded = now if event.name == "decode" else decoded
            case Step():
                ends.append(now)
            case Preview():
                # A preview is made between the event of its step and its own.
                previews.append(now - before)
            case Saved():
                saved = now - began
            case Finished():
                return Run(
                    decoded=decoded - began,
                    decode=decoded - ends[-1],
                    steps=between(ends),
                    whole=now - began,
                    saved=saved,
                    stages=stages,
                    previews=tuple(previews),
                )
            case Failed():
                raise BenchmarkError(f"The engine failed: {event.message}")
            case _:
                pass
        before = now
    raise BenchmarkError("The engine stopped before the picture was done.")


def _result(stage: Generator[object, None, R]) -> R:
    """Runs a generator to its end for what it returns."""
    result: list[R] = []

    def whole() -> Iterator[object]:
        result.append((yield from stage))

    deque(whole(), maxlen=0)
    return result[0]

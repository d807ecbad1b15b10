"""Stand-ins with the shape of the real thing and none of its weight."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from webui.errors import BadRequestError, StorageError, WebuiError
from webui.events import (
    Cancelled,
    Event,
    Finished,
    HintMade,
    LoraApplied,
    Preview,
    Saved,
    StackMeasured,
    StageDone,
    StageName,
    Started,
    Step,
    failed,
)
from webui.generation.poses import draw_pose
from webui.generator import Cancel, Session
from webui.library.contents import Content
from webui.library.controlnets import ControlNetShelf
from webui.library.files import write_atomically
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.request import GenerationRequest

NO_CONTENT = Content({}, Path(), HashBook(Path("nowhere")), threading.Lock())
"""Of models in tests that nobody asks for their content hash."""

FAKE_SIZE = 256
"""Pixels of a side where the request leaves the size open."""

LAYERS = 264
"""Of every LoRA."""

DEEP = "grand"
"""A LoRA that is measured as on a transformer."""

BLOCKS: tuple[str, ...] = ("text encoder", "in", "down 1", "mid", "up 1", "out")
OVERLAP = 0.62
"""Of every two LoRAs."""


def gradient(width: int, height: int, seed: int) -> Image.Image:
    """A neutral picture: a soft gradient whose tint depends on the seed."""
    ramp = Image.linear_gradient("L").resize((width, height))
    turned = ramp.rotate(90).resize((width, height))
    tint = Image.new("L", (width, height), 60 + seed * 37 % 150)
    return Image.merge("RGB", (ramp, turned, tint))


def jpeg(picture: Image.Image) -> bytes:
    """The picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    return buffer.getvalue()


def png(picture: Image.Image, request: GenerationRequest) -> bytes:
    """The picture as the bytes of a PNG file that carries its request, as a real one does."""
    text = PngInfo()
    text.add_text("easel", json.dumps({"request": request.model_dump(mode="json")}))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


@dataclass
class FakeGenerator:
    """A `webui.generator.Generator` that draws gradients and writes them to disk.

    Attributes:
        outputs: Folder for the pictures; made when it is missing.
        seconds_per_step: How long a step takes.
        error: Raised, as the engine would, after the first step.
        loras: Where the request's LoRAs are looked for; without it all are there.
        controlnets: The same for its ControlNets, where it names them.
        seen: Every request that was run.
    """

    outputs: Path
    seconds_per_step: float = 0.0
    error: WebuiError | None = None
    loras: LoraShelf | None = None
    controlnets: ControlNetShelf | None = None
    seen: list[GenerationRequest] = field(default_factory=list[GenerationRequest])
    _drawn: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        """Yields what the engine would."""
        self.seen.append(request)
        began, saved = time.perf_counter(), 0
        first = next(self._drawn) if request.seed is None else request.seed
        started = Started(
            model=request.model,
            width=request.width or FAKE_SIZE,
            height=request.height or FAKE_SIZE,
            steps=_steps(request),
            seeds=tuple(range(first, first + request.count * request.batch)),
            device="cpu",
            dtype="float32",
            layout="contiguous",
        )
        yield started
        yield _stage("load", 0.0, 0, reused=True)
        try:
            yield from self._applied(request)
            yield from _measured(request)
            yield from self._hints(request, started)
        except BadRequestError as error:
            yield failed(error)
            return
        yield _stage("text", 0.01, 0)
        for batch in range(request.count):
            for step in range(1, started.steps + 1):
                if cancel.wait(self.seconds_per_step):
                    yield Cancelled(saved=saved, seconds=time.perf_counter() - began)
                    return
                yield self._step(request, batch, step)
                if self.error is not None:
                    yield failed(self.error)
                    return
                if session.previews and step % 5 == 0:
                    small = gradient(64, 64 * started.height // started.width, first)
                    yield Preview(jpeg=jpeg(small), step=step)
            yield _stage("denoise", self.seconds_per_step * started.steps, batch)
            yield _stage("decode", 0.02, batch)
            mine = started.seeds[batch * request.batch :][: request.batch]
            for seed in mine:
                yield _stage("check", 0.1, batch)
                try:
                    picture = self._save(started, request, seed, draft=session.draft)
                except StorageError as error:
                    yield failed(error)
                    return
                yield picture
                saved += 1
        yield Finished(saved=saved, withheld=0, seconds=time.perf_counter() - began)

    def _applied(self, request: GenerationRequest) -> Iterator[LoraApplied]:
        """The rows that have an effect; of a LoRA of another family few layers match."""
        for row, choice in enumerate(request.loras):
            if not choice.has_effect:
                continue
            family = "unknown"
            if self.loras is not None:
                try:
                    family = self.loras.find(choice.name).facts.family
                except BadRequestError as error:
                    sentence = f"Row {row + 1} of the LoRAs: {error.message}"
                    raise type(error)(sentence, field=f"loras.{row}") from None
            matched = LAYERS if family in ("SD 1", "unknown") else 12
            yield LoraApplied(name=choice.name, matched=matched, total=LAYERS)

    def _hints(self, request: GenerationRequest, started: Started) -> Iterator[HintMade]:
        """Poses as they are drawn; for pictures a gradient."""
        for place, choice in enumerate(request.controls):
            if not choice.weight:
                continue
            if self.controlnets is not None and choice.model is not None:
                try:
                    self.controlnets.folder(choice.model)
                except BadRequestError as error:
                    raise type(error)(error.message, field=f"controls.{place}") from None
            size = started.width, started.height
            drawn = gradient(*size, place) if choice.pose is None else draw_pose(choice.pose, *size)
            yield HintMade(control=place, jpeg=jpeg(drawn))

    def _step(self, request: GenerationRequest, batch: int, step: int) -> Step:
        left = _steps(request) * (request.count - batch) - step
        return Step(
            step=step,
            steps=_steps(request),
            batch=batch,
            batches=request.count,
            seconds_per_step=self.seconds_per_step,
            seconds_left=self.seconds_per_step * left,
        )

    def _save(
        self, started: Started, request: GenerationRequest, seed: int, *, draft: bool
    ) -> Saved:
        data = png(gradient(started.width, started.height, seed), request)
        name = f"{seed}-{started.width}x{started.height}.png"
        path = self.outputs / ".drafts" / f"{len(self.seen)}.png" if draft else self.outputs / name
        write_atomically(path, data)
        return Saved(
            path=str(path),
            seed=seed,
            sha256=hashlib.sha256(data).hexdigest(),
            width=started.width,
            height=started.height,
        )


def _measured(request: GenerationRequest) -> Iterator[StackMeasured]:
    """LoRAs that change the later blocks the more, the second another way than the first."""
    names = list(dict.fromkeys(lora.name for lora in request.loras if lora.has_effect))
    sizes = {
        name: dict(zip(BLOCKS, [0.01 * n for n in range(6)][:: -1 if at % 2 else 1], strict=True))
        for at, name in enumerate(names)
    }
    if DEEP in sizes:
        doubles = {f"double {n}": 0.002 * n for n in range(1, 20)}
        singles = {f"single {n}": 0.001 * n for n in range(1, 39)}
        sizes[DEEP] = {"in": 0.0, **doubles, **singles, "out": 0.01}
    if names:
        pairs = tuple((*pair, OVERLAP) for pair in itertools.combinations(names, 2))
        yield StackMeasured(sizes=sizes, overlaps=pairs)


def _steps(request: GenerationRequest) -> int:
    """As the embedded model has them where they are left open."""
    return 20 if request.steps is None else request.steps


def _stage(name: StageName, seconds: float, batch: int, *, reused: bool = False) -> StageDone:
    return StageDone(name=name, seconds=seconds, reused=reused, batch=batch)

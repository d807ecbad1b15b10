"""Nothing gets out unchecked: the engine's whole way, with things going wrong at random.

The story, the guard, the seals, the log and the gallery are the real ones. Stood in for is what
costs time and decides nothing: the painting (noise; red pictures are to be withheld, blue ones may
go out), the detector (which sees red), the watermark and the signature.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, cast, get_args
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.admission import Admission
from webui.clearance import Admitted
from webui.engine import Engine
from webui.errors import MarkError
from webui.events import Event, Preview, Saved, StageDone, Withheld
from webui.generation.denoise import StepDone, StoppedError
from webui.generation.devices import choose_device
from webui.generation.finishing import to_png
from webui.generation.painting import Painted, Painter
from webui.generation.planning import Planner
from webui.generation.previews import PreviewPace
from webui.generation.quiet import quiet_libraries
from webui.generation.speed import RUNGS
from webui.generator import Cancel, Session
from webui.levels import LEVELS, STRICT, Level
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.gallery import Gallery
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.shelves import Shelves
from webui.library.uploads import Uploads
from webui.library.wildcards import WildcardShelf
from webui.minutes import Minutes, Recorder
from webui.provenance import watermark
from webui.provenance.c2pa import Signer, Statement
from webui.recipes import RecipeWriter
from webui.release import Release
from webui.request import GenerationRequest
from webui.safety.audit import Audit
from webui.safety.ceilings import Ceiling
from webui.safety.detector import LABELS, Detector, Views
from webui.safety.gate import Gate
from webui.safety.guard import Guard
from webui.safety.normaliser import Normaliser
from webui.safety.operator import Policy
from webui.safety.pictures import MOSAIC
from webui.safety.prompts import FOLDER, Lexicon
from webui.settings import ROOT

Pixels = NDArray[np.uint8]

SIDE = 32
TIME_LIMIT = 0.05
"""Seconds that a check may take here."""

Fault = Literal[
    "detector raises",
    "detector has no memory",
    "detector hangs",
    "detector gives NaN",
    "detector gives nothing",
    "detector gives another shape",
    "detector gives scores above 1",
    "self-test fails",
    "painter gives no PNG",
    "painter gives two frames",
    "painter gives transparency",
    "painter has no memory",
    "mark fails",
    "mark is not in it",
    "signer fails",
    "log is full",
    "disk is full",
    "file cannot be moved into place",
    "job is cancelled",
    "grant is revoked",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

_EDGE, _ALIKE = 6, 24
"""Pixels at a square's edges that JPEG blurs, and how far grey values within it may lie apart."""

_WORD = "frumpet"
"""A placeholder that level 1 allows in a prompt and level 0 does not."""


@dataclass
class Report:
    """What came of some runs.

    Attributes:
        struck: How often each fault came about.
        escaped: A sentence for each picture, or piece of one, that is where it may not be.
    """

    runs: int = 0
    painted: int = 0
    saved: int = 0
    withheld: int = 0
    previews: int = 0
    struck: Counter[str] = field(default_factory=Counter[str])
    escaped: list[str] = field(default_factory=list[str])


@dataclass
class _Run:
    """One job: what was painted in it, and what goes wrong.

    Attributes:
        patience: How often the fault holds back before it strikes; from then on it always does.
        saved_before: Pictures that were saved when it struck.
    """

    random: Random
    fault: Fault | None
    patience: int
    level: Level
    cancel: Cancel = field(default_factory=Cancel)
    painted: list[Pixels] = field(default_factory=list[Pixels])
    recorded: set[str] = field(default_factory=set[str])
    saved: int = 0
    saved_before: int | None = None

    def strikes(self, *faults: Fault) -> bool:
        """Whether the fault is one of these, and its time has come."""
        if self.fault not in faults:
            return False
        self.patience -= 1
        if self.patience >= 0:
            return False
        if self.saved_before is None:
            self.saved_before = self.saved
        return True

    def picture(self) -> Pixels:
        """Noise; red or blue."""
        drawn = np.frombuffer(self.random.randbytes(SIDE * SIDE * 3), np.uint8)
        pixels = (drawn.reshape(SIDE, SIDE, 3) // 4).astype(np.uint8)
        pixels[..., 0 if self.random.random() < 0.4 else 2] += 150
        self.painted.append(pixels)
        return pixels


class Trial:
    """An engine that things go wrong in. To be closed; `folder` is emptied with every run."""

    def __init__(self, folder: Path) -> None:
        quiet_libraries()
        self._folder = folder
        self._run = _Run(Random(0), None, 0, STRICT)
        self._minutes = _Noting(_Log(folder / "state" / "audit"), self)
        self._engine = self._built()
        self._log = io.StringIO()

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()

    @property
    def run(self) -> _Run:
        """The run at hand."""
        return self._run

    def go(self, seeds: Sequence[int]) -> Report:
        """One run for each seed; the same seed gives the same run."""
        report = Report()
        with self._faulty(), _logged() as log:
            for seed in seeds:
                self._one(seed, report, log)
        return report

    def _one(self, seed: int, report: Report, log: io.StringIO) -> None:
        random = Random(seed)
        fault = random.choice((None, *FAULTS))
        level = random.choice(LEVELS[:2])
        if fault == "grant is revoked":
            level = LEVELS[1]
        self._run = run = _Run(random, fault, random.randrange(5), level)
        session = Session("trial", previews=random.random() < 0.3, draft=seed % 7 == 0, level=level)
        prompt = f"a {_WORD} by the sea" if level else "a house by the sea"
        request = GenerationRequest(
            prompt=prompt,
            seed=seed,
            count=random.randint(1, 3),
            batch=random.randint(1, 3),
            steps=1,
        )
        events: list[Event] = []
        for event in self._engine.generate(request, session, run.cancel):
            events.append(event)
            run.saved += isinstance(event, Saved)
        report.runs += 1
        report.painted += len(run.painted)
        report.saved += run.saved
        report.withheld += sum(isinstance(event, Withheld) for event in events)
        report.previews += sum(isinstance(event, Preview) for event in events)
        if run.saved_before is not None:
            report.struck[str(fault)] += 1
        escaped = [*self._in_files(), *self._in_events(events), *self._in_text(log.getvalue())]
        report.escaped += [f"seed {seed}, {fault}: {each}" for each in (*escaped, *self._late())]
        log.seek(0)
        log.truncate()
        for place in ("outputs", "drafts", "temporary"):
            shutil.rmtree(self._folder / place, ignore_errors=True)
        (self._folder / "temporary").mkdir()

    def _late(self) -> Iterator[str]:
        """A fault keeps in what comes after it, but for a log that only a raised level needs."""
        run = self._run
        lenient = run.fault == "log is full" and run.level == STRICT
        if run.saved_before is not None and not lenient and run.saved > run.saved_before:
            yield "a picture was saved after it"

    def _in_files(self) -> Iterator[str]:
        for path in self._folder.rglob("*"):
            if not path.is_file() or path.parent.name == "models":
                continue
            data = path.read_bytes()
            if path.suffix != ".png":
                yield from (f"{path.name} holds pixels" for _ in self._pieces(data))
                continue
            if hashlib.sha256(data).hexdigest() not in self._run.recorded:
                yield f"{path.name} has no record"
            with Image.open(io.BytesIO(data)) as picture:
                if _is_red(np.asarray(picture.convert("RGB"))):
                    yield f"{path.name} should have been withheld"

    def _in_events(self, events: Sequence[Event]) -> Iterator[str]:
        for event in events:
            if isinstance(event, Preview):
                with Image.open(io.BytesIO(event.jpeg)) as frame:
                    pixels = np.asarray(frame.convert("RGB"))
                if _is_red(pixels) and not _is_mosaic(pixels):
                    yield "a preview shows what should be withheld"
            else:
                yield from self._in_text(event.model_dump_json())

    def _in_text(self, text: str) -> Iterator[str]:
        return (f"a text holds pixels: {text[:80]!r}" for _ in self._pieces(text.encode()))

    def _pieces(self, data: bytes) -> Iterator[int]:
        """Places where a piece of a painted picture begins, plain or in base 64 or as text."""
        for pixels in self._run.painted:
            piece = pixels[1, :8].tobytes()
            shapes = piece, base64.b64encode(piece)[:-4], repr(piece)[2:-1].encode(), piece.hex()
            for shape in shapes:
                place = data.find(shape if isinstance(shape, bytes) else shape.encode())
                if place >= 0:
                    yield place

    def _ceilings(self, session: Session) -> Sequence[Ceiling]:
        granted = STRICT if self._run.strikes("grant is revoked") else LEVELS[1]
        return (Ceiling("asked", session.level), Ceiling("grant", granted))

    def _self_test(self, _: Detector, __: Lexicon) -> None:
        if self._run.strikes("self-test fails"):
            raise ValueError("the self-test found something")

    def _built(self) -> Engine:
        state = self._folder / "state"
        models = (ROOT / "models",)
        hashes = HashBook(state / "hashes.json")
        uploads = Uploads(state / "uploads")
        lexicon = Lexicon({"swimwear": (_WORD,)}, (), Normaliser.load(FOLDER / "lookalikes.txt"))
        # A clock that leaps makes every check run the self-test.
        guard = Guard(
            _RedSeer(self),
            lexicon,
            ceilings=self._ceilings,
            self_test=self._self_test,
            clock=lambda: time.monotonic() * 1e7,
            time_limit=TIME_LIMIT,
        )
        gate, painter = cast(Gate, _NoGate()), _NoisePainter(self)
        return Engine(
            painter=painter,
            planner=Planner(
                Shelves(
                    models=_OneModel(models, hashes),
                    loras=LoraShelf((), hashes),
                    controlnets=ControlNetShelf(models, hashes),
                    embeddings=EmbeddingShelf((), hashes),
                    wildcards=WildcardShelf(()),
                    uploads=uploads,
                )
            ),
            guard=guard,
            admission=Admission(guard=guard, gate=gate, minutes=self._minutes, uploads=uploads),
            gate=gate,
            minutes=self._minutes,
            release=Release(
                guard=guard,
                signer=cast(Signer, _Signer(self)),
                minutes=self._minutes,
                uploads=uploads,
                gallery=Gallery(self._folder / "outputs"),
                drafts=Gallery(self._folder / "drafts", by_date=False),
            ),
            recipes=RecipeWriter(painter.device),
        )

    @contextmanager
    def _faulty(self) -> Generator[None, None, None]:
        """Puts the stand-ins in their places, and faults into the system's calls."""
        replace = os.replace

        # Waiting for the disk shows nothing here.
        def failing_fsync(file: int) -> None:
            place = os.path.realpath(f"/proc/self/fd/{file}")
            log, pictures = (str(self._folder / name) for name in ("state/audit", "outputs"))
            if (place.startswith(log) and self._run.strikes("log is full")) or (
                place.startswith(pictures) and self._run.strikes("disk is full")
            ):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def failing_replace(source: Any, target: Any) -> None:
            if str(target).endswith(".png") and self._run.strikes(
                "file cannot be moved into place"
            ):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            replace(source, target)

        def mark(pixels: Pixels, *_: object, **__: object) -> Pixels:
            if self._run.strikes("mark fails"):
                raise MarkError("The mark failed.")
            return pixels

        def reading(_: Pixels) -> watermark.Reading:
            missing = self._run.strikes("mark is not in it")
            return watermark.Reading(0 if missing else watermark.BITS)

        (self._folder / "temporary").mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for place, name, stand_in in (
                (os, "fsync", failing_fsync),
                (os, "replace", failing_replace),
                (watermark, "embed", mark),
                (watermark, "read", reading),
                (tempfile, "tempdir", str(self._folder / "temporary")),
            ):
                stack.enter_context(patch.object(place, name, stand_in))
            yield


class _Noting(Minutes):
    """The real minutes; every record of a release is noted before it is written."""

    def __init__(self, recorder: Recorder, trial: Trial) -> None:
        super().__init__(recorder)
        self._trial = trial

    def released(self, admitted: Admitted, sha256: str, *, tainted: bool) -> None:
        self._trial.run.recorded.add(sha256)
        super().released(admitted, sha256, tainted=tainted)


class _Log(Audit):
    """The real log, as the gate keeps it."""

    def record(self, event: str, session: Session | None = None, **facts: object) -> None:
        name = None if session is None else self.pseudonym(session.id)
        super().record(event, session=name, **facts)


class _OneModel(CheckpointShelf):
    """Looks once."""

    def find(self, name: str) -> Checkpoint:
        if not hasattr(self, "_found"):
            self._found = super().find(name)
        return self._found


class _NoGate:
    """Nobody asks it, and the operator has set nothing."""

    def policy(self) -> Policy:
        return Policy()


class _Signer:
    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def sign(self, png: bytes, _: Statement) -> bytes:
        if self._trial.run.strikes("signer fails"):
            raise MarkError("The signer failed.")
        return png


class _RedSeer:
    """A detector of red, that breaks in every way one can."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def scores(self, views: Views) -> NDArray[np.float32]:
        run = self._trial.run
        scores = np.zeros((len(views), len(LABELS)), np.float32)
        if _is_red(views[0]):
            scores[0] = 0.9
        if run.strikes("detector raises"):
            raise RuntimeError("the detector is broken")
        if run.strikes("detector has no memory"):
            raise MemoryError
        if run.strikes("detector hangs"):
            time.sleep(2 * TIME_LIMIT)
        if run.strikes("detector gives NaN"):
            scores[-1, LABELS.index("ANUS_EXPOSED")] = np.nan
        if run.strikes("detector gives scores above 1"):
            scores[-1, LABELS.index("ANUS_EXPOSED")] = 1.5
        if run.strikes("detector gives another shape"):
            return scores[:, :-1]
        if run.strikes("detector gives nothing"):
            return cast(NDArray[np.float32], None)
        return scores


class _NoisePainter(Painter):
    """Loads and reads as the real one does, and paints noise."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(choose_device("cpu", "float32"), cache_bytes=2**24, annotators=())
        self._trial = trial

    def paint(self, *given: Any, **options: Any) -> Generator[StageDone | StepDone, None, Any]:
        run = self._trial.run
        plan, batch = given[1], given[2]
        if run.strikes("job is cancelled"):
            run.cancel.set()
        if options["stopped"]():
            raise StoppedError
        if run.strikes("painter has no memory"):
            raise MemoryError
        pace: PreviewPace | None = options["pace"]
        yield StepDone(1, 0.0, None if pace is None else run.picture()[:8, :8])
        yield StageDone(name="denoise", seconds=0, reused=False, batch=batch)
        as_file = self._as_file()
        files = tuple(as_file(run.picture()) for _ in plan.batches[batch])
        return Painted(files, RUNGS["full"])

    def _as_file(self) -> Callable[[Pixels], bytes]:
        """How the pictures of a batch are written."""
        run = self._trial.run
        if run.strikes("painter gives no PNG"):
            return lambda pixels: pixels.tobytes()
        if run.strikes("painter gives two frames"):
            return _animated
        if run.strikes("painter gives transparency"):
            return lambda pixels: to_png(np.dstack([pixels, pixels[..., 0]]))
        return to_png


def _animated(pixels: Pixels) -> bytes:
    frames, file = [Image.fromarray(pixels), Image.fromarray(255 - pixels)], io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


@contextmanager
def _logged() -> Generator[io.StringIO, None, None]:
    """Everything that is logged, and nothing of it on the console."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    before = root.handlers
    root.handlers = cast(list[logging.Handler], [handler])
    try:
        yield log
    finally:
        root.handlers = before


def _is_red(pixels: Pixels) -> bool:
    red, _, blue = pixels.reshape(-1, 3).mean(axis=0)
    return bool(red > blue)


def _is_mosaic(pixels: Pixels) -> bool:
    """Whether there is nothing but squares of about one colour each."""
    height, width = pixels.shape[:2]
    places = [(row, column) for row in range(MOSAIC) for column in range(MOSAIC)]
    return all(
        np.ptp(
            pixels[
                height * row // MOSAIC + _EDGE : height * (row + 1) // MOSAIC - _EDGE,
                width * column // MOSAIC + _EDGE : width * (column + 1) // MOSAIC - _EDGE,
            ],
            axis=(0, 1),
        ).max()
        < _ALIKE
        for row, column in places
    )

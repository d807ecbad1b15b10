"""The story of a picture, in order: admitted, resolved, text, denoised, decoded, checked, saved."""

from __future__ import annotations

import importlib.metadata
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from time import perf_counter
from types import MappingProxyType

from webui import __version__
from webui.clearance import Admitted, Cleared
from webui.errors import BadRequestError, NotFoundError, OutOfMemoryError, RefusedError, WebuiError
from webui.events import (
    Cancelled,
    Event,
    Finished,
    HintMade,
    Notice,
    Planned,
    Preview,
    Saved,
    StageDone,
    Started,
    Step,
    Withheld,
    failed,
)
from webui.generation.canvas import Brought
from webui.generation.denoise import Prepared, StepDone, StoppedError
from webui.generation.devices import is_out_of_memory
from webui.generation.drawn import Drawn, PictureTexts, draw_prompts
from webui.generation.facts import find_sampling
from webui.generation.finishing import to_png
from webui.generation.memory import MemoryPlan
from webui.generation.painting import Painted, Painter, decoded_texts
from webui.generation.pipelines import Loaded
from webui.generation.previews import PreviewPace, to_jpeg
from webui.generation.resolve import Plan, resolve
from webui.generation.sampling import OPEN, Sampling
from webui.generation.speed import Rung, name_of
from webui.generation.steering import Steering
from webui.generator import Cancel, Session
from webui.levels import Level
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.contents import Content
from webui.library.controlnets import ControlNetShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.loras import LoraShelf
from webui.library.uploads import Uploads
from webui.library.wildcards import WildcardShelf
from webui.minutes import Minutes
from webui.provenance.recipe import Recipe, UsedEmbedding, UsedLora, UsedPart
from webui.release import Release, changed_part
from webui.request import GenerationRequest, pictures_of
from webui.safety.gate import Gate
from webui.safety.guard import Guard
from webui.safety.known import LARGEST
from webui.safety.taint import is_tainted
from webui.standing import Answer, Question

NO_MEMORY = "The device has not enough memory: choose a smaller size or batch."
LEANER = (
    "The device ran out of memory: the model is laid out more leanly, which is slower, and the job"
    " goes on."
)

VERSIONED = ("torch", "diffusers", "transformers")
"""Packages whose versions can change a picture."""


@dataclass(frozen=True)
class _Job:
    """An admitted request on its way."""

    admitted: Admitted
    plan: Plan
    loaded: Loaded
    pace: PreviewPace | None
    tally: _Tally


@dataclass
class _Tally:
    """What a job has come to so far.

    Attributes:
        batches: How many batches are done.
        of_batch: How many pictures of the next batch have been let out or withheld.
    """

    began: float = field(default_factory=perf_counter)
    saved: int = 0
    withheld: int = 0
    batches: int = 0
    of_batch: int = 0

    @property
    def seconds(self) -> float:
        return perf_counter() - self.began


class Engine:
    """Makes pictures on one device, one job at a time. A `webui.generator.Generator`."""

    def __init__(
        self,
        *,
        painter: Painter,
        guard: Guard,
        shelf: CheckpointShelf,
        loras: LoraShelf,
        controlnets: ControlNetShelf,
        embeddings: EmbeddingShelf,
        wildcards: WildcardShelf,
        uploads: Uploads,
        gate: Gate,
        minutes: Minutes,
        release: Release,
    ) -> None:
        self._painter = painter
        self._guard = guard
        self._shelf = shelf
        self._loras = loras
        self._controlnets = controlnets
        self._embeddings = embeddings
        self._wildcards = wildcards
        self._uploads = uploads
        self._gate = gate
        self._minutes = minutes
        self._release = release
        self._pace = PreviewPace()
        self._lock = Lock()
        self._versions = {"easel": __version__} | {
            name: importlib.metadata.version(name) for name in VERSIONED
        }

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        """Yields a job's events; the last is `Finished`, `Cancelled` or `Failed`."""
        tally = _Tally()
        try:
            with self._lock:
                yield from self._story(request, session, cancel, tally)
            yield Finished(saved=tally.saved, withheld=tally.withheld, seconds=tally.seconds)
        except StoppedError:
            yield Cancelled(saved=tally.saved, seconds=tally.seconds)
        except WebuiError as error:
            yield failed(error)
        except (RuntimeError, OSError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            yield failed(OutOfMemoryError(NO_MEMORY))

    def _story(
        self, request: GenerationRequest, session: Session, cancel: Cancel, tally: _Tally
    ) -> Generator[Event, None, None]:
        drawn, sampling = self._drawn(request)
        request = drawn.request
        # Refused before anything is read, and judged again by what is to be used.
        self._admitted(drawn, session, sampling.steps)
        files = self._bring(request)
        brought = {name: Brought.of(file) for name, file in files.items()}
        plan = self._resolved(request, brought, drawn.pictures)
        admitted = self._admitted(drawn, session, plan.steps, tainted=self._is_tainted(plan))
        self._check_brought(request, files, plan, admitted.level)
        self._minutes.admitted(admitted)
        notices = (*admitted.notices, *drawn.notices, *plan.notices)
        yield from (Notice(message=notice) for notice in notices)
        yield self._started(plan)
        try:
            yield from self._making(plan, admitted, session, cancel, tally)
            return
        except (RuntimeError, OSError, MemoryError, OutOfMemoryError) as error:
            if not is_out_of_memory(error):
                raise
            ran_out = error.message if isinstance(error, OutOfMemoryError) else NO_MEMORY
        # Only out here, where nothing holds on to what was in memory any more.
        if self._painter.retreat(plan) is None:
            raise OutOfMemoryError(ran_out)
        yield Notice(message=LEANER)
        yield from self._making(plan, admitted, session, cancel, tally)

    def _making(
        self,
        plan: Plan,
        admitted: Admitted,
        session: Session,
        cancel: Cancel,
        tally: _Tally,
    ) -> Generator[Event, None, None]:
        """Makes what of the plan's batches has not been let out yet."""
        for content in _contents(plan):
            # Wanted only once there is a picture: read beside the loading, and not before it.
            content.begin()
        refiner = yield from self._painter.load_refiner(plan)
        loaded = yield from self._painter.load(plan)
        yield _planned(self._painter.memory_plan)
        yield from self._painter.match(loaded, plan)
        files = [lora.card.name for lora in plan.loras]
        texts = decoded_texts(loaded, plan, refiner)
        self._guard.check_decoded(admitted, texts, loras=files)
        timeline = yield from self._painter.encode(loaded, plan, tally.batches)
        refining = yield from self._painter.refine(refiner, plan, tally.batches)
        start = yield from self._painter.prepare(loaded, plan)
        steerings = yield from self._painter.steer(plan)
        if session.previews:
            yield from self._show_hints(steerings, admitted)
        prepared = Prepared(timeline, start, steerings, refining)
        job = _Job(admitted, plan, loaded, self._pace if session.previews else None, tally)
        first = tally.batches
        for batch, seeds in enumerate(plan.batches[first:], first):
            if batch > first and plan.prompts[batch] != plan.prompts[batch - 1]:
                timeline = yield from self._painter.encode(loaded, plan, batch)
                refining = yield from self._painter.refine(refiner, plan, batch)
                prepared = replace(prepared, timeline=timeline, refining=refining)
            painting = self._painter.paint(
                loaded, plan, batch, prepared, pace=job.pace, stopped=cancel.is_set
            )
            painted = yield from self._watch(painting, job, batch)
            made = [*zip(seeds, painted.pictures, strict=True)]
            for seed, picture in made[tally.of_batch :]:
                yield from self._let_out(picture, seed, job, batch, painted.rung)
                tally.of_batch += 1
            tally.batches, tally.of_batch = tally.batches + 1, 0

    def consider(self, request: GenerationRequest, session: Session) -> None:
        """Passes a request that would be admitted now.

        Raises:
            WebuiError: Why it would not.
        """
        drawn, sampling = self._drawn(request)
        self._admitted(drawn, session, sampling.steps)

    def answer(self, question: Question, session: Session) -> Answer:
        """What the gate says.

        Raises:
            WebuiError: As the gate's.
        """
        return self._gate.answer(question, session)

    @property
    def description(self) -> str:
        """Device, number format, layout and attention with the reason, as one short line."""
        device = self._painter.device
        return (
            f"{device.title} · {device.dtype_name} · {device.layout} · attention {device.attention}"
            f" ({device.reason})"
        )

    def warm(self, model: str) -> None:
        """Loads a model ahead of the first job; one that does not load is left for that job."""
        with suppress(WebuiError), self._lock:
            plan = self._resolved(GenerationRequest(model=model))
            deque(self._painter.load(plan), maxlen=0)

    def close(self) -> None:
        """Waits for the device to be idle and ends its thread."""
        self._painter.close()

    def _drawn(self, request: GenerationRequest) -> tuple[Drawn, Sampling]:
        """The request as it is run, its sampling filled in: what a guard lets in hangs on CFG."""
        drawn = draw_prompts(request, self._wildcards.now)
        model = self._shelf.folder(drawn.request.model)
        sampling = find_sampling(drawn.request, model, self._loras)
        settled = {name: getattr(sampling, name) for name in OPEN}
        return replace(drawn, request=drawn.request.model_copy(update=settled)), sampling

    def _admitted(
        self, drawn: Drawn, session: Session, steps: int, *, tainted: bool = False
    ) -> Admitted:
        """The request, let in with every text that its prompts come to over so many steps."""
        texts = drawn.texts(steps)
        try:
            return self._guard.admit(drawn.request, session, tainted=tainted, texts=texts)
        except RefusedError:
            self._minutes.refused(drawn.request, session)
            raise

    def _resolved(
        self,
        request: GenerationRequest,
        brought: Mapping[str, Brought] = MappingProxyType({}),
        pictures: Sequence[PictureTexts] = (),
    ) -> Plan:
        checkpoint = self._shelf.find(request.model)
        refiner = None if request.refiner is None else self._find_refiner(request.refiner)
        vae = None if request.vae is None else self._shelf.vaes.find(request.vae)
        return resolve(
            request,
            checkpoint,
            self._loras,
            self._controlnets,
            brought,
            pictures,
            refiner=refiner,
            vae=vae,
            embeddings=self._embeddings,
        )

    def _find_refiner(self, name: str) -> Checkpoint:
        try:
            return self._shelf.find(name)
        except BadRequestError as error:
            raise type(error)(error.message, field="refiner") from None

    def _bring(self, request: GenerationRequest) -> dict[str, bytes]:
        """The files of the pictures that the request names, by these names.

        Raises:
            NotFoundError: One is not on the shelf; with its field.
        """
        files: dict[str, bytes] = {}
        for field_name, name in pictures_of(request):
            try:
                files[name] = self._uploads.read(name)
            except NotFoundError as error:
                raise NotFoundError(error.message, field=field_name) from None
        return files

    def _check_brought(
        self, request: GenerationRequest, files: Mapping[str, bytes], plan: Plan, level: Level
    ) -> None:
        """Has the pictures judged, and what is to be painted anew as a picture of its own.

        Raises:
            RefusedError: One may not be worked on.
        """
        for field_name, name in pictures_of(request):
            self._guard.check_brought(files[name], level, field=field_name)
        region = changed_part(plan)
        if plan.canvas is not None and region is not None:
            whole = to_png(plan.canvas.picture)
            self._guard.check_brought(whole, level, field="init", region=region)

    def _watch(
        self,
        painting: Generator[StageDone | StepDone | Notice, None, Painted],
        job: _Job,
        batch: int,
    ) -> Generator[Event, None, Painted]:
        """Hands on what happens during the painting, frames as checked previews."""
        try:
            while True:
                happened = next(painting)
                if isinstance(happened, StageDone | Notice):
                    yield happened
                    continue
                yield _step(happened, job.plan, batch)
                if happened.frame is not None and job.pace is not None:
                    began = perf_counter()
                    jpeg = to_jpeg(happened.frame)
                    cleared = self._preview(jpeg, job.admitted)
                    job.pace.spent(perf_counter() - began)
                    yield Preview(jpeg=cleared.data, step=happened.step)
        except StopIteration as end:
            return end.value
        finally:
            painting.close()

    def _show_hints(self, steerings: Sequence[Steering], admitted: Admitted) -> Iterator[HintMade]:
        """The hints as checked small pictures."""
        for steering in steerings:
            cleared = self._preview(to_jpeg(steering.frame), admitted)
            yield HintMade(control=steering.control.place, jpeg=cleared.data)

    def _preview(self, jpeg: bytes, admitted: Admitted) -> Cleared:
        mosaic = self._guard.mosaics(admitted.session)
        return self._guard.screen_preview(jpeg, admitted.level, mosaic=mosaic)

    def _let_out(
        self, picture: bytes, seed: int, job: _Job, batch: int, rung: Rung
    ) -> Generator[Event, None, None]:
        """Lets one picture out; what does not pass is gone."""
        began = perf_counter()
        verdict = self._release.check(picture, job.plan, job.admitted)
        yield StageDone(name="check", seconds=perf_counter() - began, reused=False, batch=batch)
        if not isinstance(verdict, Cleared):
            job.tally.withheld += 1
            self._painter.forget(job.plan, batch, rung)
            yield Withheld(seed=seed)
            return
        began = perf_counter()
        recipe = self._recipe(job, seed, rung)
        released = self._release.let_out(verdict, recipe, job.plan, job.admitted)
        yield StageDone(name="save", seconds=perf_counter() - began, reused=False, batch=batch)
        job.tally.saved += 1
        yield Saved(
            path=str(released.path),
            seed=seed,
            sha256=released.sha256,
            width=job.plan.width,
            height=job.plan.height,
        )

    def _is_tainted(self, plan: Plan) -> bool:
        """Whether anything from outside has a part in the plan's pictures."""
        allowed = self._gate.policy().allowed
        return is_tainted(
            pictures=[self._uploads.origin(name) for _, name in pictures_of(plan.request)],
            weights=(
                *(_hash_of(content, any_size=bool(allowed)) for content in _contents(plan)),
                *(lora.hashes.sha256 for lora in plan.loras),
                *(control.net.sha256 for control in plan.controls if control.net is not None),
                *(word.sha256 for word in plan.embeddings),
            ),
            allowed=allowed,
        )

    def _recipe(self, job: _Job, seed: int, rung: Rung) -> Recipe:
        device = self._painter.device
        speed = name_of(rung, job.plan.request.speed)
        return Recipe(
            request=job.plan.recipe(seed).model_copy(update={"speed": speed}),
            model_sha256=job.plan.checkpoint.sha256,
            refiner_sha256=None if job.plan.refiner is None else job.plan.refiner.checkpoint.sha256,
            vae_sha256=None if job.plan.vae is None else job.plan.vae.content.sha256,
            versions=self._versions,
            device=device.name,
            dtype=device.dtype_name,
            layout=device.layout,
            attention=job.loaded.attention,
            memory=self._painter.memory_plan.layout,
            tainted=job.admitted.tainted,
            loras=tuple(
                UsedLora(lora.name, lora.hashes.sha256, lora.hashes.auto_v3)
                for lora in job.plan.loras
            ),
            embeddings=tuple(
                UsedEmbedding(word.name, word.sha256) for word in job.plan.embeddings_in(seed)
            ),
            parts=tuple(UsedPart(part.part, part.label) for part in job.loaded.parts),
        )

    def _started(self, plan: Plan) -> Started:
        device = self._painter.device
        return Started(
            model=plan.checkpoint.name,
            width=plan.width,
            height=plan.height,
            steps=plan.steps,
            seeds=plan.seeds,
            device=device.name,
            dtype=device.dtype_name,
            layout=device.layout,
        )


def _contents(plan: Plan) -> list[Content]:
    """Of the model, and of those that are used beside it or in place of a part."""
    models = [plan.checkpoint, *(() if plan.refiner is None else (plan.refiner.checkpoint,))]
    contents = [model.content for model in models]
    return contents if plan.vae is None else [*contents, plan.vae.content]


def _hash_of(content: Content, *, any_size: bool) -> str:
    """The content hash; empty where it is not known yet and could not be that of a trusted model.

    Args:
        any_size: Whether a model of any size may be trusted, not only those that come with Easel.
    """
    return content.sha256 if any_size or content.size <= LARGEST else content.known or ""


def _planned(plan: MemoryPlan) -> Planned:
    return Planned(
        name=plan.name,
        tiled=plan.tiled,
        needs=plan.needs,
        whole=plan.whole,
        free=plan.free,
        reason=plan.reason,
        why=plan.why,
    )


def _step(done: StepDone, plan: Plan, batch: int) -> Step:
    steps, batches = plan.steps, len(plan.batches)
    left = steps - done.step + steps * (batches - batch - 1)
    return Step(
        step=done.step,
        steps=steps,
        batch=batch,
        batches=batches,
        seconds_per_step=done.seconds_per_step,
        seconds_left=done.seconds_per_step * left,
    )

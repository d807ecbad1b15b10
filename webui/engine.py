"""The story of a picture, in order: admitted, resolved, text, denoised, decoded, checked, saved."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from time import perf_counter

from webui.admission import Admission
from webui.clearance import Admitted, Cleared
from webui.errors import OutOfMemoryError, WebuiError
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
from webui.generation.denoise import Prepared, StepDone, StoppedError
from webui.generation.devices import is_out_of_memory
from webui.generation.loaded import Loaded
from webui.generation.memory import MemoryPlan
from webui.generation.painting import Painted, Painter, decoded_texts
from webui.generation.plan import Plan
from webui.generation.planning import Planner
from webui.generation.previews import PreviewPace, to_jpeg
from webui.generation.speed import Rung
from webui.generation.steering import Steering
from webui.generator import Cancel, Session
from webui.minutes import Minutes
from webui.recipes import RecipeWriter
from webui.release import Release
from webui.request import GenerationRequest
from webui.safety.gate import Gate
from webui.safety.guard import Guard
from webui.standing import Answer, Question

NO_MEMORY = "The device has not enough memory: choose a smaller size or batch."
LEANER = (
    "The device ran out of memory: the model is laid out more leanly, which is slower, and the job"
    " goes on."
)


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
        planner: Planner,
        guard: Guard,
        admission: Admission,
        gate: Gate,
        minutes: Minutes,
        release: Release,
        recipes: RecipeWriter,
    ) -> None:
        self._painter = painter
        self._planner = planner
        self._guard = guard
        self._admission = admission
        self._gate = gate
        self._minutes = minutes
        self._release = release
        self._recipes = recipes
        self._pace = PreviewPace()
        self._lock = Lock()

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
        drawn, asked_steps = self._planner.drawn(request)
        request = drawn.request
        # Refused before anything is read, and judged again by what is to be used.
        self._admission.admit(drawn, session, asked_steps)
        files = self._planner.bring(request)
        plan = self._planner.plan(request, files, drawn.pictures)
        tainted = self._admission.is_tainted(plan)
        admitted = self._admission.admit(drawn, session, plan.steps, tainted=tainted)
        self._admission.check_brought(admitted, files, plan)
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
        for content in plan.contents:
            # Wanted only once there is a picture: read beside the loading, and not before it.
            content.begin()
        refiner = yield from self._painter.load_refiner(plan)
        loaded = yield from self._painter.load(plan)
        yield _planned(self._painter.memory_plan)
        yield from self._painter.match(loaded, plan)
        files = [lora.card.name for lora in plan.loras]
        texts = decoded_texts(loaded, plan, refiner)
        self._admission.check_decoded(admitted, texts, files)
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
        drawn, steps = self._planner.drawn(request)
        self._admission.admit(drawn, session, steps)

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
            plan = self._planner.plan(GenerationRequest(model=model))
            deque(self._painter.load(plan), maxlen=0)

    def close(self) -> None:
        """Waits for the device to be idle and ends its thread."""
        self._painter.close()

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
        memory, tainted = self._painter.memory_plan, job.admitted.tainted
        recipe = self._recipes.write(job.plan, seed, job.loaded, rung, memory, tainted=tainted)
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

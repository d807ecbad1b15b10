"""What a job's events add up to, and the lines about it. Pure: no clock, no disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import assert_never

from webui.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    HintMade,
    LoraApplied,
    Notice,
    Planned,
    Preview,
    Queued,
    Saved,
    StackMeasured,
    StageDone,
    StageName,
    Started,
    Step,
    Terminal,
    Withheld,
)
from webui.settings import GIB
from webui.ui.texts import Texts

_STAGES: tuple[StageName, ...] = (
    "load",
    "text",
    "init",
    "mask",
    "control",
    "hint",
    "denoise",
    "decode",
    "check",
    "save",
)


_REASONS = MappingProxyType(
    {"asked": "memory.asked", "kept": "memory.kept", "ran out": "memory.ran_out"}
)
"""Of plans that were not chosen for the room there is, by the reason."""


@dataclass(frozen=True)
class Story:
    """A job so far. `after` folds one more event in; the rest is read off.

    Attributes:
        ahead: Jobs that run before this one; `None` once it runs or when that is not known yet.
        plan: How the model lies in memory.
        saved: Pictures in the order they were saved.
        withheld: How many pictures did not pass the check.
        loras: The LoRAs that are used, with how much of each fits.
        stack: How much the LoRAs change, and how alike they are.
        hints: What each control unit steers by, in the order they were made.
        notices: Sentences for the user, each once.
        ending: How the job ended; `None` while it goes on.
    """

    ahead: int | None = None
    started: Started | None = None
    plan: Planned | None = None
    step: Step | None = None
    preview: Preview | None = None
    stages: tuple[StageDone, ...] = ()
    saved: tuple[Saved, ...] = ()
    withheld: int = 0
    loras: tuple[LoraApplied, ...] = ()
    stack: StackMeasured | None = None
    hints: tuple[HintMade, ...] = ()
    notices: tuple[str, ...] = field(default=())
    ending: Terminal | None = None

    def after(self, event: Event) -> Story:
        """The story with `event` added to it."""
        match event:
            case Queued():
                return replace(self, ahead=event.position - 1)
            case Started():
                return replace(self, ahead=None, started=event)
            case Planned():
                return replace(self, plan=event)
            case Step():
                return replace(self, step=event)
            case Preview():
                return replace(self, preview=event)
            case StageDone():
                return replace(self, stages=(*self.stages, event))
            case LoraApplied():
                return replace(self, loras=(*self.loras, event))
            case StackMeasured():
                return replace(self, stack=event)
            case HintMade():
                return replace(self, hints=(*self.hints, event))
            case Saved():
                return replace(self, saved=(*self.saved, event))
            case Withheld():
                return replace(self, withheld=self.withheld + 1)._told(event.message)
            case Notice():
                return self._told(event.message)
            case Finished() | Cancelled() | Failed():
                return replace(self, ahead=None, ending=event)
            case _:
                assert_never(event)

    def _told(self, message: str) -> Story:
        new = () if message in self.notices else (message,)
        return replace(self, notices=(*self.notices, *new))

    @property
    def progress(self) -> float:
        """Share of the denoising steps that are done, 0..1 over all batches."""
        if isinstance(self.ending, Finished):
            return 1.0
        if self.step is None:
            return 0.0
        done = self.step.batch * self.step.steps + self.step.step
        return done / (self.step.batches * self.step.steps)


def headline(story: Story, say: Texts) -> str:
    """Where the job stands, in one line; empty when it failed (the error says it)."""
    match story.ending:
        case Finished(seconds=seconds):
            done = say("job.done", time=_long(seconds, say))
            return f"{done} · {say('job.withheld', n=story.withheld)}" if story.withheld else done
        case Cancelled(seconds=seconds):
            return say("job.stopped", time=_long(seconds, say))
        case Failed():
            return ""
        case None:
            return _under_way(story, say)
        case _:
            assert_never(story.ending)


def _under_way(story: Story, say: Texts) -> str:
    if story.started is None:
        return _waiting(story.ahead, say)
    step = story.step
    if step is None:
        return say("job.reading")
    if step.step == step.steps and step.batch + 1 == step.batches:
        return say("job.developing")
    pace, left = _short(step.seconds_per_step, say), _long(step.seconds_left, say)
    counted: dict[str, int] = {"step": step.step, "steps": step.steps}
    if step.batches == 1:
        return say("job.step", **counted, pace=pace, left=left)
    counted |= {"batch": step.batch + 1, "batches": step.batches}
    return say("job.batch", **counted, pace=pace, left=left)


def _waiting(ahead: int | None, say: Texts) -> str:
    match ahead:
        case None:
            return say("job.waiting")
        case 0:
            return say("job.next")
        case 1:
            return say("job.ahead.one")
        case _:
            return say("job.ahead.many", n=ahead)


def memory_line(story: Story, say: Texts) -> str:
    """How the model lies in memory and why, in one line; empty until that is known."""
    plan = story.plan
    if plan is None:
        return ""
    numbers = {
        name: f"{size / GIB:.1f}".replace(".", say("time.decimal"))
        for name, size in (("needs", plan.needs), ("whole", plan.whole), ("free", plan.free))
    }
    line = say(f"memory.{plan.name}")
    if plan.tiled:
        line = say("memory.tiled", line=line)
    if plan.reason != "room":
        line = say(_REASONS[plan.reason], line=line)
    if plan.needs > plan.free:
        return say("memory.tight", line=line, **numbers)
    if plan.reason != "room" or (plan.name == "resident" and not plan.tiled):
        return say("memory.enough", line=line, **numbers)
    return say("memory.lean", line=line, **numbers)


def stage_line(story: Story, say: Texts) -> str:
    """What each stage took, such as "text reused · 20 steps 3.1 s · check 0.2 s".

    Times are summed over batches; "reused" stands only where all of a stage was reused.
    """
    parts: list[str] = []
    for name in _STAGES:
        of_name = [stage for stage in story.stages if stage.name == name]
        reused = all(stage.reused for stage in of_name)
        if not of_name or (name == "load" and reused):
            continue
        label = _steps(story, len(of_name), say) if name == "denoise" else say(f"stage.{name}")
        took = _short(sum(stage.seconds for stage in of_name if not stage.reused), say)
        parts.append(f"{label} {say('stage.reused') if reused else took}")
    return " · ".join(parts)


def _steps(story: Story, batches: int, say: Texts) -> str:
    steps = story.started.steps if story.started else 0
    words = say("stage.steps.one") if steps == 1 else say("stage.steps.many", n=steps)
    return say("stage.batches", batches=batches, steps=words) if batches > 1 else words


def _short(seconds: float, say: Texts) -> str:
    """Seconds as "0.15 s" below one and "3.1 s" above."""
    return _decimal(seconds, 2 if seconds < 0.95 else 1, say)


def _long(seconds: float, say: Texts) -> str:
    """Seconds as "0.4 s", "12 s", "2 min 5 s" or "1 h 10 min"."""
    whole = round(seconds)
    if seconds < 9.95:
        return _decimal(seconds, 1, say)
    if whole < 60:
        return say("time.seconds", seconds=whole)
    if whole < 3600:
        return say("time.minutes", minutes=whole // 60, seconds=whole % 60)
    return say("time.hours", hours=whole // 3600, minutes=whole % 3600 // 60)


def _decimal(seconds: float, places: int, say: Texts) -> str:
    return say("time.seconds", seconds=f"{seconds:.{places}f}".replace(".", say("time.decimal")))

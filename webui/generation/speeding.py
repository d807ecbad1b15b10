"""Leaves parts of the denoiser out of some of its calls, for one run of the pipeline.

Whatever is put on is taken off again at the end, also where the run is broken off: the cached
pipeline has nothing left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from typing import Any, cast

import torch

from webui.generation.loaded import Loaded
from webui.generation.lora_plan import denoiser_strengths, strengths_at
from webui.generation.plan import Plan
from webui.generation.speed import (
    COMPILING,
    NOTHING_SPARED,
    RUNGS,
    Call,
    Rung,
    fitting,
    plan_calls,
    spares,
)
from webui.generation.steering import steers
from webui.generation.strength import flows, noise_level
from webui.generation.timeline import Timeline

Forward = Callable[..., Any]

_ROWS = ("transformer_blocks", "single_transformer_blocks", "layers")
"""What diffusers' transformers call the lists of blocks that make up their depth, in order."""


def rung_of(plan: Plan, models: Sequence[Loaded]) -> tuple[Rung, str | None]:
    """What the plan's speed comes to on the models that make its steps, and a sentence about what
    it asks for and cannot be done.
    """
    troubles = (model.compiler.trouble for model in models)
    trouble = next((one for one in troubles if one is not None), None)
    return fitting(RUNGS[plan.request.speed], [model.laid_out for model in models], trouble)


def calls_planned(
    rung: Rung, plan: Plan, timeline: Timeline, scheduler: Any, *, before: int
) -> tuple[Call, ...]:
    """What is run in each call of the denoiser.

    Args:
        scheduler: With its steps laid out.
        before: How many of the timeline's steps were run ahead of the plan's.
    """
    calls = len(scheduler.timesteps)
    loras = denoiser_strengths(plan.loras)

    def state(call: int) -> object:
        step = before + min(call * plan.steps // calls + 1, plan.steps)
        controls = tuple(steers(control, call, calls) for control in plan.controls)
        return timeline.at(step).until, strengths_at(loras, call, calls), controls

    levels = [_level(scheduler, call) for call in range(calls)]
    guided = timeline.first.negative_prompt is not None
    return plan_calls(rung, levels, state, guided=guided)


def _level(scheduler: Any, call: int) -> float:
    """Deviation of the noise relative to the signal before a call."""
    level = noise_level(scheduler, call)
    if not flows(scheduler):
        return level
    return level / (1 - level) if level < 1 else inf


@contextmanager
def sped_up(
    rung: Rung,
    loaded: Loaded,
    plan: Plan,
    timeline: Timeline,
    scheduler: Any,
    *,
    before: int,
    pictures: int,
    tell: Callable[[str], None],
) -> Generator[None]:
    """Lets one call of the pipeline leave out what the rung does, which in full is nothing.

    Args:
        scheduler: With its steps laid out.
        before: How many of the timeline's steps were run ahead of the plan's.
        pictures: How many are made at once.
        tell: Is given a sentence where nothing can be left out, and where compiling takes a while.

    Raises:
        CompileError: What is to be compiled cannot be.
    """
    with ExitStack() as stack:
        if rung.compiled:
            if not loaded.compiler.is_warm:
                tell(COMPILING)
            stack.enter_context(loaded.compiler.on())
        if rung.leaves_out:
            calls = calls_planned(rung, plan, timeline, scheduler, before=before)
            guided = timeline.first.negative_prompt is not None
            if not spares(calls, guided=guided):
                tell(NOTHING_SPARED)
            stack.enter_context(sped(loaded.denoiser, calls, pictures=pictures, guided=guided))
        yield


@contextmanager
def sped(denoiser: Any, calls: Sequence[Call], *, pictures: int, guided: bool) -> Generator[None]:
    """Runs each call of the denoiser as planned; to be put on after all other hooks.

    Args:
        calls: One for each round of the pipeline's loop.
        pictures: How many are made at once.
        guided: Whether the pipeline is guided.
    """
    rounds = _Rounds(calls, pictures, guided=guided)
    with ExitStack() as stack:
        # Ahead of the hooks that look at what the denoiser is given, and behind them afterwards.
        before = denoiser.register_forward_pre_hook(rounds.before, with_kwargs=True, prepend=True)
        stack.callback(before.remove)
        after = denoiser.register_forward_hook(rounds.after)
        stack.callback(after.remove)
        stack.enter_context(_replaced(denoiser, rounds.answered))
        if any(call.reused for call in calls):
            for block, replacement in _deep_blocks(denoiser, rounds):
                stack.enter_context(_replaced(block, replacement))
        yield


class _Rounds:
    """Counts the rounds of the loop: one call each, or two where guidance takes a call of its own.

    In a round without guidance the negative prompt's rows are taken out of the call, or its call is
    not made; its answer is then the prompt's own, from which guidance adds up to just that.

    Attributes:
        reused: Whether the deep blocks' last answer serves in this call.
        side: Which of a round's calls it is: 1 where the negative prompt alone is run.
    """

    def __init__(self, calls: Sequence[Call], pictures: int, *, guided: bool) -> None:
        self._calls = calls
        self._pictures = pictures
        self._guided = guided
        self._made = 0
        self._halved = False
        self._skipped = False
        self._answer: Any = None
        self.reused = False
        self.side = 0

    def before(
        self, _: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Puts in what this call is run with."""
        sample = args[0] if args else kwargs["hidden_states"]
        together = len(sample) == 2 * self._pictures
        apart = self._guided and not together
        number, self.side = divmod(self._made, 2) if apart else (self._made, 0)
        self._made += 1
        call = self._calls[number]
        self.reused = call.reused
        self._halved = self._guided and together and not call.guided
        self._skipped = self.side == 1 and not call.guided
        if not self._halved:
            return args, dict(kwargs)
        rows = len(sample)
        # Only Z-Image's pipeline hands over lists, and it has the prompt's rows first.
        start = 0 if isinstance(sample, list) else self._pictures
        kept = slice(start, start + self._pictures)
        halved = {name: _cut(value, rows, kept) for name, value in kwargs.items()}
        return tuple(_cut(value, rows, kept) for value in args), halved

    def answered(self, forward: Forward) -> Forward:
        """The denoiser's own forward, or what it answered before in its place."""

        def answer(*args: Any, **kwargs: Any) -> Any:
            if not self._skipped:
                self._answer = forward(*args, **kwargs)
            return self._answer

        return answer

    def after(self, _: Any, __: Any, output: tuple[Any, ...]) -> tuple[Any, ...]:
        """Gives the pipeline as many rows as it handed over."""
        if not self._halved:
            return output
        first = output[0]
        if isinstance(first, torch.Tensor):
            return (torch.cat([first, first]), *output[1:])
        return ([*first, *first], *output[1:])


def _cut(value: Any, rows: int, kept: slice) -> Any:
    """An input of the denoiser with some of its rows."""
    if isinstance(value, dict):
        inner = cast(dict[str, Any], value)
        return {name: _cut(one, rows, kept) for name, one in inner.items()}
    if isinstance(value, torch.Tensor):
        return value[kept] if value.ndim and len(value) == rows else value
    if isinstance(value, list):
        several = cast(list[Any], value)
        return several[kept] if len(several) == rows else several
    return value


def _deep_blocks(
    denoiser: Any, rounds: _Rounds
) -> Iterator[tuple[torch.nn.Module, Callable[[Forward], Forward]]]:
    """The blocks that can be left out, each with what makes its forward one that can be.

    Of a UNet these are all but the outermost ones: what it hands on between them is kept whole.
    Of a transformer all but the first one: kept is what each list of them adds to its input.
    """
    if hasattr(denoiser, "up_blocks"):
        middle = [] if denoiser.mid_block is None else [denoiser.mid_block]
        for block in (*denoiser.down_blocks[1:], *middle, *denoiser.up_blocks[:-1]):
            yield block, _Remembered(rounds).replacement
        return
    lists = [list(getattr(denoiser, name)) for name in _ROWS if hasattr(denoiser, name)]
    lists[0] = lists[0][1:]
    for blocks in lists:
        added = _Added(rounds)
        for number, block in enumerate(blocks):
            yield block, added.replacement(first=number == 0)


class _Remembered:
    """A block whose last answer is kept."""

    def __init__(self, rounds: _Rounds) -> None:
        self._rounds = rounds
        self._answer: Any = None

    def replacement(self, forward: Forward) -> Forward:
        def answer(*args: Any, **kwargs: Any) -> Any:
            if not self._rounds.reused:
                self._answer = forward(*args, **kwargs)
            return self._answer

        return answer


_Streams = Sequence[torch.Tensor | None]
"""What goes through a block: the text, where it goes apart and is used again, and the picture."""


class _Added:
    """A list of blocks: what they add to what goes through them, summed up.

    What ControlNets add between them is not in the sum, since the transformer adds it anew.
    """

    def __init__(self, rounds: _Rounds) -> None:
        self._rounds = rounds
        # Of each side of guidance: to the text, where it goes through apart, and to the picture.
        self._sums: dict[int, _Streams] = {}

    def replacement(self, *, first: bool) -> Callable[[Forward], Forward]:
        """For one of the blocks; the first one adds the sum when they are left out."""

        def replaced(forward: Forward) -> Forward:
            def answer(*args: Any, **kwargs: Any) -> Any:
                before = _streams(args, kwargs)
                if self._rounds.reused:
                    sums = self._sums[self._rounds.side]
                    passed = [*map(_plus, before, sums)] if first else before
                    return passed[-1] if len(passed) == 1 else tuple(passed)
                output = forward(*args, **kwargs)
                after = _each(output)
                sums = [None] * len(after) if first else self._sums[self._rounds.side]
                self._sums[self._rounds.side] = [
                    _plus_difference(total, now, then)
                    for total, now, then in zip(sums, after, before[-len(after) :], strict=True)
                ]
                return output

            return answer

        return replaced


def _each(output: Any) -> _Streams:
    """What a block gives."""
    return cast(_Streams, output) if isinstance(output, tuple) else [output]


def _streams(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Streams:
    """What a block is given."""
    picture = args[0] if args else kwargs["hidden_states"]
    text = kwargs.get("encoder_hidden_states")
    return [picture] if text is None else [text, picture]


def _plus(stream: torch.Tensor | None, total: torch.Tensor | None) -> torch.Tensor | None:
    return stream if stream is None or total is None else (stream + total).to(stream.dtype)


def _plus_difference(
    total: torch.Tensor | None, now: torch.Tensor | None, then: torch.Tensor | None
) -> torch.Tensor | None:
    """In float32: the small differences of many blocks are summed up."""
    if now is None or then is None:
        return total
    difference = now.float() - then.float()
    return difference if total is None else total + difference


@contextmanager
def _replaced(module: Any, make: Callable[[Forward], Forward]) -> Generator[None]:
    """Lets a module run with another forward, made from its own."""
    # Offloading puts one of its own there, which has to come back.
    own = module.__dict__.get("forward")
    module.forward = make(module.forward)
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own

"""What the denoising follows from step to step, and how several prompts are followed at once.

The pipeline is given the first prompt. Where there is more than that one, a hook on the denoiser
puts in what counts at its step, and runs it for each of the prompts that `AND` joins. What they
predict is composed as in composable diffusion (Liu et al., arXiv 2206.01714): to the prediction of
the negative prompt each adds its difference from that, times its weight. Without guidance it is
their weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch

from webui.generation.backbones.base import Conditioning, Encoding
from webui.generation.prompt_plan import PromptPlan
from webui.generation.prompts import EMPTY_PROMPT, ParsedPrompt

Condition = Callable[[Sequence[ParsedPrompt]], Conditioning]


class Moment(NamedTuple):
    """What is followed during some steps, of which `until` is the last one, from 1.

    Attributes:
        prompts: Each prompt with its weight; all with the same negative one, and of equal length.
    """

    until: int
    prompts: tuple[tuple[Conditioning, float], ...]


@dataclass(frozen=True)
class Timeline:
    """What is followed during all steps; at least one moment."""

    moments: tuple[Moment, ...]

    @property
    def first(self) -> Conditioning:
        """What the pipeline itself is given."""
        return self.moments[0].prompts[0][0]

    @property
    def is_plain(self) -> bool:
        """Whether that is all there is."""
        return len(self.moments) == 1 and len(self.moments[0].prompts) == 1

    def at(self, step: int) -> Moment:
        """What is followed at a step, from 1."""
        return next(moment for moment in self.moments if step <= moment.until)


def make_timeline(
    plans: Sequence[PromptPlan], condition: Condition, encode: Callable[[ParsedPrompt], Encoding]
) -> Timeline:
    """The encoded plans: of the prompt and, where there is guidance, of the negative prompt.

    Args:
        condition: `webui.generation.backbones.base.Backbone.condition` for such a pair.
        encode: One prompt's encoding.
    """
    ends = sorted({stretch.until for plan in plans for stretch in plan.stretches})
    moments: list[Moment] = []
    for until in ends:
        positive, *negative = (plan.at(until) for plan in plans)
        against = [negative[0][0].prompt] if negative else []
        prompts = [
            (condition([weighted.prompt, *against]), weighted.weight) for weighted in positive
        ]
        moments.append(Moment(until, _of_equal_length(prompts, encode)))
    return Timeline(tuple(moments))


def _of_equal_length(
    prompts: Sequence[tuple[Conditioning, float]], encode: Callable[[ParsedPrompt], Encoding]
) -> tuple[tuple[Conditioning, float], ...]:
    """Shorter prompts, continued with encodings of an empty one."""
    length = max(len(conditioning.prompt.tokens) for conditioning, _ in prompts)

    def padded(encoding: Encoding | None) -> Encoding | None:
        if encoding is None or len(encoding.tokens) == length:
            return encoding
        empty = encode(EMPTY_PROMPT).tokens
        missing = (length - len(encoding.tokens)) // len(empty)
        return encoding._replace(tokens=torch.cat([encoding.tokens, *[empty] * missing]))

    return tuple(
        (
            replace(
                conditioning,
                prompt=padded(conditioning.prompt),
                negative_prompt=padded(conditioning.negative_prompt),
            ),
            weight,
        )
        for conditioning, weight in prompts
    )


@contextmanager
def followed(
    pipe: Any, denoiser: Any, timeline: Timeline, *, steps: int, pictures: int, before: int = 0
) -> Generator[None]:
    """Lets one call of `pipe` follow the timeline; the denoiser is as before afterwards.

    Args:
        steps: How many are run, of which the timeline tells.
        pictures: How many are made at once.
        before: How many of the timeline's steps were run ahead of them.
    """
    if timeline.is_plain:
        yield
        return
    hook = _Hook(pipe, timeline, steps, pictures, before)
    handles = [
        denoiser.register_forward_pre_hook(hook.before, with_kwargs=True),
        denoiser.register_forward_hook(hook.after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Hook:
    """Counts the denoiser's calls, of which every round of the pipeline's loop makes one."""

    def __init__(
        self, pipe: Any, timeline: Timeline, steps: int, pictures: int, before: int
    ) -> None:
        self._pipe = pipe
        self._timeline = timeline
        self._steps = steps
        self._pictures = pictures
        self._before = before
        self._calls = 0
        self._moment = timeline.moments[0]
        self._guided = False

    def before(
        self, _: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # Samplers of second order call the denoiser about twice a step.
        step = self._calls * self._steps // self._pipe.num_timesteps + 1
        self._calls += 1
        self._moment = self._timeline.at(self._before + min(step, self._steps))
        rows = len(args[0] if args else kwargs["hidden_states"])
        self._guided = rows == 2 * self._pictures
        spread = {name: self._spread(value, rows) for name, value in kwargs.items()}
        encodings = [conditioning.prompt for conditioning, _ in self._moment.prompts]
        negative = self._moment.prompts[0][0].negative_prompt
        if self._guided and negative is not None:
            encodings.insert(0, negative)
        _put(spread, encodings, self._pictures)
        return tuple(self._spread(value, rows) for value in args), spread

    def after(self, _: Any, __: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        weights = [weight for _, weight in self._moment.prompts]
        if weights == [1.0]:
            return output
        predicted = _parted(output[0], self._pictures)
        if self._guided:
            against, *towards = predicted
            composed = against + sum(
                (weight * (one - against) for weight, one in zip(weights, towards, strict=True)),
                torch.zeros_like(against),
            )
            return (torch.cat([against, composed]), *output[1:])
        mean = sum(
            (weight * one for weight, one in zip(weights, predicted, strict=True)),
            torch.zeros_like(predicted[0]),
        )
        return (mean / sum(weights), *output[1:])

    def _spread(self, value: Any, rows: int) -> Any:
        """An input of the denoiser, with rows for each of the prompts."""
        if isinstance(value, dict):
            inner = cast(dict[str, Any], value)
            return {name: self._spread(one, rows) for name, one in inner.items()}
        if not isinstance(value, torch.Tensor) or not value.ndim or len(value) != rows:
            return value
        of_negative = value[: rows - self._pictures]
        of_prompt = value[rows - self._pictures :]
        return torch.cat([of_negative, *[of_prompt] * len(self._moment.prompts)])


def _parted(rows: torch.Tensor, size: int) -> list[torch.Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _put(kwargs: dict[str, Any], encodings: Sequence[Encoding], pictures: int) -> None:
    """Puts prompts in the place of those that the pipeline gave to the denoiser."""
    given = kwargs["encoder_hidden_states"]
    tokens = [encoding.tokens.expand(pictures, -1, -1) for encoding in encodings]
    kwargs["encoder_hidden_states"] = torch.cat(tokens).to(given)
    pooled = [encoding.pooled for encoding in encodings if encoding.pooled is not None]
    if not pooled:
        return
    whole = torch.cat([one.expand(pictures, -1) for one in pooled]).to(given)
    if kwargs.get("added_cond_kwargs") is not None:
        kwargs["added_cond_kwargs"]["text_embeds"] = whole
    else:
        kwargs["pooled_projections"] = whole

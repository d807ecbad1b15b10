"""A1111's whole prompt grammar: what a prompt is at each step, as a weighted conjunction.

The text is parted at `AND` first, where each part may end with `:weight`; each part is then read
over the steps (`webui.generation.prompt_schedules`), and what it is during some of them by the
attention grammar (`webui.generation.prompts`). A negative prompt knows no `AND`, as in A1111.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from webui.errors import BadRequestError
from webui.generation.prompt_schedules import ScheduledText, Span, Variant
from webui.generation.prompts import (
    EMPTY_PROMPT,
    MAX_WEIGHT,
    EmbeddedWord,
    ParsedPrompt,
    PromptField,
    PutEmbeddings,
    Segment,
    Source,
    locate_prompt,
    refusal,
)

MAX_PROMPTS = 8
"""Most prompts that `AND` may join: each is one more run of the denoiser at every step."""

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"(?<!\\):\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*\Z")
_WEIGHT_REACH = 60
"""Characters from the end of a part in which its weight must stand, space around it included."""


class Weighted(NamedTuple):
    """A prompt of a conjunction; 1 is its neutral weight."""

    prompt: ParsedPrompt
    weight: float = 1.0


Conjunction = tuple[Weighted, ...]
"""Prompts that count at the same time; at least one."""


class Stretch(NamedTuple):
    """Steps with one conjunction; `until` is the last of them, from 1."""

    until: int
    prompts: Conjunction


@dataclass(frozen=True)
class PromptPlan:
    """What a prompt is at each step. Neighbouring stretches differ; there is at least one."""

    stretches: tuple[Stretch, ...]

    @staticmethod
    def of(prompt: ParsedPrompt, steps: int) -> PromptPlan:
        """One prompt for all steps."""
        return PromptPlan((Stretch(steps, (Weighted(prompt),)),))

    @property
    def is_plain(self) -> bool:
        """Whether it is one prompt at all steps."""
        return len(self.stretches) == 1 and len(self.stretches[0].prompts) == 1

    @property
    def prompts(self) -> tuple[ParsedPrompt, ...]:
        """Every prompt in it, once each, in order."""
        used = (weighted.prompt for stretch in self.stretches for weighted in stretch.prompts)
        return tuple(dict.fromkeys(used))

    @property
    def embeddings(self) -> tuple[EmbeddedWord, ...]:
        """Every embedding in it, once each, in order."""
        segments = (one for prompt in self.prompts for block in prompt.blocks for one in block)
        found = (one.embedding for one in segments if one.embedding is not None)
        return tuple(dict.fromkeys(found))

    def at(self, step: int) -> Conjunction:
        """What counts at a step, from 1."""
        return next(prompts for until, prompts in self.stretches if step <= until)


class Part(NamedTuple):
    """One of the prompts that `AND` joins.

    Attributes:
        span: Its characters in the whole text.
        variants: What it is during which steps; places are of the whole text.
    """

    span: Span
    weight: float
    variants: tuple[Variant, ...]


def plan_prompt(
    text: str, field: PromptField, steps: int, put: PutEmbeddings | None = None
) -> PromptPlan:
    """What the prompt is at each of so many steps, which are counted as they are run.

    Args:
        put: Puts in the embeddings that it names; without it there are none.

    Raises:
        BadRequestError: With `field`, naming the position (characters from 1) of what cannot be
            read.
    """
    parts = read_parts(text, field, steps)
    read: dict[str, ParsedPrompt] = {}
    for part in parts:
        for variant in part.variants:
            if variant.text not in read:
                read[variant.text] = _located(variant, field, put)[0]
    stretches: list[Stretch] = []
    for until in _ends(parts):
        prompts = tuple(Weighted(read[_at(part, until).text], part.weight) for part in parts)
        if stretches and stretches[-1].prompts == prompts:
            stretches.pop()
        stretches.append(Stretch(until, prompts))
    return PromptPlan(tuple(stretches))


def plan_plain(text: str, steps: int) -> PromptPlan:
    """The text as it stands, for models whose text encoder reads no weights."""
    prompt = ParsedPrompt(((Segment(text, 1.0),),)) if text else EMPTY_PROMPT
    return PromptPlan.of(prompt, steps)


def means_more(text: str, steps: int) -> bool:
    """Whether the grammar makes something else of the text than it says, or cannot read it."""
    try:
        return plan_prompt(text, "prompt", steps) != plan_plain(text, steps)
    except BadRequestError:
        return True


def texts_of(text: str, field: PromptField, steps: int) -> tuple[str, ...]:
    """Every text that the prompt is at some step: that of all it joins, and of each.

    Raises:
        BadRequestError: As `plan_prompt`.
    """
    parts = read_parts(text, field, steps)
    alone = [variant.text for part in parts for variant in part.variants]
    joined = [" ".join(_at(part, until).text for part in parts) for until in _ends(parts)]
    return tuple(dict.fromkeys((*joined, *alone)))


def locate_variants(
    text: str, field: PromptField, steps: int, put: PutEmbeddings | None = None
) -> Iterator[tuple[ParsedPrompt, Source]]:
    """Each prompt that is encoded, with where in the text it stands.

    Args:
        put: As `plan_prompt`.

    Raises:
        BadRequestError: As `plan_prompt`.
    """
    known: set[str] = set()
    for part in read_parts(text, field, steps):
        for variant in part.variants:
            if variant.text not in known:
                known.add(variant.text)
                yield _located(variant, field, put)


def _located(
    variant: Variant, field: PromptField, put: PutEmbeddings | None
) -> tuple[ParsedPrompt, Source]:
    located = locate_prompt(variant.text, field, variant.places)
    return located if put is None else put(*located, field)


def read_parts(text: str, field: PromptField, steps: int) -> tuple[Part, ...]:
    """The prompts that `AND` joins, each over the steps; at least one.

    Raises:
        BadRequestError: `AND` stands in brackets or joins too many, or a weight is out of range.
    """
    spans = _parted(text, field)
    return tuple(_part(text, span, field, steps, weighted=len(spans) > 1) for span in spans)


def _parted(text: str, field: PromptField) -> Sequence[Span]:
    found = list(_AND.finditer(text)) if field == "prompt" else []
    if not found:
        return [Span(0, len(text))]
    balanced = iter((*ScheduledText(text).balanced, Span(len(text), len(text))))
    bracket = next(balanced)
    for word in found:
        while bracket.end <= word.start():
            bracket = next(balanced)
        if bracket.start < word.start():
            reason = "AND stands in brackets; put it outside of them, or write 'and' for the word"
            raise refusal(field, word.start(), reason)
    if len(found) >= MAX_PROMPTS:
        reason = f"AND joins more than {MAX_PROMPTS} prompts; leave some out"
        raise refusal(field, found[MAX_PROMPTS - 1].start(), reason)
    starts = [0, *(word.end() for word in found)]
    return list(map(Span, starts, [*(word.start() for word in found), len(text)]))


def _part(text: str, span: Span, field: PromptField, steps: int, *, weighted: bool) -> Part:
    start, end, weight = span.start, span.end, 1.0
    if weighted and (found := _WEIGHT.search(text, max(start, end - _WEIGHT_REACH), end)):
        end, weight = found.start(), float(found[1])
        if abs(weight) > MAX_WEIGHT:
            reason = f"a weight after AND is {weight:.4g}, at most {MAX_WEIGHT:g} is possible"
            raise refusal(field, found.start(1), reason)
    if weighted:
        # Space beside AND says nothing, and without it a prompt is the same alone.
        written = text[start:end]
        start, end = end - len(written.lstrip()), start + len(written.rstrip())
        end = max(start, end)
    variants = ScheduledText(text, Span(start, end)).variants(steps)
    return Part(Span(start, end), weight, variants)


def _ends(parts: Sequence[Part]) -> list[int]:
    return sorted({variant.until for part in parts for variant in part.variants})


def _at(part: Part, step: int) -> Variant:
    return next(variant for variant in part.variants if step <= variant.until)

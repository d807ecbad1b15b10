"""Which rows of a request's LoRAs have an effect, with which files, and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from webui.errors import BadRequestError
from webui.generation.control import Control
from webui.generation.families import Family
from webui.generation.loras import Strength
from webui.library.lora_facts import DENOISERS
from webui.library.loras import LoraCard, LoraHashes, LoraShelf
from webui.request import LoraChoice

_ROUNDING = 1e-6
"""Share of a step by which a start or an end may miss a boundary."""


@dataclass(frozen=True)
class PlannedLora:
    """A row that has an effect.

    Attributes:
        row: Its number in the request, from 1, counting rows without effect too.
        name: As the request calls it.
        weight, text_encoder_weight: Strength in the denoiser and in the text encoder.
        start, end: Share of the steps at which it comes on and goes off in the denoiser.
        doubt: A sentence on why little of it may fit; `None` where nothing speaks against it.
    """

    row: int
    name: str
    card: LoraCard
    hashes: LoraHashes
    weight: float
    text_encoder_weight: float
    start: float
    end: float
    doubt: str | None


class TimedStrength(NamedTuple):
    """A strength in the denoiser from one share of the steps to another."""

    strength: Strength
    start: float
    end: float


def plan_loras(
    choices: tuple[LoraChoice, ...], family: Family, shelf: LoraShelf
) -> tuple[PlannedLora, ...]:
    """The rows that have an effect: not muted, and of a strength other than 0.

    Raises:
        BadRequestError: A row's file is missing or broken; the sentence names the row.
    """
    return tuple(
        _planned(row, choice, family, shelf)
        for row, choice in enumerate(choices, start=1)
        if choice.has_effect
    )


def _planned(row: int, choice: LoraChoice, family: Family, shelf: LoraShelf) -> PlannedLora:
    try:
        card = shelf.find(choice.name)
        hashes = shelf.hashes(card)
    except BadRequestError as error:
        raise type(error)(in_row(row, error.message), field=row_field(row)) from None
    own = choice.text_encoder_weight
    return PlannedLora(
        row=row,
        name=choice.name,
        card=card,
        hashes=hashes,
        weight=choice.weight,
        text_encoder_weight=choice.weight if own is None else own,
        start=choice.start,
        end=choice.end,
        doubt=_doubt(row, choice, card, family),
    )


def _doubt(row: int, choice: LoraChoice, card: LoraCard, family: Family) -> str | None:
    """Families share layers, as SD 1 and SDXL a text encoder: how many fit shows later."""
    if card.facts.family in (family.loras, "unknown"):
        return None
    reason = (
        f"{choice.name!r} is made for {card.facts.family}, and the model is {family.name}: little"
        " of it may fit."
    )
    return in_row(row, reason)


def in_row(row: int, reason: str) -> str:
    """A sentence about one row of the stack."""
    return f"Row {row} of the LoRAs: {reason}"


def row_field(row: int) -> str:
    """The field of an error about one row of the stack."""
    return f"loras.{row - 1}"


def text_strengths(loras: Iterable[PlannedLora]) -> tuple[Strength, ...]:
    """Of the LoRAs that touch a text encoder; the same whatever the rows' order."""
    return tuple(
        sorted(
            Strength(lora.hashes.sha256, lora.text_encoder_weight)
            for lora in loras
            if lora.text_encoder_weight and not set(lora.card.facts.parts) <= set(DENOISERS)
        )
    )


def denoiser_strengths(loras: Iterable[PlannedLora]) -> tuple[TimedStrength, ...]:
    """Of the LoRAs that touch the denoiser; the same whatever the rows' order."""
    return tuple(
        sorted(
            TimedStrength(Strength(lora.hashes.sha256, lora.weight), lora.start, lora.end)
            for lora in loras
            if lora.weight and not set(DENOISERS).isdisjoint(lora.card.facts.parts)
        )
    )


def hinted_strengths(controls: Iterable[Control]) -> tuple[TimedStrength, ...]:
    """Of the LoRAs that have the model read hints."""
    return tuple(
        TimedStrength(Strength(one.net.sha256, one.weight), one.start, one.end)
        for one in controls
        if one.net is not None and one.is_lora
    )


def strengths_at(loras: Iterable[TimedStrength], call: int, calls: int) -> tuple[Strength, ...]:
    """What is on in one call of the denoiser: all whose time overlaps it, so each at least once.

    Args:
        call: From 0 to `calls` - 1.
    """
    return tuple(
        lora.strength
        for lora in loras
        if lora.start * calls < call + 1 - _ROUNDING and lora.end * calls > call + _ROUNDING
    )

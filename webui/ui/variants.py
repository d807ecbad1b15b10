"""What a strip of drafts compares: one request, with one thing changed in each.

A draft is small: few steps, and no larger than is needed to tell one from another.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose, sqrt
from types import MappingProxyType
from typing import Any, Literal

from webui.errors import BadRequestError
from webui.generation.sampling import OPEN, Sampling
from webui.request import DRAWN_SEEDS, GenerationRequest, parse_request

Kind = Literal["sweep", "without"]
"""A row of the LoRA stack at several strengths, or the stack without each of its rows."""

STRENGTHS = (0.0, 0.3, 0.6, 0.9, 1.2)

MOST_STEPS = 8
"""With the samplers at hand the composition stands by then, and what a LoRA does to it is seen."""

WHOLE_SIDE = 256
"""Models trained on pictures of that side or smaller ones make a draft in full size."""

_SMALLER = 0.75
"""Side of a draft by that the model was trained at: about half the work. At half the side models of
512 pixels no longer draw whole figures."""


@dataclass(frozen=True)
class Variant:
    """One of the pictures to be compared.

    Attributes:
        row: The row of the stack that it differs in, from 0; `None`: in nothing.
        changes: What is different there; taking the variant makes the same change.
        current: Whether it is what the request already says.
        request: The draft of it.
    """

    row: int | None
    changes: Mapping[str, Any]
    current: bool
    request: GenerationRequest


def sweep(request: GenerationRequest, row: int) -> tuple[Variant, ...]:
    """A row at each of `STRENGTHS`; its strength in the text encoder follows where it has none.

    Args:
        request: A draft.

    Raises:
        BadRequestError: There is no such row.
    """
    if not 0 <= row < len(request.loras):
        raise BadRequestError(f"The stack of LoRAs has no row {row + 1}.", field="loras")
    choice = request.loras[row]
    return tuple(
        _variant(
            request,
            row,
            {"weight": strength, "enabled": True},
            current=choice.enabled and isclose(choice.weight, strength, abs_tol=1e-6),
        )
        for strength in STRENGTHS
    )


def without(request: GenerationRequest) -> tuple[Variant, ...]:
    """The request as it is, and with each row that has an effect left out once.

    Args:
        request: A draft.

    Raises:
        BadRequestError: No row has an effect.
    """
    rows = [row for row, choice in enumerate(request.loras) if choice.has_effect]
    if not rows:
        sentence = "No LoRA is on, so that none can be left out: add one, or turn one on."
        raise BadRequestError(sentence, field="loras")
    whole = Variant(None, MappingProxyType({}), True, request)
    return (whole, *(_variant(request, row, {"enabled": False}, current=False) for row in rows))


def draft_of(request: GenerationRequest, trained: int, sampling: Sampling) -> GenerationRequest:
    """One small picture of what the request asks for, with a seed.

    What starts from a picture keeps its size, since masks and margins are counted in its pixels.

    Args:
        trained: Side in pixels of the pictures that the model was trained on.
        sampling: What the request is run with. All drafts are, even if one of them leaves out the
            LoRA that asks for it, so that they differ in one thing.
    """
    changes: dict[str, Any] = {name: getattr(sampling, name) for name in OPEN}
    changes |= {
        "seed": secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed,
        "steps": min(sampling.steps, MOST_STEPS),
        "count": 1,
        "batch": 1,
    }
    if request.init is None:
        changes |= _draft_size(request.width or trained, request.height or trained, trained)
    return parse_request(request.model_dump() | changes)


def _draft_size(width: int, height: int, trained: int) -> dict[str, int]:
    """The size with about the same shape whose area a draft may have at most."""
    side = trained if trained <= WHOLE_SIDE else trained * _SMALLER
    scale = min(1.0, side / sqrt(width * height))
    return {
        name: max(64, round(n * scale / 8) * 8)
        for name, n in (("width", width), ("height", height))
    }


def _variant(
    request: GenerationRequest, row: int, changes: dict[str, Any], *, current: bool
) -> Variant:
    loras = [choice.model_dump() for choice in request.loras]
    loras[row] |= changes
    varied = parse_request(request.model_dump() | {"loras": loras})
    return Variant(row, MappingProxyType(changes), current, varied)

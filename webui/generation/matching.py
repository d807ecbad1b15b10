"""LoRAs and the model they are to act on: which of their layers fit, and how much they change."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from webui.errors import BadRequestError, BrokenFileError
from webui.events import LoraApplied, Notice, StackMeasured
from webui.generation.control import Control
from webui.generation.hinted import about_control
from webui.generation.loaded import Loaded
from webui.generation.lora_plan import PlannedLora, in_row, row_field
from webui.generation.plan import Plan
from webui.library.loras import card_of


def match(loaded: Loaded, plan: Plan) -> list[LoraApplied | Notice]:
    """Reads the plan's LoRAs, those of its controls too; what is kept of any other is let go.

    Returns:
        How many layers of each fit the model, and why others do not.

    Raises:
        BadRequestError: Nothing of one fits, or not the layer for its hint; names its row or
            control.
        BrokenFileError: A file is damaged.
    """
    applied = [told for lora in plan.loras for told in _match(loaded, lora)]
    applied += [told for control in plan.controls for told in _match_hinted(loaded, control)]
    kept = {lora.hashes.sha256 for lora in plan.loras}
    kept |= {one.net.sha256 for one in plan.controls if one.net is not None}
    loaded.loras.forget_all_but(kept)
    return applied


def _match(loaded: Loaded, lora: PlannedLora) -> Iterator[LoraApplied | Notice]:
    try:
        found = loaded.loras.take(lora.hashes.sha256, lora.card)
    except BrokenFileError as error:
        sentence = in_row(lora.row, error.message)
        raise BrokenFileError(sentence, field=row_field(lora.row)) from None
    if not found.matched:
        reason, _ = max(found.misfits.items(), key=lambda misfit: misfit[1])
        sentence = (
            f"none of the {found.total} layers of {lora.name!r} fits, since the model"
            f" {loaded.checkpoint.name!r} {reason}: mute or remove it."
        )
        raise BadRequestError(in_row(lora.row, sentence), field=row_field(lora.row))
    yield LoraApplied(name=lora.name, matched=found.matched, total=found.total)
    if found.misfits:
        commonest_first = sorted(found.misfits.items(), key=lambda misfit: -misfit[1])
        reasons = ", ".join(f"{reason} ({number})" for reason, number in commonest_first)
        sentence = (
            f"left out are {found.total - found.matched} of the {found.total} layers of"
            f" {lora.name!r}, since the model {loaded.checkpoint.name!r} {reasons}."
        )
        yield Notice(message=in_row(lora.row, sentence))


def _match_hinted(loaded: Loaded, control: Control) -> Iterator[Notice]:
    """The same of a LoRA that has the model read a hint."""
    if control.net is None or control.net.file is None or not control.is_lora:
        return
    with about_control(control.place):
        try:
            found = loaded.loras.take(
                control.net.sha256, card_of(control.net.name, control.net.file)
            )
        except BrokenFileError as error:
            raise BrokenFileError(error.message, field="controls") from None
        if found.hint is None:
            raise BadRequestError(
                f"{control.net.name!r} does not fit the model {loaded.checkpoint.name!r}: take"
                " another one.",
                field="controls",
            )
    if found.misfits:
        yield Notice(
            message=f"{found.total - found.matched} of the {found.total} layers of"
            f" {control.net.name!r} do not fit the model {loaded.checkpoint.name!r}, and are left"
            " out."
        )


def measure(loaded: Loaded, plan: Plan) -> StackMeasured:
    """What the plan's LoRAs change; one that is in two rows counts once."""
    named = {lora.name: lora.hashes.sha256 for lora in plan.loras}
    measures = loaded.loras.measure(set(named.values()))
    return StackMeasured(
        sizes={name: measures.sizes(sha256) for name, sha256 in named.items()},
        overlaps=tuple(
            (first, second, measures.overlap(named[first], named[second]))
            for first, second in combinations(named, 2)
        ),
    )

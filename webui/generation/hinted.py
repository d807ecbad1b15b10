"""Controls of models that read a hint themselves. Knows no torch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from webui.errors import BadRequestError
from webui.generation.control_kinds import own_kinds
from webui.generation.families import Family
from webui.library.checkpoints import Model
from webui.request import ControlChoice


@contextmanager
def about_control(place: int) -> Generator[None]:
    """Has errors name the control unit they are about."""
    try:
        yield
    except BadRequestError as error:
        raise type(error)(error.message, field=f"controls.{place}") from None


def check_hinted(controls: Sequence[ControlChoice], model: Model, family: Family) -> None:
    """Passes what a model that takes a hint itself can do with: one, as it is.

    Raises:
        BadRequestError: There is none, there are several, or one has a setting without effect.
    """
    if not family.hinted:
        return
    acting = {place: choice for place, choice in enumerate(controls) if choice.weight}
    for place, choice in acting.items():
        with about_control(place):
            _check_own(choice, model)
    if len(acting) != 1:
        kinds = " or ".join(map(repr, own_kinds(model)))
        raise BadRequestError(
            f"The model {model.name!r} follows a hint of the kind {kinds}: add one control"
            + (" and no more." if acting else "."),
            field="controls",
        )


def _check_own(choice: ControlChoice, model: Model) -> None:
    """Raises for what has no meaning to a model that takes the hint itself."""
    kinds = own_kinds(model)
    if choice.kind not in kinds:
        listed = " or ".join(map(repr, kinds))
        raise BadRequestError(
            f"The model {model.name!r} reads hints of the kind {listed}, not {choice.kind!r}.",
            field="controls",
        )
    if choice.model is not None:
        raise BadRequestError(
            f"The model {model.name!r} reads the hint itself: leave the ControlNet empty.",
            field="controls",
        )
    if (choice.weight, choice.start, choice.end) != (1, 0, 1):
        raise BadRequestError(
            f"The model {model.name!r} follows its hint whole and in every step: leave weight,"
            " start and end as they were.",
            field="controls",
        )

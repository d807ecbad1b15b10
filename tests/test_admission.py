"""Whatever is refused on its way in has a line in the minutes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.test_engine import SESSION, Scripted
from webui.admission import Admission
from webui.clearance import Admitted, Texts
from webui.errors import RefusedError
from webui.generation.drawn import Drawn, PictureTexts
from webui.generation.plan import Plan
from webui.generator import Session
from webui.minutes import Minutes
from webui.request import GenerationRequest

REQUEST = GenerationRequest(prompt="a hill", init="hill.png")
DRAWN = Drawn(REQUEST, (PictureTexts("a hill", ""),), ())
NO_CANVAS = cast(Plan, SimpleNamespace(canvas=None))


class Written:
    """Keeps the events that are recorded, each with the session and the prompt's pseudonym."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Session | None, object]] = []

    def record(self, event: str, session: Session | None = None, **facts: object) -> None:
        self.lines.append((event, session, facts["prompt"]))

    def pseudonym(self, text: str) -> str:
        return f"*{text}"


class Refusing(Scripted):
    """Lets requests in and refuses what comes after."""

    def check_decoded(self, *_: object, **__: object) -> None:
        raise RefusedError("Refused.")

    def check_brought(self, *_: object, **__: object) -> None:
        raise RefusedError("Refused.")


def admission(guard: Scripted, written: Written) -> Admission:
    untyped: Any = guard
    nothing: Any = None
    return Admission(guard=untyped, gate=nothing, minutes=Minutes(written), uploads=nothing)


@pytest.fixture
def admitted() -> Admitted:
    return admission(Scripted(), Written()).admit(DRAWN, SESSION, 4)


def test_a_refused_request_is_written_down() -> None:
    written = Written()
    with pytest.raises(RefusedError):
        admission(Scripted(refuses=True), written).admit(DRAWN, SESSION, 4)
    assert written.lines == [("refused", SESSION, "*a hill")]


def test_a_refused_picture_is_written_down(admitted: Admitted) -> None:
    written = Written()
    with pytest.raises(RefusedError):
        admission(Refusing(), written).check_brought(admitted, {"hill.png": b""}, NO_CANVAS)
    assert written.lines == [("refused", SESSION, "*a hill")]


def test_texts_refused_as_the_encoders_read_them_are_written_down(admitted: Admitted) -> None:
    written = Written()
    with pytest.raises(RefusedError):
        admission(Refusing(), written).check_decoded(admitted, Texts((), ()), [])
    assert written.lines == [("refused", SESSION, "*a hill")]


def test_what_is_let_in_is_not(admitted: Admitted) -> None:
    written = Written()
    way_in = admission(Scripted(), written)
    way_in.check_brought(admitted, {"hill.png": b""}, NO_CANVAS)
    way_in.check_decoded(admitted, Texts((), ()), [])
    assert written.lines == []

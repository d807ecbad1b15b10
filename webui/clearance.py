"""The types that carry the order: asked, admitted, cleared, signed.

`safety` alone makes `Admitted`, `Cleared` and `Discarded`, `provenance` alone makes `Signed`,
and only a `Signed` picture can be saved or sent out; `tests/test_order.py` walks the syntax
trees and fails when one of them is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from webui.generator import Session
from webui.levels import Level
from webui.request import GenerationRequest
from webui.standing import CeilingKind


class Region(NamedTuple):
    """A part of a picture, in pixels from its top left; right and bottom lie outside of it."""

    left: int
    top: int
    right: int
    bottom: int


class Texts(NamedTuple):
    """What text encoders are given for a job: each text of each picture at any of its steps."""

    prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()


NO_TEXTS = Texts()


@dataclass(frozen=True)
class Admitted:
    """A request that may be run, at the level computed for it.

    Attributes:
        level: Effective level; a missing grant, guard or setting makes it 0.
        notices: Sentences for the user, such as which kind of ceiling lowered the level.
        held_by: The kind of ceiling that lowered it.
        tainted: Whether a picture or a model has a part in it that is not known to be this
            installation's own.
        texts: What the request's own two texts come to, which was judged beside these.
    """

    request: GenerationRequest
    session: Session
    level: Level
    notices: tuple[str, ...] = ()
    held_by: CeilingKind | None = None
    tainted: bool = False
    texts: Texts = NO_TEXTS


@dataclass(frozen=True)
class Cleared:
    """A picture whose pixels, decoded from exactly these bytes, passed the check."""

    data: bytes
    level: Level


@dataclass(frozen=True)
class Discarded:
    """A picture that did not pass. It keeps no pixels, and of the scores what the audit log may.

    Attributes:
        rule: "picture" when it was judged, "guard" when it could not be.
        scores: In tenths, by the names of `webui.safety.policy.Scores`.
    """

    level: Level
    rule: Literal["picture", "guard"] = "guard"
    scores: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Signed:
    """A cleared picture with its recipe and marks, as the bytes of the file to be.

    Attributes:
        data: The whole PNG file.
        sha256: Hex digest of `data`.
    """

    data: bytes
    sha256: str

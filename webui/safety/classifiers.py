"""The guards that an operator may add: classifiers of pictures and of texts.

One that is loaded is asked at every level. One that then fails counts as having seen the worst;
one that was never loaded counts nothing, and `policy.highest_level` holds the levels that need it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from webui.clearance import Region
from webui.errors import GuardError
from webui.safety.detector import Views
from webui.safety.labels import Kind, Slot, worst_of
from webui.safety.slots import FOLDERS, read_picture_model, read_text_model

Pixels = NDArray[np.uint8]

_PICTURE_SLOTS: tuple[Slot, ...] = ("nsfw", "explicit", "face age")
_TOLERANCE = 1e-3
_TEXTS = ("a red chair on a meadow", "Seven boats in the harbour of a small town, at night.")

_log = logging.getLogger(__name__)


class Viewed(Protocol):
    """What is looked at of a picture; `pictures.PictureViews` is it."""

    def pieces(self) -> list[Pixels]:
        """All views."""
        ...

    def portraits(self, find: Callable[[Views], list[list[Region]]]) -> list[Pixels]:
        """What an estimator of age looks at."""
        ...


class PictureClassifier(Protocol):
    """`slots.PictureModel`, or a test's stub."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each label stands for."""
        ...

    def shares(self, pictures: Sequence[Pixels]) -> NDArray[np.float64]:
        """Probabilities: (pictures, labels)."""
        ...


class TextClassifier(Protocol):
    """`slots.TextModel`, or a test's stub."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each label stands for."""
        ...

    def shares(self, text: str) -> NDArray[np.float64]:
        """Probabilities: (windows, labels)."""
        ...


@dataclass(frozen=True)
class PictureScores:
    """The worst over all views, each 0..1, `None` where no loaded classifier knows the kind.

    Attributes:
        explicit: Sexual acts.
        nudity: Nudity or sexual acts, from a classifier that does not tell which.
        suggestive: That, or less.
        young: Somebody looks under 25.
    """

    explicit: float | None = None
    nudity: float | None = None
    suggestive: float | None = None
    young: float | None = None


def no_faces(views: Views) -> list[list[Region]]:
    """A finder that finds none."""
    return [[] for _ in views]


class Classifiers:
    """The loaded ones. Safe to use from several threads.

    Attributes:
        loaded: The slots whose guard works.
        troubles: Why each of the others does not, in one sentence.
    """

    def __init__(
        self,
        pictures: Mapping[Slot, PictureClassifier] = MappingProxyType({}),
        text: TextClassifier | None = None,
        troubles: Mapping[Slot, str] = MappingProxyType({}),
        *,
        find_faces: Callable[[Views], list[list[Region]]] = no_faces,
    ) -> None:
        """What each of them answers now is what it must answer whenever `check` is called.

        Args:
            pictures: By slot.
            text: That of the slot "text".
            troubles: Why the others are not loaded.
            find_faces: Tells where the faces are in each view, for the estimator of age.
        """
        self._pictures = dict(pictures)
        self._text = text
        self._find_faces = find_faces
        self._answers: dict[Slot, NDArray[np.float64]] = {}
        found = dict(troubles)
        given: list[Slot] = [*pictures]
        if text is not None:
            given.append("text")
        for slot in given:
            try:
                self._answers[slot] = self._answer(slot)
            except Exception as error:  # noqa: BLE001
                _log.warning("The guard %r does not work: %s", slot, error)
                found[slot] = f"The guard {slot!r} is loaded but gives no answers that can be used."
        self.loaded: frozenset[Slot] = frozenset(self._answers)
        self.troubles: Mapping[Slot, str] = MappingProxyType(found)

    @staticmethod
    def load(
        folder: Path,
        pins: Mapping[str, str],
        *,
        find_faces: Callable[[Views], list[list[Region]]],
    ) -> Classifiers:
        """Whatever can be used of what is in the folder; never raises.

        Args:
            folder: `models/guards`.
            pins: The trusted `slots.folder_hash` by folder name, from the policy file.
            find_faces: As for the class; `NudeNet.faces`.
        """
        pictures: dict[Slot, PictureClassifier] = {}
        text: TextClassifier | None = None
        troubles: dict[Slot, str] = {}
        for slot, name in FOLDERS.items():
            try:
                if slot == "text":
                    text = read_text_model(slot, folder / name, pins.get(name))
                else:
                    pictures[slot] = read_picture_model(slot, folder / name, pins.get(name))
            except GuardError as error:
                troubles[slot] = error.message
        return Classifiers(pictures, text, troubles, find_faces=find_faces)

    def check(self) -> None:
        """Compares what they answer to fixed neutral questions with what they answered first.

        Raises:
            GuardError: One answers something else, or not at all.
        """
        for slot, known in self._answers.items():
            try:
                same = np.allclose(self._answer(slot), known, rtol=0, atol=_TOLERANCE)
            except Exception as error:
                raise GuardError(f"The guard {slot!r} does not answer any more.") from error
            if not same:
                raise GuardError(f"The guard {slot!r} gives other answers than at first.")

    def see(self, views: Viewed) -> PictureScores:
        """What they see; one that fails has seen the worst."""
        worst: dict[Kind, float] = {}
        for slot, model in self._pictures.items():
            if slot in self.loaded:
                for kind, score in self._seen(slot, model, views).items():
                    worst[kind] = max(score, worst.get(kind, 0.0))
        return PictureScores(
            explicit=worst.get("explicit"),
            nudity=worst.get("nudity"),
            suggestive=worst.get("suggestive"),
            young=worst.get("young"),
        )

    def read(self, text: str) -> float | None:
        """How surely a text is sexual, 0..1: the worst of all its parts, and 1 on failure.

        `None` when there is no classifier of texts.
        """
        if self._text is None or "text" not in self.loaded:
            return None
        try:
            return worst_of(self._text.kinds, self._text.shares(text), views=None)["explicit"]
        except Exception:  # noqa: BLE001
            _log.exception("The guard 'text' failed, so the text counts as the worst.")
            return 1.0

    def _seen(self, slot: Slot, model: PictureClassifier, views: Viewed) -> dict[Kind, float]:
        try:
            shown = views.portraits(self._find_faces) if slot == "face age" else views.pieces()
            shares = model.shares(shown)
            return worst_of(model.kinds, shares, views=len(shown))
        except Exception:  # noqa: BLE001
            # A guard that fails may not be one that has seen nothing.
            _log.exception("The guard %r failed, so the picture counts as the worst.", slot)
            return worst_of(model.kinds, np.empty(0), views=0)

    def _answer(self, slot: Slot) -> NDArray[np.float64]:
        """Its answers to two fixed questions: (2, labels).

        Raises:
            GuardError: They are no probabilities, or do not depend on the question.
        """
        if slot == "text":
            model = self._text
            shares = [] if model is None else [model.shares(text)[0] for text in _TEXTS]
        else:
            shares = list(self._pictures[slot].shares(_fixed_pictures()))
        answer = np.array(shares)
        sound = answer.ndim == 2 and ((answer >= 0) & (answer <= 1)).all()
        if not sound or not np.any(answer[0] != answer[1]):
            raise GuardError(f"The guard {slot!r} answers nothing that can be used.")
        return answer


def _fixed_pictures() -> list[Pixels]:
    """Two neutral ones: slanting colours, and stripes."""
    y, x = np.mgrid[0:96, 0:96]
    slanting = np.stack([x * 2, y * 2, (x + y) % 96 * 2], axis=-1).astype(np.uint8)
    stripes = np.where((x // 8 % 2 == 0)[..., None], (240, 200, 40), (30, 60, 120))
    return [slanting, stripes.astype(np.uint8)]

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.safety.models import save_vit
from tests.safety.stubs import ScoreStub, always_healthy, picture_bytes, placeholder_lexicon
from tests.safety.test_slots import shelf as shelf
from webui.clearance import Discarded, Region
from webui.errors import GuardError
from webui.safety.classifiers import Classifiers, Pixels, no_faces
from webui.safety.detector import Views
from webui.safety.guard import Guard
from webui.safety.labels import Kind, Slot
from webui.safety.pictures import all_views
from webui.safety.slots import FOLDERS, folder_hash

VIEWS = all_views(np.full((64, 48, 3), 90, np.uint8))
BINARY: tuple[Kind, ...] = ("harmless", "nudity")
GRADED: tuple[Kind, ...] = ("harmless", "suggestive", "explicit")
AGES: tuple[Kind, ...] = ("young", "harmless")
TEXT: tuple[Kind, ...] = ("harmless", "explicit")


class Sees:
    """A classifier that gives the same probabilities to every view, but tells two apart."""

    def __init__(self, kinds: tuple[Kind, ...], *shares: float) -> None:
        self.kinds = kinds
        self.answer: tuple[float, ...] = shares
        self.error: Exception | None = None
        self.rows: NDArray[np.float64] | None = None
        self.seen: list[Pixels] = []

    def shares(self, pictures: Sequence[Pixels]) -> NDArray[np.float64]:
        if self.error is not None:
            raise self.error
        if self.rows is not None:
            return self.rows
        self.seen = list(pictures)
        rows = np.tile(np.array(self.answer), (len(pictures), 1))
        rows[0] *= 0.99
        return rows


class Reads:
    kinds = TEXT

    def __init__(self, *shares: tuple[float, float]) -> None:
        self.answer: Sequence[tuple[float, float]] = shares
        self.error: Exception | None = None
        self.rows: NDArray[np.float64] | None = None

    def shares(self, text: str) -> NDArray[np.float64]:
        if self.error is not None:
            raise self.error
        if self.rows is not None:
            return self.rows[int(text.startswith("a red")) :]
        return np.array(self.answer) * (0.99 if text.startswith("a red") else 1.0)


def pins(folder: Path) -> dict[str, str]:
    return {name: folder_hash(slot, folder / name) for slot, name in FOLDERS.items()}


def test_all_slots_are_loaded_from_their_folders(shelf: Path) -> None:
    classifiers = Classifiers.load(shelf, pins(shelf), find_faces=no_faces)
    assert classifiers.loaded == {"nsfw", "explicit", "face age", "text"}
    assert classifiers.troubles == {}
    classifiers.check()
    seen = classifiers.see(VIEWS)
    for score in (seen.explicit, seen.nudity, seen.suggestive, seen.young):
        assert score is not None
        assert 0 < score < 1
    read = classifiers.read("a zork chair")
    assert read is not None
    assert 0 < read < 1


def test_what_cannot_be_loaded_is_told_and_the_rest_works(shelf: Path) -> None:
    some = {name: pin for name, pin in pins(shelf).items() if name in ("nsfw", "text")}
    classifiers = Classifiers.load(shelf, some, find_faces=no_faces)
    assert classifiers.loaded == {"nsfw", "text"}
    assert set(classifiers.troubles) == {"explicit", "face age"}
    assert all("not pinned" in sentence for sentence in classifiers.troubles.values())
    assert classifiers.see(VIEWS).young is None


def test_an_empty_folder_is_no_trouble_but_said(tmp_path: Path) -> None:
    classifiers = Classifiers.load(tmp_path / "guards", {}, find_faces=no_faces)
    assert classifiers.loaded == frozenset()
    assert set(classifiers.troubles) == set(FOLDERS)
    seen = classifiers.see(VIEWS)
    assert (seen.explicit, seen.nudity, seen.suggestive, seen.young) == (None,) * 4
    assert classifiers.read("anything") is None
    classifiers.check()


def test_the_worst_of_all_classifiers_counts() -> None:
    slots: Mapping[Slot, Sees] = {
        "nsfw": Sees(GRADED, 0.3, 0.6, 0.1),
        "explicit": Sees(GRADED, 0.5, 0.2, 0.3),
        "face age": Sees(AGES, 0.25, 0.75),
    }
    seen = Classifiers(slots).see(VIEWS)
    assert seen.explicit == pytest.approx(0.3)
    assert seen.suggestive == pytest.approx(0.7)
    assert seen.young == pytest.approx(0.25)
    assert seen.nudity is None


def test_the_age_is_estimated_of_faces_and_natural_views_only() -> None:
    age, nsfw = Sees(AGES, 0.25, 0.75), Sees(BINARY, 0.9, 0.1)

    def one_face(squares: Views) -> list[list[Region]]:
        return [[Region(10, 10, 60, 60)], *([] for _ in squares[1:])]

    Classifiers({"face age": age, "nsfw": nsfw}, find_faces=one_face).see(VIEWS)
    assert len(nsfw.seen) == 4
    assert [piece.shape for piece in age.seen[:2]] == [(64, 48, 3)] * 2
    assert len(age.seen) == 3


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), RuntimeError("out of memory"), GuardError("x")]
)
def test_a_loaded_one_that_fails_has_seen_the_worst(error: Exception) -> None:
    nsfw, age = Sees(GRADED, 0.9, 0.05, 0.05), Sees(AGES, 0.0, 1.0)
    reads = Reads((0.9, 0.1))
    classifiers = Classifiers({"nsfw": nsfw, "face age": age}, reads)
    nsfw.error = reads.error = error
    seen = classifiers.see(VIEWS)
    assert (seen.explicit, seen.suggestive, seen.nudity, seen.young) == (1.0, 1.0, None, 0.0)
    assert classifiers.read("a chair") == 1.0


@pytest.mark.parametrize(
    "answer", [(float("nan"), 0.5), (1.5, 0.0), (-0.1, 1.0), (1.0,), (1.0, 0.0, 0.0)]
)
def test_an_answer_that_is_no_probability_is_the_worst(answer: tuple[float, ...]) -> None:
    nsfw = Sees(BINARY, 0.9, 0.1)
    classifiers = Classifiers({"nsfw": nsfw})
    nsfw.answer = answer
    assert classifiers.see(VIEWS).nudity == 1.0


def test_a_finder_of_faces_that_fails_makes_everybody_young() -> None:
    def broken(squares: Views) -> list[list[Region]]:
        raise RuntimeError

    classifiers = Classifiers({"face age": Sees(AGES, 0.0, 1.0)}, find_faces=broken)
    assert classifiers.see(VIEWS).young == 1.0


def test_the_worst_part_of_a_text_counts() -> None:
    reads = Reads((0.9, 0.1), (0.4, 0.6), (0.8, 0.2))
    assert Classifiers(text=reads).read("long") == pytest.approx(0.6)
    classifiers = Classifiers(text=reads)
    reads.answer = ((0.5, float("nan")),)
    assert classifiers.read("long") == 1.0


def blind(model: Sees | Reads) -> None:
    model.rows = np.array([[0.9, 0.1], [0.9, 0.1]])


def mad(model: Sees | Reads) -> None:
    model.rows = np.array([[0.9, 0.1], [7.0, 0.1]])


def failing(model: Sees | Reads) -> None:
    model.error = MemoryError()


@pytest.mark.parametrize("harm", [blind, mad, failing])
def test_one_that_answers_nothing_usable_is_not_loaded(
    harm: Callable[[Sees | Reads], None],
) -> None:
    nsfw, reads = Sees(BINARY, 0.9, 0.1), Reads((0.9, 0.1))
    harm(nsfw)
    harm(reads)
    classifiers = Classifiers({"nsfw": nsfw}, reads, {"explicit": "There is none."})
    assert classifiers.loaded == frozenset()
    assert set(classifiers.troubles) == {"nsfw", "text", "explicit"}
    assert classifiers.see(VIEWS).nudity is None
    assert classifiers.read("a chair") is None


def test_the_self_test_finds_one_that_changed_or_stopped() -> None:
    nsfw, reads = Sees(BINARY, 0.9, 0.1), Reads((0.9, 0.1))
    classifiers = Classifiers({"nsfw": nsfw}, reads)
    classifiers.check()
    nsfw.answer = (0.93, 0.07)
    with pytest.raises(GuardError, match="other answers"):
        classifiers.check()
    nsfw.answer = (0.9, 0.1)
    classifiers.check()
    reads.error = RuntimeError("gone")
    with pytest.raises(GuardError, match="any more"):
        classifiers.check()
    reads.error = None
    blind(nsfw)
    with pytest.raises(GuardError):
        classifiers.check()


def test_a_model_that_reads_no_pixels_is_not_loaded(tmp_path: Path) -> None:
    save_vit(tmp_path / "nsfw", ("normal", "nsfw"))
    config = tmp_path / "nsfw" / "preprocessor_config.json"
    config.write_text(
        config.read_text().replace(f'"rescale_factor": {1 / 255}', '"rescale_factor": 0')
    )
    pin = {"nsfw": folder_hash("nsfw", tmp_path / "nsfw")}
    classifiers = Classifiers.load(tmp_path, pin, find_faces=no_faces)
    assert "no answers" in classifiers.troubles["nsfw"]


def test_the_guard_stops_all_work_when_a_classifier_changed() -> None:
    nsfw = Sees(BINARY, 0.9, 0.1)
    watch = Guard(
        ScoreStub(), placeholder_lexicon(), Classifiers({"nsfw": nsfw}), self_test=always_healthy
    )
    nsfw.answer = (1.0, 0.0)
    with pytest.raises(GuardError, match="does not work"):
        watch.keep_healthy()
    assert watch.screen(picture_bytes(), 0) == Discarded(0)

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.safety.stubs import PLACEHOLDERS, CallStub, placeholder_lexicon
from webui.errors import GuardError
from webui.safety.detector import LABELS, NudeNet, Views
from webui.safety.normaliser import Normaliser
from webui.safety.policy import Cue
from webui.safety.prompts import FOLDER, LISTED, Lexicon
from webui.safety.selftest import check

LEXICON = placeholder_lexicon()


@pytest.fixture(scope="module")
def network() -> NudeNet:
    return NudeNet.load()


def test_the_shipped_guards_pass(network: NudeNet) -> None:
    check(network, Lexicon.load())
    check(network, LEXICON)


def with_scores(network: NudeNet, **changes: NDArray[np.float32]) -> CallStub:
    def answer(views: Views) -> NDArray[np.float32]:
        scores = network.scores(views)
        for label, values in changes.items():
            scores[:, LABELS.index(label)] = values
        return scores

    return CallStub(answer)


def test_a_detector_that_sees_nothing_or_everything_fails(network: NudeNet) -> None:
    def zeros(views: Views) -> NDArray[np.float32]:
        return np.zeros((len(views), len(LABELS)), np.float32)

    column = np.array([0.242, 0.0], np.float32)
    check(with_scores(network, FACE_FEMALE=column), LEXICON)
    for broken in (
        CallStub(zeros),
        CallStub(lambda views: zeros(views)[:, 1:]),
        CallStub(lambda views: zeros(views[:1])),
        CallStub(lambda views: network.scores(views[..., ::-1])),
        CallStub(lambda views: network.scores(views[::-1])),
        with_scores(network, FACE_FEMALE=column + np.float32(0.5)),
        with_scores(network, ANUS_EXPOSED=column * np.float32(np.nan)),
        with_scores(network, FEET_COVERED=column[::-1].copy()),
    ):
        with pytest.raises(GuardError):
            check(broken, LEXICON)


def test_a_lexicon_that_misses_a_cue_or_finds_too_much_fails(network: NudeNet) -> None:
    normaliser = Normaliser.load(FOLDER / "lookalikes.txt")
    for cue in LISTED:
        fewer: dict[Cue, tuple[str, ...]] = {
            other: terms for other, terms in PLACEHOLDERS.items() if other != cue
        }
        with pytest.raises(GuardError, match="does not find"):
            check(network, Lexicon(fewer, (), normaliser))
    too_much: dict[Cue, tuple[str, ...]] = {**PLACEHOLDERS, "nudity": ("meadow",)}
    with pytest.raises(GuardError, match="neutral"):
        check(network, Lexicon(too_much, (), normaliser))

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from webui.errors import GuardError
from webui.safety import detector as module
from webui.safety.detector import LABELS, SIDE, NudeNet, Views
from webui.safety.pictures import all_views
from webui.safety.selftest import drawn_head

FACE = LABELS.index("FACE_FEMALE")


@pytest.fixture(scope="module")
def network() -> NudeNet:
    return NudeNet.load()


def blank(count: int = 1) -> Views:
    return np.zeros((count, SIDE, SIDE, 3), np.uint8)


def test_every_class_has_a_score_for_every_view(network: NudeNet) -> None:
    views = all_views(drawn_head()).squares()
    scores = network.scores(np.concatenate([views, views[:1]]))
    assert scores.shape == (len(views) + 1, len(LABELS))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.allclose(scores[0], scores[-1], atol=1e-4)


def test_the_scores_are_those_of_the_package_where_it_gives_any(network: NudeNet) -> None:
    package = pytest.importorskip("nudenet").NudeDetector()
    head, swapped = drawn_head(), drawn_head()[..., ::-1].copy()
    ours = network.scores(np.stack([head, swapped]))[:, FACE]
    (face,) = package.detect(swapped)
    assert face["class"] == "FACE_FEMALE"
    assert abs(face["score"] - ours[1]) < 0.01
    # It is silent below 0.25, where the strict thresholds are.
    assert package.detect(head) == []
    assert 0.2 < ours[0] < 0.25


def test_red_is_not_blue(network: NudeNet) -> None:
    head = drawn_head()
    right, swapped = network.scores(np.stack([head, head[..., ::-1]]))
    assert abs(right[FACE] - swapped[FACE]) > 0.05


def test_a_class_is_not_hidden_by_a_higher_one(network: NudeNet) -> None:
    # In the package's answer one place has one label; here every class keeps its own maximum.
    scores = network.scores(drawn_head()[None])[0]
    assert (scores > 0).sum() > 2


@pytest.mark.parametrize(
    "views",
    [
        blank().astype(np.float32),
        blank().astype(np.uint16),
        blank()[0],
        blank()[:, :, :, :1],
        blank()[:, :SIDE, : SIDE - 1],
        np.full((1, SIDE, SIDE, 3), np.nan),
    ],
)
def test_what_is_no_picture_is_an_error_and_not_safe(network: NudeNet, views: Views) -> None:
    with pytest.raises(GuardError):
        network.scores(views)


def test_a_missing_file_or_package_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GuardError, match="missing"):
        NudeNet(tmp_path / "320n.onnx")

    def nothing(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(module, "find_spec", nothing)
    with pytest.raises(GuardError, match="missing"):
        NudeNet.load()


def test_another_file_stops_everything(tmp_path: Path) -> None:
    package = find_spec("nudenet")
    assert package is not None
    assert package.submodule_search_locations is not None
    data = (Path(package.submodule_search_locations[0]) / "320n.onnx").read_bytes()
    (tmp_path / "320n.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(GuardError, match="damaged"):
        NudeNet(tmp_path / "320n.onnx")


def test_a_face_is_found_where_it_was_drawn_and_once(network: NudeNet) -> None:
    blanked = np.full((SIDE, SIDE, 3), 128, np.uint8)
    found, nothing = network.faces(np.stack([drawn_head(), blanked]))
    assert nothing == []
    (face,) = found
    assert abs(face.left + face.right - 2 * 157) < 20
    assert 150 < face.right - face.left < 230
    with pytest.raises(GuardError):
        network.faces(blank()[:, 1:])

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from webui.clearance import Region
from webui.errors import NotFoundError
from webui.generation.annotators import Options
from webui.generation.hints import Area, Hint, make_hint
from webui.poses import Pose


def square(width: int, height: int) -> Image.Image:
    """A white square of half the height in the middle of black."""
    side = height // 2
    picture = Image.new("RGB", (width, height))
    picture.paste(
        (255, 255, 255), ((width - side) // 2, side // 2, (width + side) // 2, side * 3 // 2)
    )
    return picture


def hint_of(hint: Hint, picture: Image.Image | None = None) -> np.ndarray:
    made = make_hint(hint, picture, (), "cpu").numpy()
    assert made.shape == (3, hint.height, hint.width)
    assert made.dtype == np.uint8
    return made.transpose(1, 2, 0)


CANNY = Hint("0" * 64, "canny", Options(128, 100, 200), "crop", 128, 128)


def test_canny_draws_the_edges_and_listens_to_its_thresholds() -> None:
    edges = hint_of(CANNY, square(256, 256))[..., 0]
    rows = np.flatnonzero(edges[:, 64])
    assert [rows.min(), rows.max()] == pytest.approx([32, 95], abs=1)
    assert edges[64, 40:88].max() == 0
    grey = Image.new("RGB", (128, 128), (90, 90, 90))
    grey.paste((110, 110, 110), (32, 32, 96, 96))
    assert hint_of(CANNY, grey).max() == 0
    low = dataclasses.replace(CANNY, options=Options(128, 10, 20))
    assert hint_of(low, grey).max() == 255


@pytest.mark.parametrize(
    ("resize", "left", "right", "top", "bottom"),
    [
        ("stretch", 48, 80, 32, 96),
        ("crop", 32, 96, 32, 96),
        ("fill", 48, 80, 48, 80),
    ],
)
def test_a_picture_comes_to_the_size_asked_for(
    resize: Any, left: int, right: int, top: int, bottom: int
) -> None:
    hint = dataclasses.replace(CANNY, preprocessor="none", options=None, resize=resize)
    seen = hint_of(hint, square(256, 128))[..., 0] > 127
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    found = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]
    assert found == pytest.approx([left, right, top, bottom], abs=1)


@pytest.mark.parametrize(
    ("resize", "at"), [("stretch", (16, 32)), ("crop", (0, 32)), ("fill", (16, 48))]
)
def test_a_pose_comes_to_the_size_asked_for(resize: Any, at: tuple[int, int]) -> None:
    """The neck lies at an eighth of the width and a quarter of the height of a wide canvas."""
    person = tuple((32.0, 32.0, n == 1) for n in range(18))
    pose = Pose(width=256, height=128, people=(person,))
    drawn = hint_of(Hint(pose, "none", None, resize, 128, 128))
    assert drawn.any() == (resize != "crop")
    if drawn.any():
        x, y = at
        rows, columns = np.nonzero(drawn[..., 0] > 200)
        assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx([x, y], abs=1)


def test_an_area_is_seen_at_the_size_it_is_worked_on() -> None:
    """The right half of a picture, twice as large: the square's corners, and a joint."""
    area = Area(Region(64, 0, 128, 128), 128, 256)
    hint = dataclasses.replace(CANNY, preprocessor="none", options=None, area=area)
    made = make_hint(hint, square(128, 128), (), "cpu").numpy()
    assert made.shape == (3, 256, 128)
    rows, columns = np.nonzero(made[0] > 127)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [64, 191, 0, 63]
    person = tuple((96.0, 32.0, n == 1) for n in range(18))
    pose = Pose(width=128, height=128, people=(person,))
    drawn = make_hint(dataclasses.replace(hint, source=pose), None, (), "cpu").numpy()
    rows, columns = np.nonzero(drawn[0] > 127)
    assert [rows.mean(), columns.mean()] == pytest.approx([63.5, 63.5], abs=1)


def test_a_picture_is_blurred_or_made_grey_at_the_resolution_asked_for() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    plain = dataclasses.replace(CANNY, preprocessor="none", options=None, width=64, height=64)
    own = hint_of(plain, picture).astype(float)

    def drawn(preprocessor: Any, resolution: int) -> np.ndarray:
        options = Options(resolution, 0, 0)
        asked = dataclasses.replace(plain, preprocessor=preprocessor, options=options)
        return hint_of(asked, picture).astype(float)

    assert drawn("blur", 64).std() < drawn("blur", 1024).std() < own.std()
    grey = drawn("gray", 64)
    assert np.ptp(grey, axis=-1 if grey.shape[-1] == 3 else 0).max() == 0
    assert abs(grey.mean() - own.mean()) < 3
    assert drawn("gray", 16).std() < grey.std()


def test_a_network_that_is_not_here_says_what_belongs_where(tmp_path: Path) -> None:
    hint = dataclasses.replace(CANNY, preprocessor="depth")
    with pytest.raises(NotFoundError, match=f"put depth into {tmp_path}") as error:
        make_hint(hint, square(64, 64), (tmp_path,), "cpu")
    assert error.value.field == "controls"

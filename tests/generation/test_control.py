from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from webui.clearance import Region
from webui.errors import BadRequestError, NotFoundError
from webui.generation.annotators import NETWORKS
from webui.generation.control import (
    KINDS,
    THRESHOLDS,
    Area,
    Control,
    Hint,
    Options,
    make_hint,
    resolve_control,
)
from webui.library.checkpoints import ModelFolder
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.poses import Pose
from webui.request import CONTROL_KINDS, PREPROCESSORS, ControlChoice, parse_request

SHAPE: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "cross_attention_dim": 12,
    "layers_per_block": 1,
    "in_channels": 4,
}


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    unet = tmp_path / "toy" / "unet"
    unet.mkdir(parents=True)
    (unet / "config.json").write_text(json.dumps(SHAPE | {"in_channels": 9}))
    return ModelFolder("toy", tmp_path / "toy", "StableDiffusionPipeline")


@pytest.fixture
def shelf(tmp_path: Path) -> ControlNetShelf:
    return ControlNetShelf((tmp_path,), HashBook(tmp_path / "hashes.json"))


def put(shelf: ControlNetShelf, name: str, **config: Any) -> None:
    path = shelf.place / name
    path.mkdir(parents=True)
    values = {"_class_name": "ControlNetModel"} | SHAPE | config
    (path / "config.json").write_text(json.dumps(values))
    (path / "diffusion_pytorch_model.safetensors").write_bytes(save({"a": np.zeros(2)}))


def choice(**values: Any) -> ControlChoice:
    return parse_request({"controls": [{"picture": "0" * 64} | values]}).controls[0]


def resolved(values: ControlChoice, model: ModelFolder, shelf: ControlNetShelf) -> Control:
    return resolve_control(values, model, shelf, 64, 48)


def test_every_kind_and_every_preprocessor_has_its_row() -> None:
    assert set(KINDS) == set(CONTROL_KINDS)
    named = {name for kind in KINDS.values() for name in kind.preprocessors}
    assert named == set(PREPROCESSORS) == {"none", "canny", *NETWORKS}
    assert set(THRESHOLDS) <= named


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("control_v11p_sd15_openpose", "pose"),
        ("control_v11p_sd15_canny", "canny"),
        ("control_v11p_sd15_softedge", "soft edge"),
        ("control_v11p_sd15_lineart", "line art"),
        ("control_v11p_sd15_scribble", "scribble"),
        ("control_v11f1p_sd15_depth", "depth"),
        ("control_v11p_sd15_normalbae", "normal"),
        ("control_v11p_sd15_mlsd", "lines"),
        ("control_v11p_sd15_seg", "segment"),
    ],
)
def test_the_controlnet_left_open_is_the_one_of_that_kind(
    name: str, kind: str, model: ModelFolder, shelf: ControlNetShelf
) -> None:
    put(shelf, "a_other_thing")
    put(shelf, "control_large_" + name, cross_attention_dim=99)
    put(shelf, name)
    assert resolved(choice(kind=kind), model, shelf).net.name == name


def test_what_is_left_open_is_filled_in(model: ModelFolder, shelf: ControlNetShelf) -> None:
    put(shelf, "canny")
    found = resolved(choice(kind="canny", weight=0.5, start=0.1, end=0.9), model, shelf)
    assert found.hint == Hint("0" * 64, "canny", Options(48, 100, 200), "crop", 64, 48)
    assert (found.weight, found.start, found.end) == (0.5, 0.1, 0.9)
    asked = resolved(choice(kind="canny", low=3, high=4, resolution=96), model, shelf)
    assert asked.hint.options == Options(96, 3, 4)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"preprocessor": "canny"}, "does not draw what the kind 'pose' is about"),
        ({"kind": "depth", "low": 3}, "has no thresholds"),
        ({"preprocessor": "none", "high": 3}, "has no thresholds"),
        ({"preprocessor": "none", "resolution": 512}, "a resolution has no effect"),
        ({"kind": "lines", "high": 30}, "go to 20"),
        ({"kind": "other"}, "needs a model"),
        ({"kind": "other", "model": "large"}, "made for other models"),
        ({"kind": "other", "model": "union"}, "served is"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    values: dict[str, Any], says: str, model: ModelFolder, shelf: ControlNetShelf
) -> None:
    put(shelf, "large", block_out_channels=[8, 16, 32])
    put(shelf, "union", _class_name="ControlNetUnionModel")
    with pytest.raises(BadRequestError, match=says) as error:
        resolved(choice(**values), model, shelf)
    assert error.value.field == "controls"


def test_a_missing_controlnet_is_told_with_its_place(
    model: ModelFolder, shelf: ControlNetShelf
) -> None:
    with pytest.raises(NotFoundError, match=f"put one into {shelf.place}"):
        resolved(choice(), model, shelf)
    put(shelf, "openpose-xl", cross_attention_dim=2048)
    with pytest.raises(NotFoundError, match="openpose-xl is made for other models"):
        resolved(choice(), model, shelf)


def square(width: int, height: int) -> bytes:
    """A white square of half the height in the middle of black, as a PNG file."""
    side = height // 2
    picture = Image.new("RGB", (width, height))
    picture.paste(
        (255, 255, 255), ((width - side) // 2, side // 2, (width + side) // 2, side * 3 // 2)
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def hint_of(hint: Hint, data: bytes = b"") -> np.ndarray:
    made = make_hint(hint, lambda name: data, (), "cpu").numpy()
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
    file = io.BytesIO()
    grey.save(file, "PNG")
    assert hint_of(CANNY, file.getvalue()).max() == 0
    low = dataclasses.replace(CANNY, options=Options(128, 10, 20))
    assert hint_of(low, file.getvalue()).max() == 255


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
    made = make_hint(hint, lambda name: square(128, 128), (), "cpu").numpy()
    assert made.shape == (3, 256, 128)
    rows, columns = np.nonzero(made[0] > 127)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [64, 191, 0, 63]
    person = tuple((96.0, 32.0, n == 1) for n in range(18))
    pose = Pose(width=128, height=128, people=(person,))
    drawn = make_hint(dataclasses.replace(hint, source=pose), lambda name: b"", (), "cpu").numpy()
    rows, columns = np.nonzero(drawn[0] > 127)
    assert [rows.mean(), columns.mean()] == pytest.approx([63.5, 63.5], abs=1)


def test_a_network_that_is_not_here_says_what_belongs_where(tmp_path: Path) -> None:
    hint = dataclasses.replace(CANNY, preprocessor="depth")
    with pytest.raises(NotFoundError, match=f"put depth into {tmp_path}") as error:
        make_hint(hint, lambda name: square(64, 64), (tmp_path,), "cpu")
    assert error.value.field == "controls"

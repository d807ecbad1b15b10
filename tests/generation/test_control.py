from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from webui.errors import BadRequestError, NotFoundError
from webui.generation.annotators import NETWORKS, Options
from webui.generation.canvas import Brought
from webui.generation.control import Control, resolve_control
from webui.generation.control_kinds import KINDS, THRESHOLDS
from webui.generation.hints import Hint
from webui.library.checkpoints import Model
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.request import CONTROL_KINDS, PREPROCESSORS, ControlChoice, parse_request

SHAPE: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "cross_attention_dim": 12,
    "layers_per_block": 1,
    "in_channels": 4,
}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    unet = tmp_path / "toy" / "unet"
    unet.mkdir(parents=True)
    (unet / "config.json").write_text(json.dumps(SHAPE | {"in_channels": 9}))
    return Model("toy", tmp_path / "toy", "StableDiffusionPipeline")


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


def resolved(values: ControlChoice, model: Model, shelf: ControlNetShelf) -> Control:
    brought = {"0" * 64: Brought("1" * 64, Image.new("RGB", (8, 8)))}
    return resolve_control(0, values, model, shelf, brought, 64, 48, masked=True)


def name_of(control: Control) -> str | None:
    return None if control.net is None else control.net.name


def test_every_kind_and_every_preprocessor_has_its_row() -> None:
    assert set(KINDS) == set(CONTROL_KINDS)
    named = {name for kind in KINDS.values() for name in kind.preprocessors}
    assert named == set(PREPROCESSORS) == {"none", "canny", "blur", "gray", *NETWORKS}
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
        ("control_v11f1e_sd15_tile", "tile"),
        ("control_v11p_sd15_inpaint", "inpaint"),
    ],
)
def test_the_controlnet_left_open_is_the_one_of_that_kind(
    name: str, kind: str, model: Model, shelf: ControlNetShelf
) -> None:
    put(shelf, "a_other_thing")
    put(shelf, "control_large_" + name, cross_attention_dim=99)
    put(shelf, name)
    assert name_of(resolved(choice(kind=kind), model, shelf)) == name


def test_what_is_left_open_is_filled_in(model: Model, shelf: ControlNetShelf) -> None:
    put(shelf, "canny")
    found = resolved(choice(kind="canny", weight=0.5, start=0.1, end=0.9), model, shelf)
    assert found.hint == Hint("1" * 64, "canny", Options(48, 100, 200), "crop", 64, 48)
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
        ({"kind": "other", "model": "adapter"}, "served are"),
        ({"kind": "other", "model": "union"}, "'union' reads no hints of the kind 'other'"),
        ({"kind": "segment", "model": "union", "preprocessor": "none"}, "reads no hints of the"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    values: dict[str, Any], says: str, model: Model, shelf: ControlNetShelf
) -> None:
    put(shelf, "large", block_out_channels=[8, 16, 32])
    put(shelf, "adapter", _class_name="T2IAdapter")
    put(shelf, "union", _class_name="ControlNetUnionModel", num_control_type=5)
    with pytest.raises(BadRequestError, match=says) as error:
        resolved(choice(**values), model, shelf)
    assert error.value.field == "controls"


def test_a_missing_controlnet_is_told_with_its_place(model: Model, shelf: ControlNetShelf) -> None:
    with pytest.raises(NotFoundError, match=f"put one into {shelf.place}"):
        resolved(choice(), model, shelf)
    put(shelf, "openpose-xl", cross_attention_dim=2048)
    with pytest.raises(NotFoundError, match="openpose-xl is made for other models"):
        resolved(choice(), model, shelf)


@pytest.mark.parametrize(
    ("kind", "place"),
    [("pose", 0), ("depth", 1), ("scribble", 2), ("canny", 3), ("lines", 3), ("normal", 4)],
)
def test_a_union_model_is_told_what_the_hint_is(
    kind: str, place: int, model: Model, shelf: ControlNetShelf
) -> None:
    put(shelf, "all_in_one", _class_name="ControlNetUnionModel")
    found = resolved(choice(kind=kind), model, shelf)
    assert (name_of(found), found.union_type) == ("all_in_one", place)


def test_a_controlnet_of_one_kind_goes_before_a_union_model(
    model: Model, shelf: ControlNetShelf
) -> None:
    put(shelf, "all_in_one", _class_name="ControlNetModel_Union", num_control_type=8)
    put(shelf, "canny")
    taken = [resolved(choice(kind=kind), model, shelf) for kind in ("canny", "depth")]
    assert [(name_of(each), each.union_type) for each in taken] == [
        ("canny", None),
        ("all_in_one", 1),
    ]


def test_one_that_cannot_be_served_is_not_taken_by_itself(
    model: Model, shelf: ControlNetShelf
) -> None:
    put(shelf, "a_pose_adapter", _class_name="T2IAdapter")
    put(shelf, "pose", in_channels="many")
    assert name_of(resolved(choice(), model, shelf)) == "pose"

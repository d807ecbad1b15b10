from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.ui.controlnet_files import put_weight
from tests.ui.routes.client import client_of
from webui.generation.annotator_files import BODY
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.request import CONTROL_KINDS, PREPROCESSORS
from webui.settings import ROOT
from webui.ui.routes.controlnets import add_controlnets_routes

SHAPE = {"block_out_channels": [8, 16], "cross_attention_dim": 12, "layers_per_block": 1}


def write(path: Path, **data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def put(models: Path, name: str, **config: Any) -> Path:
    file = models / "controlnet" / name / "config.json"
    write(file, **({"_class_name": "ControlNetModel"} | SHAPE | config))
    put_weight(file.parent)
    return file


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write(folder / "meadow" / "model_index.json", _class_name="StableDiffusionPipeline")
    write(folder / "meadow" / "unet" / "config.json", **SHAPE)
    return folder


@pytest.fixture
def client(models: Path, tmp_path: Path) -> TestClient:
    hashes = HashBook(tmp_path / "hashes.json")
    app = FastAPI()
    shelf = ControlNetShelf((models,), hashes)
    add_controlnets_routes(app, CheckpointShelf((models,), hashes), shelf, (models / "annotators",))
    return client_of(app)


def found(client: TestClient, model: str = "meadow") -> dict[str, Any]:
    answer = client.get("/controlnets", params={"model": model})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_shelf_tells_what_each_reads_and_whether_it_fits(
    client: TestClient, models: Path
) -> None:
    put(models, "a_union", _class_name="ControlNetUnionModel")
    put(models, "my_pose")
    put(models, "large_canny", cross_attention_dim=2048)
    put(models, "pose_adapter", _class_name="T2IAdapter")
    put(models, "broken").write_text("{")
    answer = found(client)
    rows = {row["name"]: row for row in answer["nets"]}
    assert list(rows) == ["a_union", "broken", "large_canny", "my_pose", "pose_adapter"]
    assert rows["my_pose"] == {"name": "my_pose", "kinds": ["pose"], "problem": None}
    unread = {"tile", "blur", "gray", "inpaint", "other"}
    assert set(rows["a_union"]["kinds"]) == {*CONTROL_KINDS} - unread
    assert "made for other models than 'meadow'" in rows["large_canny"]["problem"]
    assert "is a T2IAdapter" in rows["pose_adapter"]["problem"]
    assert "damaged config.json" in rows["broken"]["problem"]
    taken = {kind: about["net"] for kind, about in answer["kinds"].items()}
    assert taken == (
        dict.fromkeys(CONTROL_KINDS, "a_union") | {"pose": "my_pose"} | dict.fromkeys(unread)
    )


def test_a_model_that_reads_hints_itself_is_offered_for_its_kind(
    client: TestClient, models: Path
) -> None:
    for name in ("flux-canny", "flux-hints"):
        write(models / name / "model_index.json", _class_name="FluxControlPipeline")
        write(models / name / "transformer" / "config.json", in_channels=128)
    put(models, "my_canny")
    usual = {
        name: {kind: about["net"] for kind, about in found(client, name)["kinds"].items()}
        for name in ("flux-canny", "flux-hints")
    }
    none = dict.fromkeys(CONTROL_KINDS)
    assert found(client, "flux-canny")["own"] == ["canny"]
    assert found(client)["own"] is None
    assert usual["flux-canny"] == none | {"canny": "flux-canny"}
    assert usual["flux-hints"] == none | dict.fromkeys(("canny", "depth"), "flux-hints")


def test_it_says_what_to_put_where(client: TestClient, models: Path) -> None:
    answer = found(client)
    assert answer["nets"] == []
    assert answer["place"] == str(models / "controlnet")
    assert {about["net"] for about in answer["kinds"].values()} == {None}
    assert list(answer["preprocessors"]) == [*PREPROCESSORS]
    needed = answer["preprocessors"]["openpose"]["missing"]
    assert BODY in needed
    assert str(models / "annotators") in needed
    assert "put depth into" in answer["preprocessors"]["depth"]["missing"]
    (models / "annotators" / "depth").mkdir(parents=True)
    (models / "annotators" / BODY).touch()
    preprocessors = found(client)["preprocessors"]
    assert preprocessors["depth"]["missing"] == ""
    assert BODY not in preprocessors["openpose"]["missing"]


def test_what_needs_no_weights_is_there_with_its_thresholds(client: TestClient) -> None:
    answer = found(client)
    assert answer["kinds"]["canny"]["preprocessors"] == ["canny", "none"]
    assert answer["preprocessors"]["canny"] == {
        "thresholds": {"low": 100, "high": 200, "most": 255},
        "missing": "",
    }
    assert answer["preprocessors"]["none"] == {"thresholds": None, "missing": ""}


def test_a_model_that_is_not_here_is_said(client: TestClient) -> None:
    answer = client.get("/controlnets", params={"model": "meadwo"})
    assert (answer.status_code, answer.json()["field"]) == (404, "model")
    assert "did you mean 'meadow'" in answer.json()["message"]
    assert client.get("/controlnets").status_code == 422


def test_it_needs_no_torch() -> None:
    script = (
        "import sys, webui.ui.routes.controlnets;"
        "heavy = {'torch', 'transformers', 'diffusers', 'cv2', 'gradio'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from webui.errors import BrokenFileError, NotFoundError
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook


def put(folder: Path, name: str, *, value: float = 0.0, **config: Any) -> Path:
    path = folder / "controlnet" / name
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"} | config))
    weights = save({"a": np.full((2, 2), value, np.float32)})
    (path / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    return path


@pytest.fixture
def shelf(tmp_path: Path) -> ControlNetShelf:
    folders = (tmp_path / "mine", tmp_path / "ours")
    return ControlNetShelf(folders, HashBook(tmp_path / "hashes.json"))


def test_controlnets_are_found_by_name_the_users_first(
    tmp_path: Path, shelf: ControlNetShelf
) -> None:
    put(tmp_path / "ours", "pose")
    put(tmp_path / "ours", "edges")
    mine = put(tmp_path / "mine", "pose", cross_attention_dim=8)
    assert shelf.names() == ("edges", "pose")
    found = shelf.folder("pose")
    assert (found.path, found.class_name, found.kind) == (mine, "ControlNetModel", "")
    assert found.config["cross_attention_dim"] == 8


def test_the_digest_depends_on_weights_and_configuration_alone(
    tmp_path: Path, shelf: ControlNetShelf
) -> None:
    put(tmp_path / "ours", "a", value=1)
    put(tmp_path / "ours", "b", value=1)
    put(tmp_path / "ours", "c", value=2)
    put(tmp_path / "ours", "d", value=1, channels=3)
    digests = [shelf.find(name).sha256 for name in "abcd"]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_controlnet_may_say_its_kind(tmp_path: Path, shelf: ControlNetShelf) -> None:
    (put(tmp_path / "ours", "a") / "facts.json").write_text('{"kind": "depth"}')
    assert shelf.find("a").kind == "depth"


def test_unknown_names_are_told_the_nearest(tmp_path: Path, shelf: ControlNetShelf) -> None:
    with pytest.raises(NotFoundError, match=r"there is none in .*controlnet"):
        shelf.find("pose")
    put(tmp_path / "ours", "postcard-pose")
    with pytest.raises(NotFoundError, match="did you mean 'postcard-pose'") as error:
        shelf.find("postcard-pos")
    assert error.value.field == "controls"
    with pytest.raises(NotFoundError):
        shelf.find("../controlnet/postcard-pose")


@pytest.mark.parametrize("damage", ["config.json", "facts.json", "weights", "no weights"])
def test_damage_is_told_in_a_sentence(damage: str, tmp_path: Path, shelf: ControlNetShelf) -> None:
    path = put(tmp_path / "ours", "pose")
    weights = path / "diffusion_pytorch_model.safetensors"
    match damage:
        case "weights":
            weights.write_bytes(weights.read_bytes()[:-3])
        case "no weights":
            weights.unlink()
        case _:
            (path / damage).write_text("[")
    with pytest.raises(BrokenFileError) as error:
        shelf.find("pose")
    assert error.value.message.endswith((".", "again."))

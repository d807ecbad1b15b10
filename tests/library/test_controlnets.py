from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from webui.errors import BrokenFileError, NotFoundError
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook


def _layers(**shapes: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    named = {name.replace("__", "."): shape for name, shape in shapes.items()}
    return {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in named.items()}


TASKED = {
    "task_embedding": np.zeros((6, 4), np.float32),
    **_layers(
        conv_in=(8, 4, 3, 3),
        controlnet_cond_embedding__conv_in=(4, 3, 3, 3),
        control_add_embedding__linear_1=(8, 12),
        add_embedding__linear_1=(8, 10),
        spatial_ch_projs=(4, 4),
        down_blocks__0__resnets__0__conv2=(8, 8, 3, 3),
    ),
}
"""The least of a union ControlNet for SDXL."""


FUN = ("img_in", "blocks.0.after_proj", "blocks.0.before_proj")
"""What the layers of Qwen-Image-2512-Fun-Controlnet-Union are called."""


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


def test_single_files_are_found_everywhere_and_known_by_their_header(
    tmp_path: Path, shelf: ControlNetShelf
) -> None:
    folder = tmp_path / "ours" / "controlnet"
    put(tmp_path / "ours", "whole")
    snapshot = folder / "models--who--hub-canny" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (snapshot / name).write_bytes((folder / "whole" / name).read_bytes())
    (folder / "xl").mkdir()
    (folder / "xl" / "canny.safetensors").write_bytes(save(TASKED))
    (folder / "old.pth").write_bytes(b"x")
    (folder / "cut.safetensors").write_bytes(save(TASKED)[:-1])
    (folder / "lllite.safetensors").write_bytes(save({"lllite_unet.x": np.zeros(2)}))
    hints = np.zeros((16, 3, 3, 3))
    difference = {"difference": np.ones(()), "control_model.input_hint_block.0.weight": hints}
    (folder / "diff.safetensors").write_bytes(save(difference))
    fun = {f"control_{name}.weight": np.zeros((2, 2)) for name in FUN}
    (folder / "fun.safetensors").write_bytes(save(fun))
    (folder / "what.safetensors").write_bytes(save({"a": np.zeros(2)}))
    (folder / "half.safetensors").write_bytes(save({"controlnet_x_embedder.weight": np.zeros(2)}))
    read = shelf.read_all()
    assert tuple(read) == shelf.names()
    says = {name: one.message for name, one in read.items() if isinstance(one, BrokenFileError)}
    assert says.keys() == {"old", "cut", "lllite", "diff", "fun", "what", "half"}
    assert "old.pth is a pickle" in says["old"]
    assert "truncated" in says["cut"]
    assert "is a ControlNet-LLLite, which is not served" in says["lllite"]
    assert "diff.safetensors is a ControlNet stored as its difference" in says["diff"]
    assert "fun.safetensors is a Fun ControlNet by Alibaba PAI for Qwen-Image" in says["fun"]
    assert "what.safetensors holds nothing that is known here" in says["what"]
    assert "half.safetensors is a ControlNet with layers missing" in says["half"]
    assert shelf.folder("hub-canny").path == snapshot
    found = shelf.find("canny")
    assert (found.class_name, found.file) == (
        "ControlNetUnionModel",
        folder / "xl" / "canny.safetensors",
    )
    assert (found.config["num_control_type"], found.config["cross_attention_dim"]) == (6, 2048)
    assert found.sha256
    with pytest.raises(BrokenFileError, match="pickle") as error:
        shelf.find("old")
    assert error.value.field == "controls"


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


def test_a_folder_may_have_fp16_weights_alone(tmp_path: Path, shelf: ControlNetShelf) -> None:
    folder = tmp_path / "ours" / "controlnet"
    deep = put(tmp_path / "ours", "more/canny")
    snapshot = put(tmp_path / "ours", "models--who--hub-canny/snapshots/1")
    flat = put(tmp_path / "ours", "depth")
    for path in (deep, snapshot, flat):
        plain = path / "diffusion_pytorch_model.safetensors"
        plain.rename(path / "diffusion_pytorch_model.fp16.safetensors")
    both = put(tmp_path / "ours", "more/both", value=1)
    half = both / "diffusion_pytorch_model.fp16.safetensors"
    half.write_bytes((flat / half.name).read_bytes())
    assert shelf.names() == ("both", "canny", "depth", "hub-canny")
    for name, path in (("canny", deep), ("depth", flat), ("hub-canny", snapshot)):
        found = shelf.find(name)
        assert (found.path, found.file) == (path, None)
        assert found.weights == path / half.name
    assert shelf.find("both").weights == both / "diffusion_pytorch_model.safetensors"
    assert shelf.find("both").sha256 != shelf.find("depth").sha256
    (folder / "depth" / half.name).rename(folder / "depth" / "diffusion_pytorch_model.bin")
    wrong = shelf.read_all()["depth"]
    assert isinstance(wrong, BrokenFileError)
    assert "has no diffusion_pytorch_model.safetensors" in wrong.message


@pytest.mark.parametrize("is_alone", [True, False])
def test_another_net_beside_the_one_of_a_folder_is_one_of_its_own(
    tmp_path: Path, shelf: ControlNetShelf, *, is_alone: bool
) -> None:
    path = put(tmp_path / "ours", "union")
    more = path / "diffusion_pytorch_model_promax.safetensors"
    more.write_bytes(save(TASKED))
    (path / "diffusion_pytorch_model.fp16.safetensors").write_bytes(save(TASKED))
    if is_alone:
        (path / "diffusion_pytorch_model.safetensors").unlink()
        (path / "diffusion_pytorch_model.fp16.safetensors").unlink()
    name = f"union/{more.stem}"
    assert shelf.names() == ((name,) if is_alone else ("union", name))
    found = shelf.find(name)
    assert (found.class_name, found.file) == ("ControlNetUnionModel", more)

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.safety.models import save_distilbert, save_preprocessor, save_swin, save_vit
from tests.safety.test_labels import AGES
from webui.errors import GuardError
from webui.safety import slots as module
from webui.safety.labels import Slot
from webui.safety.slots import (
    FOLDERS,
    WEIGHTS,
    PictureModel,
    TextModel,
    folder_hash,
    read_picture_model,
    read_text_model,
)

WORDS = ("a", "red", "chair", "zork")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in every slot."""
    folder = tmp_path_factory.mktemp("guards")
    save_vit(folder / "nsfw", ("normal", "nsfw"))
    save_swin(folder / "explicit", ("neutral", "low", "medium", "high"))
    save_vit(folder / "face-age", AGES)
    save_distilbert(folder / "text", ("safe", "nsfw"), WORDS)
    return folder


@pytest.fixture
def own(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the slot "nsfw" to be changed."""
    return Path(shutil.copytree(shelf / "nsfw", tmp_path / "nsfw"))


def read(folder: Path, slot: Slot = "nsfw", *, pin: str | None = "found") -> PictureModel:
    return read_picture_model(slot, folder, folder_hash(slot, folder) if pin == "found" else pin)


def read_text(folder: Path) -> TextModel:
    return read_text_model("text", folder, folder_hash("text", folder))


def pictures(count: int = 2) -> list[np.ndarray]:
    lot = np.random.default_rng(0)
    return [lot.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("slot", ["nsfw", "explicit", "face age"])
def test_a_folder_gives_a_probability_for_every_label_and_view(shelf: Path, slot: Slot) -> None:
    model = read(shelf / FOLDERS[slot], slot)
    shares = model.shares(pictures(11))
    assert shares.shape == (11, len(model.kinds))
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.ptp(shares[:, 0]) > 0.001


def test_the_probabilities_are_those_of_transformers(shelf: Path) -> None:
    pipeline: Any = import_module("transformers").pipeline(
        "image-classification", model=str(shelf / "nsfw"), device="cpu"
    )
    (picture,) = pictures(1)
    told = {each["label"]: each["score"] for each in pipeline(module.Image.fromarray(picture))}
    normal, nsfw = read(shelf / "nsfw").shares([picture])[0]
    assert (normal, nsfw) == pytest.approx((told["normal"], told["nsfw"]), abs=0.01)


def test_a_model_of_independent_labels_is_read_as_such(tmp_path: Path) -> None:
    save_vit(tmp_path, ("normal", "nsfw"), problem_type="multi_label_classification")
    shares = read(tmp_path).shares(pictures(1))[0]
    assert abs(shares.sum() - 1) > 0.001
    assert ((shares > 0) & (shares < 1)).all()


@pytest.mark.parametrize(
    "about",
    [
        {"do_center_crop": True, "crop_size": 32, "size": {"shortest_edge": 64}},
        {"do_center_crop": True, "size": {"shortest_edge": 32}},
        {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "size": 96},
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}},
        {"size": 32},
    ],
)
def test_nothing_of_a_picture_is_cut_off(own: Path, about: dict[str, Any]) -> None:
    save_preprocessor(own, **about)
    model = read(own)
    (picture,) = (np.repeat(each, 4, axis=1) for each in pictures(1))
    marked = picture.copy()
    marked[:, :12] = 255 - marked[:, :12]
    plain, changed = model.shares([picture, marked])
    assert abs(plain - changed).max() > 0.001


def test_a_configuration_of_timm_is_made_to_squeeze(own: Path) -> None:
    said = {"crop_pct": 0.9, "crop_mode": "center", "test_crop_pct": 0.8, "mean": [0.5] * 3}
    squashed = module._squashed({"architecture": "x", "pretrained_cfg": said})  # pyright: ignore[reportPrivateUsage]
    assert squashed["pretrained_cfg"] == {"crop_pct": 1.0, "crop_mode": "squash", "mean": [0.5] * 3}


def test_a_model_whose_package_is_not_installed_says_so(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {
        "architecture": "vit_tiny_patch16_384",
        "num_classes": 2,
        "label_names": ["NSFW", "SFW"],
    }
    (own / "config.json").write_text(json.dumps(about | {"pretrained_cfg": {"crop_pct": 1.0}}))
    for name in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(GuardError, match="timm"):
        read(own)


def test_the_hash_is_that_of_the_lines_of_sha256sum(shelf: Path) -> None:
    names = "config.json", "model.safetensors", "preprocessor_config.json"
    lines = subprocess.run(
        ["sha256sum", *names], cwd=shelf / "nsfw", capture_output=True, check=True
    ).stdout
    assert folder_hash("nsfw", shelf / "nsfw") == hashlib.sha256(lines).hexdigest()


def test_without_the_pin_or_with_another_one_nothing_is_loaded(own: Path) -> None:
    right = folder_hash("nsfw", own)
    with pytest.raises(GuardError, match="not pinned.*" + right):
        read(own, pin=None)
    for wrong in (
        "",
        "0" * 64,
        right[:-1],
        hashlib.sha256((own / WEIGHTS).read_bytes()).hexdigest(),
    ):
        with pytest.raises(GuardError, match="another one"):
            read(own, pin=wrong)
    assert read(own, pin=right.upper()).kinds == ("harmless", "nudity")


def test_a_change_of_any_file_that_is_read_changes_the_hash(shelf: Path, tmp_path: Path) -> None:
    for slot, name in FOLDERS.items():
        for file in sorted((shelf / name).iterdir()):
            folder = Path(shutil.copytree(shelf / name, tmp_path / name / file.name))
            known = folder_hash(slot, folder)
            data = bytearray((folder / file.name).read_bytes())
            data[-2] ^= 1
            (folder / file.name).write_bytes(data)
            assert folder_hash(slot, folder) != known, file.name


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def without_the_head(file: Path) -> None:
    safetensors: Any = import_module("safetensors.torch")
    state = safetensors.load(file.read_bytes())
    kept = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    file.write_bytes(safetensors.save(kept, {"format": "pt"}))


def with_another_head(file: Path) -> None:
    safetensors: Any = import_module("safetensors.torch")
    state = safetensors.load(file.read_bytes())
    state["classifier.weight"] = state["classifier.weight"][:1].contiguous()
    file.write_bytes(safetensors.save(state, {"format": "pt"}))


@pytest.mark.parametrize("harm", [cut, without_the_head, with_another_head])
def test_weights_that_are_not_whole_are_refused(own: Path, harm: Callable[[Path], None]) -> None:
    harm(own / WEIGHTS)
    with pytest.raises(GuardError, match=r"damaged|not all there"):
        read(own)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_type": "unheard of"}', "\udcff"])
def test_a_configuration_that_says_nothing_is_refused(own: Path, text: str) -> None:
    (own / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(GuardError, match="cannot be loaded"):
        read(own)


def test_unknown_labels_are_told(own: Path) -> None:
    about = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(about | {"id2label": {"0": "cat", "1": "dog"}}))
    with pytest.raises(GuardError, match="'cat'"):
        read(own)


def test_what_is_missing_is_told(tmp_path: Path, own: Path) -> None:
    for empty in (tmp_path / "nothing", tmp_path):
        with pytest.raises(GuardError, match="README"):
            folder_hash("nsfw", empty)
    (own / "config.json").unlink()
    with pytest.raises(GuardError, match=r"no config\.json"):
        read(own)


def test_a_file_that_cannot_be_read_or_is_far_too_long_is_told(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_SMALL_FILE", 100)
    with pytest.raises(GuardError, match="too long"):
        read(own)
    monkeypatch.undo()
    (own / "config.json").unlink()
    (own / "config.json").mkdir()
    with pytest.raises(GuardError, match="cannot be read"):
        read(own)


def test_files_that_are_not_named_are_not_even_looked_at(own: Path) -> None:
    pin = folder_hash("nsfw", own)
    (own / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (own / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (own / "modeling.py").write_text("raise SystemExit")
    assert read(own, pin=pin).kinds == ("harmless", "nudity")


@pytest.mark.parametrize("units", [True, False])
def test_the_format_is_the_one_that_is_fast(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    torch: Any = import_module("torch")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": units})
    model = read(shelf / "nsfw")
    reference = np.asarray(read(shelf / "nsfw").shares(pictures()))
    assert model._model.dtype is (torch.bfloat16 if units else torch.float32)  # pyright: ignore[reportPrivateUsage]
    assert np.allclose(model.shares(pictures()), reference)


def test_a_text_is_read_to_its_end(shelf: Path) -> None:
    model = read_text(shelf / "text")
    start = " ".join(["a red chair"] * 20)
    plain, longer = model.shares(start), model.shares(start + " zork zork zork zork zork")
    assert model.kinds == ("harmless", "explicit")
    assert plain.shape[0] > 3
    assert np.allclose(plain[:3], longer[:3], atol=0.02)
    assert abs(longer[-1, 1] - plain[-1, 1]) > 0.005
    assert model.shares("").shape == (1, 2)


def test_text_models_are_held_to_the_same(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="not pinned"):
        read_text_model("text", shelf / "text", None)
    folder = Path(shutil.copytree(shelf / "text", tmp_path / "text"))
    (folder / "vocab.txt").unlink()
    with pytest.raises(GuardError, match="vocabulary"):
        read_text(folder)


def test_reading_needs_no_connection(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert read(shelf / "explicit", "explicit").shares(pictures()).shape == (2, 4)
    assert read_text(shelf / "text").shares("a chair").shape == (1, 2)


def test_no_copy_is_left_behind(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    read(shelf / "nsfw")
    assert list(tmp_path.iterdir()) == []

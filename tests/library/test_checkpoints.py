from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from webui.errors import BrokenFileError, NotFoundError
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook


def put_model(folder: Path, name: str, value: float = 0.0) -> Path:
    """A folder in the diffusers layout with one small part."""
    path = folder / name
    (path / "unet").mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (path / "unet" / "config.json").write_text(json.dumps({"sample_size": 32}))
    weights = save({"w": np.full((4,), value, np.float32)})
    (path / "unet" / "part.safetensors").write_bytes(weights)
    return path


@pytest.fixture
def shelf(tmp_path: Path) -> CheckpointShelf:
    put_model(tmp_path / "models", "harbour")
    put_model(tmp_path / "models", "meadow", 1.0)
    return CheckpointShelf((tmp_path / "models",), HashBook(tmp_path / "hashes.json"))


def test_a_model_is_found_by_name_with_its_configuration(shelf: CheckpointShelf):
    assert shelf.names() == ("harbour", "meadow")
    checkpoint = shelf.find("meadow")
    assert checkpoint.pipeline == "StableDiffusionPipeline"
    assert checkpoint.config("unet") == {"sample_size": 32}


def test_the_hash_follows_the_content_and_not_the_name(shelf: CheckpointShelf, tmp_path: Path):
    put_model(tmp_path / "models", "copy-of-meadow", 1.0)
    assert shelf.find("meadow").sha256 == shelf.find("copy-of-meadow").sha256
    assert shelf.find("meadow").sha256 != shelf.find("harbour").sha256


def test_a_changed_file_changes_the_hash(shelf: CheckpointShelf, tmp_path: Path):
    before = shelf.find("meadow").sha256
    part = tmp_path / "models" / "meadow" / "unet" / "part.safetensors"
    part.write_bytes(save({"w": np.full((4,), 2.0, np.float32), "v": np.zeros(1, np.float32)}))
    assert shelf.find("meadow").sha256 != before


@pytest.mark.parametrize("name", ["meadows", "../models/meadow", "/etc", "", "."])
def test_an_unknown_name_is_an_error_and_never_a_path(shelf: CheckpointShelf, name: str):
    with pytest.raises(NotFoundError, match="Unknown model"):
        shelf.find(name)


def test_the_nearest_name_is_suggested(shelf: CheckpointShelf):
    with pytest.raises(NotFoundError, match="did you mean 'meadow'"):
        shelf.find("medow")


def test_an_empty_shelf_says_where_models_go(tmp_path: Path):
    empty = CheckpointShelf((tmp_path / "none",), HashBook(tmp_path / "hashes.json"))
    with pytest.raises(NotFoundError, match="There is no model in"):
        empty.find("postcard")


def test_a_truncated_part_is_found_before_anything_is_loaded(
    shelf: CheckpointShelf, tmp_path: Path
):
    part = tmp_path / "models" / "meadow" / "unet" / "part.safetensors"
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(BrokenFileError, match="the last 3 bytes are missing"):
        shelf.find("meadow")


def test_a_missing_configuration_is_named(shelf: CheckpointShelf):
    with pytest.raises(BrokenFileError, match=r"vae/config\.json is missing"):
        shelf.find("meadow").config("vae")


def test_weights_in_a_pickle_format_are_not_read(shelf: CheckpointShelf, tmp_path: Path):
    part = tmp_path / "models" / "meadow" / "unet" / "part.safetensors"
    part.rename(part.with_suffix(".bin"))
    with pytest.raises(BrokenFileError, match="holds no safetensors weights"):
        shelf.find("meadow")


def test_the_first_folder_wins(tmp_path: Path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    put_model(theirs, "meadow")
    expected = put_model(mine, "meadow", 1.0)
    shelf = CheckpointShelf((mine, theirs), HashBook(tmp_path / "hashes.json"))
    assert shelf.find("meadow").path == expected


def test_hashes_are_told_without_reading_weights_once_they_are_known(shelf: CheckpointShelf):
    assert shelf.known_hashes() == [("harbour", ""), ("meadow", "")]
    digest = shelf.find("meadow").sha256
    assert shelf.known_hashes() == [("harbour", ""), ("meadow", digest)]


def test_a_folder_is_known_without_a_look_at_its_weights(shelf: CheckpointShelf, tmp_path: Path):
    part = tmp_path / "models" / "meadow" / "unet" / "part.safetensors"
    part.write_bytes(b"")
    folder = shelf.folder("meadow")
    assert (folder.name, folder.pipeline) == ("meadow", "StableDiffusionPipeline")
    assert folder.config("unet") == {"sample_size": 32}
    assert not (tmp_path / "hashes.json").exists()


@pytest.mark.parametrize("index", ["{", "[]", ""])
def test_a_damaged_index_is_named(shelf: CheckpointShelf, tmp_path: Path, index: str):
    (tmp_path / "models" / "meadow" / "model_index.json").write_text(index)
    with pytest.raises(BrokenFileError, match=r"model_index\.json is missing or damaged"):
        shelf.folder("meadow")

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.library import weights as w
from tests.work import files_opened, lines_run
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


CONFIGS = ("sd1", "sd2-v", "sdxl", "flux-dev")


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Configurations of a few kinds, as they are shipped."""
    for name in CONFIGS:
        path = tmp_path / "configs" / name
        (path / "scheduler").mkdir(parents=True)
        (path / "model_index.json").write_text(json.dumps({"_class_name": f"{name}-pipeline"}))
        scheduler = {"prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1}
        (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return tmp_path / "configs"


@pytest.fixture
def files(tmp_path: Path, configs: Path) -> CheckpointShelf:
    """A shelf on which single files stand too."""
    return CheckpointShelf((tmp_path / "models",), HashBook(tmp_path / "hashes.json"), configs)


def put_small(path: Path) -> Path:
    """A Flux transformer's header over weights that are quickly hashed."""
    tensors = {name: tuple(min(n, 2) for n in shape) for name, shape in w.flux().items()}
    return w.put(path, tensors | {"img_in.weight": (2, 64)})


def test_a_single_file_is_a_model_with_the_shipped_configuration(
    files: CheckpointShelf, tmp_path: Path, configs: Path
):
    put_model(tmp_path / "models", "harbour")
    file = w.put(tmp_path / "models" / "deep" / "meadowXL_v9.safetensors", w.sdxl())
    assert files.names() == ("harbour", "meadowXL_v9")
    model = files.folder("meadowXL_v9")
    assert (model.path, model.file, model.pipeline) == (configs / "sdxl", file, "sdxl-pipeline")
    assert model.said == {}
    assert model.config("scheduler")["steps_offset"] == 1
    assert files.folder("deep/meadowXL_v9") == files.folder("deep/meadowXL_v9.safetensors") == model
    assert files.folder("harbour").file is None


def test_what_a_file_says_comes_before_the_configuration(files: CheckpointShelf, tmp_path: Path):
    marks = dict.fromkeys(("v_pred", "ztsnr"), (0,))
    w.put(tmp_path / "models" / "meadow.safetensors", w.sdxl() | marks)
    model = files.folder("meadow")
    assert model.config("scheduler") == {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "steps_offset": 1,
    }


def test_the_hash_of_a_single_file_is_that_of_its_bytes(files: CheckpointShelf, tmp_path: Path):
    file = put_small(tmp_path / "models" / "meadow.safetensors")
    assert files.known_hashes() == [("meadow", "")]
    checkpoint = files.find("meadow")
    assert checkpoint.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert checkpoint.facts is not None
    assert checkpoint.facts.config == "flux-dev"
    assert files.known_hashes() == [("meadow", checkpoint.sha256)]
    assert hash(checkpoint) == hash(files.find("meadow"))


def test_what_is_no_model_is_not_on_the_shelf_and_what_is_broken_says_why(
    files: CheckpointShelf, tmp_path: Path
):
    models = tmp_path / "models"
    w.put(models / "ae.safetensors", w.vae(16))
    w.put(models / "ink.safetensors", {"emb_params": (2, 768)})
    w.put(models / "vae" / "meadow.safetensors", w.sdxl())
    (models / "old.ckpt").write_bytes(b"\x80")
    (models / "cut.safetensors").write_bytes(b"\0" * 4)
    w.put(models / "small.safetensors", w.flux(double=8))
    assert files.names() == ("cut", "old", "small")
    for name, says in (("cut", "truncated"), ("old", "pickle"), ("small", "fewer layers")):
        with pytest.raises(BrokenFileError, match=says) as raised:
            files.folder(name)
        assert raised.value.field == "model"


def test_a_configuration_that_is_not_shipped_is_named(files: CheckpointShelf, tmp_path: Path):
    w.put(tmp_path / "models" / "meadow.safetensors", w.sd1(9))
    with pytest.raises(BrokenFileError, match=r"model_index\.json is missing"):
        files.folder("meadow")


def test_an_ambiguous_name_is_refused_naming_the_models(files: CheckpointShelf, tmp_path: Path):
    for folder in "ab":
        put_small(tmp_path / "models" / folder / "meadow.safetensors")
    assert files.names() == ("a/meadow", "b/meadow")
    with pytest.raises(NotFoundError, match="stands for 2 models: choose one of 'a/meadow', 'b/"):
        files.folder("meadow")
    assert files.folder("b/meadow").name == "b/meadow"


def put_in_hub(models: Path, repository: str, revision: str, *, main: bool = False) -> Path:
    """A model's folder as the hub's cache keeps it."""
    root = models / f"models--{repository.replace('/', '--')}"
    path = put_model(root / "snapshots", revision)
    if main:
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text(revision)
    return path


def test_a_folder_of_the_hubs_cache_is_a_model_by_the_repositorys_name(
    files: CheckpointShelf, tmp_path: Path
):
    models = tmp_path / "models"
    put_in_hub(models, "somebody/harbour", "abc")
    expected = put_in_hub(models, "painter/meadow-xl", "def", main=True)
    put_in_hub(models, "painter/meadow-xl", "0123")
    assert files.names() == ("harbour", "meadow-xl")
    assert files.folder("meadow-xl").path == expected
    assert files.folder("painter/meadow-xl").path == expected
    put_in_hub(models, "other/harbour", "abc")
    assert files.names() == ("meadow-xl", "other/harbour", "somebody/harbour")


def test_a_single_file_in_the_hubs_cache_is_found_through_its_link(
    files: CheckpointShelf, tmp_path: Path
):
    hub = tmp_path / "models" / "models--painter--meadow"
    put_small(hub / "blobs" / "4711")
    (hub / "snapshots" / "abc").mkdir(parents=True)
    link = hub / "snapshots" / "abc" / "meadow-fp8.safetensors"
    link.symlink_to("../../blobs/4711")
    assert files.names() == ("meadow-fp8",)
    assert files.find("meadow-fp8").file == link


def test_a_look_reads_none_of_hundreds_of_files_again(
    files: CheckpointShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = put_small(tmp_path / "models" / "0.safetensors")
    for n in range(1, 300):
        (first.with_name(f"{n}.safetensors")).write_bytes(first.read_bytes())
    files.names()
    opened = files_opened(monkeypatch)
    assert lines_run(lambda: files.folder("299")) < 100 * 300
    assert [path.name for path in opened] == ["model_index.json"]

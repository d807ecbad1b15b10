from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

from webui.errors import BrokenFileError, NotFoundError
from webui.generation.annotator_files import FILES, missing
from webui.generation.annotators import NETWORKS, Options, Picture, annotate
from webui.request import Preprocessor

OPTIONS = Options(64, 0.1, 0.1)
PICTURE: Picture = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)

PACKAGE = """raise ImportError("the whole package was imported")"""
HED = """
import numpy as np, torch
from .util import shade
class ControlNetHED_Apache2(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.light = torch.nn.Parameter(torch.zeros(1))
class HEDdetector:
    def __init__(self, network):
        self.network = network
    def __call__(self, picture, detect_resolution, image_resolution, output_type, scribble):
        side = detect_resolution
        return np.full((side, 2 * side, 3), shade(self.network.light, scribble), np.uint8)
"""
UTIL = """
def shade(light, scribble):
    return int(light) + 100 * scribble
def ade_palette():
    return [[n, 255 - n, 7] for n in range(150)]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of controlnet-aux, whose own `__init__` cannot be imported."""
    folder = tmp_path / "packages" / "controlnet_aux"
    (folder / "hed").mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "hed" / "__init__.py").write_text(HED.replace("from .util", "from ..util"))
    (folder / "util.py").write_text(UTIL)
    for name in [name for name in sys.modules if name.startswith("controlnet_aux")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("sys.path", [str(folder.parent), *sys.path])
    names = ("controlnet_aux", "controlnet_aux.hed", "controlnet_aux.util")
    for name in names:
        # So that whatever the test imports is taken out again.
        monkeypatch.setitem(sys.modules, name, sys)
        del sys.modules[name]


def put(folder: Path, **values: float) -> None:
    tensors = {name: torch.tensor([float(value)]) for name, value in values.items()}
    (folder / "ControlNetHED.safetensors").write_bytes(save(tensors))


def drawn(name: Preprocessor, folder: Path) -> Picture:
    return annotate(name, PICTURE, OPTIONS, (folder / "none", folder), "cpu")


@pytest.mark.usefixtures("package")
def test_only_the_module_that_is_used_is_imported(tmp_path: Path) -> None:
    put(tmp_path, light=60)
    assert drawn("hed", tmp_path).shape == PICTURE.shape
    assert set(np.unique(drawn("hed", tmp_path))) == {60}
    assert set(np.unique(drawn("scribble hed", tmp_path))) == {160}


@pytest.mark.usefixtures("package")
def test_weights_that_do_not_fit_are_told_in_a_sentence(tmp_path: Path) -> None:
    put(tmp_path, dark=60)
    with pytest.raises(BrokenFileError, match="'hed' does not work") as error:
        drawn("hed", tmp_path)
    assert error.value.field == "controls"


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_says_what_belongs_where(name: Preprocessor, tmp_path: Path) -> None:
    sentence = missing(name, (tmp_path,))
    for file in FILES[name].names:
        assert file in sentence
    assert str(tmp_path) in sentence
    assert sentence.endswith(".")
    with pytest.raises(NotFoundError) as error:
        annotate(name, PICTURE, OPTIONS, (tmp_path,), "cpu")
    assert error.value.message == sentence


def test_every_network_has_its_files() -> None:
    assert set(NETWORKS) == set(FILES)


SMALL = {"height": 64, "width": 64}


def keep(folder: Path, *parts: Any) -> None:
    for part in parts:
        part.save_pretrained(folder)


@pytest.fixture(scope="module")
def transformers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks of the real classes."""
    folder = tmp_path_factory.mktemp("annotators")
    torch.default_generator.manual_seed(0)
    depth = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    keep(folder / "depth", DPTForDepthEstimation(depth), DPTImageProcessor(size=SMALL))
    kind: Any = SegformerConfig
    parts = kind(
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_labels=150,
    )
    network = SegformerForSemanticSegmentation(parts)
    keep(folder / "segment", network, SegformerImageProcessor(size=SMALL))
    return folder


def test_depth_is_grey_from_far_to_near(transformers_folder: Path) -> None:
    depth = drawn("depth", transformers_folder)
    assert depth.shape == PICTURE.shape
    assert (depth.min(), depth.max()) == (0, 255)
    assert (depth[..., 0] == depth[..., 2]).all()


def test_normals_are_what_the_depth_leans_to(
    transformers_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slope that comes nearer to the right faces left: red; to the bottom, up: green."""

    def colour(near: np.ndarray) -> list[float]:
        def depth_of(*_: object) -> np.ndarray:
            return near

        monkeypatch.setattr("webui.generation.annotators._depth_of", depth_of)
        return drawn("normal depth", transformers_folder)[16:32, 24:56].mean((0, 1)).tolist()

    level = np.zeros((48, 80), np.float32)
    right = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (48, 1))
    down = np.tile(np.linspace(0, 1, 48, dtype=np.float32)[:, None], (1, 80))
    assert colour(level) == pytest.approx([128, 128, 255], abs=1)
    assert colour(right)[0] > 150 > colour(right)[1]
    assert colour(-right)[0] < 100
    assert colour(down)[1] > 150 > colour(down)[0]


@pytest.mark.usefixtures("package")
def test_parts_have_the_colours_of_the_palette(transformers_folder: Path) -> None:
    parts = drawn("segment", transformers_folder)
    assert parts.shape == PICTURE.shape
    assert set(np.unique(parts[..., 2])) == {7}
    assert (parts[..., 0].astype(int) + parts[..., 1] == 255).all()

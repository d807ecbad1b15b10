"""Models of one pipeline that are of different kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from webui.generation.families import (
    FLUX2_KLEIN,
    FLUX2_KLEIN_BASE,
    Z_IMAGE,
    Z_IMAGE_TURBO,
    Family,
    family_of,
)
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook

KLEIN = ("double_stream_modulation_img.lin.weight", "single_blocks.19.norm.key_norm.scale")
Z = (
    "cap_embedder.0.weight",
    "layers.0.adaLN_modulation.0.bias",
    "layers.29.attention_norm1.weight",
)

CONFIGS = {
    "flux2-klein-4b/model_index.json": {
        "_class_name": "Flux2KleinPipeline",
        "is_distilled": True,
    },
    "z-image/model_index.json": {"_class_name": "ZImagePipeline"},
    "z-image/scheduler/scheduler_config.json": {"shift": 6.0},
    "z-image-turbo/model_index.json": {"_class_name": "ZImagePipeline"},
    "z-image-turbo/scheduler/scheduler_config.json": {"shift": 3.0},
}


@pytest.mark.parametrize(
    ("name", "tensors", "family"),
    [
        ("flux-2-klein-4b", KLEIN, FLUX2_KLEIN),
        ("flux-2-klein-base-4b", KLEIN, FLUX2_KLEIN_BASE),
        ("z_image_bf16", Z, Z_IMAGE),
        ("z_image_turbo_bf16", Z, Z_IMAGE_TURBO),
    ],
)
def test_a_single_file_is_told_by_its_name(
    tmp_path: Path, name: str, tensors: tuple[str, ...], family: Family
) -> None:
    for file, said in CONFIGS.items():
        path = tmp_path / "configs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(said))
    models = tmp_path / "models"
    models.mkdir()
    data = save({tensor: np.zeros((1,), np.float16) for tensor in tensors})
    (models / f"{name}.safetensors").write_bytes(data)
    hashes = HashBook(tmp_path / "hashes.json")
    shelf = CheckpointShelf((models,), hashes, tmp_path / "configs")
    assert family_of(shelf.folder(name)) is family

"""Which of a part's files are read, where a folder has several versions of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.library.pipeline_folders import part_files, variant_in

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
FP16 = ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors")
NET = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("there", "index", "read"),
    [
        (("model.safetensors",), None, ("model.safetensors",)),
        (("model.safetensors", "model.fp16.safetensors"), None, ("model.safetensors",)),
        (("model.fp16.safetensors", "model.bf16.safetensors"), None, ("model.bf16.safetensors",)),
        # As transformers does where both are there; without an index, it is one version of them.
        (("model.safetensors", *SHARDS), SHARDS, ("model.safetensors",)),
        ((*SHARDS, *FP16), SHARDS, SHARDS),
        # Pieces of an older download.
        ((*SHARDS, "model-00001-of-00003.safetensors"), SHARDS, SHARDS),
        # As diffusers does.
        ((f"{NET}.safetensors", f"{NET}-00001-of-00001.safetensors"), ("one",), ("one",)),
        # As others call them.
        (("0.safetensors", "1.safetensors"), None, ("0.safetensors", "1.safetensors")),
        ((), None, ()),
    ],
)
def test_the_files_that_a_part_is_read_from(
    tmp_path: Path, there: tuple[str, ...], index: tuple[str, ...] | None, read: tuple[str, ...]
) -> None:
    for name in there:
        (tmp_path / name).touch()
    if index is not None:
        stem = NET if any(name.startswith(NET) for name in there) else "model"
        places = {f"weight.{at}": name for at, name in enumerate(index)}
        (tmp_path / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert tuple(file.name for file in part_files(tmp_path)) == read


def test_the_pieces_of_a_version_are_those_that_its_own_index_names(tmp_path: Path) -> None:
    for name in FP16:
        (tmp_path / name).touch()
    places = {"weight": FP16[1]}
    (tmp_path / "model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": places}))
    assert variant_in(tmp_path) == "fp16"
    assert [file.name for file in part_files(tmp_path)] == [FP16[1]]

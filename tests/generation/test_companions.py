from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors import torch as safetensors

from webui.generation.companions import find_part, find_tokenizer
from webui.settings import ROOT

save_file: Any = cast(Any, safetensors).save_file
FLUX = ROOT / "webui" / "generation" / "configs" / "flux-dev"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "models" / "flux").mkdir(parents=True)
    return tmp_path / "models" / "flux" / "a.safetensors"


def write_clip(path: Path, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "text_model.embeddings.position_embedding.weight": torch.zeros(77, width),
        "text_model.embeddings.token_embedding.weight": torch.zeros(8, width),
    }
    save_file(tensors, path)


def test_a_text_encoder_in_the_folder_for_them_is_found_by_what_is_in_it(file: Path) -> None:
    folder = file.parents[1] / "text_encoders"
    write_clip(folder / "big.safetensors", 1280)
    (folder / "broken.safetensors").write_bytes(b"x")
    assert find_part(file, FLUX, "text_encoder", "CLIPTextModel") is None
    write_clip(folder / "further" / "small.safetensors", 768)
    found = find_part(file, FLUX, "text_encoder", "CLIPTextModel")
    assert found == folder / "further" / "small.safetensors"
    assert find_part(file, FLUX, "vae", "AutoencoderKL") is None


def test_a_tokenizer_is_found_by_its_class(file: Path) -> None:
    folder = file.parents[1] / "text_encoders"
    for name, cls in (("other", "Qwen2Tokenizer"), ("t5", "T5Tokenizer")):
        (folder / name).mkdir(parents=True)
        (folder / name / "tokenizer.json").write_text("{}")
        (folder / name / "tokenizer_config.json").write_text(f'{{"tokenizer_class": "{cls}"}}')
    assert find_tokenizer(file, "T5TokenizerFast") == folder / "t5"
    assert find_tokenizer(file, "PixtralProcessor") is None


def test_a_part_in_the_hubs_cache_must_have_its_weights(file: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--o--n" / "snapshots" / "0"
    (snapshot / "text_encoder_3").mkdir(parents=True)
    index = '{"_class_name": "X", "text_encoder_3": ["transformers", "T5EncoderModel"]}'
    (snapshot / "model_index.json").write_text(index)
    (snapshot / "text_encoder_3" / "config.json").write_text('{"d_model": 4096}')
    assert find_part(file, FLUX, "text_encoder_2", "T5EncoderModel") is None
    (snapshot / "text_encoder_3" / "model.safetensors").write_bytes(b"")
    assert find_part(file, FLUX, "text_encoder_2", "T5EncoderModel") == snapshot / "text_encoder_3"
    (snapshot / "text_encoder_3" / "config.json").write_text('{"d_model": 2048}')
    assert find_part(file, FLUX, "text_encoder_2", "T5EncoderModel") is None

"""What a single file lacks is found wherever it may lie, and not something like it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors import torch as safetensors

from tests.library import weights as w
from webui.generation.companions import Companions, MissingPart, find_tokenizer, missing_parts
from webui.library.checkpoints import Model
from webui.settings import ROOT

save_file: Any = cast(Any, safetensors).save_file
CONFIGS = ROOT / "webui" / "generation" / "configs"
T5, QWEN3, MISTRAL = 32_100, 151_669, 131_072
"""Numbers that the published tokenizers have."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A transformer alone in a folder of the hub's layout, far down in that of the models."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    path = tmp_path / "models" / "models--a--b" / "snapshots" / "0" / "deep" / "a.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, path)
    return path


def model_of(file: Path, config: str = "flux-dev") -> Model:
    folders = (file.parents[4], ROOT / "models")
    return Model("a", CONFIGS / config, "FluxPipeline", file, folders=folders)


def write_clip(path: Path, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "text_model.embeddings.position_embedding.weight": torch.zeros(77, width),
        "text_model.embeddings.token_embedding.weight": torch.zeros(8, width),
    }
    save_file(tensors, path)


def write_t5(path: Path, dtype: torch.dtype) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"encoder.final_layer_norm.weight": torch.zeros(4096, dtype=dtype)}, path)


def write_tokenizer(folder: Path, numbers: int, **settings: str) -> Path:
    """A tokenizer's folder, with the highest of its numbers as an added token."""
    folder.mkdir(parents=True)
    vocabulary = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": numbers - 1}]}
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_pipeline(folder: Path, parts: Mapping[str, str], encoder: Mapping[str, Any]) -> Path:
    """A model in diffusers' layout of a tokenizer and its text encoder."""
    (folder / "text_encoder").mkdir(parents=True)
    (folder / "text_encoder" / "config.json").write_text(json.dumps(encoder))
    index = {part: ["transformers", kind] for part, kind in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_text_encoder_in_the_folder_for_them_is_found_by_what_is_in_it(file: Path) -> None:
    folder = file.parents[4] / "text_encoders"
    write_clip(folder / "big.safetensors", 1280)
    (folder / "broken.safetensors").write_bytes(b"x")
    assert Companions(model_of(file)).place("text_encoder") is None
    write_clip(folder / "further" / "small.safetensors", 768)
    found = Companions(model_of(file))
    assert found.place("text_encoder") == folder / "further" / "small.safetensors"
    assert found.place("vae") is None


def test_the_most_exact_of_several_files_is_taken_and_the_others_are_told(file: Path) -> None:
    folder = file.parents[4] / "text_encoders"
    write_t5(folder / "a_fp8.safetensors", torch.float8_e4m3fn)
    write_t5(folder / "b_fp16.safetensors", torch.float16)
    # Nothing is gained by more: models run in 16 bits.
    write_t5(folder / "c_fp32.safetensors", torch.float32)
    (found,) = Companions(model_of(file)).elsewhere
    assert found.path.name == "b_fp16.safetensors"
    assert [path.name for path in found.others] == ["c_fp32.safetensors", "a_fp8.safetensors"]


def test_four_bits_are_less_exact_than_eight(file: Path) -> None:
    folder = file.parents[4] / "text_encoders"
    shapes, types = w.bnb_nf4(w.t5(depth=2), but=("shared.weight",))
    w.put(folder / "a_nf4.safetensors", shapes, "BF16", types)
    w.put(folder / "b_fp8.safetensors", w.t5(depth=2), "F8_E4M3", {"shared.weight": "BF16"})
    (found,) = Companions(model_of(file)).elsewhere
    assert found.path.name == "b_fp8.safetensors"


def test_what_is_missing_is_told_part_by_part(file: Path) -> None:
    models = file.parents[4]
    assert missing_parts(model_of(file)) == (
        MissingPart("text_encoder", "a CLIP text encoder", models / "text_encoders"),
        MissingPart("text_encoder_2", "the T5 text encoder (t5xxl)", models / "text_encoders"),
        MissingPart(
            "tokenizer_2",
            "the T5 tokenizer",
            models / "text_encoders",
            "PixArt-alpha/PixArt-XL-2-1024-MS/tokenizer",
        ),
        MissingPart("vae", "the VAE of FLUX.1", models / "vae"),
    )
    # Its T5 is one that Stable Diffusion 3 can do without.
    assert [one.part for one in missing_parts(model_of(file, "sd3.5-large"))] == [
        *("text_encoder", "text_encoder_2", "vae"),
    ]
    # But not without the tokenizer once it is there.
    write_t5(models / "text_encoders" / "t5.safetensors", torch.float16)
    assert "tokenizer_3" in {one.part for one in missing_parts(model_of(file, "sd3.5-large"))}
    embedded = Model("postcard", ROOT / "models" / "postcard", "StableDiffusionPipeline")
    assert missing_parts(embedded) == ()
    assert find_tokenizer(embedded) == embedded.path / "tokenizer"


def test_a_tokenizer_is_found_by_its_class_and_by_how_many_numbers_it_has(file: Path) -> None:
    folder = file.parents[4] / "text_encoders"
    write_tokenizer(folder / "another", T5, tokenizer_class="Qwen2Tokenizer")
    # That of the T5 of many languages, whose numbers are beyond the text encoder's table.
    write_tokenizer(folder / "of-wan", 256_300, tokenizer_class="T5TokenizerFast")
    write_tokenizer(folder / "of-proteins", 128, tokenizer_class="T5Tokenizer")
    assert find_tokenizer(model_of(file), "tokenizer_2") is None
    own = write_tokenizer(folder / "t5", T5, tokenizer_class="T5Tokenizer")
    assert find_tokenizer(model_of(file), "tokenizer_2") == own


def test_a_tokenizer_that_writes_conversations_otherwise_is_not_taken(
    file: Path, tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    kinds = {"tokenizer": "Qwen2Tokenizer"}
    first = write_pipeline(hub / "models--a" / "snapshots" / "0", kinds, {"hidden_size": 3584})
    other = write_tokenizer(first / "tokenizer", 151_665, chat_template="You are helpful.")
    assert find_tokenizer(model_of(file, "z-image")) is None
    # Where the text encoder is told no conversation, its template is of no use.
    assert find_tokenizer(model_of(file, "qwen-image")) == other
    thinks = "{% if enable_thinking %}"
    (other / "tokenizer_config.json").write_text(json.dumps({"chat_template": thinks}))
    assert find_tokenizer(model_of(file, "z-image")) == other
    # The one beside a text encoder of the same sizes comes first, though not by name.
    alike = {"hidden_size": 2560, "vocab_size": 151_936}
    second = write_pipeline(hub / "models--b" / "snapshots" / "0", kinds, alike)
    right = write_tokenizer(second / "tokenizer", QWEN3)
    (right / "chat_template.jinja").write_text(thinks)
    assert find_tokenizer(model_of(file, "z-image")) == right


def test_a_processors_tokenizer_is_found_by_the_processors_class(file: Path) -> None:
    folder = file.parents[4] / "text_encoders" / "tokenizer"
    settings = {"tokenizer_class": "LlamaTokenizerFast", "processor_class": "PixtralProcessor"}
    write_tokenizer(folder, MISTRAL, **settings, chat_template="{{ message.content }}")
    assert find_tokenizer(model_of(file, "flux2-dev")) == folder


def test_a_part_in_the_hubs_cache_must_have_its_weights(file: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--o--n" / "snapshots" / "0"
    (snapshot / "text_encoder_3").mkdir(parents=True)
    index = '{"_class_name": "X", "text_encoder_3": ["transformers", "T5EncoderModel"]}'
    (snapshot / "model_index.json").write_text(index)
    config = snapshot / "text_encoder_3" / "config.json"
    config.write_text('{"d_model": 4096}')
    assert Companions(model_of(file)).place("text_encoder_2") is None
    (snapshot / "text_encoder_3" / "model.safetensors").write_bytes(b"")
    assert Companions(model_of(file)).place("text_encoder_2") == config.parent
    config.write_text('{"d_model": 2048}')
    assert Companions(model_of(file)).place("text_encoder_2") is None


@pytest.mark.parametrize(("width", "is_found"), [(3584, True), (2048, False)])
def test_a_language_model_that_sees_is_known_by_the_sizes_within(
    file: Path, tmp_path: Path, width: int, *, is_found: bool
) -> None:
    snapshot = tmp_path / "hub" / "models--o--n" / "snapshots" / "0"
    kinds = {"text_encoder": "Qwen2_5_VLForConditionalGeneration"}
    about: dict[str, Any] = {"image_token_id": 151_655, "text_config": {"hidden_size": width}}
    write_pipeline(snapshot, kinds, about)
    (snapshot / "text_encoder" / "model.safetensors").write_bytes(b"")
    found = Companions(model_of(file, "qwen-image")).place("text_encoder")
    assert found == (snapshot / "text_encoder" if is_found else None)


def place_of(file: Path, config: str, part: str, *names: str, shapes: w.Shapes) -> str | None:
    """The name of the file with a part that is used of several that are alike in all else."""
    folder = file.parents[4] / ("vae" if part == "vae" else "text_encoders")
    for name in names:
        w.put(folder / name, shapes, "BF16")
    found = Companions(model_of(file, config)).place(part)
    return None if found is None else found.name


def test_wans_vae_is_used_where_there_is_none_of_the_models_own(file: Path) -> None:
    wan = ("Wan2_1_VAE_bf16.safetensors", "wan_2.1_vae.safetensors")
    shapes = w.wan_vae()
    w.put(file.parents[4] / "vae" / "wan2.2_vae.safetensors", w.wan_vae(48, 1024, 12))
    assert place_of(file, "qwen-image", "vae", *wan, shapes=shapes) == wan[0]
    (found,) = Companions(model_of(file, "qwen-image")).elsewhere
    assert (found.choice or "").startswith(f"For want of this model's own, {wan[0]} is used as the")
    own = file.parents[4] / "vae" / "qwen_image_vae_fp8.safetensors"
    w.put(own, shapes, "F8_E4M3")
    (found,) = Companions(model_of(file, "qwen-image")).elsewhere
    # It is another model's, however exact, and no choice of one's own.
    assert (found.path, found.choice) == (own, None)


def test_a_vae_that_every_repository_calls_the_same_is_known_by_its_folder(file: Path) -> None:
    name = "stable-diffusion-3.5/diffusion_pytorch_model.safetensors"
    assert place_of(file, "flux-dev", "vae", name, shapes=w.vae(16)) is None
    assert place_of(file, "sd3.5-large", "vae", name, shapes=w.vae(16)) is not None


@pytest.mark.parametrize(
    ("config", "part", "other", "published", "shapes"),
    [
        ("flux-dev", "vae", "a_soft_vae", "ae", w.vae(16)),
        ("flux2-klein-4b", "vae", "black_vae", "flux2-vae", w.vae(32)),
        ("flux-dev", "text_encoder", "aesthetic", "clip_l", w.clip(768, 1)),
    ],
)
def test_of_files_as_exact_the_published_one_is_used(
    file: Path, config: str, part: str, other: str, published: str, shapes: w.Shapes
) -> None:
    names = (f"{other}.safetensors", f"{published}.safetensors")
    assert place_of(file, config, part, *names, shapes=shapes) == names[1]


@pytest.mark.parametrize(
    ("config", "part", "name", "shapes"),
    [
        ("z-image", "text_encoder", "abliterated_qwen3vl_4b", w.qwen3_vl(2560)),
        (
            "z-image",
            "text_encoder",
            "ace_15_qwen_4b",
            w.language_model(2560, 36, query_norm=True, vocabulary=217_204),
        ),
        ("flux2-klein-9b", "text_encoder", "a_qwen3vl_8b", w.qwen3_vl(4096)),
        ("flux-dev", "text_encoder", "Long-ViT-L-14", w.clip(768, 12, 248)),
        ("qwen-image", "vae", "a_vae", w.wan_vae(48, 1024, 12)),
    ],
)
def test_what_resembles_a_part_is_none(
    file: Path, config: str, part: str, name: str, shapes: w.Shapes
) -> None:
    assert place_of(file, config, part, f"{name}.safetensors", shapes=shapes) is None

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tests.work import files_opened, lines_run
from webui.errors import BrokenFileError, NotFoundError
from webui.library.distilled import Distilled
from webui.library.hashes import HashBook
from webui.library.headers import Header, header_in
from webui.library.loras import LoraCard, LoraShelf

ATTN2 = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
FEED = "down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"


def kohya(width: int = 768, rank: int = 4, module: str = ATTN2) -> dict[str, tuple[int, ...]]:
    return {
        f"lora_unet_{module}.lora_down.weight": (rank, width),
        f"lora_unet_{module}.lora_up.weight": (320, rank),
        f"lora_unet_{module}.alpha": (),
    }


def put(path: Path, shapes: dict[str, tuple[int, ...]], **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    path.write_bytes(save(tensors, metadata=metadata or None))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "loras"


@pytest.fixture
def shelf(tmp_path: Path, folder: Path) -> LoraShelf:
    folder.mkdir()
    return LoraShelf((folder,), HashBook(tmp_path / "state" / "hashes.json"))


def only(shelf: LoraShelf) -> LoraCard:
    (card,) = shelf.cards()
    return card


def test_a_folder_tells_of_a_file_that_is_called_as_everywhere(shelf: LoraShelf, folder: Path):
    put(folder / "lcm-lora-sdv1-5" / "pytorch_lora_weights.safetensors", kohya())
    assert only(shelf).facts.distilled == Distilled("lcm", 6)


def test_a_card_tells_what_the_header_says(shelf: LoraShelf, folder: Path):
    te = {
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (4, 768),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": (768, 4),
    }
    put(
        folder / "styles" / "ink.safetensors",
        kohya() | te,
        ss_output_name="ink_v2",
        ss_network_alpha="2.0",
        ss_sd_model_name="meadow.safetensors",
        ss_tag_frequency=json.dumps({"a": {"paper": 3, "ink": 9}, "b": {"paper": 4}}),
        **{"modelspec.trigger_phrase": "ink drawing, lines"},
    )
    card = only(shelf)
    assert (card.name, card.file) == ("ink", "styles/ink.safetensors")
    facts = card.facts
    assert (facts.family, facts.kind, facts.rank, facts.alpha) == ("SD 1", "lora", 4, 2.0)
    assert facts.parts == ("text_encoder", "unet")
    assert facts.trained_on == "meadow.safetensors"
    assert facts.triggers == ("ink drawing", "lines", "ink", "paper")
    assert facts.problem is None
    assert card.size == card.path.stat().st_size


@pytest.mark.parametrize(
    ("shapes", "family", "kind"),
    [
        (kohya(768), "SD 1", "lora"),
        (kohya(1024), "SD 2", "lora"),
        (kohya(2048), "SDXL", "lora"),
        (kohya(320, module=FEED), "unknown", "lora"),
        (kohya(192), "unknown", "lora"),
        ({"lora_te2_x.lora_down.weight": (4, 1280)}, "SDXL", "lora"),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 3072)}, "Flux", "lora"),
        ({"transformer.single_transformer_blocks.0.x.to_q.lora_A.weight": (4, 9)}, "Flux", "lora"),
        ({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (4, 3072)}, "Flux", "lora"),
        ({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (4, 1536)}, "SD 3", "lora"),
        ({"lora_unet_joint_blocks_0_x.lora_down.weight": (4, 1536)}, "SD 3", "lora"),
        (
            {
                "diffusion_model.input_blocks.4.1.attn2.to_k.lora_up.weight": (320, 4),
                "diffusion_model.input_blocks.4.1.attn2.to_k.lora_down.weight": (4, 2048),
            },
            "SDXL",
            "lora",
        ),
        ({f"lycoris_{ATTN2}.lokr_w1": (4, 4)}, "unknown", "lokr"),
        ({"double_blocks.0.processor.qkv_lora1.down.weight": (16, 3072)}, "Flux", "lora"),
        ({"single_blocks.0.processor.proj_lora.down.weight": (16, 15360)}, "Flux", "lora"),
        ({"unet.down_blocks.0.attn2.to_k.lora_A.weight": (8, 768)}, "SD 1", "lora"),
        ({"unet.a.attn2.processor.to_k_lora.down.weight": (8, 768)}, "SD 1", "lora"),
        (
            {"diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight": (4, 6144)},
            "Flux 2",
            "lora",
        ),
        ({"lora_unet_single_blocks_0_linear2.lora_down.weight": (4, 16384)}, "Flux 2", "lora"),
        (
            {
                "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight": (
                    4,
                    3072,
                )
            },
            "Flux 2",
            "lora",
        ),
        ({"diffusion_model.layers.0.attention.qkv.lora_A.weight": (4, 3840)}, "Z-Image", "lora"),
        ({"lora_unet_layers_0_feed_forward_w1.lora_down.weight": (4, 3840)}, "Z-Image", "lora"),
        ({"transformer_blocks.0.img_mlp.net.2.lora_A.weight": (4, 12288)}, "Qwen-Image", "lora"),
        (
            {"lora_unet_transformer_blocks_0_txt_mod_1.lora_down.weight": (4, 1)},
            "Qwen-Image",
            "lora",
        ),
        (
            {"transformer.transformer_blocks.59.attn.to_q.lora_A.weight": (4, 3072)},
            "Qwen-Image",
            "lora",
        ),
        ({"lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3)}, "unknown", "locon"),
        ({f"lora_unet_{ATTN2}.hada_w1_b": (4, 768)}, "SD 1", "loha"),
        ({f"lora_unet_{ATTN2}.lokr_w1": (4, 4)}, "unknown", "lokr"),
        (kohya() | {f"lora_unet_{ATTN2}.dora_scale": (320, 1)}, "SD 1", "dora"),
        ({f"lora_unet_{ATTN2}.diff": (320, 768)}, "SD 1", "full"),
        ({f"lora_unet_{ATTN2}.oft_blocks": (4, 8, 8)}, "unknown", "unknown"),
    ],
)
def test_family_and_kind(
    shelf: LoraShelf, folder: Path, shapes: dict[str, tuple[int, ...]], family: str, kind: str
):
    put(folder / "a.safetensors", shapes)
    facts = only(shelf).facts
    assert (facts.family, facts.kind, facts.problem) == (family, kind, None)


@pytest.mark.parametrize(
    "layer",
    [
        # Wan as ComfyUI and as kohya have it.
        "diffusion_model.blocks.0.self_attn.q.lora_A",
        "lora_unet_blocks_0_self_attn_q.lora_down",
    ],
)
def test_one_for_models_that_are_not_served_says_so(shelf: LoraShelf, folder: Path, layer: str):
    put(folder / "a.safetensors", {f"{layer}.weight": (4, 2304)})
    problem = only(shelf).facts.problem
    assert problem is not None
    assert problem.startswith(
        "a.safetensors is a LoRA for a kind of model that is not served: take"
    )


def test_where_the_names_do_not_tell_the_family_the_metadata_do(shelf: LoraShelf, folder: Path):
    put(folder / "a.safetensors", kohya(192), ss_base_model_version="sd_v1")
    assert only(shelf).facts.family == "SD 1"


def test_a_folder_of_peft_is_one_lora_by_the_folders_name(shelf: LoraShelf, folder: Path):
    name = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    put(folder / "night" / "adapter_model.safetensors", {f"{name}.lora_A.weight": (4, 768)})
    config = folder / "night" / "adapter_config.json"
    config.write_text(json.dumps({"r": 4, "lora_alpha": 16, "base_model_name_or_path": "meadow"}))
    card = shelf.find("night")
    assert (card.facts.alpha, card.facts.parts, card.config) == (16.0, ("unet",), config)
    before = shelf.hashes(card).sha256
    config.write_text(json.dumps({"r": 4, "lora_alpha": 32}))
    card = shelf.find("night")
    assert card.facts.alpha == 32.0
    assert shelf.hashes(card).sha256 != before
    config.write_text("{")
    assert only(shelf).facts.problem == "night/adapter_config.json is damaged: fetch it again."


def test_a_name_is_a_path_a_stem_or_an_alias_in_this_order(shelf: LoraShelf, folder: Path):
    put(folder / "ink.safetensors", kohya(), ss_output_name="pen")
    put(folder / "pen.safetensors", kohya(rank=8), ss_output_name="brush")
    assert shelf.find("pen").file == "pen.safetensors"
    assert shelf.find("brush").file == "pen.safetensors"
    assert shelf.find("ink.safetensors").file == "ink.safetensors"


def test_an_ambiguous_name_is_refused_naming_the_files(shelf: LoraShelf, folder: Path):
    for where in ("a", "b"):
        put(folder / where / "ink.safetensors", kohya(), ss_output_name="pen")
    assert [card.name for card in shelf.cards()] == ["a/ink", "b/ink"]
    assert shelf.find("b/ink").file == "b/ink.safetensors"
    for name in ("ink", "pen"):
        with pytest.raises(
            NotFoundError, match=r"a/ink\.safetensors, b/ink\.safetensors"
        ) as caught:
            shelf.find(name)
        assert caught.value.field == "loras"


def test_an_unknown_name_names_the_nearest(shelf: LoraShelf, folder: Path):
    with pytest.raises(NotFoundError, match="There is no LoRA in"):
        shelf.find("ink")
    put(folder / "ink_wash.safetensors", kohya())
    with pytest.raises(NotFoundError, match="did you mean 'ink_wash'"):
        shelf.find("inkwash")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.safetensors", b"\x10", "truncated"),
        ("a.safetensors", save({"x": np.zeros(64)})[:-8], "truncated"),
        ("a.safetensors", save({"x": np.zeros(4)}), "no LoRA"),
        ("a.safetensors", b"\x04\0\0\0\0\0\0\0null", "damaged header"),
        ("a.pt", b"anything", "pickle"),
        ("a.ckpt", b"anything", "pickle"),
    ],
)
def test_a_file_that_cannot_be_used_is_listed_with_the_reason(
    shelf: LoraShelf, folder: Path, name: str, data: bytes, says: str
):
    (folder / name).write_bytes(data)
    card = only(shelf)
    assert card.name == "a"
    assert card.facts.problem is not None
    assert says in card.facts.problem
    with pytest.raises(BrokenFileError, match=says) as caught:
        shelf.find("a")
    assert caught.value.field == "loras"


def test_hashes_are_those_other_tools_know(shelf: LoraShelf, folder: Path):
    path = put(folder / "ink.safetensors", kohya())
    again = put(folder / "other.safetensors", kohya(), ss_output_name="x")
    first, second = shelf.hashes(shelf.find("ink")), shelf.hashes(shelf.find("other"))
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert first.sha256 == hashlib.sha256(data).hexdigest()
    assert first.auto_v2 == first.sha256[:10]
    assert first.auto_v3 == hashlib.sha256(data[start:]).hexdigest()[:12]
    assert (second.auto_v3, second.auto_v2) != (first.auto_v3, first.auto_v2)
    assert second.auto_v3 == first.auto_v3
    assert again.exists()


def test_for_all_its_hashes_a_file_is_read_once(
    shelf: LoraShelf, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    put(folder / "ink.safetensors", kohya())
    card = only(shelf)
    read: list[Path] = []
    true: Any = HashBook.digests

    def digests(self: HashBook, path: Path, *rest: Any) -> list[str]:
        read.append(path)
        return true(self, path, *rest)

    monkeypatch.setattr(HashBook, "digests", digests)
    shelf.hashes(card)
    assert read == [card.path]


def test_a_thousand_files_are_read_once_and_by_the_next_process_not_at_all(
    shelf: LoraShelf, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As they come from a trainer: alike but for their metadata, and so looked through once."""
    module = "up_blocks_1_attentions_2_transformer_blocks_0_attn1_to_out_0"
    shapes = {
        f"lora_unet_{n}_{module}.{end}": (1, 1)
        for n in range(40)
        for end in ("alpha", "lora_down.weight", "lora_up.weight")
    }
    kinds = [
        put(
            folder / f"{n}.safetensors",
            shapes,
            ss_tag_frequency=json.dumps({"1_a": {f"tag {n} {m}": m for m in range(500)}}),
        )
        for n in range(4)
    ]
    for n in range(4, 1000):
        (folder / f"{n}.safetensors").hardlink_to(kinds[n % 4])
    looked_through: list[str] = []

    def looking(text: bytes, *, size: int | None, file: str) -> Header:
        looked_through.append(file)
        return header_in(text, size=size, file=file)

    monkeypatch.setattr("webui.library.alike.header_in", looking)
    cache = tmp_path / "state" / "loras.json"
    opened = files_opened(monkeypatch)
    assert len(shelf.cards()) == 1000
    assert sorted(path for path in opened if path != cache) == sorted(folder.iterdir())
    assert len(looked_through) == 1
    again = LoraShelf((folder,), HashBook(tmp_path / "state" / "hashes.json"))
    opened.clear()
    for one in (shelf, again):
        assert lines_run(one.cards) < 100 * 1000
    assert opened == [cache]


def test_a_changed_file_is_read_again_and_one_that_went_is_forgotten(
    shelf: LoraShelf, folder: Path
):
    path = put(folder / "ink.safetensors", kohya(rank=4))
    assert only(shelf).facts.rank == 4
    put(folder / "ink.safetensors", kohya(rank=8))
    assert only(shelf).facts.rank == 8
    path.unlink()
    assert shelf.cards() == ()


def test_a_damaged_cache_is_begun_anew_and_links_in_a_circle_end(
    shelf: LoraShelf, folder: Path, tmp_path: Path
):
    put(folder / "a" / "ink.safetensors", kohya())
    (folder / "a" / "back").symlink_to(folder, target_is_directory=True)
    state = tmp_path / "state"
    state.mkdir()
    for damage in ("{", "[1]", '{"x": 3}', '{"x": ["1:1", {"rank": "many"}]}'):
        (state / "loras.json").write_text(damage)
        fresh = LoraShelf((folder,), HashBook(state / "hashes.json"))
        assert [card.name for card in fresh.cards()] == ["ink"]

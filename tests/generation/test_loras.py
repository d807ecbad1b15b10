from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.families import tiny, tiny_sdxl
from tests.generation.lora_cases import (
    CASES,
    CONV,
    KOHYA,
    KOHYA_CONV,
    LINEAR,
    Case,
    conv_lora,
    kohya,
    loha,
    low,
    normal,
    put,
    put_peft,
    tiny_model,
)
from tests.work import finite
from webui.errors import BrokenFileError
from webui.generation import loras as loras_module
from webui.generation.lora_files import ReadLora
from webui.generation.lora_names import Layer, spellings
from webui.generation.loras import Loras, Strength
from webui.library.headers import Header
from webui.library.lora_facts import LoraPart, read_facts
from webui.library.loras import LoraCard

Model = Mapping[LoraPart, torch.nn.Module]


@pytest.fixture
def model() -> Model:
    return tiny_model()


def card_of(case: Case, folder: Path) -> LoraCard:
    if case.config is not None:
        return put_peft(folder, case.make(), case.config)
    return put(folder, case.make(), **case.metadata)


def snapshot(model: Model) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor.clone()
        for part, module in model.items()
        for name, tensor in module.named_parameters()
    }


def same(model: Model, before: Mapping[str, torch.Tensor]) -> bool:
    now = snapshot(model)
    return all(torch.equal(now[name], tensor) for name, tensor in before.items())


def places(model: Model) -> list[tuple[int, tuple[int, ...]]]:
    """Where each weight lies in memory and how it is laid out there, which its speed depends on."""
    weights = (weight for module in model.values() for weight in module.parameters())
    return [(weight.data_ptr(), weight.stride()) for weight in weights]


def weight_of(model: Model, path: str, part: LoraPart = "unet") -> torch.Tensor:
    return model[part].get_parameter(f"{path}.weight")


def read(loras: Loras, cards: Mapping[str, LoraCard]) -> tuple[ReadLora, ...]:
    """As a job does it: all of its LoRAs, then the memory of the others is given back."""
    taken = tuple(loras.take(sha256, card) for sha256, card in cards.items())
    loras.forget_all_but(cards)
    return taken


def on(loras: Loras, part: LoraPart = "unet", **strengths: float) -> None:
    loras.merge(part, [Strength(sha256, weight) for sha256, weight in strengths.items()])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("strength", [1.0, -0.6])
def test_each_format_adds_what_its_definition_says_and_comes_off_without_a_trace(
    name: str, strength: float, model: Model, tmp_path: Path
):
    case = CASES[name]
    before, where = snapshot(model), places(model)
    weight = weight_of(model, case.path, case.part)
    expected = weight + case.delta(weight) * strength
    loras = Loras(model)
    (found,) = read(loras, {"a": card_of(case, tmp_path)})
    assert (found.matched, found.total) == (1, 1)
    on(loras, case.part, a=strength)
    torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(weight, before[f"{case.part}.{case.path}.weight"])
    assert places(model) == where
    loras.merge(case.part, ())
    assert same(model, before)
    assert places(model) == where
    assert loras.kept_bytes == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_in_every_number_format_the_sum_is_rounded_about_once(dtype: torch.dtype, tmp_path: Path):
    model = tiny_model(dtype)
    before = snapshot(model)
    cards = {
        "a": put(tmp_path, kohya()(), "a"),
        "b": put(tmp_path, conv_lora(), "b"),
        "c": put(tmp_path, loha(), "c"),
    }
    loras = Loras(model)
    read(loras, cards)
    exact = {
        LINEAR: weight_of(model, LINEAR).double()
        + CASES["kohya without alpha"].delta(weight_of(model, LINEAR)).double() * 0.7
        + CASES["LoHa"].delta(weight_of(model, LINEAR)).double() * 0.3,
        CONV: weight_of(model, CONV).double() + CASES["LoCon"].delta(torch.empty(0)).double() * 0.5,
    }
    on(loras, a=0.7, b=0.5, c=0.3)
    for path, expected in exact.items():
        ulp = torch.finfo(dtype).eps * expected.abs().max()
        assert (weight_of(model, path).double() - expected).abs().max() < 2 * ulp
    loras.merge("unet", ())
    assert same(model, before)


def test_fifty_changes_leave_no_trace_and_the_same_stack_gives_the_same_bits(
    model: Model, tmp_path: Path
):
    before = snapshot(model)
    loras = Loras(model)
    read(loras, {"a": put(tmp_path, kohya()(), "a"), "b": put(tmp_path, loha(), "b")})
    on(loras, a=0.5, b=0.25)
    first = snapshot(model)
    for n in range(50):
        on(loras, a=n / 25 - 1, b=n / 50) if n % 3 else on(loras, a=n / 25 - 1)
    on(loras, a=0.5, b=0.25)
    assert same(model, first)
    loras.merge("unet", ())
    assert same(model, before)


def test_only_what_differs_is_touched(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loras = Loras(model)
    read(loras, {"a": put(tmp_path, kohya()(), "a"), "b": put(tmp_path, conv_lora(), "b")})
    merged: list[torch.Tensor] = []
    whole = loras_module.merge_into

    def counting(weight: torch.Tensor, *rest: object) -> None:
        merged.append(weight)
        whole(weight, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(loras_module, "merge_into", counting)
    on(loras, a=1.0, b=1.0)
    assert len(merged) == 2
    on(loras, a=1.0, b=1.0)
    assert len(merged) == 2
    on(loras, a=1.0, b=0.5)
    assert len(merged) == 3
    assert merged[2] is weight_of(model, CONV)
    on(loras, a=1.0)
    assert len(merged) == 3
    assert loras.kept_bytes == weight_of(model, LINEAR).nbytes


def test_a_merge_that_is_cut_short_is_made_good_by_the_next(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = snapshot(model)
    loras = Loras(model)
    read(loras, {"a": put(tmp_path, kohya()(), "a")})
    on(loras, a=1.0)
    whole = snapshot(model)

    def half(weight: torch.Tensor, *rest: object) -> None:
        weight.fill_(7.0)
        raise MemoryError

    with monkeypatch.context() as context:
        context.setattr(loras_module, "merge_into", half)
        with pytest.raises(MemoryError):
            on(loras, a=0.5)
    on(loras, a=1.0)
    assert same(model, whole)
    loras.merge("unet", ())
    assert same(model, before)


def test_the_same_lora_twice_adds_up_and_parts_are_apart(model: Model, tmp_path: Path):
    text = CASES["kohya, text encoder"]
    loras = Loras(model)
    read(loras, {"a": put(tmp_path, kohya()() | text.make())})
    before = snapshot(model)
    loras.merge("unet", [Strength("a", 0.25), Strength("a", 0.5)])
    twice = weight_of(model, LINEAR).clone()
    assert torch.equal(
        weight_of(model, text.path, "text_encoder"), before[f"text_encoder.{text.path}.weight"]
    )
    on(loras, a=0.75)
    torch.testing.assert_close(weight_of(model, LINEAR), twice, rtol=1e-6, atol=1e-6)
    on(loras, "text_encoder", a=1.0)
    loras.merge("unet", ())
    assert not same(model, before)
    loras.merge("text_encoder", ())
    assert same(model, before)


def test_layers_that_do_not_fit_are_counted_with_the_reason(model: Model, tmp_path: Path):
    wrong = dict(zip(("down", "up"), low(33, 16), strict=True))
    other = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = kohya()() | {
        f"{other}.lora_down.weight": wrong["down"],
        f"{other}.lora_up.weight": wrong["up"],
        "lora_unet_conv_out.oft_blocks": normal(2, 2, 2),
        "lora_unet_nowhere.lora_down.weight": normal(3, 4),
        "lora_unet_conv_in.lora_down.weight": normal(3, 4, 3, 3),
        "lora_te2_layer.lora_down.weight": normal(3, 4),
        "bundle_emb.word.string_to_param": normal(4),
    }
    (found,) = read(Loras(model), {"a": put(tmp_path, tensors)})
    assert (found.matched, found.total) == (1, 7)
    assert dict(found.misfits) == {
        "has layers of another shape": 1,
        "cannot be changed in this way": 1,
        "cannot be changed by OFT": 1,
        "has no such layers": 3,
    }


@pytest.mark.parametrize(
    "change",
    [
        {f"{KOHYA_CONV}.lora_up.weight": normal(16, 4, 1, 1)},
        {f"{KOHYA_CONV}.lora_down.weight": normal(3, 16, 5, 5)},
        {f"{KOHYA_CONV}.lora_mid.weight": normal(4, 4, 3, 3)},
        {f"{KOHYA_CONV}.dora_scale": normal(7)},
        {f"{KOHYA_CONV}.diff": normal(16, 16, 3, 3)},
        {f"{KOHYA_CONV}.diff_b": normal(5)},
    ],
)
def test_tensors_that_do_not_fit_each_other_match_nothing(
    change: dict[str, torch.Tensor], model: Model, tmp_path: Path
):
    (found,) = read(Loras(model), {"a": put(tmp_path, conv_lora() | change)})
    assert (found.matched, found.total, found.deltas) == (0, 1, {})


def test_factors_of_different_ranks_match_nothing(model: Model, tmp_path: Path):
    wrong = {f"{KOHYA}.hada_w2_b": normal(3, 32)}
    (found,) = read(Loras(model), {"a": put(tmp_path, loha() | wrong)})
    assert (found.matched, dict(found.misfits)) == (0, {"has layers of another shape": 1})


def test_a_bias_is_changed_beside_the_weight(model: Model, tmp_path: Path):
    loras = Loras(model)
    before = model["unet"].get_parameter(f"{CONV}.bias").clone()
    read(loras, {"a": put(tmp_path, conv_lora() | {f"{KOHYA_CONV}.diff_b": normal(16)})})
    on(loras, a=0.5)
    torch.testing.assert_close(
        model["unet"].get_parameter(f"{CONV}.bias"), before + normal(16) * 0.5
    )


def test_numbers_that_are_none_and_configurations_that_cannot_be_read_are_refused(
    model: Model, tmp_path: Path
):
    tensors = kohya()()
    tensors[f"{KOHYA}.lora_up.weight"][0, 0] = torch.nan
    with pytest.raises(BrokenFileError, match="invalid numbers"):
        read(Loras(model), {"a": put(tmp_path, tensors)})
    peft = CASES["peft"].make()
    for config in (
        {"r": 0, "lora_alpha": 4},
        {"lora_alpha": 4},
        {"r": "many", "lora_alpha": 4},
        {"r": 4, "lora_alpha": 4, "alpha_pattern": {"(a": 1}},
        {"r": 4, "lora_alpha": 4, "rank_pattern": {"to_k": 0}},
        {"r": 4, "lora_alpha": 4, "rank_pattern": {"x" * 1_000: 1}},
        {"r": 4, "lora_alpha": float("inf")},
        {"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_k": None}},
    ):
        with pytest.raises(BrokenFileError, match="configuration of peft") as caught:
            read(Loras(model), {"a": put_peft(tmp_path, peft, config)})
        assert caught.value.field == "loras"


def test_a_pattern_that_runs_for_ever_is_given_up(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("webui.generation.lora_adapters._MATCHING_SECONDS", 0.1)
    endless = r"(.|\w)+[^k]"
    config = {"r": 4, "lora_alpha": 4, "alpha_pattern": {endless: 1}}
    with finite(), pytest.raises(BrokenFileError, match="configuration of peft"):
        read(Loras(model), {"a": put_peft(tmp_path, CASES["peft"].make(), config)})


def test_a_file_is_read_once_and_forgotten_when_others_need_the_memory(
    model: Model, tmp_path: Path
):
    cards = {name: put(tmp_path, kohya()(), name) for name in "abc"}
    size = read(Loras(model), {"a": cards["a"]})[0].nbytes
    loras = Loras(model, spare_bytes=size)
    (first,) = read(loras, {"a": cards["a"]})
    cards["a"].path.unlink()
    assert read(loras, {"b": cards["b"], "a": cards["a"]})[1] is first
    read(loras, {"b": cards["b"]})
    assert read(loras, {"a": cards["a"]}) == (first,)
    read(loras, {"b": cards["b"], "c": cards["c"]})
    read(loras, {"c": cards["c"]})
    with pytest.raises(BrokenFileError):
        read(loras, {"a": cards["a"]})


def test_every_layer_has_one_spelling_of_each_kind(model: Model):
    table = spellings(model)
    assert len({layer for name, layer in table.items() if name.startswith("lora_unet_")}) == len(
        {layer for name, layer in table.items() if name.startswith("unet.")}
    )
    for kohya_name, path in {
        "input_blocks_0_0": "conv_in",
        "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
        "input_blocks_2_0_op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks_3_0_emb_layers_1": "down_blocks.1.resnets.0.time_emb_proj",
        "middle_block_1_proj_out": "mid_block.attentions.0.proj_out",
        "middle_block_2_out_layers_3": "mid_block.resnets.1.conv2",
        "output_blocks_0_0_skip_connection": "up_blocks.0.resnets.0.conv_shortcut",
        "output_blocks_1_1_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_2_1_transformer_blocks_0_ff_net_2": (
            "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2"
        ),
        "time_embed_2": "time_embedding.linear_2",
        "out_2": "conv_out",
    }.items():
        assert table[f"lora_unet_{kohya_name}"] == ("unet", path)


def sdxl_model() -> Model:
    with tiny.same_weights():
        return {
            "unet": tiny_sdxl.sdxl_unet(),
            "text_encoder": tiny.clip_encoder(),
            "text_encoder_2": tiny.projecting_clip_encoder(),
        }


@pytest.mark.parametrize("form", ["lora_unet_label_emb_0_{}", "diffusion_model.label_emb.0.{}"])
@pytest.mark.parametrize(("own", "ours"), [(0, "linear_1"), (2, "linear_2")])
def test_sdxls_own_embedding_of_sizes_is_changed(
    form: str, own: int, ours: str, tmp_path: Path
) -> None:
    model = sdxl_model()
    weight = weight_of(model, f"add_embedding.{ours}")
    before = snapshot(model)
    down, up = low(weight.shape[1], weight.shape[0])
    expected = weight + up @ down
    name = form.format(own)
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    loras = Loras(model)
    read(loras, {"a": put(tmp_path, tensors)})
    with torch.no_grad():
        on(loras, a=1.0)
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
        loras.merge("unet", ())
    assert same(model, before)


COMFYS_ENCODERS: tuple[tuple[str, LoraPart, str], ...] = (
    ("clip_l.transformer.text_model.encoder.layers.0.mlp.fc1", "text_encoder", "mlp.fc1"),
    ("clip_g.transformer.text_model.encoder.layers.0.mlp.fc1", "text_encoder_2", "mlp.fc1"),
    ("t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q", "text_encoder_3", "q"),
)


@pytest.mark.parametrize(("name", "part", "end"), COMFYS_ENCODERS)
def test_comfyuis_names_tell_the_text_encoder(name: str, part: LoraPart, end: str) -> None:
    with tiny.same_weights():
        model: Model = {**sdxl_model(), "text_encoder_3": tiny.t5_encoder()}
    full = f"text_encoders.{name}"
    target = spellings(model)[full]
    assert isinstance(target, Layer)
    assert target.part == part
    assert target.path.endswith(f".{end}")
    header = Header({f"{full}.lora_down.weight": (4, 4)}, {}, 0)
    assert read_facts(header, None, file="a").parts == (part,)


def test_the_header_alone_tells_the_part_of_every_layer(model: Model):
    """By it a LoRA's strength in a part counts, or does not."""
    for name, layer in spellings(model).items():
        assert isinstance(layer, Layer)
        header = Header({f"{name}.lora_down.weight": (4, 4)}, {}, 0)
        assert read_facts(header, None, file="a").parts == (layer.part,), name

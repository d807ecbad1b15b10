from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import pytest
import torch

from tests.generation.lora_cases import (
    CASES,
    CONV,
    KOHYA_CONV,
    Case,
    kohya,
    normal,
    put,
    put_peft,
    tiny_model,
)
from webui.generation import lora_measures
from webui.generation.lora_deltas import Delta, LowRank
from webui.generation.lora_files import ReadLora, Weight
from webui.generation.lora_measures import Measures, block_of
from webui.generation.loras import Loras, Strength
from webui.library.lora_facts import LoraPart
from webui.library.loras import LoraCard

BLOCKS = ("text encoder", "in", "down 1", "down 2", "mid", "up 1", "up 2", "out")
LAST = {"down 1": "down_blocks.0.", "text encoder": ""}

Model = Mapping[LoraPart, torch.nn.Module]


@pytest.fixture
def model() -> Model:
    return tiny_model()


def card_of(case: Case, folder: Path, name: str = "ink") -> LoraCard:
    if case.config is not None:
        return put_peft(folder, case.make(), case.config)
    return put(folder, case.make(), name, **case.metadata)


def weights_in(model: Model, part: LoraPart, prefix: str) -> Iterator[torch.Tensor]:
    for name, weight in model[part].named_parameters():
        if name.startswith(prefix):
            yield weight.double()


def norm(tensors: Iterator[torch.Tensor]) -> float:
    return float(sum(tensor.square().sum() for tensor in tensors)) ** 0.5


@pytest.mark.parametrize("name", CASES)
def test_the_size_of_every_kind_is_that_of_its_delta_written_out(
    name: str, model: Model, tmp_path: Path
):
    case = CASES[name]
    block = "text encoder" if case.part == "text_encoder" else "down 1"
    weight = model[case.part].get_parameter(f"{case.path}.weight")
    expected = norm(iter([case.delta(weight).double()])) / norm(
        weights_in(model, case.part, LAST[block])
    )
    loras = Loras(model)
    loras.take("a", card_of(case, tmp_path))
    sizes = loras.measure(["a"]).sizes("a")
    assert tuple(sizes) == BLOCKS
    assert sizes[block] == pytest.approx(expected, rel=1e-3)
    assert sum(sizes.values()) == sizes[block] > 0.001


@pytest.mark.parametrize(
    ("one", "other"), [*combinations(("kohya", "LoHa", "LoKr", "DoRA", "full"), 2)]
)
def test_the_overlap_of_any_two_kinds_is_the_cosine_of_their_deltas(
    one: str, other: str, model: Model, tmp_path: Path
):
    loras = Loras(model)
    for name in (one, other):
        loras.take(name, card_of(CASES[name], tmp_path, name))
    weight = model["unet"].get_parameter(f"{CASES[one].path}.weight")
    deltas = [CASES[name].delta(weight).flatten().double() for name in (one, other)]
    expected = float(torch.nn.functional.cosine_similarity(*deltas, dim=0))
    measures = loras.measure([one, other])
    assert measures.overlap(one, other) == pytest.approx(expected, abs=1e-4)
    assert measures.overlap(other, one) == measures.overlap(one, other)
    assert measures.overlap(one, one) == pytest.approx(1, abs=1e-5)


def test_only_weights_that_both_change_count_for_an_overlap(model: Model, tmp_path: Path):
    convolution = {
        f"{KOHYA_CONV}.lora_down.weight": normal(3, 16, 3, 3),
        f"{KOHYA_CONV}.lora_up.weight": normal(16, 3, 1, 1),
    }
    turned = {n: -v if "up" in n else v for n, v in kohya()().items()}
    cards = {
        "linear": put(tmp_path, kohya()(), "linear"),
        "convolution": put(tmp_path, convolution, "convolution"),
        "both": put(tmp_path, turned | convolution, "both"),
    }
    loras = Loras(model)
    for name, card in cards.items():
        loras.take(name, card)
    measures = loras.measure(cards)
    assert measures.overlap("linear", "convolution") == 0
    assert measures.overlap("linear", "both") == pytest.approx(-1, abs=1e-5)
    assert measures.overlap("convolution", "both") == pytest.approx(1, abs=1e-5)


def test_what_is_merged_at_the_moment_changes_no_measure(model: Model, tmp_path: Path):
    cards = {name: card_of(CASES[name], tmp_path, name) for name in ("LoCon", "DoRA")}
    fresh, merged = Loras(tiny_model()), Loras(model)
    for name, card in cards.items():
        fresh.take(name, card)
        merged.take(name, card)
    merged.merge("unet", [Strength(name, 3.0) for name in cards])
    assert norm(weights_in(model, "unet", f"{CONV}.weight")) > 10
    assert merged.measure(cards).sizes("DoRA") == fresh.measure(cards).sizes("DoRA")
    assert merged.measure(cards).sizes("LoCon") == fresh.measure(cards).sizes("LoCon")


def test_each_is_measured_once_and_products_are_never_written_out(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[int] = []
    real = lora_measures.inner_product

    def counted(first: Delta, second: Delta) -> torch.Tensor:
        done.append(1)
        return real(first, second)

    monkeypatch.setattr(lora_measures, "inner_product", counted)
    monkeypatch.setattr(LowRank, "of", None)
    loras = Loras(model, spare_bytes=0)
    for name in ("a", "b", "c"):
        loras.take(name, put(tmp_path, kohya()(), name))
    counts: list[int] = []
    for stack in (["a"], ["a"], ["a", "b"], ["b", "a"], ["a", "b", "c"]):
        loras.measure(stack)
        counts.append(len(done))
    assert counts == [1, 1, 3, 3, 6]
    loras.forget_all_but({"a", "b"})
    assert loras.measure(["a", "b"]).overlap("a", "b") == pytest.approx(1, abs=1e-5)
    with pytest.raises(KeyError):
        loras.measure(["a"]).sizes("c")


def test_numbers_beyond_all_measure_stay_numbers(model: Model, tmp_path: Path):
    loras = Loras(model)
    loras.take("a", put(tmp_path, {n: v * 1e30 for n, v in kohya()().items()}))
    assert all(math.isfinite(size) for size in loras.measure(["a"]).sizes("a").values())
    assert -1 <= loras.measure(["a"]).overlap("a", "a") <= 1


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("conv_in.weight", "in"),
        ("time_embedding.linear_1.bias", "in"),
        ("down_blocks.3.resnets.0.conv1.weight", "down 4"),
        ("mid_block.attentions.0.proj_in.weight", "mid"),
        ("up_blocks.0.resnets.0.conv1.weight", "up 1"),
        ("conv_norm_out.weight", "out"),
        ("transformer_blocks.37.attn.to_q.weight", "joint 38"),
        ("layers.0.attention.to_q.weight", "layer 1"),
        ("noise_refiner.1.attention.to_q.weight", "noise 2"),
        ("context_refiner.0.attention.to_q.weight", "context 1"),
        ("proj_out.weight", "out"),
    ],
)
def test_weights_belong_to_the_blocks_of_a_model(name: str, block: str):
    assert block_of(Weight("unet", name)) == block


def test_the_blocks_of_a_transformer_are_told_apart_and_stand_in_their_order():
    doubles = [f"transformer_blocks.{n}.attn.to_q.weight" for n in range(11)]
    names = ("norm_out.weight", "single_transformer_blocks.0.weight", *doubles, "x_embedder.weight")
    measures = Measures([Weight("transformer", name) for name in names], lambda _: torch.ones(1, 1))
    delta = LowRank(torch.ones(1, 1), torch.ones(1, 1), 1.0)
    read = ReadLora({Weight("transformer", doubles[1]): delta}, 1, 1, {})
    measures.take({"a": read})
    sizes = measures.sizes("a")
    numbers = [f"double {n}" for n in range(1, 12)]
    assert list(sizes) == ["in", *numbers, "single 1", "out"]
    assert [block for block, size in sizes.items() if size] == ["double 2"]

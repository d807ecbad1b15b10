from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from webui.generation.devices import Device
from webui.generation.memory import (
    LADDER,
    MemoryPlan,
    leaner,
    plan_memory,
)
from webui.generation.sizes import Sizes, lora_sizes, sizes_of
from webui.settings import GIB, PlanName

CUDA = Device("cuda:0", torch.bfloat16, "channels_last", "", "CUDA")
CPU = Device("cpu", torch.bfloat16, "channels_last", "", "CPU")
MPS = Device("mps", torch.float16, "contiguous", "", "MPS")


def sizes(
    family: str, denoiser: float, text: float, *, group: float, rest: float = 0, leaf: float
) -> Sizes:
    """Sizes in bf16 from millions of parameters; every VAE here has 84 million."""
    million = 2_000_000
    return Sizes(
        family,
        denoiser=round(denoiser * million),
        text=round(text * million),
        vae=84 * million,
        group=round(group * million),
        rest=round(rest * million),
        leaf=round(leaf * million),
    )


# Parameters as published: stable-diffusion-v1-5, stable-diffusion-xl-base-1.0,
# stable-diffusion-3.5-large (CLIP L, CLIP G and T5 XXL), FLUX.1-dev (CLIP L and T5 XXL).
SD15 = sizes("SD 1", 860, 123, group=15, leaf=38)
SDXL = sizes("SDXL", 2567, 817, group=15, leaf=63)
SD35 = sizes("SD 3", 8057, 5580, group=207, rest=100, leaf=132)
FLUX = sizes("Flux", 11_901, 4885, group=340, rest=70, leaf=132)

IN_USE = 0.6
"""GiB of a card that the driver, CUDA's context and the desktop hold."""


@pytest.mark.parametrize(
    ("card", "model", "side", "batch", "expected"),
    [
        (4, SD15, 512, 1, "resident"),
        (4, SD15, 768, 4, "stream"),
        (4, SD15, 1024, 1, "resident tiled"),
        (4, SDXL, 1024, 1, "stream"),
        (4, FLUX, 1024, 1, "stream tiled"),
        (6, SD15, 512, 4, "resident"),
        (6, SDXL, 1024, 1, "stream"),
        (8, SD15, 1024, 1, "resident"),
        (8, SDXL, 1024, 1, "turns"),
        (8, SDXL, 1536, 2, "turns tiled"),
        (8, FLUX, 1024, 1, "stream"),
        (12, SDXL, 1024, 1, "resident"),
        (12, SDXL, 2048, 1, "resident tiled"),
        (12, SD35, 1024, 1, "stream"),
        (24, SD35, 1024, 1, "turns"),
        (24, FLUX, 1024, 1, "stream"),
        (24, SDXL, 1536, 4, "resident"),
        (80, SD35, 1024, 4, "resident"),
        (80, FLUX, 1024, 4, "resident"),
    ],
)
def test_plans_by_card_and_model(card: int, model: Sizes, side: int, batch: int, expected: str):
    free = round((card - IN_USE) * GIB)
    plan = plan_memory(model, free, CUDA, side, side, batch)
    assert f"{plan.name}{' tiled' if plan.tiled else ''}" == expected
    assert plan.fits
    assert plan.needs <= free


@pytest.mark.parametrize("model", [SD15, SDXL, SD35, FLUX], ids=lambda model: model.family)
def test_leaner_plans_need_less(model: Sizes):
    plans = [
        plan_memory(model, GIB, CUDA, 1024, 1024, 1, asked=name) for name in LADDER if name != "fp8"
    ]
    needs = [plan.needs for plan in plans]
    assert needs == sorted(needs, reverse=True)
    assert (
        plan_memory(model, GIB, CPU, 1024, 1024, 1, asked="fp8").needs
        < plan_memory(model, GIB, CPU, 1024, 1024, 1, asked="resident").needs
    )


@pytest.mark.parametrize("side", [512, 1024, 2048])
@pytest.mark.parametrize("model", [SD15, SDXL, FLUX], ids=lambda model: model.family)
def test_more_memory_never_gives_a_leaner_plan(model: Sizes, side: int):
    found = [plan_memory(model, gib * GIB, CUDA, side, side, 1) for gib in range(1, 60)]
    # Tiles alter pictures a little, so taking turns comes before them.
    order = ["resident", "turns", "resident tiled", "turns tiled", "stream", "stream tiled"]
    names = [f"{plan.name}{' tiled' if plan.tiled else ''}" for plan in found if plan.fits]
    steps = [order.index(name) for name in names if name in order]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] == 0


def test_where_parts_cannot_wait_elsewhere_they_are_dropped_before_weights_are_rounded():
    assert plan_memory(SDXL, 20 * GIB, CPU, 1024, 1024, 1).name == "resident"
    for device in (CPU, MPS):
        dropped = plan_memory(FLUX, 28 * GIB, device, 1024, 1024, 1)
        assert (dropped.name, dropped.fits) == ("drop", True)
        assert dropped.whole > 28 * GIB
    assert plan_memory(SDXL, 4 * GIB, CPU, 1024, 1024, 1).name == "fp8"
    assert plan_memory(SDXL, 5 * GIB, MPS, 1024, 1024, 1).name == "drop"
    assert not plan_memory(SDXL, 5 * GIB, MPS, 1024, 1024, 1).fits


def test_a_machine_with_too_little_memory_for_waiting_parts_keeps_8_bits():
    roomy = plan_memory(SDXL, 5 * GIB, CUDA, 1024, 1024, 1, host=16 * GIB)
    assert roomy.name == "stream"
    narrow = plan_memory(SDXL, 5 * GIB, CUDA, 1024, 1024, 1, host=4 * GIB)
    assert (narrow.name, narrow.fits) == ("fp8", True)


def test_numbers_of_4_bytes_need_about_twice_as_much():
    single = replace(
        SD15, itemsize=4, vae_itemsize=4, denoiser=2 * SD15.denoiser, text=2 * SD15.text
    )
    half = plan_memory(SD15, 99 * GIB, CPU, 768, 768, 2).needs
    assert 1.6 < plan_memory(single, 99 * GIB, CPU, 768, 768, 2).needs / half < 2


def test_the_reason_is_one_sentence_with_the_numbers():
    free = round(7.4 * GIB)
    turns = plan_memory(SDXL, free, CUDA, 1024, 1024, 1)
    assert turns.why == (
        "Text encoders and denoiser take turns in the device's memory, which takes 7.1 GiB;"
        " everything at once would take 8.6 GiB, and 7.4 GiB are free."
    )
    tight = plan_memory(SDXL, GIB // 2, CUDA, 1024, 1024, 1)
    assert tight.why.endswith("only 0.5 GiB are free: it may not be enough.")
    whole = plan_memory(SD15, free, CUDA, 512, 512, 1)
    assert whole.why.startswith("The whole model stays in the device's memory, which takes 3.")
    asked = plan_memory(SD15, free, CUDA, 512, 512, 1, asked="stream").why
    assert asked.startswith("The model's layers are brought into the device's memory in groups,")
    assert ", as asked, which takes " in asked
    assert asked.endswith("; 7.4 GiB are free.")
    ran_out = plan_memory(SD15, free, CUDA, 512, 512, 1, after="turns").why
    assert "decoded in tiles, since memory ran out, which takes 2." in ran_out
    assert ", as it was loaded before, which takes " in (
        plan_memory(SD15, free, CUDA, 512, 512, 1, kept="stream").why
    )


def test_a_plan_that_was_asked_for_is_taken_and_only_tiles_are_planned():
    assert plan_memory(FLUX, GIB, CUDA, 1024, 1024, 1, asked="resident").name == "resident"
    plan = plan_memory(SD15, 4 * GIB, CUDA, 1024, 1024, 1, asked="resident")
    assert (plan.name, plan.tiled, plan.fits) == ("resident", True, True)


@pytest.mark.parametrize(
    ("name", "tiled", "device", "expected"),
    [
        ("resident", False, CUDA, "turns"),
        ("turns", False, CUDA, "stream"),
        ("turns", True, CUDA, "stream"),
        ("stream", True, CUDA, "sequential"),
        ("sequential", False, CUDA, "sequential"),
        ("sequential", True, CUDA, None),
        ("resident", False, CPU, "resident"),
        ("resident", True, CPU, "drop"),
        ("drop", True, CPU, "fp8"),
        ("fp8", True, CPU, None),
        ("resident", False, MPS, "resident"),
        ("resident", True, MPS, "drop"),
        ("drop", True, MPS, None),
    ],
)
def test_what_comes_after_a_plan_that_ran_out_of_memory(
    name: PlanName, tiled: bool, device: Device, expected: PlanName | None
):
    plan = planned_so(name, device, tiled=tiled)
    after = leaner(plan)
    assert after == expected
    if after is not None:
        again = plan_memory(SD15, 99 * GIB, device, 1024, 1024, 1, after=after)
        assert (again.name, again.tiled, again.reason) == (after, True, "ran out")
        assert again.needs < plan.needs


def planned_so(name: PlanName, device: Device, *, tiled: bool) -> MemoryPlan:
    """The plan of that name for SD 1.5, in tiles where nothing fits."""
    free = 1 if tiled else 99 * GIB
    plan = plan_memory(SD15, free, device, 1024, 1024, 1, asked=name)
    assert plan.tiled == tiled
    return plan


def test_plans_that_were_ruled_out_are_not_what_comes_next():
    """Where the machine has too little memory for waiting parts, none of them wait there."""

    def planned(host: int, after: PlanName | None = None) -> MemoryPlan:
        return plan_memory(SDXL, 9 * GIB, CUDA, 1024, 1024, 1, host=host, after=after)

    assert leaner(planned(4 * GIB)) == "turns"
    assert leaner(planned(4 * GIB, after="turns")) == "fp8"
    assert leaner(planned(GIB)) == "resident"
    assert leaner(planned(GIB, after="resident")) == "fp8"
    assert leaner(planned(GIB, after="fp8")) is None


@pytest.mark.parametrize("name", LADDER)
def test_what_lies_beside_a_model_is_counted_in_every_plan(name: PlanName):
    """A ControlNet and a refiner as they lie by that plan themselves, LoRAs where they act."""
    net = sizes("", 1251, 0, group=15, leaf=63)
    refiner = sizes("SDXL", 2256, 695, group=15, leaf=63)
    loras = lora_sizes({"denoiser", "text"}, 100, SDXL)
    alone = plan_memory(SDXL, 99 * GIB, CUDA, 1024, 1024, 1, asked=name)
    for beside, weights in ((net, 1251), (refiner, 2256), (loras, 2567)):
        together = plan_memory(SDXL, 99 * GIB, CUDA, 1024, 1024, 1, asked=name, beside=(beside,))
        more = together.needs - alone.needs
        assert together.whole - alone.whole == beside.weights
        match name:
            case "resident":
                assert more == beside.weights
            case "turns" | "drop":
                assert more >= weights * 2_000_000
            case "fp8":
                assert weights * 1_000_000 <= more < beside.weights
            case _:
                assert 0 <= more < beside.weights / 4


def test_loras_keep_no_copy_of_weights_that_are_only_widened():
    packed = replace(SDXL, packed=SDXL.denoiser)
    assert lora_sizes({"denoiser"}, 100, SDXL).weights == SDXL.denoiser + 100
    assert lora_sizes({"denoiser"}, 100, packed).weights == 300


def test_a_refiner_is_not_planned_as_if_it_were_alone():
    refiner = sizes("SDXL", 2256, 695, group=15, leaf=63)
    free = 9 * GIB
    alone = plan_memory(refiner, free, CUDA, 1024, 1024, 1)
    together = plan_memory(refiner, free, CUDA, 1024, 1024, 1, beside=(SDXL,))
    assert (alone.name, together.name) == ("resident", "stream")
    assert together.fits


def test_what_is_packed_by_now_gains_nothing_by_8_bits():
    packed = replace(FLUX, denoiser=FLUX.denoiser // 2, packed=FLUX.denoiser // 2)
    needs = [
        plan_memory(one, 99 * GIB, CPU, 1024, 1024, 1, asked="fp8").needs for one in (FLUX, packed)
    ]
    assert needs[0] == needs[1]


def test_sizes_are_counted_from_headers():
    counted = sizes_of(
        "Flux",
        {
            "denoiser": {
                "transformer_blocks.0.attn.to_q.weight": 200,
                "transformer_blocks.0.ff.0.weight": 400,
                "transformer_blocks.1.attn.to_q.weight": 200,
                "x_embedder.weight": 40,
                "single_transformer_blocks.0.proj.weight": 500,
            },
            "text": {"embed.weight": 2000},
            "vae": {"decoder.conv_in.weight": 288},
        },
        itemsize=2,
    )
    assert counted == Sizes(
        "Flux",
        denoiser=2 * 670,
        text=2 * 1000,
        vae=2 * 144,
        group=2 * 300,
        rest=2 * 20,
        leaf=2 * 1000,
    )


@pytest.mark.parametrize(
    "name",
    ["down_blocks.0.resnets.1.conv1.weight", "folder/model.diffusion_model.input_blocks.4.0.w"],
)
def test_a_unet_is_streamed_layer_by_layer(name: str):
    counted = sizes_of("SD 1", {"denoiser": {name: 256, "conv_in.w": 16}}, itemsize=4)
    assert (counted.group, counted.rest) == (4 * 64, 0)

"""Everything that runs beside a denoiser, by each plan that moves weights while it does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from tests.families import kit, tiny_modern, tiny_sdxl
from tests.families.kit import Bench
from tests.generation.test_placement import hooks
from tests.test_memory_plans import out_of_memory_at
from webui.events import Event, Failed, Notice, Planned, Saved, StageDone
from webui.generation import speed
from webui.settings import PlanName

REFINED = {"refiner": "fine", "refiner_start": 0.5}


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("sdxl")
    tiny_sdxl.write_controlnet(folder / "models" / "controlnet" / "net", 3)
    with kit.bench_of(folder, tiny_sdxl.write_sdxl, sampler="Euler", steps=2) as made:
        tiny_sdxl.write_refiner(folder / "models" / "fine")
        yield made


@pytest.fixture(scope="module")
def z_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("z")
    tiny_modern.write_z_controlnet(folder / "models" / "controlnet" / "net", "2.1")
    write = partial(tiny_modern.write_z_image, shift=6.0)
    with kit.bench_of(folder, write, sampler="Euler", steps=2) as made:
        yield made


def painter(bench: Bench) -> Any:
    untyped: Any = bench.engine
    return untyped._painter


def lay_out(bench: Bench, plan: PlanName | None) -> None:
    """Has everything be loaded anew by that plan, or by what comes out."""
    painter(bench)._pipelines._memory = plan or "auto"
    painter(bench)._pipelines._leanest.clear()
    painter(bench)._pipelines.release()
    bench.forget()


def control(bench: Bench) -> dict[str, Any]:
    picture = bench.bring(kit.gradient())
    unit = {"kind": "other", "model": "net", "picture": picture, "preprocessor": "none"}
    return {"controls": [unit]}


def nets(bench: Bench) -> list[torch.nn.Module]:
    return [*painter(bench)._controlnets._nets.values()]


def plans(events: list[Event]) -> list[str]:
    return [f"{one.name}, {one.reason}" for one in events if isinstance(one, Planned)]


def told(events: list[Event]) -> list[str]:
    """Sentences about speed that a picture came with."""
    assert isinstance(events[-2], Saved), events[-1]
    notices = [one.message for one in events if isinstance(one, Notice)]
    return [notice for notice in notices if notice.startswith("Speed:")]


def test_controlnets_and_refiners_lie_as_the_model_does_and_make_the_same_picture(
    sdxl: Bench,
) -> None:
    asked = control(sdxl) | REFINED
    lay_out(sdxl, "resident")
    expected = sdxl.picture(**asked)
    assert not any(map(hooks, nets(sdxl)))
    lay_out(sdxl, "stream")
    assert (sdxl.picture(**asked) == expected).all()
    assert all(map(hooks, nets(sdxl)))
    assert {kept.name for kept in painter(sdxl)._pipelines._kept.values()} == {"stream"}
    lay_out(sdxl, "fp8")
    assert 0 < kit.differ(sdxl.picture(**asked), expected) < 20
    (net,) = nets(sdxl)
    assert torch.float8_e4m3fn in {weight.dtype for weight in net.parameters()}


QUICK: dict[str, Any] = {"steps": kit.STEPS_TO_SPARE, "seed": 9, "speed": "quickest"}


@pytest.fixture(scope="module")
def resident(z_image: Bench) -> dict[str, kit.Pixels]:
    """What is made with the whole model in memory."""
    lay_out(z_image, "resident")
    return {
        "plain": z_image.picture(),
        "steered": z_image.picture(**control(z_image)),
        "quick": z_image.picture(**QUICK),
    }


@pytest.mark.parametrize("plan", ["turns", "stream"])
def test_a_z_image_is_steered_and_sped_up_or_that_is_refused_in_a_sentence(
    z_image: Bench, resident: dict[str, kit.Pixels], plan: PlanName
) -> None:
    lay_out(z_image, plan)
    assert (z_image.picture(**control(z_image)) == resident["steered"]).all()
    assert all(map(hooks, nets(z_image))) == (plan == "stream")
    assert (z_image.picture() == resident["plain"]).all(), "and it is let go of"
    assert kit.differ(resident["steered"], resident["plain"]) > 0
    refused = told(z_image.events(**QUICK))
    assert (z_image.picture(**QUICK) == resident["quick"]).all() == (plan == "turns")
    compiler: Any = z_image.loaded.compiler
    compiler._backend = "aot_eager"
    refused += told(z_image.events(speed="compiled"))
    assert compiler.is_warm == (plan == "turns")
    assert kit.differ(z_image.picture(speed="compiled"), resident["plain"]) <= 1
    expected = [speed.COMPILING] if plan == "turns" else REFUSED
    assert [one for one, words in zip(refused, expected, strict=True) if words not in one] == []


REFUSED = ["no blocks are left out", "blocks are not compiled"]


def needs(events: list[Event]) -> int:
    return next(one.needs for one in events if isinstance(one, Planned))


def test_both_models_lie_leaner_after_memory_ran_out_in_the_refiner(sdxl: Bench) -> None:
    """And nothing that was held is held any more, the results of stages included."""
    lay_out(sdxl, None)
    alone = needs(sdxl.events(seed=3))
    together = needs(sdxl.events(seed=3, **REFINED, **control(sdxl)))
    keys = list(painter(sdxl)._pipelines._kept)
    refiner = painter(sdxl)._pipelines._kept[keys[0]].loaded
    beside = refiner.bytes_on("cpu") + painter(sdxl)._controlnets.bytes_on("cpu")
    assert together - alone == pytest.approx(beside, rel=0.01)
    with out_of_memory_at(2):
        events = sdxl.events(seed=4, **REFINED, **control(sdxl))
    assert not isinstance(events[-1], Failed)
    assert plans(events) == ["resident, room", "resident, ran out"]
    assert painter(sdxl)._pipelines._leanest == dict.fromkeys(keys, "resident")
    assert len(keys) == 2
    texts = [one.reused for one in events if isinstance(one, StageDone) and one.name == "text"]
    assert texts == [True, True, False, False]

"""What is left out together with everything else that runs beside a denoiser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families import kit, tiny_sdxl
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.events import Cancelled, Notice, Saved, StageDone, Step
from webui.generation import speed
from webui.generator import Cancel
from webui.provenance.recover import recover
from webui.request import parse_request

STEPS = kit.STEPS_TO_SPARE
CONTROL: dict[str, Any] = {"kind": "canny", "model": "edges", "weight": 0.8, "low": 5, "high": 9}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("speed")
    tiny_sdxl.write_controlnet(folder / "models" / "controlnet" / "edges", 3)
    with kit.bench_of(folder, tiny_sdxl.write_sdxl, sampler="Euler") as made:
        tiny_sdxl.write_refiner(folder / "models" / "fine")
        yield made


def told(bench: Bench, **changes: Any) -> list[str]:
    """Sentences about speed that a picture came with."""
    events = bench.events(**changes)
    assert any(isinstance(event, Saved) for event in events)
    notices = [event.message for event in events if isinstance(event, Notice)]
    return [notice for notice in notices if notice.startswith("Speed:")]


@pytest.mark.parametrize(
    "beside",
    [
        {"sampler": "Heun"},
        {"sampler": "Euler a", "batch": 2},
        {"refiner": "fine", "refiner_start": 0.5},
        {"controls": [CONTROL]},
        {"prompt": "a red hill AND a blue lake:0.5"},
        {"prompt": "a [red:blue:0.5] hill"},
    ],
    ids=["second order", "ancestral batch", "refiner", "ControlNet", "AND", "timeline"],
)
def test_it_acts_beside_what_else_there_is_and_is_gone_after(
    bench: Bench, beside: dict[str, Any]
) -> None:
    if "controls" in beside:
        beside = {"controls": [CONTROL | {"picture": bench.bring(kit.gradient())}]}
    asked = {"steps": STEPS, "negative_prompt": "fog"} | beside
    whole = bench.pictures(**asked)
    quickest = bench.pictures(**asked, speed="quickest")
    assert all(kit.differ(a, b) > 0 for a, b in zip(whole, quickest, strict=True))
    bench.forget()
    again = bench.pictures(**asked)
    assert all((a == b).all() for a, b in zip(whole, again, strict=True))


@pytest.mark.parametrize("start", ["init", "mask"])
def test_it_acts_where_it_starts_from_a_picture(bench: Bench, start: str) -> None:
    names = {"init": bench.bring(kit.gradient()), "strength": 0.6}
    if start == "mask":
        names["mask"] = bench.bring(kit.gradient(1)[..., 0], "mask")
    asked = {"steps": 2 * STEPS} | names
    assert kit.differ(bench.picture(**asked), bench.picture(**asked, speed="quickest")) > 0


def test_a_run_that_is_broken_off_leaves_nothing_behind(bench: Bench) -> None:
    known = bench.picture(seed=31)
    cancel, events = Cancel(), list[Any]()
    request = bench.request(seed=32, steps=STEPS, speed="quickest")

    # A tiny model's steps are over before they are told of.
    def wait(*_: object) -> None:
        time.sleep(0 if cancel.is_set() else 0.3)

    slow = [model.denoiser.register_forward_pre_hook(wait) for model in bench.in_memory]
    for event in bench.engine.generate(request, kit.SESSION, cancel):
        events.append(event)
        if isinstance(event, Step):
            cancel.set()
    for hook in slow:
        hook.remove()
    assert isinstance(events[-1], Cancelled)
    bench.forget()
    assert (bench.picture(seed=31) == known).all()


def test_where_nothing_is_spared_that_is_said(bench: Bench) -> None:
    few = {"steps": 2, "cfg": 1.0}
    assert told(bench, **few, speed="quick") == [speed.NOTHING_SPARED]
    assert (bench.picture(**few) == bench.picture(**few, speed="quick")).all()
    # Each step has words of its own, which the blocks have to hear.
    turns = {"steps": STEPS, "cfg": 1.0, "prompt": "a [red|blue] hill"}
    assert told(bench, **turns, speed="quick") == [speed.NOTHING_SPARED]
    assert told(bench, steps=STEPS, cfg=1.0, speed="quick", seed=8) == []


def test_prompts_that_need_guidance_throughout_are_refused(bench: Bench) -> None:
    asked = {"prompt": "a red hill:0 AND a blue lake:0"}
    bench.picture(**asked)
    with pytest.raises(BadRequestError, match="choose another speed") as refused:
        bench.picture(**asked, speed="quick")
    assert refused.value.field == "prompt"


@pytest.fixture
def tracing(bench: Bench) -> Iterator[Any]:
    """The compiler without the part that takes a C++ compiler, and half a minute."""
    compiler: Any = bench.loaded.compiler
    compiler._backend, compiler.is_warm = "aot_eager", False
    yield compiler
    compiler.trouble = None
    bench.forget()


def test_compiled_blocks_make_the_same_picture(bench: Bench, tracing: Any) -> None:
    full = bench.picture(seed=51)
    assert told(bench, seed=51, speed="compiled") == [speed.COMPILING]
    assert tracing.is_warm
    compiled = bench.picture(seed=51, speed="compiled")
    assert kit.differ(full, compiled) <= 1
    blocks = bench.loaded.denoiser.modules()
    assert not any(block._compiled_call_impl for block in blocks)
    bench.forget()
    assert (bench.picture(seed=51) == full).all()
    # Weights that are changed in place are seen by what was compiled before.
    layer = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    path = "unet:down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    kit.check_lora(
        Bench(bench.engine, bench.settings, {**bench.base, "speed": "compiled"}),
        {f"lora_unet_{layer}": path},
        "hears",
    )
    assert told(bench, seed=52, speed="compiled") == []


def test_where_there_is_no_compiler_blocks_are_run_as_they_are(bench: Bench, tracing: Any) -> None:
    def none(*_: object) -> Callable[..., Any]:
        raise RuntimeError("No C++ compiler was found.")

    tracing._backend = none
    untyped: Any = torch
    untyped._dynamo.reset()
    events = bench.events(seed=61, speed="compiled")
    sentences = [event.message for event in events if isinstance(event, Notice)]
    assert sentences[-2] == speed.COMPILING
    assert "No C++ compiler" in sentences[-1]
    assert not tracing.is_warm
    # What was run is what the file says, and what is known of it.
    (saved,) = [event for event in events if isinstance(event, Saved)]
    with Path(saved.path).open("rb") as file:
        assert parse_request(recover(file).request).speed == "full"
    reused = [event for event in bench.events(seed=61) if isinstance(event, StageDone)]
    assert next(event.reused for event in reused if event.name == "denoise")
    # It is not tried again.
    assert [one for one in told(bench, seed=62, speed="compiled") if one == speed.COMPILING] == []
    assert (bench.picture(seed=62, speed="compiled") == bench.picture(seed=62)).all()


def test_what_fails_between_compiled_blocks_is_not_taken_for_the_compilers(tracing: Any) -> None:
    with pytest.raises(RuntimeError, match="between"), tracing.on():
        raise RuntimeError("between the blocks")
    assert tracing.trouble is None

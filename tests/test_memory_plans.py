"""Memory plans in the real engine: what they do to pictures, and what happens when they fail."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.guards import use_guard
from tests.test_engine import QUICK, STEPS, Scripted, Studio, pixels, psnr, saved, silent, with_
from webui.cli.building import build_engine
from webui.events import Event, Failed, Finished, Notice, Planned, Saved
from webui.generation import loaded
from webui.generation.stages import StageCache
from webui.provenance.pngtext import read_text
from webui.request import GenerationRequest
from webui.settings import AttentionName, MemoryName, Settings

Build = Callable[..., Studio]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds engines with the memory and attention asked for."""
    studios: list[Studio] = []

    def one(memory: MemoryName = "auto", attention: AttentionName = "auto") -> Studio:
        folder = tmp_path / str(len(studios))
        settings = Settings(
            outputs=folder / "outputs",
            state=folder / "state",
            memory=memory,
            attention=attention,
        )
        studio = Studio(build_engine(settings, silent), settings.outputs)
        use_guard(studio.engine, monkeypatch, Scripted())
        studios.append(studio)
        return studio

    yield one
    for studio in studios:
        studio.engine.close()


@contextmanager
def out_of_memory_at(*calls: int, error: Exception | None = None) -> Generator[None]:
    """Any UNet runs out of memory at these calls, counted from 1; at all of them without any."""
    called = 0

    def hook(module: torch.nn.Module, args: Any) -> None:
        nonlocal called
        if isinstance(module, UNet2DConditionModel):
            called += 1
            if not calls or called in calls:
                raise error or torch.OutOfMemoryError

    handle: Any = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def plans(events: list[Event]) -> list[str]:
    return [
        f"{event.name}{' tiled' if event.tiled else ''}"
        f"{'' if event.reason == 'room' else f', {event.reason}'}"
        for event in events
        if isinstance(event, Planned)
    ]


def needs(events: list[Event]) -> int:
    return next(event.needs for event in events if isinstance(event, Planned))


def notices(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


def test_out_of_memory_is_tried_once_more_and_goes_on_where_it_was(build: Build):
    studio = build()
    request = with_(QUICK, count=2)
    expected = [pixels(one) for one in saved(studio.run(request))]
    fresh = build()
    with out_of_memory_at(2 * STEPS - 1):
        events = fresh.run(request)
    assert plans(events) == ["resident", "resident tiled, ran out"]
    assert any("laid out more leanly" in notice for notice in notices(events))
    assert isinstance(events[-1], Finished)
    again = [pixels(one) for one in saved(events)]
    assert len(again) == 2, "what was saved before is not made again"
    assert all(psnr(a, b) > 40 for a, b in zip(expected, again, strict=True))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("warm")
    settings = Settings(outputs=folder / "outputs", state=folder / "state")
    studio = Studio(build_engine(settings, silent), settings.outputs)
    with pytest.MonkeyPatch.context() as patch:
        use_guard(studio.engine, patch, Scripted())
        yield studio
    studio.engine.close()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1 GB)"),
        RuntimeError("Invalid buffer size: 24.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("XPU out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("The paging file is too small for this operation to complete. (os error 1455)"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:24] or "MemoryError",
)
def test_every_way_to_say_that_there_is_no_memory_is_understood(warm: Studio, error: Exception):
    engine: Any = warm.engine
    engine._painter._pipelines._leanest.clear()
    engine._painter._cache.clear()
    with out_of_memory_at(1, error=error):
        events = warm.run(with_(QUICK, steps=1))
    assert plans(events) == ["resident", "resident tiled, ran out"]
    assert isinstance(events[-1], Finished)


def test_what_does_not_fit_leanly_either_is_one_sentence_and_the_next_job_is_served(build: Build):
    studio = build()
    with out_of_memory_at():
        events = studio.run(QUICK)
    assert plans(events) == ["resident", "resident tiled, ran out"]
    (failure,) = [event for event in events if isinstance(event, Failed)]
    assert failure.kind == "OutOfMemoryError"
    assert failure.message.startswith("The device has not enough memory: choose a smaller size")
    after = studio.run(QUICK)
    assert isinstance(after[-1], Finished)
    assert plans(after) == ["resident tiled, ran out"], "what was learned is kept"
    with out_of_memory_at(1):
        assert plans(studio.run(with_(QUICK, seed=8))) == [
            "resident tiled, ran out",
            "drop tiled, ran out",
        ]


def test_the_leanest_plan_is_not_tried_twice(build: Build):
    studio = build("fp8")
    with out_of_memory_at():
        assert plans(studio.run(QUICK)) == ["fp8, asked", "fp8 tiled, ran out"]
    with out_of_memory_at():
        assert plans(studio.run(QUICK)) == ["fp8 tiled, ran out"]


def test_a_model_that_does_not_fit_when_it_is_loaded_is_tried_once_more(
    build: Build, monkeypatch: pytest.MonkeyPatch
):
    tries: list[str] = []
    place = loaded.place

    def placed(parts: Any, plan: Any, device: Any) -> None:
        tries.append(plan)
        if len(tries) == 1:
            raise torch.OutOfMemoryError
        place(parts, plan, device)

    monkeypatch.setattr(loaded, "place", placed)
    events = build().run(QUICK)
    assert isinstance(events[-1], Finished)
    assert tries == ["resident", "resident"]


def test_other_errors_are_not_taken_for_want_of_memory(build: Build):
    studio = build()
    with (
        pytest.raises(RuntimeError, match="a bug"),
        out_of_a_bug(),
    ):
        studio.run(QUICK)


@contextmanager
def out_of_a_bug() -> Generator[None]:
    def hook(module: torch.nn.Module, args: Any) -> None:
        if isinstance(module, UNet2DConditionModel):
            raise RuntimeError("a bug")

    handle: Any = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def recorded(picture: Saved) -> dict[str, str]:
    """What the picture's file says of the engine that made it."""
    return json.loads(read_text(Path(picture.path).read_bytes())["easel"])["engine"]


def test_every_plan_makes_the_picture_and_is_in_the_file(build: Build):
    request: GenerationRequest = with_(QUICK, steps=8)
    (resident,) = saved(build("resident").run(request))
    plain = pixels(resident)
    assert recorded(resident)["memory"] == "resident"
    for name in ("turns", "drop", "stream", "sequential"):
        (picture,) = saved(build(name).run(request))
        assert np.array_equal(pixels(picture), plain), name
        assert recorded(picture)["memory"] == name
    (small,) = saved(build("fp8").run(request))
    assert recorded(small)["memory"] == "fp8"
    assert 20 < psnr(pixels(small), plain) < float("inf")


@pytest.mark.parametrize("plan", ["fp8", "stream", "turns"])
def test_a_lora_works_under_every_plan_and_comes_off_bit_by_bit(build: Build, plan: MemoryName):
    studio = build(plan)
    events = studio.run(QUICK)
    (before,) = saved(events)
    neon = with_(QUICK, loras=[{"name": "postcard-neon"}])
    with_lora = studio.run(neon)
    (changed,) = saved(with_lora)
    if plan == "turns":
        untyped: Any = studio.engine
        kept = untyped._painter._pipelines.loaded.loras.kept_bytes
        assert needs(with_lora) - needs(events) >= kept > 0
    assert psnr(pixels(changed), pixels(before)) < 30
    # Another seed between, so that nothing comes from the cache of stages.
    studio.run(with_(QUICK, seed=8))
    engine: Any = studio.engine
    engine._painter._cache = StageCache(0)
    (after,) = saved(studio.run(QUICK))
    assert np.array_equal(pixels(after), pixels(before))
    if plan != "fp8":
        (plain,) = saved(build("resident").run(neon))
        assert psnr(pixels(changed), pixels(plain)) > 40


def test_the_way_attention_was_computed_changes_pictures_a_little_and_is_in_the_file(build: Build):
    (native,) = saved(build().run(QUICK))
    (math,) = saved(build(attention="math").run(QUICK))
    assert recorded(native)["attention"] == "native"
    assert recorded(math)["attention"] == "math"
    assert psnr(pixels(native), pixels(math)) > 40
    assert "attention math" in build(attention="math").engine.description


def test_what_was_made_in_8_bits_is_made_anew_without_and_the_other_way_round(build: Build) -> None:
    studio = build()
    engine: Any = studio.engine
    leanest = engine._painter._pipelines._leanest
    key = engine._planner.plan(QUICK).checkpoint.key
    fine = pixels(saved(studio.run(QUICK))[0])
    leanest[key] = "fp8"
    coarse = pixels(saved(studio.run(QUICK))[0])
    assert (coarse != fine).any()
    leanest.clear()
    engine._painter._pipelines.release()
    assert (pixels(saved(studio.run(QUICK))[0]) == fine).all()

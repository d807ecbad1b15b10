"""Models and LoRAs for few steps, run by what they are called or say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families import benches, kit
from tests.families.kit import Bench
from tests.families.tiny_sdxl import write_sdxl
from webui.events import Saved, Step
from webui.provenance.pngtext import read_text

OPEN: dict[str, Any] = {"steps": None}
OF_SDXL = ("Steps: 20", "Sampler: DPM++ 2M", "CFG scale: 5")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with kit.bench_of(tmp_path_factory.mktemp("few"), write_sdxl, **OPEN) as made:
        layers = dict([benches.UNET])
        kit.write_lora(made, "sdxl_lightning_4step_lora", layers)
        title = {"modelspec.title": "SDXL Lightning LoRA, 2 steps"}
        kit.write_lora(made, "meadow", layers, **title)
        yield made


def recipe(bench: Bench, **changes: Any) -> tuple[str, list[int]]:
    """The last line of a picture's recipe, and the rows of each call of the denoiser."""
    rows: list[int] = []

    def count(_: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        rows.append(len(args[0] if args else kwargs["hidden_states"]))

    bench.forget()
    with bench.loaded.denoiser.register_forward_pre_hook(count, with_kwargs=True):
        events = bench.events(**changes)
    (saved,) = [event for event in events if isinstance(event, Saved)]
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].step == steps[-1].steps
    return read_text(Path(saved.path).read_bytes())["parameters"].splitlines()[-1], rows


@pytest.mark.parametrize(
    ("name", "steps"), [("sdxl_lightning_4step_lora", 4), ("meadow", 2)], ids=["name", "header"]
)
def test_what_a_lora_needs_is_what_is_run_and_written_down(
    bench: Bench, name: str, steps: int
) -> None:
    line, rows = recipe(bench, loras=[{"name": name}])
    for said in (f"Steps: {steps}", "Sampler: Euler", "Schedule type: SGM Uniform", "CFG scale: 1"):
        assert f"{said}," in line
    assert rows == [1] * steps
    line, rows = recipe(bench, prompt=f"a red hill <lora:{name}:1>")
    assert f"Steps: {steps}," in line


def test_what_is_said_by_hand_wins_over_it_and_without_weight_it_says_nothing(
    bench: Bench,
) -> None:
    lora = {"name": "sdxl_lightning_4step_lora"}
    line, rows = recipe(bench, loras=[lora], steps=3, cfg=2.0)
    for said in ("Steps: 3", "Sampler: Euler", "Schedule type: SGM Uniform", "CFG scale: 2"):
        assert f"{said}," in line
    assert rows == [2] * 3
    line, _ = recipe(bench, loras=[lora | {"weight": 0}])
    assert all(f"{said}," in line for said in OF_SDXL)


def test_a_model_is_run_by_its_name(tmp_path: Path) -> None:
    with kit.bench_of(tmp_path, benches.write_sd35_turbo, model=benches.TURBO, **OPEN) as turbo:
        line, rows = recipe(turbo)
        for said in ("Steps: 4", "Sampler: Euler", "CFG scale: 1"):
            assert f"{said}," in line
        assert rows == [1] * 4
        line, rows = recipe(turbo, cfg=2.0, steps=2)
        assert rows == [2] * 2

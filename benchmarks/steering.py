"""LoRAs: what a change of strength costs and what a step does, beside peft's two ways."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from safetensors.torch import save

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import BenchmarkError, Run, alternate, memory, ratios
from benchmarks.ours import Ours
from benchmarks.plain import load_plain, run_plain
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.generation.devices import Device, choose_device
from webui.generation.loras import Loras, Strength
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.request import GenerationRequest, LoraChoice
from webui.settings import GIB

RANK = 16
STACKS = (1, 2, 4)
ASKED_CHANGE = Limit(5.0)
ASKED_STEP = Limit(1.02)
ASKED_DRIFT = Limit(1.0)

_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
_SETTLED = 0.1
"""Share of the changes after which memory is first looked at."""


@dataclass(frozen=True)
class _Case:
    """What all measurements share; `requests` are new ones each time."""

    name: str
    base: GenerationRequest
    requests: Iterator[GenerationRequest]
    files: tuple[Path, ...]
    rounds: int


def run(bench: Workbench) -> list[Figure]:
    """Stacks of LoRAs of rank 16 on all attention layers of the full-size model."""
    effort = bench.effort
    device = choose_device("cpu")
    requests = fresh_requests(
        effort.shape.name, side=effort.side, steps=effort.steps, sampler="Euler"
    )
    with bench.ours(device) as ours:
        base = next(requests)
        unet: Any = ours.loaded(base).pipe.components["unet"]
        files = tuple(
            write_random_lora(bench.work / "loras" / f"random-{n}.safetensors", unet, seed=n)
            for n in range(max(STACKS))
        )
        name = f"{effort.shape.name}, {effort.side} px, LoRAs of rank {RANK}"
        case = _Case(name, base, requests, files, effort.rounds)
        plain = _with_adapters(bench.random_model, case, device)
        steps = _steps(ours, plain, case)
        return [
            _change(ours, plain, case, median(steps["ours 0"])),
            *_step_figures(case.name, steps),
            _drift(ours, case, effort.changes),
        ]


def write_random_lora(path: Path, unet: torch.nn.Module, *, seed: int) -> Path:
    """A LoRA with random weights for every attention projection, as kohya's scripts name them."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    untyped: Any = unet
    for module, one in untyped.named_modules():
        if not module.endswith(_PROJECTIONS) or not isinstance(one, torch.nn.Linear):
            continue
        name = "lora_unet_" + module.replace(".", "_")
        for factor, shape in (("down", (RANK, one.in_features)), ("up", (one.out_features, RANK))):
            values = torch.randn(shape, generator=generator) * 0.01
            tensors[f"{name}.lora_{factor}.weight"] = values.to(torch.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors))
    return path


def _with_adapters(folder: Path, case: _Case, device: Device) -> Any:
    """Plain diffusers with every file as an adapter of peft's."""
    pipe: Any = load_plain(
        folder, case.base, dtype=device.dtype, layout=device.layout, device="cpu"
    )
    for file in case.files:
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=file.stem)
    return pipe


def _steps(ours: Ours, plain: Any, case: _Case) -> dict[str, list[float]]:
    """Seconds a step by side and number of LoRAs, the median of each round's."""

    def mine(count: int) -> Run:
        request = next(case.requests)
        return ours.run(request.model_copy(update={"loras": _rows(case, count, 0.8)}))

    def theirs(count: int) -> Run:
        _set_adapters(plain, case, count, 0.8)
        return run_plain(plain, next(case.requests), watched=True)

    candidates: dict[str, Callable[[], Run]] = {}
    for count in (0, *STACKS):
        candidates[f"ours {count}"] = partial(mine, count)
    for count in STACKS:
        candidates[f"peft {count}"] = partial(theirs, count)
    runs = alternate(candidates, case.rounds)
    return {name: [median(run.steps) for run in each] for name, each in runs.items()}


def _step_figures(name: str, steps: dict[str, list[float]]) -> Iterator[Figure]:
    for count in STACKS:
        mine, theirs = (
            ratios(steps[f"{side} {count}"], steps["ours 0"]) for side in ("ours", "peft")
        )
        yield Figure(
            f"{name}: a step with {count} over one with none",
            median(mine),
            "x",
            f"peft unfused {in_unit(median(theirs), 'x')}; {len(mine)} rounds",
            ASKED_STEP,
            {"ours": mine, "peft": theirs},
        )


def _change(ours: Ours, plain: Any, case: _Case, step: float) -> Figure:
    """From a request with another strength to the first call of the denoiser."""
    strengths = itertools.cycle((0.3, 0.5, 0.7, 0.9))
    seeds = itertools.count(1_000_000)

    def mine() -> float:
        loras = _rows(case, 1, next(strengths))
        changed = {"seed": next(seeds), "loras": loras}
        return ours.until_first_call(case.base.model_copy(update=changed))

    def adapters() -> float:
        began = perf_counter()
        _set_adapters(plain, case, 1, next(strengths))
        return perf_counter() - began

    def fused() -> float:
        _set_adapters(plain, case, 1, next(strengths))
        began = perf_counter()
        plain.fuse_lora(adapter_names=[case.files[0].stem])
        plain.unfuse_lora()
        return perf_counter() - began

    times = alternate({"ours": mine, "peft": adapters, "fused": fused}, 2 * case.rounds)
    took = {side: median(each) for side, each in times.items()}
    return Figure(
        f"{case.name}: change of strength, request to first step, in parts of a step",
        took["ours"] / step * 100,
        "%",
        f"{in_unit(took['ours'], 's')} of {in_unit(step, 's')}; peft's set_adapters alone"
        f" {in_unit(took['peft'], 's')}, fuse_lora and unfuse_lora {in_unit(took['fused'], 's')};"
        f" {len(times['ours'])} times",
        ASKED_CHANGE,
        times,
    )


def _drift(ours: Ours, case: _Case, changes: int) -> Figure:
    """Memory after many changes of the stack, over that after the first few."""
    loaded = ours.loaded(case.base)
    shelf = LoraShelf((case.files[0].parent,), HashBook(case.files[0].parent / "hashes.json"))
    cards = [shelf.find(file.stem) for file in case.files]
    hashes = [shelf.hashes(card).sha256 for card in cards]
    resident: list[float] = []
    with torch.inference_mode():
        for sha256, card in zip(hashes, cards, strict=True):
            loaded.loras.take(sha256, card)
        for number in range(changes):
            _one_change(loaded.loras, hashes, number)
            resident.append(memory()["resident"] / GIB)
        loaded.loras.merge("unet", ())
    settled = resident[int(changes * _SETTLED)]
    return Figure(
        f"{case.name}: growth of memory over {changes} changes of the stack",
        abs(resident[-1] / settled - 1) * 100,
        "%",
        f"{in_unit(settled, 'GiB')} to {in_unit(resident[-1], 'GiB')}",
        ASKED_DRIFT,
        {"resident": resident},
    )


def _one_change(loras: Loras, hashes: list[str], number: int) -> None:
    """Off, one, another strength of it, all, in turns, ending with off every fourth time."""
    strength = 0.1 + number % 7 / 10
    stacks = ([], hashes[:1], hashes[:1], hashes)
    loras.merge("unet", [Strength(sha256, strength) for sha256 in stacks[(number + 1) % 4]])


def _rows(case: _Case, count: int, weight: float) -> tuple[LoraChoice, ...]:
    return tuple(LoraChoice(name=file.stem, weight=weight) for file in case.files[:count])


def _set_adapters(plain: Any, case: _Case, count: int, weight: float) -> None:
    names = [file.stem for file in case.files[:count]]
    plain.set_adapters(names, [weight] * count)
    if len(plain.get_active_adapters()) != count:
        raise BenchmarkError("peft has not taken the LoRAs.")

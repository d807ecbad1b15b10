"""LoRAs beside peft's two ways, and what it takes to go from one mode to another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from safetensors.torch import save

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import BenchmarkError, alternate, memory, middle_half, ratios
from benchmarks.ours import Ours
from benchmarks.plain import load_plain
from benchmarks.recipes import fresh_requests
from benchmarks.switching import measure
from benchmarks.workbench import Workbench
from webui.generation.devices import Device, choose_device
from webui.generation.loras import Loras, Strength
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.request import GenerationRequest, LoraChoice
from webui.settings import GIB

RANK = 16
STACKS = (1, 2, 4)
LEAST_SIDE = 64
"""Side in pixels of the smallest picture."""

ASKED_CHANGE = Limit(5.0)
ASKED_STEP = Limit(1.02)
ASKED_DRIFT = Limit(1.0)

_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
_SETTLED = 0.1
"""Share of the changes after which memory is first looked at."""


@dataclass(frozen=True)
class _Case:
    """What all measurements share: a request of one step, and files of LoRAs for its model."""

    name: str
    base: GenerationRequest
    files: tuple[Path, ...]
    rounds: int
    seeds: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    strengths: Iterator[float] = field(
        default_factory=lambda: itertools.cycle((0.8, 0.3, 0.5, 0.9, 0.7))
    )

    def request(self, count: int, *, side: int | None = None) -> GenerationRequest:
        """One that the cache cannot answer, with so many LoRAs at a strength of their own."""
        size = {} if side is None else {"width": side, "height": side}
        loras = _rows(self, count, next(self.strengths))
        return self.base.model_copy(update={"seed": next(self.seeds), "loras": loras} | size)


def run(bench: Workbench) -> list[Figure]:
    """Stacks of LoRAs of rank 16 on all attention layers of the full-size model."""
    effort = bench.effort
    device = choose_device("cpu")
    (request,) = itertools.islice(
        fresh_requests(effort.shape.name, side=effort.side, steps=1, sampler="Euler"), 1
    )
    with bench.ours(device) as ours:
        side = max(LEAST_SIDE, effort.side // 4)
        switching = measure(ours, bench.random_model, effort.shape, side=side)
        unet = ours.networks(request)[0]
        files = tuple(
            write_random_lora(bench.work / "loras" / f"random-{n}.safetensors", unet, seed=n)
            for n in range(max(STACKS))
        )
        name = f"{effort.shape.name}, {effort.side} px, LoRAs of rank {RANK}"
        case = _Case(name, request, files, effort.rounds)
        drift = _drift(ours, case, effort.changes)
        mine = _our_steps(ours, case)
        plain = _with_adapters(bench.random_model, case, device)
        theirs = _their_steps(plain, case)
        change = _change(ours, plain, case, median(mine["0"]))
        return [change, *_step_figures(case.name, mine, theirs), drift, *switching]


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


def _our_steps(ours: Ours, case: _Case) -> dict[str, list[float]]:
    """Seconds of a step by number of LoRAs, each right after the stack was changed."""
    ours.first_step(case.request(1))
    return alternate(
        {
            str(count): lambda count=count: ours.first_step(case.request(count)).step
            for count in (0, *STACKS)
        },
        2 * case.rounds,
        warm_up=False,
    )


def _their_steps(plain: Any, case: _Case) -> dict[str, list[float]]:
    """The same of plain diffusers: without any, with peft's adapters, and with them fused."""

    def unfused(count: int) -> float:
        _set_adapters(plain, case, count, next(case.strengths))
        return _step_of(plain, case)

    def fused(count: int) -> float:
        _set_adapters(plain, case, count, next(case.strengths))
        plain.fuse_lora(adapter_names=[file.stem for file in case.files[:count]])
        try:
            return _step_of(plain, case)
        finally:
            plain.unfuse_lora()

    def without() -> float:
        plain.disable_lora()
        try:
            return _step_of(plain, case)
        finally:
            plain.enable_lora()

    unfused(1)
    candidates: dict[str, Callable[[], float]] = {"0": without}
    for count in STACKS:
        candidates[f"unfused {count}"] = partial(unfused, count)
        candidates[f"fused {count}"] = partial(fused, count)
    return alternate(candidates, max(1, case.rounds - 1), warm_up=False)


def _step_of(plain: Any, case: _Case) -> float:
    """Seconds of a step of plain diffusers."""
    times: list[float] = []

    def note(*_: object) -> dict[str, Any]:
        times.append(perf_counter())
        return {}

    hook = plain.unet.register_forward_pre_hook(lambda *_: times.append(perf_counter()))
    try:
        plain(
            prompt=case.base.prompt,
            negative_prompt=case.base.negative_prompt,
            width=case.base.width,
            height=case.base.height,
            num_inference_steps=1,
            guidance_scale=case.base.cfg,
            generator=torch.Generator().manual_seed(next(case.seeds)),
            output_type="latent",
            callback_on_step_end=note,
        )
    finally:
        hook.remove()
    return times[-1] - times[0]


def _step_figures(
    name: str, mine: dict[str, list[float]], theirs: dict[str, list[float]]
) -> Iterator[Figure]:
    for count in STACKS:
        ours = ratios(mine[str(count)], mine["0"])
        unfused, fused = (
            ratios(theirs[f"{way} {count}"], theirs["0"]) for way in ("unfused", "fused")
        )
        low, high = middle_half(ours)
        yield Figure(
            f"{name}: a step with {count} over one with none",
            median(ours),
            "x",
            f"peft unfused {in_unit(median(unfused), 'x')}, fuse_lora"
            f" {in_unit(median(fused), 'x')}; {len(ours)} times, middle half {low:.2f} to"
            f" {high:.2f} x",
            ASKED_STEP,
            {"ours": ours, "unfused": unfused, "fused": fused},
        )


def _change(ours: Ours, plain: Any, case: _Case, step: float) -> Figure:
    """From a request with another strength to the first call of the denoiser."""

    def mine() -> float:
        # What is merged does not depend on the picture's size, and a small one ends soon.
        return ours.first_step(case.request(1, side=LEAST_SIDE)).until

    def adapters() -> float:
        began = perf_counter()
        _set_adapters(plain, case, 1, next(case.strengths))
        return perf_counter() - began

    def fused() -> float:
        _set_adapters(plain, case, 1, next(case.strengths))
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

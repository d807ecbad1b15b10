"""A model with random weights on a device: our loop and plain diffusers' over the same weights.

Reads its task as JSON on standard input and answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import alternate
from benchmarks.model_files import make_network, parts_of, pipeline_of, write_weights
from benchmarks.ours import UNWATCHED
from webui.generation.backbones.base import Conditioning, Encoding
from webui.generation.compiling import BlockCompiler
from webui.generation.denoise import Prepared, denoise
from webui.generation.devices import Device, choose_device, memory_of
from webui.generation.families import family_of
from webui.generation.loaded import Loaded, networks_of
from webui.generation.loras import Loras
from webui.generation.placement import place
from webui.generation.plan import Plan
from webui.generation.quiet import quiet_libraries
from webui.generation.rereading import Rereader
from webui.generation.resolve import resolve
from webui.generation.speed import RUNGS
from webui.generation.starting import Start
from webui.generation.timeline import Moment, Timeline
from webui.library.checkpoints import INDEX, Checkpoint, CheckpointShelf, read_json
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.request import GenerationRequest
from webui.settings import GIB, DeviceName

CFG = 7.0
_DENOISERS = ("unet", "transformer")
_PRODUCT_SIDE = 8192
_ROOM = 1.3
"""Memory that is wanted, in copies of the weights."""


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Measures one model.

    Args:
        task: `work`: folder in which `config` is the model's configuration. `tokens`: how long its
            text is. `side`, `steps`, `rounds`, `device`. `compiled`: whether that is run too.

    Returns:
        `lacking`: why it cannot be run here, then nothing else. `ours`, `eager`, `compiled`:
        seconds of a step in each round. `operations`: of a step. `peak`: most bytes by side.
        `product`: operations a second of a large matrix product. `gpu`: its name.
    """
    quiet_libraries()
    device = choose_device(cast(DeviceName, task["device"]))
    config = Path(task["work"]) / task["config"]
    lacking = _lacking(config, device)
    if lacking is not None:
        return {"lacking": lacking}
    loaded = random_model(config, device)
    plan = _plan(loaded, task)
    timeline = _random_timeline(loaded, plan, task["tokens"])

    def ours() -> float:
        return _ours(loaded, plan, timeline)

    def plain() -> float:
        return _plain(loaded, plan, timeline, plan.steps)

    operations = _count(lambda: _plain(loaded, plan, timeline, 1))
    peak = {name: _peak(call, device) for name, call in (("ours", ours), ("eager", plain))}
    times = alternate({"ours": ours, "eager": plain}, task["rounds"])
    compiled: list[float] = []
    if task["compiled"]:
        loaded.denoiser.compile_repeated_blocks(fullgraph=True)
        compiled = alternate({"compiled": plain}, task["rounds"])["compiled"]
    on_gpu = device.platform in ("CUDA", "ROCm")
    return {
        "lacking": None,
        **times,
        "compiled": compiled,
        "operations": operations,
        "peak": peak,
        "product": _product(device, _PRODUCT_SIDE if on_gpu else 64),
        "gpu": torch.cuda.get_device_name() if on_gpu else "none",
        "side": task["side"],
        "guided": "with CFG" if _is_guided(plan) else "without CFG",
        "format": f"{device.dtype_name}, {device.layout}, attention {loaded.attention}",
    }


def random_model(config: Path, device: Device) -> Loaded:
    """Denoiser and VAE of a configuration with torch's own first weights, laid out as ours are."""
    checkpoint = _checkpoint(config)
    family = family_of(checkpoint)
    index = read_json(config / INDEX, model=config.name)
    kind = pipeline_of(config)
    expected, _ = kind._get_signature_keys(kind)
    made: dict[str, Any] = dict.fromkeys(expected)
    before = torch.get_default_dtype()
    torch.set_default_dtype(device.dtype)
    try:
        with torch.random.fork_rng(), torch.device(device.name):
            torch.manual_seed(0)
            for part in (*(name for name in _DENOISERS if name in index), "vae"):
                library, name = index[part]
                made[part] = make_network(library, name, checkpoint.config(part))
    finally:
        torch.set_default_dtype(before)
    scheduler = checkpoint.config("scheduler")
    # Sampled alike on both sides, with one call of the denoiser a step.
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    sampler: Any = FlowMatchEulerDiscreteScheduler if family.flow else EulerDiscreteScheduler
    made["scheduler"] = sampler.from_config(scheduler)
    if "requires_safety_checker" in _options(kind):
        made["requires_safety_checker"] = False
    pipe = kind(**made)
    pipe.set_progress_bar_config(disable=True)
    place(networks_of(pipe), "resident", device)
    denoiser = next(name for name in _DENOISERS if name in index)
    return Loaded(
        checkpoint,
        family,
        pipe,
        MappingProxyType(scheduler),
        family.latent_map,
        Loras({cast(Any, denoiser): pipe.components[denoiser]}),
        BlockCompiler(pipe.components[denoiser]),
        "resident",
        rereader=Rereader(device),
    )


def _options(pipeline: Any) -> set[str]:
    _, options = pipeline._get_signature_keys(pipeline)
    return set(options)


def _checkpoint(config: Path) -> Checkpoint:
    """The configuration as a model on a shelf, which wants something of each part."""
    shapes = {"nothing": (1,)}
    for part in parts_of(config):
        write_weights(config / part / "model.safetensors", shapes, None)
    for part in (name for name in read_json(config / INDEX, model="") if "tokenizer" in name):
        (config / part).mkdir()
        (config / part / "tokenizer_config.json").write_text("{}")
    return CheckpointShelf((config.parent,), HashBook(config.parent / "hashes.json")).find(
        config.name
    )


def _lacking(config: Path, device: Device) -> str | None:
    parts = parts_of(config)
    numbers = sum(
        tensor.numel()
        for name in (*_DENOISERS, "vae")
        if name in parts
        for tensor in parts[name].state_dict().values()
    )
    wanted = int(numbers * device.dtype.itemsize * _ROOM)
    free = memory_of(device.name).free
    if free >= wanted:
        return None
    return f"{free / GIB:.1f} GiB of {device.name} are free, {wanted / GIB:.1f} GiB are needed"


def _plan(loaded: Loaded, task: dict[str, Any]) -> Plan:
    work = Path(task["work"])
    book = HashBook(work / "hashes.json")
    request = GenerationRequest(
        prompt="a lake",
        model=loaded.checkpoint.name,
        width=task["side"],
        height=task["side"],
        steps=task["steps"],
        sampler="Euler",
        cfg=CFG if loaded.family.guided == "always" else 1.0,
        seed=1,
    )
    return resolve(request, loaded.checkpoint, LoraShelf((), book), ControlNetShelf((), book))


def _random_timeline(loaded: Loaded, plan: Plan, tokens: int) -> Timeline:
    """What stands for an encoded prompt: the time of a step does not depend on it."""
    config = loaded.denoiser.config
    if "joint_attention_dim" in config:
        width, pooled = config.joint_attention_dim, config.pooled_projection_dim
    else:
        width, pooled = config.cross_attention_dim, None
        if config.addition_embed_type == "text_time":
            sizes = 6 * config.addition_time_embed_dim
            pooled = config.projection_class_embeddings_input_dim - sizes

    def encoding() -> Encoding:
        like: Any = {"dtype": loaded.denoiser.dtype, "device": loaded.denoiser.device}
        whole = None if pooled is None else torch.randn(pooled, **like)
        return Encoding(torch.randn(tokens, width, **like), whole)

    negative = encoding() if _is_guided(plan) else None
    return Timeline((Moment(plan.steps, ((Conditioning(encoding(), negative), 1.0),)),))


def _is_guided(plan: Plan) -> bool:
    return plan.family.is_guided(plan.sampling.cfg, plan.request.negative_prompt)


def _ours(loaded: Loaded, plan: Plan, timeline: Timeline) -> float:
    """Seconds of a step of our loop, the first one left out."""
    clock = _Clock(plan.steps, loaded.denoiser.device)
    with torch.inference_mode():
        observer = replace(UNWATCHED, emit=lambda _: clock.step())
        prepared = Prepared(timeline, Start())
        denoise(loaded, plan, plan.batches[0], prepared, RUNGS["full"], observer)
    return clock.seconds


def _plain(loaded: Loaded, plan: Plan, timeline: Timeline, steps: int) -> float:
    """Seconds of a step of the pipeline's own call."""
    pipe: Any = loaded.pipe
    clock = _Clock(steps, loaded.denoiser.device)

    def on_step_end(_: object, __: int, ___: int, tensors: dict[str, Any]) -> dict[str, Any]:
        clock.step()
        return tensors

    pipe(
        **loaded.backbone.arguments(pipe, timeline.first, plan.sampling, 1),
        width=plan.width,
        height=plan.height,
        num_inference_steps=steps,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="latent",
        callback_on_step_end=on_step_end,
    )
    return clock.seconds


class _Clock:
    """Waits for the device after the first step and after the last, and nowhere between."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self._steps = steps
        self._on_gpu = device.type == "cuda"
        self._count = 0
        self._first = self._last = 0.0

    @property
    def seconds(self) -> float:
        """Of a step after the first; 0 where there is one alone."""
        return (self._last - self._first) / max(1, self._steps - 1)

    def step(self) -> None:
        """One has been told to the device."""
        self._count += 1
        if self._count not in (1, self._steps):
            return
        if self._on_gpu:
            torch.cuda.synchronize()
        self._last = perf_counter()
        if self._count == 1:
            self._first = self._last


def _count(call: Callable[[], object]) -> int:
    """Floating-point operations, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _peak(call: Callable[[], object], device: Device) -> int:
    """Most bytes on the GPU, its caches warm; 1 where there is none."""
    call()
    if device.platform not in ("CUDA", "ROCm"):
        return 1
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated()


def _product(device: Device, side: int) -> float:
    """Operations a second of square matrix products."""
    a, b = (torch.randn(side, side, dtype=device.dtype, device=device.name) for _ in range(2))
    times: list[float] = []
    for _ in range(10):
        began = perf_counter()
        torch.mm(a, b)
        if device.platform in ("CUDA", "ROCm"):
            torch.cuda.synchronize()
        times.append(perf_counter() - began)
    return 2 * side**3 / min(times)


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))

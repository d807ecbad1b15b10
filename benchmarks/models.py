"""Full-size models: files to pictures beside plain diffusers, switches, a GPU's speed, listing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from benchmarks import activations, keeping, model_gpu, model_listing, model_runs
from benchmarks.figures import Figure, in_unit
from benchmarks.model_files import (
    MODELS,
    WITH_FILES,
    bytes_of,
    write_configs,
    write_models,
    write_other,
)
from benchmarks.workbench import Part, Workbench
from webui.settings import GIB

_WITH_FILES: tuple[Part, ...] = ("load", "steps", "switch")
_TINY_SIDE = 64
_GPU_STEPS = 20

_SPARE_BYTES = GIB
"""Left free on the disk, and in memory beside the models."""


def run(bench: Workbench) -> Iterator[Figure]:
    """What `bench.effort.full` asks for; takes an hour with all there is."""
    full = bench.effort.full
    if set(full.parts) & set(_WITH_FILES):
        for name in (name for name in full.models if name in WITH_FILES):
            # Gone before the next one is written.
            with tempfile.TemporaryDirectory(prefix="models-", dir=bench.work) as work:
                yield from _of_files(bench, name, Path(work))
    if "gpu" in full.parts:
        yield from model_gpu.run(bench)
    if "listing" in full.parts:
        yield from model_listing.run(bench)
    if "activations" in full.parts:
        yield from activations.run(bench)


def _of_files(bench: Workbench, name: str, work: Path) -> Iterator[Figure]:
    full, model = bench.effort.full, MODELS[name]
    config = write_configs(work / "configs", model, tiny=full.quick)
    size = bytes_of(config)
    lacking = what_lacks(size, work, two=bool({"steps", "switch"} & set(full.parts)))
    if lacking is not None:
        yield Figure(f"{model.name}: from files", "not measured", "", lacking)
        return
    # Apart, so that neither finds parts of its own in the other.
    single = work / "single" / f"{model.name}.safetensors"
    folder = work / "folder" / model.name
    write_models(config, single, folder)
    case = model_runs.Case(
        name=model.name,
        config=model.config,
        configs=config.parent,
        single=single,
        folder=folder,
        work=work,
        side=model.side,
        # On a GPU a step is over at once.
        steps=_GPU_STEPS if torch.cuda.is_available() else model.steps,
        rounds=model.rounds,
    )
    if full.quick:
        case = replace(case, side=_TINY_SIDE, steps=3, rounds=1, device="cpu")
    load, stepped = "load" in full.parts, "steps" in full.parts
    if load or stepped:
        yield from model_runs.measure(case, load=load, steps=stepped)
    if "switch" in full.parts:
        shutil.rmtree(folder)
        other = single.with_name(f"{model.name}-other.safetensors")
        write_other(single, other)
        names = (single.stem, other.stem)
        title = f"{model.name}, single files"
        yield from keeping.switches(title, single.parent, names, work, config.parent)


def what_lacks(size: int, work: Path, *, two: bool) -> str | None:
    """Why a model of so many bytes, or two such at once, cannot be measured here; None: it can."""
    disk, memory = shutil.disk_usage(work).free, psutil.virtual_memory().available
    # Two layouts, or two files to switch between.
    wanted = 2 * size + _SPARE_BYTES
    if disk < wanted:
        return _too_little("on the disk", disk, wanted)
    wanted = (5 * size // 2 if two else 3 * size // 2) + _SPARE_BYTES
    return _too_little("of memory", memory, wanted) if memory < wanted else None


def _too_little(where: str, free: int, wanted: int) -> str:
    return (
        f"{in_unit(free / GIB, 'GiB')} {where} are free, {in_unit(wanted / GIB, 'GiB')} are needed"
    )

"""A shelf full of files with the headers of real models: told what they are, and listed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.ldm_layout import Tensors
from benchmarks.measure import run_child
from benchmarks.model_files import (
    CONFIGS,
    Shapes,
    parts_of,
    published_shapes,
    shapes_of,
    single_file_names,
    write_weights,
)
from benchmarks.workbench import Workbench

ASKED_RECOGNITION = Limit(50.0)
ASKED_FIRST = Limit(2.0)
ASKED_AFTER = Limit(0.2)

_RANK = 16
_LORA_LAYERS = (".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight")


def run(bench: Workbench) -> list[Figure]:
    """Lists the same folder three times: with nothing known, again, and in another process."""
    folder, state = bench.work / "listing", bench.work / "listing-state"
    headers = write_headers(folder, bench.effort.full.files)
    state.mkdir()
    task = {"models": str(folder), "state": str(state)}
    try:
        anew, known = (run_child("benchmarks.model_listing_child", task) for _ in range(2))
    finally:
        shutil.rmtree(folder)
    return _figures(headers, anew, known)


def write_headers(folder: Path, count: int) -> int:
    """So many files of five kinds, as long as real ones and all of it holes.

    Returns:
        How many tensors the largest header names.
    """
    kinds = {"sd15": _whole("sd1"), "sdxl": _whole("sdxl"), "lora": _lora()}
    for name, config in (("sd35", "sd3.5-large"), ("flux", "flux-dev")):
        kinds[name] = shapes_of(parts_of(CONFIGS / config)["transformer"])
    for number, (name, shapes) in zip(range(count), itertools.cycle(kinds.items()), strict=False):
        write_weights(folder / f"{name}-{number:03}.safetensors", shapes, None)
    return max(map(len, kinds.values()))


def _whole(config: str) -> Shapes:
    views: dict[str, Tensors] = {}
    for part, network in parts_of(CONFIGS / config).items():
        tensors = network.state_dict()
        names = published_shapes(part, shapes_of(network))
        views[part] = dict(zip(names, tensors.values(), strict=True))
    return {n: tuple(t.shape) for n, t in single_file_names(CONFIGS / config, views).items()}


def _lora() -> Shapes:
    """One for the attention of Stable Diffusion 1's UNet, as kohya's scripts name its tensors."""
    found: dict[str, tuple[int, ...]] = {}
    for name, (out, inside, *_) in (
        (name, shape)
        for name, shape in shapes_of(parts_of(CONFIGS / "sd1")["unet"]).items()
        if name.endswith(_LORA_LAYERS)
    ):
        layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        found[f"{layer}.lora_down.weight"] = (_RANK, inside)
        found[f"{layer}.lora_up.weight"] = (out, _RANK)
        found[f"{layer}.alpha"] = ()
    return found


def _figures(headers: int, anew: Mapping[str, Any], known: Mapping[str, Any]) -> list[Figure]:
    count = anew["count"]
    files = f"{count} files of Stable Diffusion 1.5, XL, 3.5 Large, FLUX.1 dev and LoRAs"
    slowest = max(anew["recognised"]) * 1000
    each = sum(anew["recognised"]) / count * 1000
    return [
        Figure(
            "a file recognised by its header",
            slowest,
            "ms",
            f"the slowest of {count}, {in_unit(each, 'ms')} on average; up to {headers} tensors",
            ASKED_RECOGNITION,
            {"recognised": anew["recognised"]},
        ),
        Figure(
            f"{count} files listed for the first time",
            anew["first"],
            "s",
            f"{files}; names of models after them {in_unit(anew['names'], 's')}",
            ASKED_FIRST,
        ),
        Figure(
            f"{count} files listed again",
            max(anew["again"]),
            "s",
            f"the slowest of {len(anew['again'])}; in a new process {in_unit(known['first'], 's')}",
            ASKED_AFTER,
            {"again": anew["again"], "in a new process": [known["first"], *known["again"]]},
        ),
    ]

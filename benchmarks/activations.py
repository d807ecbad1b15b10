"""What computing takes beside the weights, next to what memory plans count with."""

from __future__ import annotations

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import run_child
from benchmarks.model_files import MODELS, write_configs
from benchmarks.workbench import Workbench
from webui.generation.memory import DECODE_BYTES, DENOISE_BYTES

CASES: tuple[tuple[str, str, str, int, int], ...] = (
    ("SD 1", "sd15", "unet", 512, 2),
    ("SDXL", "sdxl", "unet", 1024, 2),
    ("SD 3", "sd35", "transformer", 1024, 2),
    ("Flux", "flux", "transformer", 1024, 1),
    ("VAE", "sd15", "vae", 512, 1),
)
"""Family or "VAE", model, part, side in pixels, and pictures at once: two where guidance asks for a
second pass."""

_QUICK_SIDE = 64


def run(bench: Workbench) -> list[Figure]:
    """One call of each network on the CPU, in a process of its own."""
    full = bench.effort.full
    work = bench.work / "activations"
    figures: list[Figure] = []
    configs = {
        name: write_configs(work, MODELS[name], tiny=full.quick)
        for name in dict.fromkeys(name for _, name, *_ in CASES if name in full.models)
    }
    for family, name, part, side, batch in CASES:
        if name not in configs:
            continue
        side = _QUICK_SIDE if full.quick else side
        task = {
            "config": str(configs[name]),
            "part": part,
            "side": side,
            "batch": batch,
            "tokens": MODELS[name].tokens,
        }
        taken = run_child("benchmarks.activations_child", task)["bytes"]
        counted = DECODE_BYTES if family == "VAE" else DENOISE_BYTES[family]
        what = "decoding" if family == "VAE" else f"a call of {family}'s denoiser"
        figures.append(
            Figure(
                f"{side} px, {what}: memory beside the weights, a pixel",
                taken / side**2,
                "B",
                f"{in_unit(taken / 1024**2, 'MiB')} in bfloat16 at once; so much is planned with",
                Limit(counted),
            )
        )
    return figures

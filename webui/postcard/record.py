"""`recipe.json` beside the weights: how they were made and what was measured of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from webui.postcard.edges import read_about
from webui.postcard.evaluation import Figures

RECORD = "recipe.json"
_PARTS = ("vae", "text_encoder", "unet")
_LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers", "opencv-python-headless", "numpy")


def record_training(folder: Path, work: Path, *, device: str, scenes: int, seed: int) -> None:
    """Write to `folder` what the checkpoints in `work` tell about their training."""
    parts: dict[str, Mapping[str, float]] = {}
    for part in _PARTS:
        about = read_about(work / f"{part}.safetensors")
        parts[part] = {"steps": int(about["step"]), "seconds": round(float(about["seconds"]))}
    _merge(
        folder / RECORD,
        {
            "device": device,
            "seed": seed,
            "scenes": scenes,
            "parts": parts,
            "versions": {name: version(name) for name in _LIBRARIES},
        },
    )


def record_figures(folder: Path, figures: Figures) -> None:
    """Add the measured figures to the record in `folder`."""
    _merge(folder / RECORD, {"figures": dataclasses.asdict(figures)})


def record_steering(folder: Path, facts: Mapping[str, object]) -> None:
    """Add facts about LoRAs or a ControlNet to the record in `folder`."""
    versions = {name: version(name) for name in (*_LIBRARIES, "peft")}
    _merge(folder / RECORD, {**facts, "versions": versions})


def _merge(file: Path, facts: Mapping[str, object]) -> None:
    known: dict[str, object] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**known, **facts}, indent=1) + "\n", "utf-8")

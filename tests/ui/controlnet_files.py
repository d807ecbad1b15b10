"""A shelf of ControlNets for the page: configurations like those people have, and a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from webui.library.controlnets import FOLDER, WEIGHTS
from webui.settings import ROOT

_UNET = ROOT / "models" / "postcard" / "unet" / "config.json"
_SHAPE = ("block_out_channels", "cross_attention_dim", "layers_per_block", "in_channels")


def stock(models: Path) -> Path:
    """Fills a folder of models: `canny small` and `limbs pose` fit the embedded model, `grand
    depth` is for others."""
    unet: dict[str, Any] = json.loads(_UNET.read_bytes())
    shape = {name: unet[name] for name in _SHAPE}
    _put(models, "canny small", shape)
    _put(models, "limbs pose", shape)
    _put(models, "grand depth", shape | {"cross_attention_dim": 2048})
    return models


def _put(models: Path, name: str, shape: dict[str, Any]) -> None:
    folder = models / FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": "ControlNetModel", **shape}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    put_weight(folder)


def put_weight(folder: Path) -> None:
    """Writes one of a ControlNet's weights, which is enough for it to be listed."""
    weights = {"controlnet_cond_embedding.conv_in.weight": np.zeros((16, 3, 3, 3), np.float32)}
    (folder / WEIGHTS).write_bytes(save(weights))

"""Shelves for the library, and a hub to fetch from: small files with real headers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tests.fakes import gradient, png
from tests.library.download_server import DownloadServer
from tests.library.weights import put, sd1, vae
from webui.library.defaults import DEFAULTS
from webui.provenance.pngtext import insert_text
from webui.request import GenerationRequest, LoraChoice

LORA = save(
    {
        f"lora_unet_down_blocks_0_attentions_{n}_transformer_blocks_0_attn2_to_k.{end}": value
        for n in range(24)
        for end, value in (
            ("lora_down.weight", np.full((16, 768), n, np.float16)),
            ("lora_up.weight", np.zeros((320, 16), np.float16)),
            ("alpha", np.full((1,), 16, np.float16)),
        )
    },
    {"modelspec.license": "CC BY 4.0", "modelspec.title": "Paper Garden"},
)
"""A LoRA of 0.8 MB."""


def stock_hub(hub: DownloadServer) -> None:
    """`someone/paper-garden` is a LoRA, `someone/two-papers` holds two and `someone/slow-paper`
    takes its time; `someone/old` holds a pickle; and the models to begin with are there."""
    about = {"cardData": {"license": "cc-by-4.0", "base_model": "meadow 1.5"}}
    file = "pytorch_lora_weights.safetensors"
    hub.put_repo("someone/paper-garden", {file: LORA}, **about)
    hub.put_repo("someone/slow-paper", {file: LORA}, **about)
    hub.files[f"/far/someone/slow-paper/{file}"].slow = 0.2
    hub.put_repo("someone/two-papers", {"a.safetensors": LORA, "b.safetensors": LORA}, **about)
    hub.put_repo("someone/old", {"old.ckpt": b"x"})
    for one in DEFAULTS:
        owner, name, file = one.source.split("/")
        if file.endswith(".safetensors"):
            hub.put_repo(f"{owner}/{name}", {file: LORA}, **about)


def stock(models: Path) -> None:
    """A model with a note, a VAE, and files that cannot be used, each for its own reason."""
    put(models / "Meadow Photo v5.safetensors", sd1())
    (models / "Meadow Photo v5.civitai.info").write_text(
        json.dumps(
            {
                "id": 7,
                "modelId": 3,
                "baseModel": "SD 1.5",
                "trainedWords": ["soft light", "meadow"],
                "model": {"name": "Meadow Photo"},
            }
        )
    )
    (models / "Meadow Photo v5.preview.png").write_bytes(
        png(gradient(320, 320, 3), GenerationRequest())
    )
    put(models / "vae" / "clear-840000.safetensors", vae())
    whole = put(models / "half fetched.safetensors", {"a": (64, 64)})
    whole.write_bytes(whole.read_bytes()[:-99])
    (models / "old painter.ckpt").write_bytes(b"\x80\x02")


def write_pictures(folder: Path, many: int = 5) -> None:
    """Pictures of `Meadow Photo v5` with the LoRA `ink`."""
    for n in range(many):
        recipe = GenerationRequest(
            prompt=f"a meadow, number {n}",
            seed=n,
            width=64,
            height=64,
            model="Meadow Photo v5",
            loras=(LoraChoice(name="ink", weight=0.5),),
        )
        plain = png(gradient(96, 96, n + 1), GenerationRequest())
        record = {"schema": 1, "request": recipe.model_dump(mode="json")}
        text = insert_text(plain, {"easel": json.dumps(record)})
        (folder / f"{n:05}.png").write_bytes(text)

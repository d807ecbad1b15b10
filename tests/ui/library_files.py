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


_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
_SHARDS = tuple(f"text_encoder/model-0000{n}-of-00002.safetensors" for n in (1, 2))

FOLDER = {
    "model_index.json": json.dumps(
        {"_class_name": "Flux2KleinPipeline", **{part: ["somewhere", "Part"] for part in _PARTS}}
    ).encode(),
    **{f"{part}/config.json": b"{}" for part in _PARTS},
    "text_encoder/model.safetensors.index.json": b"{}",
    **{shard: save({"a": np.zeros((9, 9), np.float16)}) for shard in _SHARDS},
    **{
        f"{part}/diffusion_pytorch_model.safetensors": save({"a": np.zeros((9, 9), np.float16)})
        for part in ("transformer", "vae")
    },
}
"""A model as a folder, whose text encoder is in two parts."""


def stock_hub(hub: DownloadServer) -> None:
    """`someone/paper-garden` is a LoRA, `someone/two-papers` holds two and `someone/slow-paper`
    takes its time; `someone/old` holds a pickle; and the models to begin with are there, of which
    the small one takes its time too."""
    about = {"cardData": {"license": "cc-by-4.0", "base_model": "meadow 1.5"}}
    file = "pytorch_lora_weights.safetensors"
    hub.put_repo("someone/paper-garden", {file: LORA}, **about)
    hub.put_repo("someone/slow-paper", {file: LORA}, **about)
    hub.files[f"/far/someone/slow-paper/{file}"].slow = 0.2
    hub.put_repo("someone/two-papers", {"a.safetensors": LORA, "b.safetensors": LORA}, **about)
    hub.put_repo("someone/old", {"old.ckpt": b"x"})
    for one in DEFAULTS:
        owner, name, file = one.source.split("/")
        files = {file: LORA} if file.endswith(".safetensors") else FOLDER
        hub.put_repo(f"{owner}/{name}", files, **about)
        if one.rank == "small":
            hub.files[f"/far/{one.source}"].slow = 0.2
    _stock_civitai(hub)


def _stock_civitai(hub: DownloadServer) -> None:
    """Its model 3 is a LoRA in one version, with terms of its own."""
    disposition = {"content-disposition": 'attachment; filename="paper lane.safetensors"'}
    address = hub.put("/api/download/models/7", LORA, headers=disposition)
    file = {"name": "paper lane.safetensors", "downloadUrl": address}
    version = {"modelId": 3, "name": "v2", "model": {"name": "Paper Lane"}, "files": [file]}
    hub.put_json("/api/v1/model-versions/7", version)
    allowed = {"allowNoCredit": False, "allowCommercialUse": ["Image"], "allowDerivatives": True}
    hub.put_json("/api/v1/models/3", {"modelVersions": [{"id": 7}], **allowed})


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
    put(models / "embeddings" / "grey fog.safetensors", {"emb_params": (8, 768)})
    put(models / "embeddings" / "glow.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    (models / "embeddings" / "old hat.pt").write_bytes(b"")
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

"""Model folders of a few hundred bytes: configurations and a vocabulary, no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from webui.library.checkpoints import Model

MERGES = [("r", "e"), ("re", "d</w>")]


def toy_vocabulary() -> dict[str, int]:
    """Every byte, inside and at the end of a word, and "red"."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "re", "red</w>"]
    return {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))


def write_sd1(folder: Path, name: str, *, sample_size: Any = 64) -> Model:
    """A Stable Diffusion 1 model as it is commonly found: vocab.json and merges.txt."""
    path = folder / name
    write_json(path / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    write_json(path / "unet" / "config.json", {"sample_size": sample_size})
    write_json(path / "vae" / "config.json", {"block_out_channels": [128, 256, 512, 512]})
    write_json(path / "text_encoder" / "config.json", {"num_hidden_layers": 12})
    write_json(path / "scheduler" / "scheduler_config.json", {"num_train_timesteps": 1000})
    write_json(path / "tokenizer" / "vocab.json", toy_vocabulary())
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (path / "tokenizer" / "merges.txt").write_text("\n".join(lines) + "\n")
    special = {"__type": "AddedToken", "content": "<|startoftext|>", "normalized": True}
    write_json(
        path / "tokenizer" / "tokenizer_config.json",
        {
            "bos_token": special,
            "eos_token": special | {"content": "<|endoftext|>"},
            "unk_token": special | {"content": "<|endoftext|>"},
            "pad_token": "<|endoftext|>",
            "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
        },
    )
    return Model(name, path, "StableDiffusionPipeline")

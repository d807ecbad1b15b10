"""Tiny models with weights drawn by lot, as an operator would put them under `models/guards`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

SIDE = 32


def _labels(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
    }


def save_vit(folder: Path, labels: Sequence[str], **changes: Any) -> None:
    """As Falconsai's, nateraw's and dima806's."""
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=SIDE,
        patch_size=8,
        initializer_range=0.5,
        **_labels(labels),
        **changes,
    )
    _save(transformers.ViTForImageClassification(config), folder)
    save_preprocessor(folder)


def save_swin(folder: Path, labels: Sequence[str]) -> None:
    config = transformers.SwinConfig(
        image_size=SIDE,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=4,
        initializer_range=0.5,
        **_labels(labels),
    )
    _save(transformers.SwinForImageClassification(config), folder)
    save_preprocessor(folder)


def save_distilbert(folder: Path, labels: Sequence[str], words: Sequence[str]) -> None:
    """With a vocabulary of these words and no others, and windows of 16 tokens."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    config = transformers.DistilBertConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=16,
        dim=16,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        initializer_range=0.5,
        **_labels(labels),
    )
    _save(transformers.DistilBertForSequenceClassification(config), folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    about = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")


def save_preprocessor(folder: Path, **changes: Any) -> None:
    about = {
        "image_processor_type": "ViTImageProcessor",
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": SIDE, "width": SIDE},
        **changes,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(about), encoding="utf-8")


def _save(model: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    model.save_pretrained(folder)

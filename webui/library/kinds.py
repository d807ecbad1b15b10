"""What files of weights are for, and the folders that each kind lies in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

Kind = Literal[
    "model", "denoiser", "vae", "text encoder", "tokenizer", "embedding", "lora", "controlnet"
]
"""What a file or a folder is."""

KINDS: tuple[Kind, ...] = get_args(Kind)

_SUBFOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "vae": "vae",
        "text encoder": "text_encoders",
        "tokenizer": "text_encoders",
        "embedding": "embeddings",
        "controlnet": "controlnet",
    }
)


@dataclass(frozen=True)
class Places:
    """The folders things are put in."""

    models: Path
    loras: Path

    def of(self, kind: Kind) -> Path:
        """The folder for a kind."""
        if kind == "lora":
            return self.loras
        return self.models / _SUBFOLDERS.get(kind, "")

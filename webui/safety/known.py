"""The models, LoRAs and ControlNets that come with Easel, known by their content."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf

FILE = Path(__file__).parent / "known.txt"
"""A line for each: the content hash that its shelf gives it, and what it is."""

LARGEST = 64 * 1024**2
"""Bytes of a model; none that comes with Easel is larger."""

_LINE = re.compile(r"([0-9a-f]{64})  \S.*")


def is_known(sha256: str) -> bool:
    """Whether a model, LoRA or ControlNet of this content hash comes with Easel.

    Its name, place and whatever lies beside it have no part in it.
    """
    return sha256 in _known(FILE)


def list_known(root: Path, hashes: HashBook) -> str:
    """What `FILE` must hold for the models and LoRAs below `root`."""
    models = CheckpointShelf((root / "models",), hashes)
    controlnets = ControlNetShelf((root / "models",), hashes)
    loras = LoraShelf((root / "loras",), hashes)
    found = [(models.find(name).sha256, f"models/{name}") for name in models.names()]
    found += [
        (controlnets.find(name).sha256, f"models/controlnet/{name}") for name in controlnets.names()
    ]
    found += [(loras.hashes(card).sha256, f"loras/{card.name}") for card in loras.cards()]
    return "".join(f"{sha256}  {what}\n" for sha256, what in found)


@functools.cache
def _known(file: Path) -> frozenset[str]:
    """The hashes in the file; without it nothing is known."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return frozenset()
    return frozenset(match[1] for match in map(_LINE.fullmatch, lines) if match)

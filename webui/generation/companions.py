"""What a single file lacks, found among what else is on disk: never on the network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from huggingface_hub import constants

from webui.errors import BrokenFileError
from webui.library.checkpoints import INDEX
from webui.library.components import COMPONENTS
from webui.library.headers import WEIGHT_SUFFIXES, read_header
from webui.library.recognition import recognise

VAES, TEXT_ENCODERS = "vae", "text_encoders"
"""Folders in one of models for parts that come as files of their own."""

_VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.json", "tekken.json")
"""One of these is in every tokenizer's folder."""

_HIGHEST = 3
"""How many folders above a file its folder of models may lie."""


def find_part(file: Path, config: Path, part: str, kind: str) -> Path | None:
    """Where on disk a VAE or text encoder lies that the file lacks.

    A file of its own in the folder for such parts, or the part of a model in diffusers' layout
    beside the file or in the hub's cache.

    Args:
        file: The single file.
        config: The shipped configuration of its kind.
        part: The part's name in a diffusers pipeline, such as "text_encoder_2".
        kind: Its class.
    """
    wanted = COMPONENTS.get(config.name, {}).get(part)
    for folder in _reserved(file, VAES if part == VAES else TEXT_ENCODERS):
        for one in sorted(folder.rglob("*")):
            if wanted is not None and one.suffix.casefold() in WEIGHT_SUFFIXES:
                try:
                    said = recognise(read_header(one), file=one.name)
                except BrokenFileError:
                    continue
                if said.component == wanted and said.problem is None:
                    return one
    ours = _json(config / part / "config.json")
    for folder in _parts_like(file, kind):
        theirs = _json(folder / "config.json")
        if any(folder.glob("*.safetensors")) and _is_same(ours, theirs):
            return folder
    return None


def find_tokenizer(file: Path, kind: str) -> Path | None:
    """The folder of a tokenizer of a class, beside the file or in the hub's cache."""
    for folder in _reserved(file, TEXT_ENCODERS):
        for one in sorted({found.parent for name in _VOCABULARIES for found in folder.rglob(name)}):
            said = str(_json(one / "tokenizer_config.json").get("tokenizer_class"))
            if _stem(said) == _stem(kind):
                return one
    for folder in _parts_like(file, kind):
        if any((folder / name).exists() for name in _VOCABULARIES):
            return folder
    return None


def _stem(tokenizer: str) -> str:
    return tokenizer.removesuffix("Fast")


def _parents(file: Path) -> list[Path]:
    return list(file.parents)[:_HIGHEST]


def _reserved(file: Path, name: str) -> Iterator[Path]:
    return (folder / name for folder in _parents(file) if (folder / name).is_dir())


def _parts_like(file: Path, kind: str) -> Iterator[Path]:
    """Folders of parts of a class in models that lie beside the file or in the hub's cache."""
    beside = [index for folder in _parents(file) for index in sorted(folder.glob(f"*/{INDEX}"))]
    hub = Path(constants.HF_HUB_CACHE)
    for index in (*beside, *sorted(hub.glob(f"models--*/snapshots/*/{INDEX}"))):
        for part, value in _json(index).items():
            named = cast(list[Any], value) if isinstance(value, list) else []
            if len(named) == 2 and _stem(str(named[1])) == _stem(kind):
                yield index.parent / part


def _is_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two configurations that both say something of a value agree on all the sizes."""
    sizes = [key for key, value in ours.items() if key in theirs and isinstance(value, int | list)]
    return bool(sizes) and all(ours[key] == theirs[key] for key in sizes if key not in _NO_SIZES)


_NO_SIZES = (
    *("sample_size", "force_upcast", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("architectures", "use_cache", "tie_word_embeddings"),
)
"""Values that say nothing of the weights, and differ between folders with the same ones."""


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], data) if isinstance(data, dict) else {}

"""What lies beside a single file, in the folders of models and in the hub's cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from huggingface_hub import constants

from webui.errors import BrokenFileError
from webui.generation.stored_tokenizers import VOCABULARIES, has_vocabulary, stem_of
from webui.library.checkpoints import INDEX, RESERVED, Model
from webui.library.components import Component
from webui.library.distilled import as_words
from webui.library.headers import WEIGHT_SUFFIXES, Header, read_header
from webui.library.pipeline_folders import read_object
from webui.library.recognition import recognise
from webui.library.weight_files import find_weights
from webui.library.weight_files import stem_of as file_stem

VAES, TEXT_ENCODERS = "vae", "text_encoders"
"""Folders in one of models for parts that come as files of their own."""

_FULL = 2.0
"""Bytes of a number beyond which nothing is gained: models run in 16 bits."""


@dataclass(frozen=True)
class PartFile:
    """A VAE or text encoder in a file of its own."""

    path: Path
    header: Header
    component: Component

    @property
    def is_of_another(self) -> bool:
        """Whether it is called after another model, whose part has all the same shapes."""
        named = _OF_ANOTHER.get(self.component)
        return named is not None and named.search(as_words(file_stem(self.path))) is not None

    @property
    def rank(self) -> tuple[bool, float, bool]:
        """What is less is rather used: a model's own, then what is stored most exactly.

        Of several as exact, one that is called as it was published goes before those that people
        have made of it.
        """
        return self.is_of_another, -self._exactness, not self._is_called_as_published

    @property
    def _exactness(self) -> float:
        """Bytes that a number is stored in, those that change something."""
        shapes = self.header.shapes
        # What bitsandbytes has packed in 4 bits has two of them in a byte.
        numbers = sum(
            prod(shape) * (2 if f"{name}.absmax" in shapes else 1) for name, shape in shapes.items()
        )
        # A tokenizer within, in bytes, makes no difference.
        stored = round(sum(self.header.sizes.values()) / max(numbers, 1), 2)
        return min(_FULL, stored)

    @property
    def _is_called_as_published(self) -> bool:
        name = _PUBLISHED.get(self.component)
        stem = file_stem(self.path).casefold()
        return name is not None and (stem == name or stem.startswith((f"{name}_", f"{name}-")))


_OF_ANOTHER: Mapping[Component, re.Pattern[str]] = MappingProxyType(
    {"vae-qwen": re.compile(r"\bwan\d*\b")}
)
"""How files are called, in words, that are built as a part and trained for another model."""

_PUBLISHED: Mapping[Component, str] = MappingProxyType(
    {
        "clip-l": "clip_l",
        "clip-g": "clip_g",
        "t5-xxl": "t5xxl",
        "qwen3-4b": "qwen_3_4b",
        "qwen3-8b": "qwen_3_8b",
        "qwen2.5-vl-7b": "qwen_2.5_vl_7b",
        "mistral-small": "mistral_3_small_flux2",
        "vae-flux": "ae",
        "vae-flux2": "flux2-vae",
        "vae-qwen": "qwen_image_vae",
    }
)
"""How the names of files begin that ComfyUI's examples tell people to fetch."""


@dataclass(frozen=True)
class PartFolder:
    """A part's folder: of a model in diffusers' layout, or a tokenizer's own.

    Attributes:
        encoder: The configuration of the text encoder that a tokenizer is for, if it is there.
    """

    path: Path
    encoder: Path


class Surroundings:
    """Looked at once, so that finding all parts of a model costs little more than finding one."""

    def __init__(self, model: Model) -> None:
        """`model` is a single file."""
        beside = () if model.file is None else (model.file.parent,)
        self._folders = tuple(dict.fromkeys((*beside, *model.folders)))
        self.home = (*model.folders, *beside, model.path)[0]
        """The folder of models in which what is missing belongs."""
        self.files = cache(self._files)
        """Those with a part that can be used in a folder of each folder of models."""

    def parts(self, kind: str) -> Iterator[PartFolder]:
        """Folders of parts of a class in models in diffusers' layout."""
        for folder, index in self._pipelines:
            for part, value in index.items():
                named = cast(list[Any], value) if isinstance(value, list) else []
                if len(named) == 2 and stem_of(str(named[1])) == stem_of(kind):
                    encoder = part.replace("tokenizer", "text_encoder")
                    yield PartFolder(folder / part, folder / encoder / "config.json")

    def tokenizers(self) -> Iterator[PartFolder]:
        """Folders with a vocabulary among text encoders, and models of the hub that have one."""
        names = {
            found.parent
            for folder in self._folders
            for name in VOCABULARIES
            for found in (folder / TEXT_ENCODERS).rglob(name)
        }
        hub = Path(constants.HF_HUB_CACHE)
        snapshots = (one for one in hub.glob("models--*/snapshots/*") if has_vocabulary(one))
        for folder in (*sorted(names), *sorted(snapshots)):
            beside = folder.parent / folder.name.replace("tokenizer", "text_encoder")
            within = folder / "config.json"
            yield PartFolder(folder, within if within.is_file() else beside / "config.json")

    def _files(self, name: str) -> tuple[PartFile, ...]:
        paths = dict.fromkeys(
            path
            for folder in self._folders
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.casefold() in WEIGHT_SUFFIXES
        )
        found: list[PartFile] = []
        for path in paths:
            try:
                header = read_header(path)
            except BrokenFileError:
                continue
            said = recognise(header, file=path.as_posix())
            if said.component is not None and said.problem is None:
                found.append(PartFile(path, header, said.component))
        return tuple(found)

    @cached_property
    def _pipelines(self) -> tuple[tuple[Path, dict[str, Any]], ...]:
        """Models in diffusers' layout with their indexes, the hub's last."""
        own = [
            one.path
            for folder in self._folders
            for one in find_weights(folder, but=RESERVED)
            if one.is_folder
        ]
        hub = Path(constants.HF_HUB_CACHE)
        cached = sorted(index.parent for index in hub.glob(f"models--*/snapshots/*/{INDEX}"))
        folders = dict.fromkeys((*own, *cached))
        return tuple((folder, read_object(folder / INDEX)) for folder in folders)

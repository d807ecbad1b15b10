"""What the page knows of a model's parts before it is loaded: text encoders, and what it lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from webui.errors import WebuiError
from webui.generation import facts
from webui.generation.companions import Companions, MissingPart
from webui.generation.families import Family
from webui.generation.part_names import VAE, is_tokenizer
from webui.generation.text_encoders import (
    LAYOUT_SOURCES,
    Layout,
    find_vocabulary,
    layouts_of,
    tokenizer_in,
    tokenizer_sources,
)
from webui.generation.tokens import TextEncoder
from webui.generation.vocabulary import PromptTokenizer
from webui.library.checkpoints import Model
from webui.library.components import COMPONENTS, VAE_MODELS
from webui.library.watched import Watched

_KEPT = 256

_TOKENIZERS_KEPT = 3
"""One with the vocabulary of Stable Diffusion takes some 20 MB."""

_FRESH = 2.0
"""Seconds for which what lies beside a model is not looked for again: people type meanwhile."""

_NAMES = MappingProxyType(
    {
        "clip-l": "CLIP-L",
        "clip-h": "CLIP-H",
        "clip-g": "CLIP-G",
        "t5-xxl": "T5-XXL",
        "qwen3-4b": "Qwen3 4B",
        "qwen3-8b": "Qwen3 8B",
        "qwen2.5-vl-7b": "Qwen2.5-VL 7B",
        "mistral-small": "Mistral Small",
        **VAE_MODELS,
    }
)
"""Text encoders as people know them, and the models that VAEs are of."""


class ModelParts:
    """Looks at configurations, headers and vocabularies, anew when they change.

    Safe to use from several threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._layouts = Watched[tuple[Layout, ...]](_KEPT)
        self._tokenizers = Watched[PromptTokenizer | None](_TOKENIZERS_KEPT)
        self._last: tuple[float, Model, Companions] | None = None

    def encoders(self, model: Model, family: Family) -> tuple[TextEncoder, ...]:
        """The model's text encoders, as they can count.

        Raises:
            BrokenFileError: A configuration, or the model's file, is missing or damaged.
        """
        files = sources(model, (*facts.SOURCES, *LAYOUT_SOURCES))
        layouts = self._layouts.get(files, lambda: layouts_of(model, family))
        return tuple(
            layout.with_tokenizer(self._tokenizer(model, layout))
            for layout in layouts
            if model.file is None or not self._does_without(model, layout)
        )

    def missing(self, model: Model) -> list[dict[str, Any]]:
        """What the model lacks and cannot do without.

        Each has `kind` ("vae", "text_encoder" or "tokenizer"), `name` (of the text encoder, or of
        the models that the VAE is of), `folder` (where it belongs, as it is called in the one with
        the models) and `address` (of a tokenizer on the hub; or None).
        """
        try:
            return [_told(one, model) for one in self._companions(model).missing]
        except WebuiError:
            return []

    def _does_without(self, model: Model, layout: Layout) -> bool:
        """Whether a text encoder is nowhere, and the model works all the same."""
        companions = self._companions(model)
        part = layout.tokenizer.replace("tokenizer", "text_encoder")
        lacked = {one.part for one in companions.missing}
        return companions.place(part) is None and part not in lacked

    def _tokenizer(self, model: Model, layout: Layout) -> PromptTokenizer | None:
        place = find_vocabulary(model, self._companions(model), layout)
        if place is None:
            return None
        files = tokenizer_sources(place)
        return self._tokenizers.get(files, lambda: tokenizer_in(place, model, layout))

    def _companions(self, model: Model) -> Companions:
        now, last = self._clock(), self._last
        if last is not None and last[1] == model and now - last[0] < _FRESH:
            return last[2]
        found = Companions(model)
        self._last = now, model, found
        return found


def sources(model: Model, names: Iterable[str]) -> tuple[Path, ...]:
    """The files that say something of a model; several single files share a configuration."""
    own = () if model.file is None else (model.file,)
    return (*own, *(model.path / name for name in names))


def _told(missing: MissingPart, model: Model) -> dict[str, Any]:
    own = is_tokenizer(missing.part)
    part = missing.part.replace("tokenizer", "text_encoder")
    component = COMPONENTS.get(model.path.name, {}).get(part)
    return {
        "kind": "tokenizer" if own else VAE if part == VAE else "text_encoder",
        "name": missing.part if component is None else _NAMES[component],
        "folder": f"{missing.folder.parent.name}/{missing.folder.name}",
        "address": missing.address,
    }

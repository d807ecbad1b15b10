"""Which of several tokenizers of one class is the one of a text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from webui.generation.stored_tokenizers import (
    kind_in_file,
    numbers_in_folder,
    template_in_file,
    template_in_folder,
)
from webui.generation.surroundings import PartFile, PartFolder
from webui.library.pipeline_folders import read_object, sizes_within

_TEMPLATES = MappingProxyType(
    {
        # Which Qwen's later tokenizers have, and its earlier ones, for other models, have not.
        **dict.fromkeys(("Qwen3Model", "Qwen3ForCausalLM"), "enable_thinking"),
        "Mistral3ForConditionalGeneration": "content",
    }
)
"""Text encoders that are told the prompt as a conversation, and a word of its template."""

_LEAST_USED = 7 / 8
"""Share of a text encoder's table that its tokenizer uses: those are filled up a little."""


@dataclass(frozen=True)
class WantedTokenizer:
    """The tokenizer of a text encoder.

    Attributes:
        kind: The tokenizer's class.
        encoder: That of the text encoder.
        config: The text encoder's configuration.
    """

    kind: str
    encoder: str
    config: Mapping[str, Any]

    def is_in_file(self, file: PartFile) -> bool:
        """Whether a text encoder's file has it."""
        told = template_in_file(file.header)
        return kind_in_file(file.header) == self.kind and _TEMPLATES.get(self.encoder, "") in told

    def is_in(self, folder: Path) -> bool:
        """Whether a folder of its class has it, and not one for another text encoder."""
        table = sizes_within(self.config)["vocab_size"]
        fits = _LEAST_USED * table <= numbers_in_folder(folder) <= table
        return fits and _TEMPLATES.get(self.encoder, "") in template_in_folder(folder)

    def distance(self, folder: PartFolder) -> int:
        """How far from the model's the text encoder is that a tokenizer lies with."""
        theirs = read_object(folder.encoder)
        return 1 if not theirs else 0 if is_same_size(self.config, theirs) else 2


def is_same_size(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two configurations that both say something of a value agree on all the sizes."""
    ours, theirs = sizes_within(ours), sizes_within(theirs)
    sizes = [key for key, value in ours.items() if key in theirs and isinstance(value, int | list)]
    return bool(sizes) and all(ours[key] == theirs[key] for key in sizes if key not in _NO_SIZES)


_NO_SIZES = (
    *("sample_size", "force_upcast", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("architectures", "use_cache", "tie_word_embeddings", "max_window_layers"),
    *("max_position_embeddings", "use_sliding_window"),
)
"""Values that say nothing of the weights, and differ between folders with the same ones."""

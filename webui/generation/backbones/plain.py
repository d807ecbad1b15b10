"""Prompts as plain text, for encoders that are language models and know no weights."""

from __future__ import annotations

from typing import Any, cast

from webui.generation.prompt_rooms import PromptRoom
from webui.generation.prompts import ParsedPrompt


def plain_text(prompt: ParsedPrompt) -> str:
    """The prompt's words in order."""
    return " ".join("".join(segment.text for segment in block) for block in prompt.blocks)


def read_back(text: str, tokenizer: Any, room: PromptRoom) -> str:
    """What is left of a text once it is tokens: marks of the vocabulary gone, cut at the room."""
    before = len(tokenizer(room.before, add_special_tokens=False)["input_ids"])
    most = room.tokens - room.marks - before
    ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=most)
    return cast(str, tokenizer.decode(ids["input_ids"], skip_special_tokens=True)).strip()

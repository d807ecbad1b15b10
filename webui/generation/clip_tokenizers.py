"""CLIP's tokenizers for files that bring none, built in memory."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken
from transformers import CLIPTokenizer

from webui.generation.clip_vocabulary import END, START, clip_vocabulary

LENGTH = 77
"""Tokens that a CLIP text encoder takes at once, its start and end token among them."""

PAD_ZERO = "!"
"""Token 0, with which OpenCLIP's text encoders were trained to be filled up. A "!" in a prompt
becomes that token too, as with the published tokenizer files."""


def clip_tokenizer(pad: str = END) -> CLIPTokenizer:
    """The published tokenizer of a CLIP text encoder.

    Args:
        pad: What short prompts are filled up with: the end token (OpenAI's CLIP-L), or `PAD_ZERO`
            (OpenCLIP's H and bigG).

    Raises:
        BrokenFileError: The package with its vocabulary is missing or damaged.
    """
    numbers, merges = clip_vocabulary()
    start, end = (AddedToken(text, special=True, normalized=True) for text in (START, END))
    untyped: Any = CLIPTokenizer
    return untyped(
        vocab=dict(numbers),
        merges=list(merges),
        bos_token=start,
        eos_token=end,
        unk_token=end,
        pad_token=end if pad == END else pad,
        model_max_length=LENGTH,
    )

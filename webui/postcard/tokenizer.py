"""A small byte-level BPE vocabulary in CLIP's format, made from the captions themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from webui.postcard.captions import UNCONDITIONAL, caption
from webui.postcard.edges import load_tokenizer, save_tokenizer
from webui.postcard.scenes import random_scene

MAX_LENGTH = 77
_CAPTIONS = 20_000
_MERGES = 400
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_COMMON = (
    "a man, a woman, a girl, a boy, people, standing next to, walking, dancing, pose",
    "sky, sea, sun, moon, stars, cloud, rain, water, grass, flower, mountain, snow, light, dark",
    "watercolor style, neon night style, pixel art, oil painting, sketch, cartoon, photograph",
    "brown, grey, gray, cyan, teal, magenta, gold, silver, coat, hat, dress, shoes, jacket",
)


def make_tokenizer(folder: Path, seed: int = 3) -> CLIPTokenizer:
    """Train the vocabulary, write it to `folder` and return it as diffusers will load it."""
    learned = _learn_merges(seed)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    words += [word for word in dict.fromkeys(a + b for a, b in learned) if word not in words]
    vocabulary = {word: number for number, word in enumerate([*words, *_SPECIAL])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in learned)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    tokenizer = load_tokenizer(folder, model_max_length=MAX_LENGTH)
    save_tokenizer(tokenizer, folder)
    return load_tokenizer(folder)


def _learn_merges(seed: int) -> list[tuple[str, str]]:
    bpe = Tokenizer(
        models.BPE(unk_token=_SPECIAL[1], end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + _MERGES,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(seed), trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges]


def _corpus(seed: int) -> Iterator[str]:
    random = Random(seed)
    for number in range(_CAPTIONS):
        yield caption(random_scene(random), random)
        if number % 100 == 0:
            yield from UNCONDITIONAL
            yield from _COMMON

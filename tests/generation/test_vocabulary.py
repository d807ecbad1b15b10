from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from tests.generation.folders import MERGES, toy_vocabulary, write_json, write_sd1
from webui.errors import BrokenFileError
from webui.generation.vocabulary import PromptTokenizer, read_own_tokenizer, read_tokenizer
from webui.library.checkpoints import Model
from webui.settings import ROOT

POSTCARD = Model("postcard", ROOT / "models" / "postcard", "StableDiffusionPipeline")


def theirs(model: Model) -> Any:
    untyped: Any = CLIPTokenizer
    return untyped.from_pretrained(str(model.path / "tokenizer"), local_files_only=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[PromptTokenizer, Any]]:
    """Our reading and transformers' of one file, of two files, and of one with pairs as text."""
    folder = tmp_path_factory.mktemp("models")
    old = write_sd1(folder, "old")
    write_json(
        old.path / "tokenizer" / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": [],
            "model": {
                "type": "BPE",
                "vocab": toy_vocabulary(),
                "merges": [" ".join(pair) for pair in MERGES],
            },
        },
    )
    models = (POSTCARD, write_sd1(folder, "two files"), old)
    return [(read_tokenizer(model), theirs(model)) for model in models]


PIECES = (
    *(*"abAB ,.!'12\n\t", "red", " Red ", "it's", "<|endoftext|>", "<|ENDOFTEXT|>", "e\u0301"),
    *(
        "🌊",
        "👩\u200d👧",
        "🇩🇪",
        "日本",
        "שלום",
        "straße",
        "İ",
        "\ufb01",
        "\u00a0",
        "\u3000",
        "\x00",
    ),
)
WORDS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.one_of(WORDS, st.text()))
@example("")
def test_the_tokens_are_transformers_own(
    pairs: list[tuple[PromptTokenizer, Any]], text: str
) -> None:
    for ours, reference in pairs:
        expected = reference(text, add_special_tokens=False, verbose=False)["input_ids"]
        assert [number for number, _ in ours.encode(text)] == expected


def test_each_token_is_found_in_the_text_as_typed(pairs: list[tuple[PromptTokenizer, Any]]) -> None:
    for ours, reference in pairs:
        positions = [at for _, at in ours.encode("\n A  🌊 e\u0301é,  Red")]
        assert positions == sorted(positions)
        assert {3 - 1, 5, 7, 9, 10, 13} <= set(positions), positions
        assert ours.comma_id == reference.get_vocab()[",</w>"]


def damage(folder: Path, name: str, data: Any) -> None:
    write_json(folder / name, data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", {"model": {}}),
        ("tokenizer.json", {"model": {"vocab": {"a": "b"}, "merges": []}}),
        ("tokenizer.json", {"model": {"vocab": {"a": 0}, "merges": []}}),
        ("tokenizer.json", {"model": {"vocab": toy_vocabulary(), "merges": ["x"]}}),
        ("tokenizer.json", {"model": {"vocab": toy_vocabulary(), "merges": [["x", "yz"]]}}),
        ("tokenizer.json", {"model": {"vocab": toy_vocabulary(), "merges": [3]}}),
        ("vocab.json", "[]"),
        ("vocab.json", {"a": -1}),
        ("merges.txt", "one word a line\n"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", {"unk_token": "<unknown>"}),
        ("tokenizer_config.json", {"unk_token": {"lstrip": True}}),
        ("tokenizer_config.json", {"bos_token": 3}),
    ],
)
def test_a_damaged_vocabulary_is_one_sentence(name: str, data: Any, tmp_path: Path) -> None:
    model = write_sd1(tmp_path, "meadow")
    damage(model.path / "tokenizer", name, data)
    with pytest.raises(BrokenFileError, match="its tokenizer is missing or damaged") as caught:
        read_tokenizer(model)
    assert caught.value.field == "model"


def test_a_missing_vocabulary_is_the_same_sentence(tmp_path: Path) -> None:
    model = write_sd1(tmp_path, "meadow")
    shutil.rmtree(model.path / "tokenizer")
    with pytest.raises(BrokenFileError, match="its tokenizer is missing or damaged"):
        read_tokenizer(model)


def test_the_settings_are_not_needed(tmp_path: Path) -> None:
    model = write_sd1(tmp_path, "meadow")
    (model.path / "tokenizer" / "tokenizer_config.json").unlink()
    vocabulary = json.loads((model.path / "tokenizer" / "vocab.json").read_text())
    assert [n for n, _ in read_tokenizer(model).encode("Red")] == [vocabulary["red</w>"]]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> tuple[PromptTokenizer, Any]:
    """Our reading and transformers' of Qwen's as Qwen-Image has it, without a `tokenizer.json`."""
    folder = tmp_path_factory.mktemp("qwen")
    merges = ["r e", "re d", "\u0120 red", "\u0120 \u0120", "1 2"]
    words = [*sorted(ByteLevel.alphabet()), *(pair.replace(" ", "") for pair in merges)]
    write_json(folder / "vocab.json", {word: number for number, word in enumerate(words)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = {str(n): {"content": mark, "special": True} for n, mark in enumerate(marks, 300)}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added},
    )
    untyped: Any = importlib.import_module("transformers").Qwen2Tokenizer
    reference = untyped.from_pretrained(str(folder), local_files_only=True)
    return read_own_tokenizer(folder), reference


QWENS = st.lists(st.sampled_from([*" \n'rd12.\u0301e", "red", "<|im_end|>"])).map("".join)


@settings(max_examples=50)
@given(st.one_of(st.text(), QWENS))
@example("a red  12\n\nre\u0301d <|im_end|>it's RED")
def test_qwens_tokenizer_is_built_as_transformers_builds_it(
    qwen: tuple[PromptTokenizer, Any], text: str
) -> None:
    ours, theirs = qwen
    read = [number for number, _ in ours.encode(text)]
    assert len(read) == len(theirs(text, add_special_tokens=False)["input_ids"])

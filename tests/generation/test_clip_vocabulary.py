from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from webui.errors import BrokenFileError
from webui.generation import clip_vocabulary as module
from webui.generation.clip_tokenizers import PAD_ZERO, clip_tokenizer
from webui.generation.clip_vocabulary import TOKENS, clip_vocabulary
from webui.generation.vocabulary import clip_tokenizer as page_tokenizer
from webui.generation.vocabulary import read_tokenizer
from webui.library.checkpoints import Model
from webui.settings import ROOT

# As openai/CLIP's own tokenizer and the published tokenizer files give them.
KNOWN = (
    ("a photo of a cat", [320, 1125, 539, 320, 2368]),
    ("A  Photo of a\nCAT", [320, 1125, 539, 320, 2368]),
    (",", [267]),
    ("!", [256]),
    ("a diagram", [320, 22697]),
)


def test_the_vocabulary_has_the_published_size_and_ends() -> None:
    numbers, merges = clip_vocabulary()
    assert len(numbers) == TOKENS == 49408
    assert len(merges) == 48894
    assert numbers["!"] == 0
    assert (numbers["<|startoftext|>"], numbers["<|endoftext|>"]) == (49406, 49407)


@pytest.mark.parametrize(("text", "expected"), KNOWN)
def test_both_tokenizers_give_the_published_numbers(text: str, expected: list[int]) -> None:
    tokenizer: Any = clip_tokenizer()
    assert tokenizer(text)["input_ids"] == [49406, *expected, 49407]
    assert [number for number, _ in page_tokenizer().encode(text)] == expected


def test_short_prompts_are_filled_up_as_each_text_encoder_was_trained() -> None:
    for pad, number in (("<|endoftext|>", 49407), (PAD_ZERO, 0)):
        tokenizer: Any = clip_tokenizer(pad)
        ids = tokenizer("a cat", padding="max_length", truncation=True)["input_ids"]
        assert ids[:4] == [49406, 320, 2368, 49407]
        assert ids[4:] == [number] * 73


def test_an_exclamation_mark_is_what_the_published_tokenizers_take_it_for() -> None:
    for pad, number in (("<|endoftext|>", 256), (PAD_ZERO, 0)):
        tokenizer: Any = clip_tokenizer(pad)
        assert tokenizer("hi !")["input_ids"] == [49406, 1883, number, 49407]


def test_a_single_file_is_counted_with_it_where_clip_reads_its_prompts(tmp_path: Path) -> None:
    configs = ROOT / "webui" / "generation" / "configs"
    for name in ("sd1", "sdxl", "sdxl-refiner", "flux-dev", "sd3.5-large"):
        model = Model("a", configs / name, "", tmp_path / "a.safetensors")
        # The refiner has the second of SDXL's encoders alone.
        folder = "tokenizer_2" if name == "sdxl-refiner" else "tokenizer"
        assert [n for n, _ in read_tokenizer(model, folder).encode("a cat")] == [320, 2368]
    with pytest.raises(BrokenFileError, match="tokenizer"):
        read_tokenizer(Model("z", configs / "z-image", "", tmp_path / "z.safetensors"))


def test_the_page_needs_neither_torch_nor_transformers_for_it() -> None:
    code = (
        "import sys; from webui.generation.vocabulary import clip_tokenizer;"
        "clip_tokenizer(); print({'torch', 'transformers', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_package_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    clip_vocabulary.cache_clear()
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    with pytest.raises(BrokenFileError, match="CLIP's vocabulary"):
        clip_vocabulary()
    monkeypatch.undo()
    clip_vocabulary.cache_clear()

"""Tokenizers out of text encoders' files read as the published ones, in folders, do."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors import torch as safetensors
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tests.fakes import NO_CONTENT
from webui.errors import BrokenFileError
from webui.generation.companions import find_tokenizer
from webui.generation.file_parts import load_part
from webui.generation.mistral_tokenizers import MISTRAL_TEMPLATE
from webui.generation.stored_tokenizers import numbers_in_folder, read_stored_tokenizer
from webui.library.checkpoints import Checkpoint
from webui.settings import ROOT

T: Any = transformers
save_file: Any = cast(Any, safetensors).save_file
CONFIGS = ROOT / "webui" / "generation" / "configs"

PIECES = tuple(
    (piece, -float(at))
    for at, piece in enumerate(("<pad>", "</s>", "<unk>", "▁", "a", "▁a", "c", "t", "▁cat", "s"))
)
EXTRA = tuple((f"<extra_id_{at}>", 0.0) for at in reversed(range(100)))


def rules() -> bytes:
    """SentencePiece's normalisation rules, as few as there can be: Q becomes c.

    A double array of two steps; format: `darts.h` of s-yata/darts-clone.
    """
    leaf, letter = 1 << 8, ord("Q")
    # As many as there are bytes, each of which is looked up.
    units = [0] * 256
    units[0] = 1 << 10
    units[1 ^ letter] = letter | leaf | 1 << 10
    # The unit behind the leaf holds where the text begins that takes its place: at 0.
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + b"c\0"


def published_t5() -> Any:
    return T.T5Tokenizer(vocab=[*PIECES, *EXTRA], _spm_precompiled_charsmap=rules())


def sentencepiece() -> bytes:
    """The same as a SentencePiece model."""

    def field(number: int, value: bytes) -> bytes:
        length = (
            bytes([len(value)])
            if len(value) < 128
            else bytes([len(value) & 127 | 128, len(value) >> 7])
        )
        return bytes([number << 3 | 2]) + length + value

    pieces = (
        field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18\x01"
        for piece, score in PIECES
    )
    return b"".join(field(1, piece) for piece in pieces) + field(3, field(2, rules()))


def checkpoint_of(file: Path, config: str) -> Checkpoint:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(1)}, file)
    folders = (file.parent,)
    return Checkpoint(
        "a", CONFIGS / config, "P", file, key="a", content=NO_CONTENT, folders=folders
    )


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def write_gguf(path: Path, architecture: str, tensors: dict[str, int], **said: Any) -> Path:
    """A text encoder's file of norms alone, by which it is recognised, and a vocabulary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer: Any = gguf.GGUFWriter(str(path), architecture)
    for name, value in said.items():
        key = f"tokenizer.{name}" if name == "chat_template" else f"tokenizer.ggml.{name}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    for name, width in tensors.items():
        writer.add_tensor(name, np.zeros(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["gguf", "tensor", "folder"])
def test_a_t5s_tokenizer_out_of_a_file_reads_as_the_published_one(
    tmp_path: Path, kind: str
) -> None:
    checkpoint = checkpoint_of(tmp_path / "models" / "flux.safetensors", "flux-dev")
    folder = tmp_path / "models" / "text_encoders"
    assert find_tokenizer(checkpoint, "tokenizer_2") is None
    if kind == "gguf":
        filled_up = [f"[PAD{at}]" for at in range(len(PIECES), len(PIECES) + 118)]
        place = write_gguf(
            folder / "t5-Q8_0.gguf",
            "t5encoder",
            {"enc.output_norm.weight": 4096},
            model="t5",
            tokens=[*(piece for piece, _ in PIECES), *filled_up],
            scores=[*(score for _, score in PIECES), *(-10_000.0 for _ in filled_up)],
            token_type=[3, 3, 2, *(1 for _ in PIECES[3:]), *(5 for _ in filled_up)],
            precompiled_charsmap=[byte - 256 * (byte > 127) for byte in rules()],
            eos_token_id=1,
            padding_token_id=0,
        )
    elif kind == "tensor":
        place = folder / "t5.safetensors"
        place.parent.mkdir()
        pieces = torch.frombuffer(bytearray(sentencepiece()), dtype=torch.uint8)
        norm = torch.zeros(4096)
        save_file({"encoder.final_layer_norm.weight": norm, "spiece_model": pieces}, place)
    else:
        place = folder / "t5"
        place.mkdir(parents=True)
        (place / "spiece.model").write_bytes(sentencepiece())
        assert numbers_in_folder(place) == len(PIECES) + 100
    if place.is_file():
        assert find_tokenizer(checkpoint, "tokenizer_2") == place
    named = ("transformers", "T5TokenizerFast")
    ours = load_part(place, named, checkpoint, "tokenizer_2", torch.float32)
    theirs = published_t5()
    for text in ("a cats at", "  Qat \n a", "unknown é", "<extra_id_3>a<pad>", ""):
        asked: dict[str, Any] = {"padding": "max_length", "max_length": 12, "truncation": True}
        assert ours(text, **asked)["input_ids"] == theirs(text, **asked)["input_ids"]
    assert ours.decode(ours("cats")["input_ids"], skip_special_tokens=True) == "cats"


def test_a_qwens_tokenizer_out_of_a_gguf_reads_and_writes_as_the_published_one(
    tmp_path: Path,
) -> None:
    checkpoint = checkpoint_of(tmp_path / "models" / "z.safetensors", "z-image")
    words = ["c", "a", "t", "s", "Ġ", "Ċ", "Ã", "©", "ca", "cat", "Ġcat", "u", "e", "r"]
    merges = ["c a", "ca t", "Ġ cat"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
    # Longer than texts of the metadata used to be, and the word that counts at its end.
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + "{# nothing is said here #}" * 200
        + "{% if enable_thinking is false %}<think>{% endif %}"
    )
    place = write_gguf(
        tmp_path / "models" / "text_encoders" / "qwen.gguf",
        "qwen3",
        {"blk.0.attn_norm.weight": 2560, "blk.0.attn_q_norm.weight": 128},
        model="gpt2",
        pre="qwen2",
        tokens=[*words, *special],
        merges=merges,
        token_type=[*(1 for _ in words), 3, 3, 3, 4],
        eos_token_id=len(words) + 2,
        padding_token_id=len(words),
        chat_template=template,
    )
    assert find_tokenizer(checkpoint) == place
    named = ("transformers", "Qwen2TokenizerFast")
    ours = load_part(place, named, checkpoint, "tokenizer", torch.float32)
    theirs = T.Qwen2Tokenizer(
        vocab={word: at for at, word in enumerate((*words, *special))},
        merges=[tuple(merge.split()) for merge in merges],
        eos_token="<|im_end|>",
        chat_template=template,
    )
    added = transformers.AddedToken
    theirs.add_tokens([added(one, special=True, normalized=False) for one in special[:3]])
    theirs.add_tokens([added(special[3], normalized=False)])
    for text in ("a cat cats", "e\u0301 cat\ncat", "<|im_start|>user<think>", ""):
        asked: dict[str, Any] = {"padding": "max_length", "max_length": 12, "truncation": True}
        assert ours(text, **asked).data == theirs(text, **asked).data
    told = [{"role": "user", "content": "a cat"}]
    for thinks in (True, False):
        asked = {"tokenize": False, "enable_thinking": thinks}
        written = ours.apply_chat_template(told, **asked)
        assert written == theirs.apply_chat_template(told, **asked)
        assert written.endswith("<think>") is not thinks


BYTES = cast(Any, bytes_to_unicode)()
SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    "<SPECIAL_8>",
)
WORDS = ("ca", "cat", " cat", "dog", "never taken")
"""Of more than a byte; no merges lead to "dog", and the last is beyond the vocabulary."""

MERGES = (("c", "a"), ("ca", "t"), ("Ġ", "cat"))
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def published_mistral(split: str) -> Any:
    """As the tokenizer's own folder has it: the special tokens first, then bytes, then words."""
    spelled = [*BYTES.values(), *(word.replace(" ", "Ġ") for word in WORDS[:-1])]
    numbers = {word: at for at, word in enumerate((*SPECIAL, *spelled))}
    backend: Any = tokenizers.Tokenizer(
        tokenizers.models.BPE(numbers, list(MERGES), ignore_merges=True)
    )
    splits = tokenizers.pre_tokenizers.Split(tokenizers.Regex(split), "isolated")
    letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([splits, letters])
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(one, special=True) for one in SPECIAL])
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return T.PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side="left", chat_template=MISTRAL_TEMPLATE, **marks
    )


def tekken() -> bytes:
    """The same as Mistral writes it: https://github.com/mistralai/mistral-common."""
    spelled = [*(bytes([one]) for one in BYTES), *(word.encode() for word in WORDS)]
    content = {
        "config": {
            "pattern": SPLIT,
            "num_vocab_tokens": len(spelled),
            "default_vocab_size": len(SPECIAL) + len(spelled) - 1,
            "default_num_special_tokens": len(SPECIAL),
            "version": "v11",
        },
        "vocab": [
            {"rank": at, "token_bytes": base64.b64encode(word).decode(), "token_str": None}
            for at, word in enumerate(spelled)
        ],
        "special_tokens": [
            {"rank": at, "token_str": token, "is_control": True}
            for at, token in enumerate(SPECIAL[:-1])
        ],
    }
    return json.dumps(content).encode()


@pytest.mark.parametrize("kind", ["gguf", "tensor"])
def test_mistrals_tokenizer_out_of_a_file_reads_and_writes_as_the_published_one(
    tmp_path: Path, kind: str
) -> None:
    checkpoint = checkpoint_of(tmp_path / "models" / "flux2.safetensors", "flux2-dev")
    folder = tmp_path / "models" / "text_encoders"
    if kind == "gguf":
        place = write_gguf(
            folder / "mistral.gguf",
            "llama",
            {"blk.0.attn_norm.weight": 5120},
            model="gpt2",
            pre="tekken",
            tokens=[*SPECIAL, *BYTES.values(), *(w.replace(" ", "Ġ") for w in WORDS[:-1])],
            merges=[" ".join(merge) for merge in MERGES],
            token_type=[*(3 for _ in SPECIAL), *(1 for _ in range(256 + len(WORDS) - 1))],
            bos_token_id=1,
            eos_token_id=2,
            chat_template="{{ raise_exception('Only for chats.') }}",
        )
        # What the word stands for is in llama.cpp.
        theirs = published_mistral(GGUF_PRE_TOKENIZER_SPLITS["tekken"])
    else:
        place = folder / "mistral.safetensors"
        folder.mkdir()
        stored = torch.frombuffer(bytearray(tekken()), dtype=torch.uint8)
        norm = torch.zeros(5120)
        save_file({"model.layers.0.input_layernorm.weight": norm, "tekken_model": stored}, place)
        theirs = published_mistral(SPLIT)
    assert find_tokenizer(checkpoint) == place
    ours = load_part(
        place, ("transformers", "PixtralProcessor"), checkpoint, "tokenizer", torch.float32
    )
    for text in ("a cat dog doggy", "Cat, 12 cats\n é", "[INST]cat</s>never taken", ""):
        asked: dict[str, Any] = {"padding": "max_length", "max_length": 16, "truncation": True}
        assert ours(text, **asked)["input_ids"] == theirs(text, **asked)["input_ids"]
    (dog,) = ours("dog")["input_ids"]
    assert ours.decode([dog]) == "dog"
    told = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("system", "Paint."), ("user", "a cat"))
    ]
    asked = {"tokenize": True, "return_dict": True, "padding": "max_length", "max_length": 20}
    written = ours.apply_chat_template(told, **asked)["input_ids"]
    assert written == theirs.apply_chat_template(told, **asked)["input_ids"]
    assert ours.decode(written).endswith(
        "<pad><s>[SYSTEM_PROMPT]Paint.[/SYSTEM_PROMPT][INST]a cat[/INST]"
    )


def test_a_damaged_tekken_is_told(tmp_path: Path) -> None:
    for written in (b"", b"{", b'{"config": {}}', tekken().replace(b"special_tokens", b"x")):
        file = tmp_path / "mistral.safetensors"
        stored = torch.frombuffer(bytearray(written or b" "), dtype=torch.uint8)
        save_file({"tekken_model": stored}, file)
        with pytest.raises(BrokenFileError, match=r"The tokenizer in .* is damaged"):
            read_stored_tokenizer(file)


@pytest.mark.parametrize("model", [b"\x0a\xff", b"\x0a\x02\x0a\x09", b"\x0a\x03\x15\0\0", b"\x0f"])
def test_damaged_pieces_are_told(tmp_path: Path, model: bytes) -> None:
    (tmp_path / "spiece.model").write_bytes(model)
    assert numbers_in_folder(tmp_path) == 0
    with pytest.raises(BrokenFileError, match=r"The tokenizer in .* is damaged"):
        read_stored_tokenizer(tmp_path)

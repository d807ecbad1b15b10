from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families.tiny import clip_tokenizer
from tests.generation.folders import write_json, write_sd1
from tests.library.weights import put
from webui.errors import BadRequestError
from webui.generation.chunks import CHUNK_TOKENS
from webui.generation.embedding_words import EmbeddingReader
from webui.generation.families import FLUX, SD1
from webui.generation.prompt_plan import plan_prompt
from webui.generation.text import decoded_text, token_count
from webui.generation.tokens import TextEncoder, count_tokens
from webui.generation.vocabulary import read_tokenizer
from webui.library.checkpoints import Model
from webui.library.embeddings import EmbeddingShelf
from webui.library.hashes import HashBook

VECTORS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    files = folder / "embeddings"
    put(files / "Ink-5.safetensors", {"emb_params": (VECTORS, 768)})
    put(files / "soft light.safetensors", {"emb_params": (2, 768)})
    put(files / "sd1" / "fog.safetensors", {"emb_params": (3, 768)})
    put(files / "xl" / "fog.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    put(files / "xl" / "glow.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    put(files / "a" / "twin.safetensors", {"emb_params": (1, 768)})
    put(files / "b" / "twin.safetensors", {"emb_params": (2, 768)})
    put(files / "learned.safetensors", {"<meadow>": (1, 768)})
    (files / "old.pt").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return wide(folder, "toy", 768)


def wide(folder: Path, name: str, width: int) -> Model:
    made = write_sd1(folder, name)
    config = {"num_hidden_layers": 12, "hidden_size": width}
    write_json(made.path / "text_encoder" / "config.json", config)
    return made


def reader(model: Model) -> EmbeddingReader:
    folder = model.path.parent
    shelf = EmbeddingShelf((folder,), HashBook(folder / ".state" / "hashes.json"))
    return EmbeddingReader(model, SD1, shelf)


def read(model: Model, text: str) -> list[tuple[str, float, int]]:
    """Text, weight and vectors of each segment; of several prompts in order."""
    plan = plan_prompt(text, "prompt", 10, reader(model).put)
    return [
        (one.text, one.weight, 0 if one.embedding is None else one.embedding.vectors)
        for prompt in plan.prompts
        for block in prompt.blocks
        for one in block
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a <Ink-5> hill", [("a ", 1, 0), ("<Ink-5>", 1, 8), (" hill", 1, 0)]),
        ("INK-5", [("INK-5", 1, 8)]),
        ("(ink-5:1.5), red", [("ink-5", 1.5, 8), (", red", 1, 0)]),
        ("red BREAK [ink-5]", [("red", 1, 0), ("ink-5", 1 / 1.1, 8)]),
        ("[red:ink-5:0.5]", [("red", 1, 0), ("ink-5", 1, 8)]),
        ("red AND <ink-5> :0.5", [("red", 1, 0), ("<ink-5>", 1, 8)]),
        ("a soft light, soft", [("a ", 1, 0), ("soft light", 1, 2), (", soft", 1, 0)]),
        ("ink-5s, pink-5, ink-5-x", [("ink-5s, pink-5, ink-5-x", 1, 0)]),
        ("fog <sd1/fog>", [("fog", 1, 3), (" ", 1, 0), ("<sd1/fog>", 1, 3)]),
        ("<meadow> meadow", [("<meadow>", 1, 1), (" meadow", 1, 0)]),
        ("<b/twin>", [("<b/twin>", 1, 2)]),
    ],
)
def test_names_are_found_where_they_stand_as_words(
    model: Model, text: str, found: list[tuple[str, float, int]]
) -> None:
    assert read(model, text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a <glow>", "character 3: the embedding <glow> is made for SDXL, and the model 'toy' is"),
        ("<twin>", "<twin> stands for several embeddings: choose one by its path, of a/twin"),
        ("<old>", "<old> cannot be used: old.pt is a pickle"),
        ("(a <ink-5:2>:1)", "character 4: an embedding takes no weight in its brackets"),
    ],
)
def test_what_is_meant_and_cannot_be_is_refused(model: Model, text: str, says: str) -> None:
    with pytest.raises(BadRequestError, match=r"^Prompt, ") as refused:
        read(model, text)
    assert says in refused.value.message
    assert refused.value.field == "prompt"
    if "glow" in text:
        assert "Stable Diffusion 1" in refused.value.message


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("a Glow", "family", "'Glow' is an embedding for SDXL: it is read as plain text."),
        ("twin", "several", "(a/twin.safetensors, b/twin.safetensors)"),
        ("old", "broken", "pickle"),
        ("<inc-5>", "unknown", "names no embedding that is here"),
    ],
)
def test_a_word_that_only_looks_like_one_stays_text_and_it_is_said(
    model: Model, text: str, kind: str, says: str
) -> None:
    reads = reader(model)
    plan = plan_prompt(text, "prompt", 10, reads.put)
    assert plan == plan_prompt(text, "prompt", 10)
    (remark,) = reads.remarks
    assert (remark.kind, says in remark.sentence) == (kind, True)


def test_encoders_of_another_size_take_none(folder: Path) -> None:
    small = wide(folder, "small", 64)
    reads = reader(small)
    assert plan_prompt("ink-5", "prompt", 10, reads.put).embeddings == ()
    assert reads.remarks[0].kind == "encoders"
    with pytest.raises(BadRequestError, match="text encoders of another size"):
        read(small, "<ink-5>")


def test_a_model_that_reads_plain_text_refuses_and_says_why(folder: Path) -> None:
    flux = wide(folder, "flux", 768)
    index = {"text_encoder": ["transformers", "CLIPTextModel"]}
    index["text_encoder_2"] = ["transformers", "T5EncoderModel"]
    write_json(flux.path / "model_index.json", {"_class_name": "FluxPipeline"} | index)
    reads = EmbeddingReader(
        flux, FLUX, EmbeddingShelf((folder,), HashBook(folder / ".state" / "hashes.json"))
    )
    reads.check_plain("a red hill, ink-5", "prompt")
    assert [remark.kind for remark in reads.remarks] == ["family"]
    with pytest.raises(BadRequestError) as refused:
        reads.check_plain("a <ink-5>", "negative_prompt")
    assert refused.value.message == (
        "Negative prompt, character 3: the embedding <ink-5> is made for SD 1, and the model 'flux'"
        " is FLUX.1 dev, which reads prompts with other encoders than CLIP alone: take it out."
    )


def test_the_vectors_of_one_are_not_parted_between_chunks(model: Model) -> None:
    tokenizer = clip_tokenizer()
    for before in (66, 67, 68, 75):
        parsed = plan_prompt("red " * before + "ink-5", "prompt", 1, reader(model).put).prompts[0]
        torn = before + VECTORS > CHUNK_TOKENS
        counted = token_count(parsed, tokenizer)
        assert counted == (CHUNK_TOKENS + VECTORS if torn else before + VECTORS)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["red", "red,", "ink-5", "soft light", "BREAK"]), max_size=60))
def test_the_page_counts_what_is_encoded(model: Model, words: list[str]) -> None:
    text = " ".join(words)
    parsed = plan_prompt(text, "prompt", 1, reader(model).put).prompts[0]
    encoders = [TextEncoder("CLIP", read_tokenizer(model))]
    (told,) = count_tokens(text, encoders, embeddings=reader(model)).encoders
    assert told.tokens == token_count(parsed, clip_tokenizer())


def test_a_cut_is_before_the_embedding_that_does_not_fit(model: Model) -> None:
    text = "red " * 70 + "<ink-5>, red"
    encoders = [TextEncoder("CLIP", read_tokenizer(model))]
    (told,) = count_tokens(text, encoders, embeddings=reader(model)).encoders
    assert [text[at:] for at in told.cuts] == ["<ink-5>, red"]


def test_the_encoders_text_has_its_name_and_the_word_it_was_trained_for(model: Model) -> None:
    parsed = plan_prompt("red <meadow>, red", "prompt", 1, reader(model).put).prompts[0]
    assert decoded_text(parsed, clip_tokenizer()) == "red learned meadow , red"

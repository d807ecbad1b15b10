from __future__ import annotations

import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from tests.generation.folders import write_sd1
from tests.work import lines_run
from webui.errors import BadRequestError
from webui.generation.chunks import cut
from webui.generation.prompt_plan import plan_prompt
from webui.generation.prompts import PromptField
from webui.generation.text import token_count
from webui.generation.tokens import EncoderCount, TextEncoder, TokenCount, count_tokens
from webui.generation.vocabulary import PromptTokenizer, read_tokenizer
from webui.library.checkpoints import Model
from webui.request import MAX_PROMPT_CHARACTERS
from webui.settings import ROOT

POSTCARD = Model("postcard", ROOT / "models" / "postcard", "StableDiffusionPipeline")
Pair = tuple[PromptTokenizer, Any]


def pair(model: Model) -> Pair:
    untyped: Any = CLIPTokenizer
    reference = untyped.from_pretrained(str(model.path / "tokenizer"), local_files_only=True)
    return read_tokenizer(model), reference


@pytest.fixture(scope="module")
def postcard() -> Pair:
    return pair(POSTCARD)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(write_sd1(tmp_path_factory.mktemp("models"), "toy"))


def unit_after(text: str, position: int) -> str:
    """The text from a position on that counts UTF-16 code units."""
    return text.encode("utf-16-le")[2 * position :].decode("utf-16-le")


def encoded(text: str, tokenizer: Any) -> int | None:
    """The tokens of the longest of the prompts that are encoded."""
    try:
        plan = plan_prompt(text, "prompt", 20)
    except BadRequestError:
        return None
    return max(token_count(prompt, tokenizer) for prompt in plan.prompts)


def counted(
    text: str, tokenizer: PromptTokenizer | None, field: PromptField = "prompt"
) -> tuple[EncoderCount, TokenCount]:
    """What one encoder of CLIP makes of it."""
    count = count_tokens(text, [TextEncoder("CLIP-L", tokenizer)], field)
    (encoder,) = count.encoders
    return encoder, count


def broken_at(text: str, cuts: tuple[int, ...]) -> str:
    """The text with a BREAK at each of the positions."""
    raw = text.encode("utf-16-le")
    ends = [*cuts, len(raw) // 2]
    starts = [0, *cuts]
    parts = [raw[2 * a : 2 * b].decode("utf-16-le") for a, b in zip(starts, ends, strict=True)]
    return " BREAK ".join(parts)


PARTS = st.lists(
    st.sampled_from(
        [
            *"()[]\\:,.<>ab 1\n",
            "red, ",
            "red " * 90,
            ",",
            ":1.2)",
            " BREAK ",
            "🌊",
            "日本 ",
            "BREAK",
        ]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(PARTS)
@example("")
@example("BREAK")
@example("red BREAK BREAK")
@example("(red " * 30)
def test_the_count_is_that_of_the_encoder(postcard: Pair, toy: Pair, text: str) -> None:
    for ours, reference in (postcard, toy):
        count, whole = counted(text, ours)
        assert count.tokens == encoded(text, reference)
        assert (whole.problem is None) == (count.tokens is not None)
        if count.tokens is not None and count.chunks is not None:
            assert len(count.cuts) == count.chunks - 1
            assert list(count.cuts) == sorted(count.cuts)


class Numbered(NamedTuple):
    id: int
    start: int
    more: int = 0


@pytest.mark.parametrize(
    "text",
    [
        "red " * 200,
        "red ball, " * 60,
        "🌊 red ball, " * 20,
        "red ball and a " * 9 + "red, " + "red " * 130,
        "a\n\n red\tball 日本 " * 40,
        "a strawberry e\u0301 " * 60,
    ],
)
def test_a_cut_is_where_transformers_has_the_chunks_first_token(postcard: Pair, text: str) -> None:
    ours, reference = postcard
    read = reference(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    tokens = [Numbered(n, at) for n, (at, _) in zip(*read_columns(read), strict=True)]
    starts = [chunk[0].start for chunk in cut(tokens, comma_id=ours.comma_id)][1:]
    cuts = counted(text, ours)[0].cuts
    assert cuts
    assert [unit_after(text, at) for at in cuts] == [text[start:] for start in starts]


def read_columns(read: Any) -> tuple[list[int], list[tuple[int, int]]]:
    return read["input_ids"], read["offset_mapping"]


@pytest.mark.parametrize(
    "text",
    [
        "a (red ball, on 🌊 sand:1.3), " * 12 + "[red " * 15,
        "red, " * 30 + " (red:1.2)" * 90,
        r"a \(red\) ball " * 40,
        "((red ball, [red and:a] ball:0.5) red " * 20 + "red " * 100,
    ],
)
def test_a_break_at_each_cut_changes_nothing_for_the_encoder(postcard: Pair, text: str) -> None:
    ours, reference = postcard
    count, _ = counted(text, ours)
    assert len(count.cuts) > 1
    assert encoded(broken_at(text, count.cuts), reference) == count.tokens
    assert not any(unit_after(text, at)[0].isspace() for at in count.cuts)


def test_positions_count_as_javascript_does(toy: Pair) -> None:
    ours, _ = toy
    text = "🌊" * 10 + " " + "a " * 80 + "(🌊"
    encoder, count = counted(text, ours)
    assert unit_after(text, encoder.cuts[0]).startswith("a ")
    assert [unit_after(text, bracket) for bracket in count.brackets] == ["(🌊"]
    assert count.brackets[0] == text.index("(") + 10


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("red BREAK  (ball:1.2)", ["(ball:1.2)"]),
        ("red BREAK BREAK a", ["BREAK a", "a"]),
        ("BREAK red", ["red"]),
        ("red BREAK", []),
        ("(🌊 BREAK red)", ["red)"]),
    ],
)
def test_a_break_starts_a_chunk_behind_it(toy: Pair, text: str, starts: list[str]) -> None:
    count, _ = counted(text, toy[0])
    assert [unit_after(text, cut) for cut in count.cuts] == starts


def test_a_prompt_that_cannot_be_read_has_a_problem_and_its_brackets(toy: Pair) -> None:
    encoder, count = counted("(red [a:(b:1..2):5]", toy[0])
    assert count.problem is not None
    assert count.problem.startswith("Prompt, character 12: the weight")
    assert (encoder.tokens, encoder.chunks, encoder.cuts) == (None, None, ())
    assert count.brackets == (0,)
    _, negative = counted("a AND b (c:1.2.3)", toy[0], "negative_prompt")
    assert negative.problem is not None
    assert negative.problem.startswith("Negative prompt, character 12")


def test_without_a_tokenizer_the_brackets_are_left() -> None:
    encoder, count = counted("red )", None)
    assert encoder == EncoderCount("CLIP-L", None, 75, None, (), lost=False)
    assert (count.brackets, count.problem) == ((4,), None)
    _, unread = counted("(red:1.2.3)", None)
    assert unread.problem is not None


def test_the_longest_of_what_a_prompt_becomes_counts_with_its_cuts(toy: Pair) -> None:
    long = "red ball, " * 30
    for text in (f"[hill:{long}:5]", f"[{long}|hill]", f"hill AND {long}:1.2", f"{long} AND hill"):
        encoder, _ = counted(text, toy[0])
        alone, _ = counted(long.strip(), toy[0])
        assert encoder.chunks == alone.chunks
        shift = text.index("red")
        assert encoder.cuts == tuple(cut + shift for cut in alone.cuts)


def test_plain_text_is_cut_where_its_encoder_ends(toy: Pair) -> None:
    text = "(a 🌊 " * 20
    encoders = [
        TextEncoder("CLIP-L", toy[0], 30, chunks=False),
        TextEncoder("T5", toy[0], 255, chunks=False),
        TextEncoder("T5", None, 255, chunks=False),
    ]
    count = count_tokens(text, encoders)
    short, long, absent = count.encoders
    assert short.lost
    assert short.tokens == long.tokens
    assert [unit_after(text, cut)[:1] in "(a🌊" for cut in short.cuts] == [True]
    assert (long.lost, long.cuts, long.chunks) == (False, (), 1)
    assert (absent.tokens, absent.chunks) == (None, None)
    assert count.brackets == ()
    assert count.problem is None


def test_what_is_drawn_is_counted_by_an_example_without_cuts(toy: Pair) -> None:
    encoders = [TextEncoder("CLIP-L", toy[0])]
    text = "{a|b} " + "red " * 100
    count = count_tokens(text, encoders, draw=lambda _: "a " + "red " * 100)
    (encoder,) = count.encoders
    assert count.drawn
    assert encoder.chunks == 2
    assert encoder.cuts == ()


@pytest.mark.parametrize("unit", ["(", "\\(", "🌊", ",", "a ", "BREAK ", "(a:2)"])
def test_the_work_of_counting_grows_with_the_prompt_alone(toy: Pair, unit: str) -> None:
    text = (unit * MAX_PROMPT_CHARACTERS)[:MAX_PROMPT_CHARACTERS]
    assert lines_run(lambda: counted(text, toy[0])) < 100 * MAX_PROMPT_CHARACTERS


def test_counting_loads_nothing_heavy() -> None:
    script = (
        "import sys, webui.generation.tokens, webui.generation.facts;"
        "heavy = {'torch', 'transformers', 'diffusers', 'tokenizers', 'numpy'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tag", ["<lora:ink:0.5>", "<lora:ink (a), b>"])
def test_tags_of_loras_count_for_nothing_and_cuts_are_where_they_were_typed(
    postcard: Pair, tag: str
):
    tokenizer, _ = postcard
    plain = "a red ball, " * 30
    tagged = f"{tag}{plain[:12]}{tag}{plain[12:]}"
    (bare, _), (found, whole) = counted(plain, tokenizer), counted(tagged, tokenizer)
    assert (found.tokens, whole.problem) == (bare.tokens, None)
    assert bare.cuts
    assert found.cuts == tuple(cut + 2 * len(tag) for cut in bare.cuts)


def test_a_tag_that_cannot_be_read_is_a_problem(postcard: Pair):
    _, found = counted("a ball <lora:ink:much>", postcard[0])
    assert found.problem is not None
    assert "<lora:ink:much>" in found.problem

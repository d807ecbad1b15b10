from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.work import lines_run
from webui.errors import BadRequestError
from webui.generation.prompts import (
    EMPTY_PROMPT,
    MAX_WEIGHT,
    ParsedPrompt,
    PromptField,
    lighten_prompt,
    locate_prompt,
    parse_prompt,
    unmatched_brackets,
    write_prompt,
)
from webui.request import MAX_PROMPT_CHARACTERS

A = pytest.approx(1.1)
B = pytest.approx(1 / 1.1)


def blocks(text: str) -> list[list[tuple[str, float]]]:
    return [[(s.text, s.weight) for s in block] for block in parse_prompt(text).blocks]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", A), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", A)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", A)]),
        ("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", [
            ("a ", 1.0),
            ("house", pytest.approx(1.5730000000000004)),
            (" ", A),
            ("on", pytest.approx(1.0)),
            (" a ", A),
            ("hill", pytest.approx(0.55)),
            (", sun, ", A),
            ("sky", pytest.approx(1.4641000000000006)),
            (".", A),
        ]),
    ],
)  # fmt: skip
def test_the_examples_of_a1111s_own_documentation(
    text: str, segments: list[tuple[str, float]]
) -> None:
    """The docstring of `parse_prompt_attention`."""
    assert blocks(text) == [segments]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", []),
        ("a red ball", [("a red ball", 1.0)]),
        ("a (red) ball", [("a ", 1.0), ("red", A), (" ball", 1.0)]),
        ("[red]", [("red", B)]),
        ("(red:1.5)", [("red", 1.5)]),
        ("(red: 1.5 )", [("red", 1.5)]),
        ("(red:+.5)", [("red", 0.5)]),
        ("(red:-1)", [("red", -1.0)]),
        ("((red))", [("red", pytest.approx(1.21))]),
        ("((red:1.2):1.5)", [("red", pytest.approx(1.8))]),
        ("([red])", [("red", pytest.approx(1.0))]),
        (r"\(red\) \[ball\] \\", [("(red) [ball] \\", 1.0)]),
        (r"a \red ball" + "\\", [("a red ball", 1.0)]),
        ("(red", [("red", A)]),
        ("a (red ball", [("a ", 1.0), ("red ball", A)]),
        ("[red", [("red", B)]),
        ("red) ball]", [("red) ball]", 1.0)]),
        ("red:1.5)", [("red:1.5)", 1.0)]),
        ("red:1.2.3)", [("red:1.2.3)", 1.0)]),
        ("(red:ball:1.5)", [("red:ball", 1.5)]),
        ("(red:1,5)", [("red:1,5", A)]),
        ("(red:)", [("red:", A)]),
        ("[red:ball]", [("red:ball", B)]),
        ("(red)(ball)", [("redball", A)]),
        ("red: ball", [("red: ball", 1.0)]),
        ("red | ball (a|b)", [("red | ball ", 1.0), ("a|b", A)]),
        ("(red [and) ball]", [("red ", A), ("and", pytest.approx(1.0)), (" ball", B)]),
        ("()", []),
        ("breakfast BREAKING", [("breakfast BREAKING", 1.0)]),
        ("2 < 3: <b> < lora:x:1>", [("2 < 3: <b> < lora:x:1>", 1.0)]),
        ("a sandy beach", [("a sandy beach", 1.0)]),
    ],
)
def test_one_block_is_read_by_a1111s_rules(text: str, segments: list[tuple[str, float]]) -> None:
    assert blocks(text) == [segments]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red BREAK ball", [[("red", 1.0)], [("ball", 1.0)]]),
        ("red BREAK", [[("red", 1.0)], []]),
        ("BREAK red", [[], [("red", 1.0)]]),
        ("red BREAK BREAK ball", [[("red", 1.0)], [], [("ball", 1.0)]]),
        ("(red BREAK ball:1.5)", [[("red", 1.5)], [("ball", 1.5)]]),
        ("[red BREAK (ball)]", [[("red", B)], [("ball", pytest.approx(1.0))]]),
        ("(red)BREAK(ball)", [[("red", A)], [("ball", A)]]),
        ("red,BREAK\nball", [[("red,", 1.0)], [("ball", 1.0)]]),
    ],
)
def test_break_ends_the_block_also_inside_brackets(
    text: str, expected: list[list[tuple[str, float]]]
) -> None:
    assert blocks(text) == expected


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("a (red:1.2.3)", 8, "'1.2.3' is not a number"),
        ("(red:...)", 6, "'...' is not a number"),
        ("(red:11)", 6, "at most 10"),
        ("(red:-10.5)", 6, "at most 10"),
        (f"(red:{'9' * 500})", 6, "at most 10"),
        ("((red:5):5)", 3, "weight of 25"),
        ("(" * 30 + "red", 31, "multiply"),
        ("a ball <lora:name:0.8>", 8, "'loras'"),
        ("<hypernet:name:1>", 1, "space after '<'"),
    ],
)
def test_what_is_wrong_or_not_read_is_refused_with_its_position(
    text: str, position: int, says: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse_prompt(text, "prompt")
    assert f"character {position}:" in caught.value.message
    assert says in caught.value.message
    assert caught.value.field == "prompt"


@pytest.mark.parametrize("text", ["[red:ball:0.5]", "[red|ball]", "red AND ball", "[red:1.5]"])
def test_what_changes_over_the_steps_is_read_elsewhere_and_text_here(text: str) -> None:
    read = "".join(segment.text for segment in parse_prompt(text).blocks[0])
    assert read == text.strip("[]")


def test_the_negative_prompt_is_named() -> None:
    with pytest.raises(BadRequestError, match=r"^Negative prompt, character 6:") as caught:
        parse_prompt("(red:1..2)", "negative_prompt")
    assert caught.value.field == "negative_prompt"


def test_a_parsed_prompt_is_a_key() -> None:
    assert parse_prompt("") == EMPTY_PROMPT
    assert parse_prompt("(a) BREAK b") == parse_prompt("(a)BREAK b")
    assert hash(parse_prompt("(a) BREAK b")) == hash(parse_prompt("(a)BREAK b"))
    assert parse_prompt("(a)") != parse_prompt("a")


def read(text: str, field: PromptField) -> ParsedPrompt | BadRequestError:
    try:
        return parse_prompt(text, field)
    except BadRequestError as error:
        return error


GRAMMAR = st.lists(st.sampled_from([*"()[]\\:|<>.,+- \n105a", "BREAK", " AND "])).map("".join)


@given(st.one_of(st.text(), GRAMMAR))
@example("(a:\u0663)")
def test_any_text_is_read_or_refused_with_a_position_inside_it(text: str) -> None:
    for field in get_args(PromptField):
        parsed = read(text, field)
        if isinstance(parsed, BadRequestError):
            found = re.search(r"character (\d+):", parsed.message)
            assert found
            assert 1 <= int(found[1]) <= len(text)
            assert parsed.field == field
            assert "\n" not in parsed.message
        else:
            segments = [segment for block in parsed.blocks for segment in block]
            assert all(s.text and abs(s.weight) <= MAX_WEIGHT for s in segments)


@given(st.text(min_size=1))
def test_escaped_text_comes_back_whole(text: str) -> None:
    assume(not re.search(r"\bBREAK\b|<\w+:", text))
    escaped = re.sub(r"([()\[\]\\])", r"\\\1", text)
    assert blocks(escaped) == [[(text, 1.0)]]


@given(st.lists(st.floats(0.5, 1.2).map(lambda x: round(x, 3)), min_size=1, max_size=8))
def test_nested_weights_multiply(weights: list[float]) -> None:
    text, product = "red", 1.0
    for weight in weights:
        text, product = f"({text}:{weight:f})", product * weight
    assert blocks(text) == [[("red", pytest.approx(product))]]


@pytest.mark.parametrize("unit", ["(", "[", "(a[", ")", "\\", ":", "a ", "BREAK ", "<a", "[a:"])
def test_the_work_of_reading_grows_with_the_prompt_alone(unit: str) -> None:
    text = (unit * MAX_PROMPT_CHARACTERS)[:MAX_PROMPT_CHARACTERS]
    assert lines_run(lambda: read(text, "prompt")) < 50 * MAX_PROMPT_CHARACTERS


def letters(parsed: ParsedPrompt) -> tuple[list[str], list[float]]:
    """Each block's text but for space around segments, and the weight of each of its letters."""
    texts = ["".join(segment.text.strip() for segment in block) for block in parsed.blocks]
    segments = [segment for block in parsed.blocks for segment in block]
    return texts, [segment.weight for segment in segments for _ in segment.text.strip()]


@given(GRAMMAR)
@example("a\\[b BREAK (c:2)")
def test_each_character_is_found_where_it_was_typed(text: str) -> None:
    if isinstance(read(text, "prompt"), BadRequestError):
        return
    parsed, source = locate_prompt(text)
    assert len(source.blocks) == len(source.characters) == len(parsed.blocks)
    for block, start, spans in zip(parsed.blocks, source.blocks, source.characters, strict=True):
        assert [s.text for s in block] == ["".join(text[at] for at in span) for span in spans]
        assert all(at >= start for span in spans for at in span)
        before = text[:start].rstrip()
        assert start == 0 or before.endswith("BREAK")


@given(GRAMMAR)
@example("B\\REAK (a:2)")
@example("A\\ND <\\lora:x:1> (a:2)")
@example("[a\\:0.5]")
@example("[[[)[(([:")
def test_a_written_prompt_is_read_as_the_same(text: str) -> None:
    parsed = read(text, "prompt")
    if isinstance(parsed, BadRequestError):
        return
    assume(all(s.text.strip() for block in parsed.blocks for s in block))
    assume(all(abs(s.weight) > 0.001 for block in parsed.blocks for s in block))
    (texts, weights), again = letters(parsed), letters(parse_prompt(write_prompt(parsed)))
    # Written to four places.
    assert again == (texts, pytest.approx(weights, abs=1e-4))


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("a (red:1.2) [ball]", ()),
        ("(red", (0,)),
        ("red)", (3,)),
        ("red:1.2 )", (8,)),
        ("[a (b]", (3,)),
        ("((a) [b", (0, 5)),
        (r"\(a\] (b", (6,)),
        ("(a]", (0, 2)),
        ("(red [and) ball]", ()),
        ("[a|b] AND )", (10,)),
    ],
)
def test_brackets_without_a_counterpart_are_found(text: str, positions: tuple[int, ...]) -> None:
    assert unmatched_brackets(text) == positions


@given(GRAMMAR)
def test_escaping_the_closers_and_closing_the_openers_matches_all(text: str) -> None:
    parsed = read(text, "prompt")
    if isinstance(parsed, BadRequestError):
        return
    unmatched = unmatched_brackets(text)
    escaped = list(text)
    for at in unmatched:
        if text[at] in ")]":
            escaped[at] = "\\" + text[at]
    assume(not re.search(r"\\\Z", text))
    openers = [text[at] for at in unmatched if text[at] in "(["]
    closed = "".join(escaped) + "".join({"(": ")", "[": "]"}[kind] for kind in reversed(openers))
    again = read(closed, "prompt")
    assume(not isinstance(again, BadRequestError))
    assert isinstance(again, ParsedPrompt)
    assert unmatched_brackets(closed) == ()


@pytest.mark.parametrize(
    ("text", "lighter"),
    [
        ("(a:2) (b:1.4) [c]", "(a:1.3) (b:1.4) [c]"),
        ("((a: 2.5 ) b:1.6)", "((a: 1.3 ) b:1.3)"),
        ("at 16:9) (a:-3)", "at 16:9) (a:-3)"),
        (r"\(a:9\) (((((b)))))", r"\(a:9\) (((((b)))))"),
    ],
)
def test_only_weights_of_brackets_are_made_lighter(text: str, lighter: str) -> None:
    assert lighten_prompt(text, above=1.5, to=1.3) == lighter

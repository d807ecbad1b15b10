from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.work import lines_run
from webui.errors import BadRequestError
from webui.generation.prompt_plan import (
    MAX_PROMPTS,
    PromptPlan,
    locate_variants,
    plan_plain,
    plan_prompt,
    texts_of,
)
from webui.generation.prompt_schedules import ScheduledText
from webui.generation.prompts import PromptField, parse_prompt, write_prompt
from webui.request import MAX_PROMPT_CHARACTERS


def over(text: str, steps: int = 10) -> list[tuple[int, str]]:
    return [(variant.until, variant.text) for variant in ScheduledText(text).variants(steps)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [{b|d{:.5] c", [(n, "a {b c" if n % 2 else "a d{:.5 c") for n in range(1, 11)]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(n, "a" if n % 2 else "(b:1.1)") for n in range(1, 11)]),
        ("[fe|]male", [(n, "female" if n % 2 else "male") for n in range(1, 11)]),
        (
            "[fe|||]male",
            [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
        ),
    ],
)
def test_the_examples_of_a1111s_own_documentation(
    text: str, expected: list[tuple[int, str]]
) -> None:
    """The docstring of `get_learned_conditioning_prompt_schedules`, neighbours joined.

    It says of `[{b|d{:.5]` that it does not handle it "right now": here a bar is a bar.
    """
    assert over(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[red:blue:0.5]", [(5, "red"), (10, "blue")]),
        ("[red::3]", [(3, "red"), (10, "")]),
        ("[red:blue:1.0]", [(10, "red")]),
        ("[red:blue:1]", [(1, "red"), (10, "blue")]),
        ("[red:blue:0]", [(10, "blue")]),
        ("[red:blue:-2]", [(10, "blue")]),
        ("[red:blue:99]", [(10, "red")]),
        ("[red:1e999]", [(10, "")]),
        ("[red:blue:+.25e0]", [(2, "red"), (10, "blue")]),
        ("[red:red:0.5]", [(10, "red")]),
        ("[red|red]", [(10, "red")]),
        ("[[a|b]:c:2]", [(1, "a"), (2, "b"), (10, "c")]),
        ("[a:[b|c]:8]", [(8, "a"), (9, "b"), (10, "c")]),
        ("[a:b:5] [c:d:7]", [(5, "a c"), (7, "b c"), (10, "b d")]),
        ("[a:b:c:5]", [(10, "[a:b:c:5]")]),
        ("[a:b:five]", [(10, "[a:b:five]")]),
        (r"\[a:b:5\]", [(10, r"\[a:b:5\]")]),
        (r"[a\:b:5]", [(5, ""), (10, r"a\:b")]),
        ("a|b (c|d)", [(10, "a|b (c|d)")]),
        ("[a ) b:0.5]", [(10, "[a ) b:0.5]")]),
        ("[a:b:\u0665]", [(10, "[a:b:\u0665]")]),
    ],
)
def test_editing_and_alternation(text: str, expected: list[tuple[int, str]]) -> None:
    assert over(text) == expected


def read(text: str, field: PromptField = "prompt", steps: int = 10) -> list[object]:
    plan = plan_prompt(text, field, steps)
    return [
        (until, [(write_prompt(prompt), weight) for prompt, weight in prompts])
        for until, prompts in plan.stretches
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red ball", [(10, [("a red ball", 1.0)])]),
        ("a AND b", [(10, [("a", 1.0), ("b", 1.0)])]),
        ("a :1.2 AND b AND c: -.5", [(10, [("a", 1.2), ("b", 1.0), ("c", -0.5)])]),
        ("a cat :1.2 AND a dog AND a penguin :2.2", [
            (10, [("a cat", 1.2), ("a dog", 1.0), ("a penguin", 2.2)]),
        ]),
        ("16:9", [(10, [("16:9", 1.0)])]),
        ("a (b:1.2) AND [c:d:5]", [
            (5, [("a (b:1.2)", 1.0), ("c", 1.0)]),
            (10, [("a (b:1.2)", 1.0), ("d", 1.0)]),
        ]),
        ("[a:b:5] AND [c:d:7]:2", [
            (5, [("a", 1.0), ("c", 2.0)]),
            (7, [("b", 1.0), ("c", 2.0)]),
            (10, [("b", 1.0), ("d", 2.0)]),
        ]),
        ("a AND ", [(10, [("a", 1.0), ("", 1.0)])]),
        (r"a \:2 AND (b", [(10, [("a :2", 1.0), ("(b:1.1)", 1.0)])]),
        (r"A\ND BRAND", [(10, [(r"A\ND BRAND", 1.0)])]),
        ("a [x BREAK y:z:5]", [
            (5, [("a x BREAK y", 1.0)]),
            (10, [("a z", 1.0)]),
        ]),
    ],
)  # fmt: skip
def test_and_joins_weighted_prompts_each_over_the_steps(text: str, expected: object) -> None:
    assert read(text) == expected


def test_a_plan_is_a_key_and_one_that_does_not_change_is_that_of_the_plain_text() -> None:
    plain = plan_prompt("a red ball", "prompt", 10)
    assert plain.is_plain
    assert plain == plan_prompt("a [red:red:0.5] ball", "prompt", 10)
    assert plain == PromptPlan.of(parse_prompt("a red ball"), 10)
    assert hash(plain) == hash(plan_prompt("a [red|red] ball", "prompt", 10))
    assert plain != plan_prompt("a red ball", "prompt", 11)
    assert not plan_prompt("a AND b", "prompt", 10).is_plain


def test_what_counts_at_a_step() -> None:
    plan = plan_prompt("[a:b:5]", "prompt", 10)
    assert [plan.at(step)[0].prompt for step in (1, 5, 6, 10)] == [
        *[parse_prompt("a")] * 2, *[parse_prompt("b")] * 2,
    ]  # fmt: skip
    assert plan.prompts == (parse_prompt("a"), parse_prompt("b"))
    assert plan_prompt("[a|b]", "prompt", 150).prompts == plan.prompts


def test_the_negative_prompt_changes_too_and_has_no_and() -> None:
    assert read("a AND [b:c:5]", "negative_prompt") == [
        (5, [(r"a A\ND b", 1.0)]),
        (10, [(r"a A\ND c", 1.0)]),
    ]


def test_for_plain_text_nothing_has_a_meaning() -> None:
    text = "a (red:1.2) [ball|x] AND {b} BREAK \\"
    (prompt,) = plan_plain(text, 10).prompts
    assert [[segment.text for segment in block] for block in prompt.blocks] == [[text]]
    assert plan_plain("", 3) == plan_prompt("", "prompt", 3)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("ab [c:(red:1.2.3):0.5]", 12, "'1.2.3' is not a number"),
        ("[a|b] (red:11)", 12, "at most 10"),
        ("a AND (red:11)", 12, "at most 10"),
        ("[a:((red:5):5):3] b", 6, "weight of 25"),
        ("a <x:1> [a|b]", 3, "space after '<'"),
        ("(a AND b:1.2)", 4, "AND stands in brackets"),
        ("a [b AND c:d:2]", 6, "AND stands in brackets"),
        ("a :99 AND b", 4, "at most 10"),
        ("a AND b:-10.5", 9, "at most 10"),
        (" AND ".join("abcdefghi"), 45, "more than 8"),
    ],
)
def test_what_is_wrong_is_refused_with_its_position(text: str, position: int, says: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        plan_prompt(text, "prompt", 10)
    assert f"Prompt, character {position}:" in caught.value.message
    assert says in caught.value.message
    assert caught.value.field == "prompt"


def test_every_text_that_is_encoded_is_told() -> None:
    assert texts_of("qu[an:x:1]dle", "prompt", 10) == ("quandle", "quxdle")
    assert set(texts_of("a [b|c] AND d", "prompt", 10)) == {"a b d", "a c d", "a b", "a c", "d"}
    assert texts_of("a AND b", "negative_prompt", 10) == ("a AND b",)


def attempt(
    text: str, field: PromptField = "prompt", steps: int = 10
) -> PromptPlan | BadRequestError:
    try:
        return plan_prompt(text, field, steps)
    except BadRequestError as error:
        return error


GRAMMAR = st.lists(
    st.sampled_from([*"()[]\\:|<>.,+- \n105a", "BREAK", " AND ", "[a|", ":0.5]", "[b:c:2]"])
).map("".join)
STEPS = st.integers(1, 40)


@given(st.one_of(st.text(), GRAMMAR), STEPS)
@example("[a:b:\u0663]", 5)
def test_any_text_is_read_or_refused_with_a_position_inside_it(text: str, steps: int) -> None:
    for field in get_args(PromptField):
        plan = attempt(text, field, steps)
        if isinstance(plan, BadRequestError):
            found = re.search(r"character (\d+):", plan.message)
            assert found
            assert 1 <= int(found[1]) <= len(text)
            assert plan.field == field
            assert plan.message.count("\n") == 0
            continue
        ends = [until for until, _ in plan.stretches]
        assert ends == sorted(set(ends))
        assert ends[-1] == steps
        assert ends[0] >= 1
        assert all(len(prompts) <= MAX_PROMPTS for _, prompts in plan.stretches)
        assert all(a[1] != b[1] for a, b in zip(plan.stretches, plan.stretches[1:], strict=False))


@given(GRAMMAR, STEPS)
def test_each_character_of_a_variant_is_found_where_it_was_typed(text: str, steps: int) -> None:
    for variant in ScheduledText(text).variants(steps):
        assert variant.text == "".join(text[at] for at in variant.places[:-1])
        assert variant.places[-1] == len(text)
    try:
        located = list(locate_variants(text, "prompt", steps))
    except BadRequestError:
        return
    for parsed, source in located:
        for block, spans in zip(parsed.blocks, source.characters, strict=True):
            assert [s.text for s in block] == ["".join(text[at] for at in span) for span in spans]


def partner(text: str, at: int) -> int | None:
    """Where the bracket that opens there is closed, if it is."""
    opened = ""
    while at < len(text):
        if text[at] in "([":
            opened += text[at]
        elif text[at] in ")]":
            if opened[-1] + text[at] not in ("()", "[]"):
                return None
            opened = opened[:-1]
            if not opened:
                return at
        at += 2 if text[at] == "\\" else 1
    return None


def parted(text: str, mark: str) -> list[str]:
    """The text between the marks that stand in no bracket; its own brackets all have partners."""
    parts, at = [""], 0
    while at < len(text):
        end = partner(text, at) if text[at] in "([" else None
        piece = text[at : at + 2 if text[at] == "\\" else (at if end is None else end) + 1]
        if piece == mark:
            parts.append("")
        else:
            parts[-1] += piece
        at += len(piece)
    return parts


NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def chosen(inner: str, step: int, steps: int) -> str | None:
    """What stands at a step for what is in square brackets; None: they change nothing."""
    turns, parts = parted(inner, "|"), parted(inner, ":")
    if len(turns) > 1:
        return turns[(step - 1) % len(turns)]
    if len(parts) not in (2, 3) or not NUMBER.fullmatch(parts[-1]):
        return None
    last = float(parts[-1]) * (steps if "." in parts[-1] else 1)
    before, after = ["", *parts][-3:-1]
    return before if step <= last else after


def simply_read(text: str, step: int, steps: int) -> str:
    """The text at a step, from the docstring of `prompt_schedules` alone."""
    read, at = "", 0
    while at < len(text):
        end = partner(text, at) if text[at] == "[" else None
        option = None if end is None else chosen(text[at + 1 : end], step, steps)
        if end is None or option is None:
            length = 2 if text[at] == "\\" else 1
            read += text[at : at + length]
            at += length
        else:
            read += simply_read(option, step, steps)
            at = end + 1
    return read


@given(GRAMMAR, STEPS)
@example("[a:[b|c:d]:0.5](e[f:2]", 9)
def test_what_is_read_at_a_step_is_what_a_simple_reader_makes_of_it(text: str, steps: int) -> None:
    """A second reader, which goes down into each bracket instead of along the text."""
    for step in {1, (steps + 1) // 2, steps}:
        variant = next(v for v in ScheduledText(text).variants(steps) if step <= v.until)
        assert variant.text == simply_read(text, step, steps)


@given(GRAMMAR, STEPS)
@example("(<1(>", 1)
def test_escaped_and_written_prompts_do_not_change_over_the_steps(text: str, steps: int) -> None:
    plan = attempt(text, steps=steps)
    for prompt in () if isinstance(plan, BadRequestError) else plan.prompts:
        again = attempt(write_prompt(prompt), steps=steps)
        # Weights are rounded when they are written, and may so go out of range.
        assert again.is_plain if isinstance(again, PromptPlan) else "weight" in again.message


@pytest.mark.parametrize(
    "unit", ["(", "[", "(a[", "[a|", "[a:", "[a|b]", "[a:b:5]", "[a:5]", ")", "[[", "]", " AND ",
             ":", "|", "\\", "<a:", "(a:1.01)", "BREAK ", " "],
)  # fmt: skip
def test_twice_as_many_brackets_are_twice_the_work(unit: str) -> None:
    def work(length: int) -> int:
        text = (unit * length)[:length]
        return lines_run(lambda: attempt(text))

    assert 5 * MAX_PROMPT_CHARACTERS == 10_000
    assert work(10_000) < 2.1 * work(5_000) + 100


@pytest.mark.parametrize("depth", [1, 10, 2_000])
def test_nesting_has_no_end(depth: int) -> None:
    text = "[" * depth + "a" + ":b:5]" * depth
    assert over(text) == [(5, "a"), (10, "b")]

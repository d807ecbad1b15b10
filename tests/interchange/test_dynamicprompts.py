from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.work import lines_run
from webui.errors import BadRequestError, NotFoundError
from webui.interchange.dynamicmarks import inert, is_dynamic, without_escapes
from webui.interchange.dynamicprompts import Expander, expand
from webui.request import MAX_PROMPT_CHARACTERS

SEEDS = range(200)


class Lists:
    def __init__(self, lists: Mapping[str, tuple[str, ...]]) -> None:
        self._lists = lists

    def lines(self, pattern: str) -> tuple[str, ...]:
        if pattern not in self._lists:
            raise NotFoundError(f"There is no wildcard {pattern!r}.")
        return self._lists[pattern]


LISTS = Lists(
    {
        "colour": ("red", "green", "blue"),
        "light/warm": ("a {quick|slow} __colour__ lamp",),
        "self": ("{x|__self__}",),
        "a": ("__b__", "calm"),
        "b": ("{__c__|calm}",),
        "c": ("__a__",),
        "missing": ("__nowhere__",),
        "odd": ("2 < 3 \\",),
        "long": ("x" * 300,),
    }
)


def drawn(text: str) -> Counter[str]:
    return Counter(expand(text, seed, LISTS) for seed in SEEDS)


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("a {red|blue} ball", {"a red ball", "a blue ball"}),
        ("{fe|}male", {"female", "male"}),
        ("{a|{b|c}} d", {"a d", "b d", "c d"}),
        ("{2$$a|b|c}", {"a,b", "b,a", "a,c", "c,a", "b,c", "c,b"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{1-$$-$$a|b}", {"a", "b", "a-b", "b-a"}),
        ("{-2$$a|b}", {"a", "b", "a,b", "b,a"}),
        ("{9$$a|b}", {"a,b", "b,a"}),
        ("{0$$a|b}c", {"c"}),
        ("{2$$ | $$ a | b }", {"a | b", "b | a"}),
        ("{~a|b}", {"a", "b"}),
        ("{0::a|b}", {"b"}),
        ("__colour__", {"red", "green", "blue"}),
        ("__~colour__", {"red", "green", "blue"}),
        ("{2$$__colour__}", {
            "red,green", "green,red", "red,blue", "blue,red", "green,blue", "blue,green"}),
        ("__light/warm__", {
            f"a {speed} {colour} lamp" for speed in ("quick", "slow")
            for colour in ("red", "green", "blue")}),
        ("{[a|b]|c}", {"[a|b]", "c"}),
        ("{[a:b:0.5]|(c:1.2)}", {"[a:b:0.5]", "(c:1.2)"}),
        ("{[a|b}", {"[a", "b"}),
        ("<lora:ink:{1|0.5}>", {"<lora:ink:1>", "<lora:ink:0.5>"}),
    ],
)  # fmt: skip
def test_what_can_be_drawn_is_drawn_and_nothing_else(text: str, results: set[str]) -> None:
    assert set(drawn(text)) == results


@pytest.mark.parametrize(
    "text",
    [
        "a red ball",
        "{prompt}, on sand",
        "costs $5, 50% off, #1 // all",
        "{a|b",
        "a|b}",
        "{[a|b]}",
        "a_b __init_ _",
        "____",
        r"\{a|b\}",
        r"\__colour\__",
        r"\${x}",
        "a ball <lora:my__own__style:0.8>",
    ],
)
def test_what_draws_nothing_stays_as_it_is(text: str) -> None:
    assert not is_dynamic(text)
    assert expand(text, 1, LISTS) == text


def test_weights_are_how_often_an_option_is_drawn() -> None:
    assert 130 <= drawn("{3::a|1::b}")["a"] <= 170
    assert 80 <= drawn("{a|b}")["a"] <= 120


def test_a_seed_draws_the_same_for_ever() -> None:
    text = "{a|b|c} {2$$d|e|f} __colour__ __light/warm__"
    assert expand(text, 7, LISTS) == expand(text, 7, LISTS)
    assert expand(text, 7, LISTS) == "a f,e green a quick blue lamp"
    assert len(drawn(text)) > 50
    fields = [expand("{a|b|c|d|e|f}", seed, LISTS, "negative_prompt") for seed in SEEDS]
    assert fields != [expand("{a|b|c|d|e|f}", seed, LISTS) for seed in SEEDS]


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("a __self__", 3, "circle: self > self"),
        ("__a__", 1, "circle: a > b > c > a"),
        ("x {y|y __b__}", 8, "circle"),
        ("__nowhere__", 1, "no wildcard 'nowhere'"),
        ("ab __missing__", 4, "no wildcard 'nowhere'"),
        ("a ${x=1}", 3, r"write \${"),
        ("{!a|b}", 2, "another way to draw"),
        ("{@a|b}", 2, "another way to draw"),
        ("{$$a|b}", 1, "how many"),
        ("{3-2$$a|b}", 1, "no range"),
        ("{0::a|0::b}", 1, "weight 0"),
        ("__long__" * 7, 1, "longer than 2,000"),
        ("{a|" * 21 + "b" + "}" * 21, 61, "nest more than 20"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_position(
    text: str, position: int, says: str
) -> None:
    for seed in range(3):
        with pytest.raises(BadRequestError) as caught:
            expand(text, seed, LISTS)
        assert f"Prompt, character {position}" in caught.value.message
        assert says in caught.value.message
        assert caught.value.field == "prompt"
        assert caught.value.message.count(". ") <= 1


def test_a_mistake_in_a_list_names_its_line() -> None:
    lists = Lists({"x": ("a ${y}",)})
    with pytest.raises(BadRequestError, match=r"character 3 in the line 'a \${y}'") as caught:
        expand("a __x__", 1, lists, "negative_prompt")
    assert caught.value.message.startswith("Negative prompt,")
    assert caught.value.field == "negative_prompt"


def test_the_lists_of_the_lists_are_bounded() -> None:
    doubling = {f"n{k}": (f"__n{k + 1}__ __n{k + 1}__",) for k in range(18)} | {"n18": ("",)}
    chain = {f"n{k}": (f"__n{k + 1}__",) for k in range(60)} | {"n60": ("a",)}
    many = Lists({"big": tuple(f"word{k}" for k in range(20_000))})
    expander = Expander(many)

    def draw() -> None:
        with pytest.raises(BadRequestError, match="more than 1,000 draws"):
            expand("__n0__", 1, Lists(doubling))
        with pytest.raises(BadRequestError, match="nest more than 20 deep"):
            expand("__n0__", 1, Lists(chain))
        for seed in range(100):
            expander.expand("{20$$__big__}", seed)

    # Looking through the long list for each seed would be 2,000,000 of them.
    assert lines_run(draw) < 400_000


def test_a_backslash_at_the_end_of_a_line_takes_no_meaning_from_what_follows() -> None:
    assert expand("__odd__(a:2)", 1, LISTS) == "2 < 3 (a:2)"


def test_what_is_put_together_by_chance_draws_nothing() -> None:
    assert expand("_{_colour__|_colour__}", 1, LISTS) == r"\_\_colour\_\_"
    assert expand("{\\{a|\\{a}|b\\}", 1, LISTS) == r"\{a|b\}"
    assert inert("{x {a|b} y}") == r"{x \{a\|b\} y}"


def test_plain_text_loses_only_the_backslashes_that_kept_it_from_being_drawn() -> None:
    assert without_escapes(r"\{a\|b\} \__x__ \(c\) \n \$") == r"{a|b} __x__ \(c\) \n $"


PIECES = st.sampled_from(
    [
        *"{}|_$\\[]() ab:~!@,-2",
        "__",
        "$$",
        "{a|",
        "2$$",
        "3::",
        "__colour__",
        "__light/warm__",
        "__a__",
        "${",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


def attempt(text: str, seed: int = 1) -> str | BadRequestError:
    try:
        return expand(text, seed, LISTS)
    except BadRequestError as error:
        return error


@given(TEXTS, st.integers(0, 2**53))
@example("{x {a|b} y}", 1)
@example("_{_a__|_a__}", 1)
def test_any_text_is_expanded_once_and_for_all_or_refused_in_one_sentence(
    text: str, seed: int
) -> None:
    result = attempt(text, seed)
    if isinstance(result, BadRequestError):
        found = re.match(r"Prompt, character (\d+)", result.message)
        assert found
        assert 1 <= int(found[1]) <= len(text)
        assert result.field == "prompt"
        return
    assert not is_dynamic(result)
    assert attempt(result, seed + 1) == result
    assert len(result) <= MAX_PROMPT_CHARACTERS
    if not is_dynamic(text):
        assert result == text


@given(TEXTS)
def test_what_is_made_inert_is_the_same_text_without_its_backslashes(text: str) -> None:
    made = inert(text)
    assert not is_dynamic(made)
    assert inert(made) == made
    if "\\" not in text:
        assert without_escapes(made) == text


UNITS = ["{", "{a|", "{|}", "}", "__", "__a", "|", "\\", "{2$$", "${", "[{", "{a", "$$", "_"]


@pytest.mark.parametrize("unit", UNITS)
def test_twice_as_many_braces_are_twice_the_work(unit: str) -> None:
    def work(length: int) -> int:
        text = (unit * length)[:length]
        closed = text[: length // 2] + "}" * (length // 2)
        return lines_run(lambda: attempt(text)) + lines_run(lambda: attempt(closed))

    assert work(10_000) < 2.1 * work(5_000) + 100

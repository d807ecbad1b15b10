# ruff: noqa: RUF001
# Look-alike letters are what is tested here.
"""Ways to bring a word past the prompt's guard, each with words that mean nothing."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.disguises import DISGUISES
from tests.families.tiny import clip_tokenizer
from tests.safety.stubs import COMMON, PLACEHOLDERS, ScoreStub, always_healthy, placeholder_lexicon
from tests.work import lines_run
from webui.clearance import Admitted, Texts
from webui.errors import BadRequestError, NotFoundError, RefusedError, WebuiError
from webui.generation.drawn import draw_prompts
from webui.generation.prompt_plan import plan_prompt
from webui.generation.prompts import (
    EmbeddedWord,
    ParsedPrompt,
    Segment,
    parse_prompt,
    unmatched_brackets,
)
from webui.generation.text import decoded_text
from webui.generator import Session
from webui.interchange.styles import read_styles
from webui.levels import Level
from webui.library.presetfile import read_draft
from webui.request import MAX_PROMPT_CHARACTERS, GenerationRequest, parse_request
from webui.safety.ceilings import Ceiling, notice
from webui.safety.classifiers import Classifiers
from webui.safety.guard import REFUSED, Guard
from webui.safety.normaliser import Normaliser
from webui.safety.prompts import FOLDER, Lexicon

TERMS = ("blorpish", "quandle", "snizzler", "frumpet", "deglim")
ARTIST = Session(id="granted", level=2)
LEXICON = placeholder_lexicon()


class Reader(Classifiers):
    """A classifier of texts that gives every text the same score."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def read(self, text: str) -> float | None:
        return self.score


def guard(lexicon: Lexicon = LEXICON, classifiers: Classifiers | None = None) -> Guard:
    """One that lets a session have whatever level it asks for."""
    return Guard(
        ScoreStub(),
        lexicon,
        classifiers,
        ceilings=lambda session: [Ceiling("asked", session.level)],
        self_test=always_healthy,
    )


class Lists:
    """Wildcards; `lists` are their lines by name."""

    def __init__(self, **lists: tuple[str, ...]) -> None:
        self._lists = lists

    def lines(self, pattern: str) -> tuple[str, ...]:
        if pattern not in self._lists:
            raise NotFoundError(f"There is no wildcard {pattern!r}.")
        return self._lists[pattern]


NO_LISTS = Lists()


def admitted(session: Session = ARTIST, /, lists: Lists = NO_LISTS, **given: Any) -> Admitted:
    """What the engine does before it reads anything: all that is drawn is drawn and judged."""
    drawn = draw_prompts(parse_request({"prompt": "a chair", "cfg": 5, **given}), lambda: lists)
    texts = drawn.texts(20)
    return guard().admit(drawn.request, session, texts=texts)


def passes_unread(**given: Any) -> bool:
    """Whether the guard would let a request in that it is shown only as it was typed."""
    try:
        guard().admit(parse_request({"prompt": "a chair", "cfg": 5, **given}), ARTIST)
    except RefusedError:
        return False
    return True


def level(**given: Any) -> Level:
    return admitted(**given).level


def refused(session: Session = ARTIST, /, lists: Lists = NO_LISTS, **given: Any) -> bool:
    try:
        admitted(session, lists, **given)
    except RefusedError as error:
        return error.message == REFUSED and error.field is None
    return False


def disguised_are_refused(*names: str) -> None:
    strict = Session(id="anybody")
    for name in names:
        for term in TERMS:
            written = DISGUISES[name](term)
            assert refused(strict, prompt=f"a photo of a {written} on a hill"), (name, term)
        harmless = DISGUISES[name]("chandelier")
        assert not refused(strict, prompt=f"a photo of a {harmless} on a hill"), name


def test_a_word_is_only_found_where_it_is() -> None:
    assert level() == 2
    assert refused(prompt="a quandle")
    assert refused(prompt="a snizzler", loras=[{"name": "wobblekin"}])


def test_a_thousand_random_mixes_of_look_alike_letters() -> None:
    random = Random(5)
    rows = (FOLDER / "lookalikes.txt").read_text(encoding="utf-8").splitlines()
    looks = dict(row.split(" ") for row in rows if not row.startswith("#"))
    for _ in range(1_000):
        term = random.choice(TERMS)
        mixed = "".join(random.choice(c + looks.get(c, c)) for c in term)
        assert refused(Session(id="anybody"), prompt=f"a {mixed} on a hill"), mixed


def test_letters_of_other_alphabets() -> None:
    disguised_are_refused("Cyrillic letters", "Greek letters", "rare look-alikes")


def test_leetspeak() -> None:
    disguised_are_refused("leetspeak", "one digit", "symbols", "leet l", "leet and spaces")


def test_spaced() -> None:
    disguised_are_refused("spaces", "wide spaces", "lines", "two letters each")


def test_dotted() -> None:
    disguised_are_refused("dots", "dashes", "underscores", "stars", "commas", "mixed separators")


@pytest.mark.parametrize("separator", ["😀", " 😀 ", "❤️", "☆", "🏴", "👩‍🚀"])
def test_separated_by_emoji(separator: str) -> None:
    for term in TERMS:
        assert refused(Session(id="anybody"), prompt=f"a {separator.join(term)} on a hill"), term


def test_zero_width() -> None:
    disguised_are_refused(
        "zero width", "soft hyphens", "word joiners", "fillers", "control characters"
    )


def test_combining() -> None:
    disguised_are_refused("acute accents", "struck through", "piled marks")


def test_right_to_left() -> None:
    disguised_are_refused("right to left")
    for mark in ("\u200f", "\u2067", "\u061c", "\u202e"):
        assert refused(prompt=f"a {mark.join('quandle')}")


def test_tag_characters() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "quandle")
    assert refused(prompt=f"a chair{hidden}")
    assert refused(prompt="a quan\U000e0061\U000e007fdle")
    assert refused(prompt="a quan\U000e0001dle")


def test_full_width() -> None:
    disguised_are_refused("full width", "bold script", "monospace", "full width and zero width")


def test_circled() -> None:
    disguised_are_refused("circled", "negative squared")


def test_regional_letters() -> None:
    disguised_are_refused("regional")


def test_reversed() -> None:
    disguised_are_refused("reversed")


def test_doubled() -> None:
    disguised_are_refused(
        "every letter doubled", "every letter tripled", "one letter stretched",
        "last letter stretched",
    )  # fmt: skip


def test_split_tokens() -> None:
    disguised_are_refused(
        "split by a space", "split by a dash", "split by a dot", "split by a line",
        "split by BREAK", "apostrophe", "inside a word", "in a file name", "hash tag",
    )  # fmt: skip


def test_tokens_that_only_become_the_word_when_they_are_decoded() -> None:
    watch = guard()
    held = watch.admit(GenerationRequest(prompt="a chair"), ARTIST)
    watch.check_decoded(held, Texts(("a chair",)))
    for decoded in ("a quandle", "a quan dle", "a wobblekin"):
        with pytest.raises(RefusedError):
            watch.check_decoded(held, Texts((decoded,)))
    strict = watch.admit(GenerationRequest(prompt="a chair"), Session(id="anybody"))
    watch.check_decoded(strict, Texts(("a wobblekin",)))


@pytest.mark.parametrize("typo", ["a qaundle", "a quanlde", "a qundle", "a quandele", "a quandte"])
def test_a_typo_clamps(typo: str) -> None:
    held = admitted(prompt=typo)
    assert (held.level, held.held_by) == (0, "prompt")
    assert held.notices == (notice("prompt"),)


def test_a_typo_goes_to_the_classifier_where_there_is_one() -> None:
    request = GenerationRequest(prompt="a qaundle")
    with pytest.raises(RefusedError):
        guard(classifiers=Reader(0.9)).admit(request, ARTIST)
    assert guard(classifiers=Reader(0.1)).admit(request, ARTIST).level == 2
    with pytest.raises(RefusedError):
        guard(classifiers=Reader(float("nan"))).admit(request, ARTIST)
    young = GenerationRequest(prompt="a wobbelkin")
    assert guard(classifiers=Reader(0.0)).admit(young, ARTIST).level == 0


def test_weights_brackets_and_escapes() -> None:
    disguised_are_refused("weighted", "weighted inside", "brackets inside", "escapes inside")
    for written in ("((((quan:1.1):0.9)dle))", "[[[quan]]]dle", "\\q\\u\\andle", "{quan}{dle}",
                    "(quan)(:0)dle", "(quan:１.１)dle"):  # fmt: skip
        assert refused(prompt=f"a {written}"), written


@pytest.mark.parametrize(
    "written",
    ["[quandle:chair:0.99]", "[chair:quandle:0.99]", "[quandle:0.99]", "[chair|quandle]",
     "[[chair|quan]dle:0.5]", "a chair AND a quandle"],
)  # fmt: skip
def test_prompt_editing_and_alternation(written: str) -> None:
    assert refused(prompt=written), "every branch is judged"
    assert refused(prompt=written, steps=150), "however long it is there"
    assert plan_prompt(written, "prompt", 20).prompts, "and it is read, not refused as syntax"


@pytest.mark.parametrize(
    "written",
    ["qu[an:x:0.99]dle", "qu[x:an:0.99]dle", "qu[an::1]dle", "qu[an:19]dle", "qu[an|it|ick|]dle",
     "q[ui|ua]n[dary|dle]", "q[[u|x]:b:5]andle", "a hill AND qu[x|andle]"],
)  # fmt: skip
def test_a_word_that_is_only_there_at_some_steps(written: str) -> None:
    for field in ("prompt", "negative_prompt"):
        cfg = 1.0 if field == "negative_prompt" else 5.0
        written = written.replace("AND", "and") if field == "negative_prompt" else written
        given: dict[str, Any] = {field: written, "cfg": cfg}
        assert refused(**given), "all that it becomes is judged"
    assert refused(prompt=written, count=3, seed=5)


def test_a_word_that_no_reading_of_the_typed_text_holds() -> None:
    """Without a look at what the texts become these would come in."""
    assert passes_unread(prompt="qu[anemone bush:an:7]dle")
    assert refused(prompt="qu[anemone bush:an:7]dle")
    assert passes_unread(prompt="__first____second__")
    lists = Lists(first=("quan",), second=("dle",))
    assert refused(lists=lists, prompt="__first____second__")


def test_a_weight_below_zero_that_is_put_together() -> None:
    for negative in ("(quandle{:|:}-1)", "(quandle[:|:]-1)", "(quandle__w__)"):
        lists = Lists(w=(":-1",))
        assert refused(lists=lists, negative_prompt=negative), negative


def test_every_picture_of_a_batch_is_judged_by_what_it_draws() -> None:
    lists = Lists(thing=(*("chair",) * 30, "quandle"))
    held = [refused(lists=lists, prompt="a __thing__", seed=seed) for seed in range(40)]
    assert any(held)
    assert not all(held)
    first = held.index(True)
    assert refused(lists=lists, prompt="a __thing__", seed=max(0, first - 15), count=16)
    assert refused(lists=lists, prompt="a __thing__", seed=max(0, first - 15), batch=16)


def test_what_is_drawn_for_several_pictures_is_judged_together() -> None:
    lists = Lists(thing=("wobblekin", "snizzler"))
    assert refused(lists=lists, prompt="a __thing__", count=20, seed=1)


def test_regions_joined_by_and_are_judged_together_and_alone() -> None:
    assert refused(prompt="a wobblekin AND a snizzler"), "each alone is allowed at level 2"
    assert refused(prompt="a chair :2 AND quandle :0.01")
    assert refused(prompt="a [wobblekin|hill] AND a [hill|snizzler]")


@pytest.mark.parametrize(
    "written",
    ["__quandle__", "a __styles/quandle__", "__a{__quandle__|b}__", "{chair|quandle}",
     "{2$$, $$quandle|chair}", "__quan__dle", "{quan}dle", "{quan|}dle"],
)  # fmt: skip
def test_wildcards_that_are_typed_with_the_word(written: str) -> None:
    """Whatever is drawn of them: the typed text is judged, too."""
    lists = Lists(**{"quandle": ("hill",), "styles/quandle": ("hill",), "quan": ("hill",)})
    assert refused(lists=lists, prompt=written)


@pytest.mark.parametrize(
    "written",
    ["a __outer__", "{__outer__|__outer__}", "qu{an|an}dle", "qu__an__dle", "q{u{a|a}|ua}ndle",
     "{2$$$$quan|quan}dle", r"a {\q|\q}uandle", "{1::quan|0::x}__dle__"],
)  # fmt: skip
def test_nested_wildcards_are_judged_by_what_they_come_to(written: str) -> None:
    lists = Lists(outer=("{x|x} __inner__",), inner=("q{uandle|uandle}",), an=("an",), dle=("dle",))
    for seed in range(3):
        assert refused(lists=lists, prompt=written, seed=seed)
        assert refused(lists=lists, negative_prompt=written, seed=seed, cfg=1.0)


@pytest.mark.parametrize("written", ["__a__", "{__a__|__b__}", "x __c/d__", "{2$$__a__}"])
def test_cyclic_wildcards_are_refused_in_a_sentence(written: str) -> None:
    lists = Lists(**{"a": ("{x|__b__}",), "b": ("__a__",), "c/d": ("y", "__c/d__ __c/d__")})

    def draw() -> None:
        with pytest.raises(BadRequestError, match="round in a circle"):
            admitted(lists=lists, prompt=written)

    assert lines_run(draw) < 2_000


@pytest.mark.parametrize("written", ["__" * 900, "{a|" * 600, "{a" * 600, "{|}" * 600, "[a|" * 600])
def test_piles_of_brackets_that_draw_are_little_work(written: str) -> None:
    def look() -> None:
        with suppress(BadRequestError):
            assert not refused(prompt=written)

    assert lines_run(look) < 300 * len(written)


def test_a_style_that_adds_the_word() -> None:
    file = io.StringIO()
    rows = [("name", "prompt", "negative_prompt"), ("Wood", "{prompt}, a quandle", "blurry")]
    csv.writer(file).writerows(rows)
    (style,) = read_styles(file.getvalue().encode()).styles
    assert refused(prompt=style.prompt.replace("{prompt}", "a chair"))
    assert not refused(negative_prompt=style.negative_prompt.replace("{prompt}", ""))


def test_a_preset_that_adds_the_word() -> None:
    data = b'{"schema": 1, "name": "Wood", "request": {"prompt": "{prompt}, a quandle"}}'
    prompt = str(read_draft(data).request["prompt"])
    assert refused(prompt=prompt.replace("{prompt}", "a chair"))


def test_a_trigger_word_or_name_of_a_lora_that_adds_the_word() -> None:
    assert refused(prompt="a chair, quandle style", loras=[{"name": "wood"}])
    assert refused(prompt="a chair <lora:quandle:0.5>")
    assert refused(prompt="a quan<lora:wood:0.5>dle")
    assert refused(loras=[{"name": "art/quandle_v2"}])


def test_a_lora_that_is_asked_for_by_another_name() -> None:
    watch = guard()
    rows = ({"name": "off", "enabled": False}, {"name": "wood"})
    held = watch.admit(parse_request({"prompt": "a chair", "loras": rows}), ARTIST)
    watch.check_decoded(held, Texts(("a chair",)), loras=["style/wood"])
    for file in ("style/quandle", "wobblekin", "zandrel_drossel"):
        with pytest.raises(RefusedError):
            watch.check_decoded(held, Texts(("a chair",)), loras=[file])


def test_a_name_or_trained_word_of_an_embedding_that_adds_the_word() -> None:
    assert refused(prompt="a chair <quandle_v2>")
    watch = guard()
    held = watch.admit(parse_request({"prompt": "a chair <wood>"}), ARTIST)
    for name, word in (("wood", "oak"), ("quandle", "oak"), ("wood", "quandle")):
        used = EmbeddedWord(name, "0" * 64, 4, word, Path(name))
        parsed = ParsedPrompt(((Segment("a chair ", 1.0), Segment("<wood>", 1.0, used)),))
        decoded = Texts((decoded_text(parsed, clip_tokenizer()),))
        if "quandle" in (name, word):
            with pytest.raises(RefusedError):
                watch.check_decoded(held, decoded)
        else:
            watch.check_decoded(held, decoded)


@pytest.mark.parametrize("weight", [{"weight": -2.0}, {"text_encoder_weight": -0.5}])
def test_a_lora_that_steers_a_picture_away_from_clothing(weight: dict[str, float]) -> None:
    row = {"name": "torp_slider"} | weight
    assert refused(loras=[row], init="0" * 64)
    assert not refused(loras=[row])
    assert not refused(loras=[{"name": "torp_slider"}], init="0" * 64)


def test_regions_are_judged_together() -> None:
    for between in (" BREAK ", " ADDCOL ", " ADDROW ", " ADDBASE ", " ADDCOMM "):
        assert refused(prompt=f"a chair{between}a quandle")
        assert refused(prompt=f"a wobblekin{between}a snizzler"), "each alone is allowed at level 2"
    assert not refused(prompt="a snizzler BREAK a chair")
    assert refused(prompt="quan BREAK dle")


@pytest.mark.parametrize(
    "given",
    [{"cfg": 1.0, "negative_prompt": "quandle"}, {"negative_prompt": "(quandle:-1)"},
     {"negative_prompt": "(chair: -.5), quandle"}, {"negative_prompt": "quandle, ((x:-1):1)"}],
)  # fmt: skip
def test_a_negative_prompt_that_acts_as_a_positive_one(given: dict[str, Any]) -> None:
    assert refused(**given)
    assert not refused(negative_prompt="quandle", cfg=1.5)


def test_other_scripts() -> None:
    native = Lexicon(
        {
            "sexual": ("квандль",),
            "nudity": ("椅子机",),
            "youth": ("كرسيات",),
            "swimwear": ("의자",),
        },
        (),
        Normaliser.load(FOLDER / "lookalikes.txt"),
        common=COMMON,
    )
    watch = guard(native)
    for prompt in ("квандль", "kvandl", "К.В.А.Н.Д.Л.Ь", "一张椅 子 机", "의자가 있다"):
        with pytest.raises(RefusedError):
            watch.admit(GenerationRequest(prompt=prompt), Session(id="anybody"))
    assert watch.admit(GenerationRequest(prompt="الكرسيات"), ARTIST).level == 0


def test_url_html_and_percent_coding() -> None:
    disguised_are_refused("URL quoted", "URL quoted twice", "HTML entities")
    for written in ("%EF%BD%91uandle", "&#x71;uandle", "&amp;#113;uandle", "％71uandle",
                    "qu%26%2397%3Bndle"):  # fmt: skip
        assert refused(prompt=f"a {written}"), written


def test_a_prompt_of_ten_megabytes() -> None:
    for prompt in ("a" * 10_000_000, "quandle " * 1_250_000, "(" * 10_000_000, "\ufdfa" * 10**7):
        # Nothing is done with it but to see how long it is.
        assert lines_run(partial(ten_megabytes_are_refused, prompt)) < 100


def ten_megabytes_are_refused(prompt: str) -> None:
    with pytest.raises(WebuiError, match="at most 2,000 fit") as caught:
        admitted(prompt=prompt)
    with pytest.raises(BadRequestError, match="at most 4,000 fit"):
        LEXICON.cues(prompt)
    assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    "bracket", ["(", ")", "[", "]", "{", "()", "[]", "(:1", "\\(", "[a:", "<a"]
)
def test_eight_thousand_brackets(bracket: str) -> None:
    with pytest.raises(WebuiError, match="at most 2,000 fit"):
        admitted(prompt=(bracket * 8_000)[:8_000])
    most = (bracket * MAX_PROMPT_CHARACTERS)[:MAX_PROMPT_CHARACTERS]

    def look() -> None:
        assert not refused(prompt=most)
        unmatched_brackets(most)
        with suppress(BadRequestError):
            parse_prompt(most)

    assert lines_run(look) < 300 * MAX_PROMPT_CHARACTERS


def test_the_name_of_a_person_at_a_raised_level() -> None:
    for prompt in ("a photo of Zandrel Drossel", "morvyn drossel", "looks like drosselia",
                   "ｍｏｒｖｙｎ drossel", "(morvyn:1.2)_[drossel]", "M0rvyn Drossel"):  # fmt: skip
        held = admitted(prompt=prompt)
        assert (held.level, held.held_by) == (0, "prompt"), prompt
        assert not refused(Session(id="anybody"), prompt=prompt)
        assert refused(prompt=f"{prompt}, a snizzler")
    assert not refused(prompt="a snizzler")
    assert level(loras=[{"name": "zandrel_drossel_v2"}]) == 0


def test_a_youth_cue_at_a_raised_level() -> None:
    assert level(prompt="a wobblekin") == 0
    for other in (*PLACEHOLDERS["sexual"], *PLACEHOLDERS["nudity"]):
        assert refused(prompt=f"a wobblekin, a {other}")


def test_no_refusal_says_what_was_found() -> None:
    for disguise in DISGUISES.values():
        refused(prompt=f"a {disguise('quandle')}")
    assert not LEXICON.cues(REFUSED)
    assert not LEXICON.cues(notice("prompt"))

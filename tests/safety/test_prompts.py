# ruff: noqa: RUF001
# Look-alike letters are what is tested here.
from __future__ import annotations

import statistics
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.disguises import DISGUISES
from tests.safety.stubs import PLACEHOLDERS, placeholder_lexicon
from tests.work import lines_run
from webui.errors import BadRequestError, GuardError
from webui.request import MAX_PROMPT_CHARACTERS
from webui.safety.normaliser import Normaliser, by_sound, is_uncased
from webui.safety.policy import Cue
from webui.safety.prompts import (
    FOLDER,
    LISTED,
    MAX_CHARACTERS,
    MAX_LETTERS,
    Lexicon,
    has_negative_weight,
    read_terms,
)

LEXICON = placeholder_lexicon(benign=("zorkfield", "quan dle"))
SHIPPED = Lexicon.load()
LONG_TERMS = ("blorpish", "quandle", "snizzler", "frumpet", "wobblekin")

SUBJECTS = (
    "a person in a red shirt",
    "two people walking abreast",
    "an analyst with a button accordion",
    "a swan on a canal",
    "a shuttlecock and a racket",
    "the therapist's office",
    "a peacock",
    "an assassin's hidden lodge",
    "a snake den",
    "a bass player",
    "a grape harvest",
    "a skyscraper",
    "the pen is on the table",
    "a butterfly on a buttercup",
    "a titanium sextant",
    "a glass compass",
    "a class of 50s cars",
    "scrap metal being scraped",
    "a hotel in Scunthorpe",
    "a pier in Sussex",
    "Dickens at his desk",
    "a document with a circumflex",
    "a cumulus cloud",
    "cucumbers in a basket",
    "an assembled cassette player",
    "a steamboat, U.S.S. Arizona",
    "a robin, the redbreast",
    "a breastplate of bronze",
    "a cockpit at night",
    "a hancock tower",
    "an essay on Essex",
    "a matsutake mushroom",
    "a shiitake risotto",
    "a wooden dresser",
    "a tall woman in a green dress",
    "a man in blue trousers",
    "an old man with a hat, aged 70",
    "a 25 years old woman with glasses",
    "the sperm whale",
    "the pussy willow",
    "a public library",
    "a wrapped present",
    "trapped light",
    "a department store",
    "separate houses",
    "a chardonnay bottle",
    "a heterogeneous crowd",
    "an underground car park",
    "a spoon and a bowl of soup",
)
PLACES = (
    "on a beach at sunset",
    "in a forest",
    "in the mountains, 35mm, f/1.8",
    "in the snow",
    "by the sea, 8k uhd",
    "in a city at night",
    "in a room with a view",
    "on a meadow (golden hour:1.2)",
    "under a [cloudy] sky",
    "in the style of 1970s postcards",
)
QUALITIES = (
    "highly detailed",
    "best quality, masterpiece",
    "soft light",
    "as seen in an old book",
    "it is as it is, so be it",
    "no. 5 of 12",
    "100% sharp & bright",
    "don't it make you smile",
    "R.E.M. sleep, T.I.T.A.N. A.I.",
    "it's at us on me",
    "naïve café façade",
    "ein schöner Tag",
    "осенний лес",
    "夕焼けの海",
)


def benign_lines(count: int) -> list[str]:
    random = Random(7)
    parts = (SUBJECTS, PLACES, QUALITIES)
    return [", ".join(random.choice(part) for part in parts) for _ in range(count)]


def grid() -> list[tuple[str, str]]:
    return [(term, name) for term in LONG_TERMS for name in DISGUISES]


def cue_of(term: str) -> Cue:
    return next(cue for cue, terms in PLACEHOLDERS.items() if term in terms)


def test_at_least_95_percent_of_the_disguises_are_seen_through() -> None:
    missed = [
        (term, name)
        for term, name in grid()
        if cue_of(term) not in LEXICON.cues(f"a photo of a {DISGUISES[name](term)} on a hill")
    ]
    assert len(missed) <= 0.05 * len(grid()), missed
    assert {name for _, name in missed} <= {"parenthesised", "reversed and spaced"}, missed


def test_nothing_is_seen_where_nothing_is() -> None:
    for name, disguise in DISGUISES.items():
        assert not LEXICON.cues(f"a photo of a {disguise('chandelier')} on a hill"), name


def test_at_most_one_in_a_thousand_benign_lines_is_a_hit() -> None:
    lines = benign_lines(4_000)
    hits = {line for line in lines if SHIPPED.cues(line) - {"clothing"}}
    assert len(hits) <= len(lines) / 1_000, hits


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_innocent_word_that_holds_another_is_no_cue(subject: str) -> None:
    assert SHIPPED.cues(subject) <= {"clothing"}


@pytest.mark.parametrize(
    "written",
    ["zork", "ZORK!", "z0rk", "z o r k", "z.o.r.k", "zo-rk", "zzzooorrrkkk", "a z o r k here",
     "zork2", "(zork:1.2)", "zo(rk:1.1)"],
)  # fmt: skip
def test_a_short_term_is_found_as_a_whole_word(written: str) -> None:
    assert LEXICON.cues(f"see {written} there") == {"sexual"}


@pytest.mark.parametrize(
    "written",
    ["zorkon", "azork", "zo rk", "z o r k s", "y z o r k",
     "krkoz", "zoorkk", "zorkfield", "in zo rkel", "204k"],
)  # fmt: skip
def test_a_short_term_is_not_found_in_ordinary_words(written: str) -> None:
    assert not LEXICON.cues(f"see {written} there")


def test_a_marked_term_counts_only_as_a_whole_word() -> None:
    assert LEXICON.cues("one dravel") == {"youth"}
    assert LEXICON.cues("one dra-vel") == {"youth"}
    assert not LEXICON.cues("three dravelers")
    assert LEXICON.cues("three quandlers") == {"sexual"}


def test_a_phrase_is_found_with_and_without_its_space() -> None:
    for written in ("plinko bandle", "plinkobandle", "Plinko-Bandle", "pl1nko\nbandle"):
        assert LEXICON.cues(written) - {"person"} == {"nudity"}, written
    assert not LEXICON.cues("plinko of a bandle")


def test_a_phrase_with_a_gap_allows_three_words_between() -> None:
    assert "undress" in LEXICON.cues("please glim the torp")
    assert "undress" in LEXICON.cues("glimming all of her TORPS")
    assert "undress" in LEXICON.cues("glimmm the (torp:1.2)")
    assert "undress" not in LEXICON.cues("glim one two three four torp")
    assert "undress" not in LEXICON.cues("the torp will glim")


def test_a_benign_word_or_phrase_is_no_cue_unless_it_is_disguised() -> None:
    assert not LEXICON.cues("zorkfield by night, a quan dle")
    assert LEXICON.cues("a quan-dle") == {"sexual"}


def test_a_repeated_letter_inside_another_word_is_not_a_stretched_term() -> None:
    assert not LEXICON.cues("the unfrummpetted")
    assert LEXICON.cues("the unfrummmpetted") == {"swimwear"}
    assert LEXICON.cues("a frumppet") == {"swimwear"}


@pytest.mark.parametrize(
    "written",
    ["12 years old", "a 7-year-old", "9yo", "15 y/o", "sixteen years old", "aged 14", "age: 8",
     "1 7 years old", "ｆｉｖｅ ｙｅａｒｓ ｏｌｄ", "ages of 5 to 9", "09 yrs old"],
)  # fmt: skip
def test_an_age_below_eighteen_is_a_youth_cue(written: str) -> None:
    assert SHIPPED.cues(f"somebody, {written}, on a bench") == {"youth"}


@pytest.mark.parametrize(
    "written",
    ["18 years old", "a 35-year-old", "aged 40", "117 years old", "the year 12", "page 9"],
)
def test_another_number_is_no_youth_cue(written: str) -> None:
    assert not SHIPPED.cues(f"somebody, {written}, on a bench")


NATIVE = Lexicon(
    {
        "sexual": ("блорпиш", "βλορπις"),
        "nudity": ("椅子机", "ビルバ"),
        "youth": ("كرسيات", "의자들"),
    },
    (),
    Normaliser.load(FOLDER / "lookalikes.txt"),
)


@pytest.mark.parametrize(
    ("written", "cues"),
    [
        ("красный блорпиш", {"sexual"}),
        ("блорпиши на столе", {"sexual"}),
        ("blorpish", {"sexual"}),
        ("б л о р п и ш", {"sexual"}),
        ("ΒΛΟΡΠΙΣ", {"sexual"}),
        ("一张椅子机在海滩", {"nudity"}),
        ("椅.子 机", {"nudity"}),
        ("椅\u200b子机", {"nudity"}),
        ("%E6%A4%85%E5%AD%90%E6%9C%BA", {"nudity"}),
        ("&#26885;&#23376;&#26426;", {"nudity"}),
        ("椅(子:1.2)机", {"nudity"}),
        ("ﾋﾞﾙﾊﾞ", {"nudity"}),
        ("الكرسيات", {"youth"}),
        ("كُرسِيات هنا", {"youth"}),
        ("의자들이 있다", {"youth"}),
        ("椅子", set[str]()),
        ("مكرسيات", set[str]()),
        ("책의자들", set[str]()),
        ("стол", set[str]()),
    ],
)
def test_a_term_of_another_script_is_found_in_it(written: str, cues: set[str]) -> None:
    assert NATIVE.cues(written) == cues


@pytest.mark.parametrize(
    "prompt",
    ["ラーメンとヌードル", "黄色いイエロー", "ピエロのいるサーカス", "フロリダの海", "热情色彩",
     "아이스크림", "شعرية البحر", "a kind of blue", "Nina Simone", "裸足で歩く", "景色情感"],
)  # fmt: skip
def test_an_innocent_word_of_another_script_is_no_cue(prompt: str) -> None:
    assert SHIPPED.cues(prompt) <= {"person"}


def test_a_negative_weight_is_noticed() -> None:
    assert has_negative_weight("a (chair:-1)")
    assert has_negative_weight("(chair: -.5)")
    assert not has_negative_weight("a well-made (chair:0.5), 10:30")


def test_a_text_that_cannot_be_read_in_time_is_an_error() -> None:
    assert LEXICON.cues("a " * (MAX_CHARACTERS // 2)) == frozenset()
    with pytest.raises(BadRequestError, match="4,001 characters"):
        LEXICON.cues("a" * (MAX_CHARACTERS + 1))
    assert LEXICON.cues("\ufdfa" * (MAX_LETTERS // 20)) == frozenset()
    with pytest.raises(BadRequestError, match=f"at most {MAX_LETTERS:,} fit"):
        LEXICON.cues("\ufdfa" * MAX_PROMPT_CHARACTERS)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=100), st.text(max_size=100))
def test_a_word_that_stands_alone_is_found_in_any_company(before: str, after: str) -> None:
    assert "sexual" in LEXICON.cues(
        f"{before}\n. quandle .\n{after}".replace("<", "").replace("%", "")
    )


def work(text: str) -> int:
    """The lines that the shipped lexicon takes for a text."""

    def look() -> None:
        with suppress(BadRequestError):
            SHIPPED.cues(text)

    return lines_run(look)


def test_a_usual_prompt_is_little_work() -> None:
    lines = sorted(map(work, benign_lines(100)))
    assert statistics.median(lines) < 4_000
    assert lines[-1] < 15_000


@pytest.mark.parametrize(
    "unit",
    ["z", "zo", "q u a n d l e ", "blorpis ", "%2571", "\ufdfa", "山", "👙", "п1р(р:1.2)%41", "1 ",
     "(a:1.2)", "<", "(", " ", "a:  ", "BREAK ", "aged of ", "1 year ", "&amp;", "\u0301", "glim ",
     "a1@", "Ã©", "..", "remove "],
)  # fmt: skip
def test_no_text_of_the_longest_prompt_is_much_work(unit: str) -> None:
    text = (unit * MAX_PROMPT_CHARACTERS)[:MAX_PROMPT_CHARACTERS]
    assert work(text) < 500 * MAX_PROMPT_CHARACTERS


@pytest.mark.parametrize("name", [*LISTED, "benign", "common"])
def test_a_shipped_list_is_in_order(name: str) -> None:
    terms = read_terms(FOLDER / "words" / f"{name}.txt")
    assert len(terms) == len(set(terms))
    for term in terms:
        if is_uncased(term):
            continue
        words = by_sound(term).replace("'", "").removeprefix("=").split(" ")
        assert all(
            part.isascii() and part.isalnum() and part == part.lower()
            for word in words
            if word != "..."
            for part in word.split("|")
        ), term


def test_every_list_belongs_to_a_cue() -> None:
    names = {file.stem for file in (FOLDER / "words").iterdir()}
    assert names == {*LISTED, "benign", "common"}


@pytest.mark.parametrize("cue", [cue for cue in LISTED if cue != "person"])
def test_every_shipped_term_is_found(cue: Cue) -> None:
    benign = set(read_terms(FOLDER / "words" / "benign.txt"))
    for line in read_terms(FOLDER / "words" / f"{cue}.txt"):
        first = " ".join(
            word.split("|")[0] for word in line.removeprefix("=").replace("...", "the").split(" ")
        )
        assert first in benign or cue in SHIPPED.cues(f"x, {first}, x"), "a term is not found"


def test_a_missing_list_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    for name in (*LISTED, "benign", "common"):
        (tmp_path / "words" / f"{name}.txt").write_text("# a remark\nplaceholder\n")
    (tmp_path / "words" / "benign.txt").write_text("chair\n")
    (tmp_path / "lookalikes.txt").write_text("a b\n")
    assert Lexicon.load(tmp_path).cues("placeholder") == set(LISTED) - {"person"}

    for name in ("youth", "person", "common"):
        file = tmp_path / "words" / f"{name}.txt"
        kept = file.read_text()
        file.write_text("# nothing\n")
        with pytest.raises(GuardError, match=rf"{name}\.txt"):
            Lexicon.load(tmp_path)
        file.unlink()
        with pytest.raises(GuardError, match=rf"{name}\.txt"):
            Lexicon.load(tmp_path)
        file.write_text(kept)

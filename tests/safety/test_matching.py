from __future__ import annotations

import pytest

from webui.safety.matching import BARRIER, Matcher, Term, Word

TERMS = (
    Term.of("sexual", "quandle", whole=False),
    Term.of("nudity", "boolloo", whole=False),
    Term.of("swimwear", "zork", whole=False),
    Term.of("youth", "dravel", whole=True),
    Term.of("undress", "abb", whole=False),
)
MATCHER = Matcher(TERMS)


def words(text: str) -> list[Word]:
    """Words of a text in which "-" is a gap without white space and "|" the barrier."""
    found: list[Word] = []
    for chunk in text.split(" "):
        for i, word in enumerate(chunk.split("-")):
            found.append(Word(BARRIER if word == "|" else word, loose=i == 0 and bool(found)))
    return found


@pytest.mark.parametrize(
    ("text", "cues"),
    [
        ("one quandle more", {"sexual"}),
        ("quan dle", {"sexual"}),
        ("qua n d le", {"sexual"}),
        ("unquandled", {"sexual"}),
        ("un quandle d", {"sexual"}),
        ("un quan dled", set[str]()),
        ("quan | dle", set[str]()),
        ("q4nd13", set[str]()),
        ("qu4ndl3", {"sexual"}),
        ("boolloo", {"nudity"}),
        ("bolo", set[str]()),
        ("boollloo", {"nudity"}),
        ("booolllooo", {"nudity"}),
        ("xboollooox", {"nudity"}),
        ("xboollloox", {"nudity"}),
        ("xxquanddlexx", set[str]()),
        ("quanddle", {"sexual"}),
        ("dravel", {"youth"}),
        ("dravels", set[str]()),
        ("dra vel", {"youth"}),
        ("zork", {"swimwear"}),
        ("zorks", set[str]()),
        ("zo rk", set[str]()),
        ("zo-rk", {"swimwear"}),
        ("z o rk", {"swimwear"}),
        ("a z o r k", {"swimwear"}),
        ("the z o r k", {"swimwear"}),
        ("c z o r k", set[str]()),
        ("z o r k s", set[str]()),
        ("quizz zork", {"swimwear"}),
        ("fizz z o r k", {"swimwear"}),
        ("2012", set[str]()),
        ("a88", {"undress"}),
        ("488", set[str]()),
        ("4 88", set[str]()),
        ("ab", set[str]()),
        ("abbey", set[str]()),
        ("", set[str]()),
    ],
)
def test_a_term_is_found_where_a_reader_reads_it(text: str, cues: set[str]) -> None:
    assert set(MATCHER.cues(words(text))) == cues


def test_backwards_only_long_terms_that_fill_a_word_count() -> None:
    def backwards(text: str) -> set[str]:
        return set(MATCHER.cues(words(text), backwards=True))

    assert backwards("quandle") == {"sexual"}
    assert backwards("quan dle") == {"sexual"}
    assert backwards("unquandle") == set()
    assert backwards("zork") == set()

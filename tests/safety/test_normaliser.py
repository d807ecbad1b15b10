# ruff: noqa: RUF001
# Look-alike letters are what is tested here.
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.errors import GuardError
from webui.safety.normaliser import Normaliser, without_syntax
from webui.safety.prompts import FOLDER

TABLE = Normaliser.load(FOLDER / "lookalikes.txt")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("a (red:1.2) chair", "a red chair"),
        ("ch(ai:1.2)r", "chair"),
        ("[[chair]]", "chair"),
        ("((chair)", "chair"),
        ("ch\\(air\\)", "chair"),
        ("(chair: -0.5 )", "chair"),
        ("ch<lora:wood:0.8>air", "chair"),
        ("red BREAK chair", "red   chair"),
        ("at 10:30", "at 10:30"),
        ("a BREAKfast table", "a BREAKfast table"),
    ],
)
def test_prompt_syntax_comes_off_and_the_words_stay(written: str, words: str) -> None:
    assert without_syntax(written) == words


@pytest.mark.parametrize(
    "written",
    [
        "CHAIR",
        "ｃｈａｉｒ",
        "𝓬𝓱𝓪𝓲𝓻",
        "ⓒⓗⓐⓘⓡ",
        "\u0441h\u0430ir",
        "c\u200bh\u00adai\u2060r",
        "c\x07hai\x00r",
        "c\u3164ha\u2800ir",
        "cháïr̈",
        "c\u0338h\u0338a\u0338i\u0338r\u0338",
        "%63hair",
        "%2563hair",
        "&#99;hair",
        "ch@ir",
        "cha!r",
        "cha|r",
        "ᴄʜᴀɪʀ",
        "ch'air",
        "𝖈𝖍𝖆𝖎𝖗",
    ],
)
def test_a_disguised_word_is_among_the_readings(written: str) -> None:
    assert "chair" in TABLE.readings(written)


def test_other_scripts_are_read_by_sound_and_by_looks() -> None:
    assert "stol" in TABLE.readings("стол")
    assert "pacxa" in TABLE.readings("расха")


def test_mojibake_is_mended() -> None:
    assert "cafe" in TABLE.readings("cafÃ©")


def test_plain_text_has_one_reading() -> None:
    assert TABLE.readings("a red chair, 8k") == {"a red chair, 8k"}


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=200))
def test_every_text_is_read_as_lower_case_ascii(text: str) -> None:
    for reading in TABLE.readings(text):
        assert reading.isascii()
        assert reading == reading.lower()


def test_every_letter_of_the_table_reads_as_it_looks() -> None:
    for line in (FOLDER / "lookalikes.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            letter, likes = line.split(" ")
            assert all(letter in TABLE.readings(like) for like in likes), line


def test_a_missing_or_broken_table_stops_everything(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match=r"lookalikes\.txt"):
        Normaliser.load(tmp_path / "lookalikes.txt")
    (tmp_path / "lookalikes.txt").write_text("a b c\n", encoding="utf-8")
    with pytest.raises(GuardError, match=r"lookalikes\.txt"):
        Normaliser.load(tmp_path / "lookalikes.txt")

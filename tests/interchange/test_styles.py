from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from webui.errors import BrokenFileError
from webui.interchange.styles import MAX_BYTES, MAX_STYLES, Style, Styles, read_styles, write_styles

HEADER = "name,prompt,negative_prompt\n"


def read(text: str) -> tuple[Style, ...]:
    found = read_styles((HEADER + text).encode("utf-8-sig"))
    assert found.report == ()
    return found.styles


def test_a_file_as_a1111_writes_it() -> None:
    text = 'film,"{prompt}, film, ""old"" grain\nsoft","blur, {prompt}"\r\nsea,by the sea,\r\n'
    assert read(text) == (
        Style("film", '{prompt}, film, "old" grain\nsoft', "blur, {prompt}"),
        Style("sea", "{prompt}, by the sea", ""),
    )


def test_texts_without_a_place_follow_the_pages_own() -> None:
    assert read("a, in oil ,blur\n") == (Style("a", "{prompt}, in oil", "{prompt}, blur"),)
    assert read('b,"",blur\n') == (Style("b", "", "{prompt}, blur"),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["name,text", "Name, Text", "name,positive_prompt"])
def test_other_headers(header: str, encoding: str) -> None:
    found = read_styles(f"{header}\né,海\n".encode(encoding))
    assert found.styles == (Style("é", "{prompt}, 海", ""),)


def test_comments_blank_rows_and_columns_more_or_less() -> None:
    rows = "#x,text\n\n,,\na,one,two,three\nb,one\n"
    assert read(rows) == (
        Style("a", "{prompt}, one", "{prompt}, two"),
        Style("b", "{prompt}, one", ""),
    )


def test_dividers_are_sections() -> None:
    light = "z,none,\n# --- light ---,,\n#x,text\na,one,\n"
    sea = "---- By the sea! ----,,\nb,two,\n#,,\nc,three,\n"
    sections = [(style.name, style.section) for style in read(light + sea)]
    assert sections == [("z", ""), ("a", "light"), ("b", "By the sea!"), ("c", "")]


def test_what_is_written_is_read_as_the_same_and_by_a1111_too() -> None:
    styles = (
        Style("film", '{prompt}, film, "old" grain\nsoft', "blur, {prompt}", "light"),
        Style("sea", "{prompt}, by the sea", ""),
        Style("é, a", "", "{prompt}, 海", "light"),
        Style("both", "{prompt}, a {prompt}", "{prompt}", "By the sea!"),
    )
    data = write_styles(styles)
    again = read_styles(data)
    assert again.report == ()
    assert set(again.styles) == {*styles}
    # As A1111 has it: a byte order mark, its columns, and no place where a text only follows.
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert data.startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert rows[0] == {"name": "sea", "prompt": "by the sea", "negative_prompt": ""}
    assert [row["name"] for row in rows] == [
        "sea",
        "# light",
        "film",
        "é, a",
        "# By the sea!",
        "both",
    ]
    assert write_styles(again.styles) == data


CELLS = st.lists(
    st.sampled_from(["{prompt}", "{prompt}, ", "<lora:a:1>", "# ", "---", *"ab\"',{} \n\ré="]),
    max_size=6,
).map("".join)


@settings(max_examples=50)
@given(st.lists(st.lists(CELLS, max_size=4), max_size=5))
@example([["# --a", ""], ["x", "y"]])
@example([["a", "b\rc", "{prompt},  d"]])
def test_what_is_read_of_any_file_is_read_again_when_it_is_written(rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["name", "prompt", "negative_prompt"], *rows])
    styles = read_styles(file.getvalue().encode()).styles
    assert len({style.name for style in styles}) == len(styles)
    for style in styles:
        assert style.name == style.name.strip() != ""
        assert style.prompt or style.negative_prompt
        assert all("{prompt}" in text or not text for text in (style.prompt, style.negative_prompt))
        assert "<lora" not in style.prompt + style.negative_prompt
    again = read_styles(write_styles(styles))
    assert again.report == ()
    assert set(again.styles) == set(styles)


def attempt(data: bytes) -> Styles | BrokenFileError:
    try:
        return read_styles(data)
    except BrokenFileError as error:
        return error


@given(st.one_of(st.binary(), st.text().map(str.encode)))
@example(b"name,prompt\n\x81,\xff\n")
def test_any_file_is_read_or_refused_in_one_sentence(data: bytes) -> None:
    for head in (b"", b"name,prompt\n"):
        found = attempt(head + data)
        if isinstance(found, BrokenFileError):
            assert found.message.endswith(".")
            assert "\n" not in found.message
        else:
            assert all(style.prompt for style in found.styles)


@pytest.mark.parametrize(
    ("rows", "names", "says"),
    [
        ("a,,\nb,x,\n", ["b"], "without text were left out: a."),
        (",x,\nb,x,\n", ["b"], "left out: (no name)."),
        ("a,x,\nb,x,\na,y,\n", ["a", "b"], "the last was taken: a."),
        ("a,x <lora:soft:1>,\n", ["a"], "taken out of the text of styles: a."),
    ],
)
def test_what_is_dropped_is_said(rows: str, names: list[str], says: str) -> None:
    found = read_styles((HEADER + rows).encode())
    assert len(found.report) == 1
    assert says in found.report[0]
    assert [style.name for style in found.styles] == names


def test_the_number_of_styles_is_bounded() -> None:
    rows = "".join(f"{n},x,\n" for n in range(MAX_STYLES + 1))
    found = read_styles((HEADER + rows).encode())
    assert len(found.styles) == MAX_STYLES
    assert found.report == (f"Only the first 2,000 styles were taken, not: {MAX_STYLES}.",)


def test_of_two_with_one_name_the_last_counts_and_tags_are_gone() -> None:
    found = read_styles(f"{HEADER}a,x,\na,y <lora:soft:1>,\n".encode())
    assert found.styles == (Style("a", "{prompt}, y", ""),)


def test_windows_encoding_is_read_with_a_notice() -> None:
    found = read_styles(f"{HEADER}é,grün,\n".encode("cp1252"))
    assert found.styles == (Style("é", "{prompt}, grün", ""),)
    assert "Windows-1252" in found.report[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "first line must be"),
        (b"\x89PNG\r\n\x1a\n", "first line must be"),
        (b"name;prompt;negative_prompt\na;b;c\n", "first line must be"),
        (b"title,prompt\na,b\n", "first line must be"),
        (HEADER.encode() + b'a,"' + b"x" * 200_000, "field larger than"),
        (HEADER.encode() + b"x" * MAX_BYTES, "larger than 4 MiB"),
    ],
)
def test_what_is_no_file_of_styles_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says):
        read_styles(data)

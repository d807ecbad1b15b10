from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.work import files_opened, lines_run
from webui.errors import BadRequestError, NotFoundError
from webui.library.wildcards import MAX_BYTES, WildcardShelf


def put(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "colour.txt", "\ufeff# comment\nred\n\n green \r\nred\n")
    put(tmp_path, "light/warm.txt", "lamp\nsun")
    put(tmp_path, "light/cold.txt", "moon\nlamp")
    put(tmp_path, "light/.hidden.txt", "x")
    put(tmp_path, "readme.md", "x")
    put(tmp_path, "[odd].txt", "odd")
    return tmp_path


def test_a_list_is_the_lines_of_a_text_file(folder: Path) -> None:
    lists = WildcardShelf((folder,)).now()
    assert lists.names == ("[odd]", "colour", "light/cold", "light/warm")
    assert lists.lines("colour") == ("red", "green")
    assert lists.lines("[odd]") == ("odd",)


TEXTS = st.lists(st.sampled_from([*"ab# \n\r\t\u2028é{}_", "\r\n", "\ufeff"])).map("".join)


def held_in(folder: Path, name: str) -> tuple[str, ...]:
    try:
        return WildcardShelf((folder,)).now().lines(name)
    except BadRequestError as error:
        return () if "empty list" in error.message else (error.message,)


@settings(max_examples=50)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.sampled_from(["\n", "\r\n", "\r"]))
@example(["a\n a \n#b", "b"], "\n")
def test_what_lists_hold_is_each_text_of_theirs_once_in_order(texts: list[str], end: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        held: list[str] = []
        for number, text in enumerate(texts):
            put(folder, f"list{number}.txt", text)
            lines = held_in(folder, f"list{number}")
            assert all(line == line.strip() and line[0] != "#" for line in lines)
            assert len(set(lines)) == len(lines)
            assert set("".join(lines)) <= set(text)
            held += [line for line in lines if line not in held]
            # However they are parted, and with comments between them, they are the same.
            put(folder, f"again/{number}.txt", f"{end}#x{end}".join(["#", *lines]))
            assert held_in(folder, f"again/{number}") == lines
        assert held_in(folder, "list?") == tuple(held)


@pytest.mark.parametrize(
    ("pattern", "lines"),
    [
        ("light/warm", ("lamp", "sun")),
        ("light/*", ("moon", "lamp", "sun")),
        ("*", ("odd", "red", "green", "moon", "lamp", "sun")),
        ("colou?", ("red", "green")),
        ("warm", ("lamp", "sun")),
        ("**/cold", ("moon", "lamp")),
    ],
)
def test_patterns_join_lists(folder: Path, pattern: str, lines: tuple[str, ...]) -> None:
    assert WildcardShelf((folder,)).now().lines(pattern) == lines


def test_an_earlier_folder_counts_and_a_missing_one_is_empty(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    put(own, "colour.txt", "violet")
    shelf = WildcardShelf((own, folder, tmp_path / "nowhere"))
    assert shelf.now().lines("colour") == ("violet",)
    assert shelf.now().lines("light/warm") == ("lamp", "sun")
    assert WildcardShelf(()).now().names == ()


def test_what_is_not_there_is_named_with_what_is_near(folder: Path, tmp_path: Path) -> None:
    lists = WildcardShelf((folder,)).now()
    with pytest.raises(NotFoundError, match="did you mean 'colour'"):
        lists.lines("color")
    with pytest.raises(NotFoundError, match="no lists yet"):
        WildcardShelf((tmp_path / "nowhere",)).now().lines("x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"# nothing\n\n", "empty list"),
        (b"x" * 2_001, "no line of at most 2,000"),
        (b"x\n" * (MAX_BYTES // 2 + 1), "MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, content: bytes, says: str) -> None:
    put(folder, "bad.txt", content)
    with pytest.raises(BadRequestError, match=says) as caught:
        WildcardShelf((folder,)).now().lines("bad")
    assert "bad" in caught.value.message


def test_a_list_in_windows_1252_is_read(folder: Path) -> None:
    put(folder, "cake.txt", "crème brûlée\nKürbis für 2 €".encode("cp1252"))
    lines = WildcardShelf((folder,)).now().lines("cake")
    assert lines == ("crème brûlée", "Kürbis für 2 €")


def test_a_line_that_is_too_long_is_left_out_alone(folder: Path) -> None:
    put(folder, "long.txt", "a\n" + "x" * 2_001 + "\n" + "y" * 2_000)
    assert WildcardShelf((folder,)).now().lines("long") == ("a", "y" * 2_000)


def test_files_that_are_not_read_are_named_where_a_list_is_missing(folder: Path) -> None:
    put(folder, "pack/animals.yaml", "animals: [cat]")
    lists = WildcardShelf((folder,)).now()
    assert "pack/animals" not in lists.names
    with pytest.raises(NotFoundError, match=r"text file .*\(not read: pack/animals\.yaml\)"):
        lists.lines("animals/cat")
    for suffix in ("yml", "json", "JSON"):
        put(folder, f"more.{suffix}", "{}")
    with pytest.raises(NotFoundError, match=r" and 1 more\)"):
        WildcardShelf((folder,)).now().lines("animals/cat")


def test_nothing_outside_the_folder_is_read_by_a_name(folder: Path) -> None:
    put(folder.parent, "secret.txt", "x")
    lists = WildcardShelf((folder / "light",)).now()
    for name in ("../colour", "../../secret", str(folder / "colour")):
        with pytest.raises(NotFoundError):
            lists.lines(name)


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(BadRequestError, match="not in a file"):
        WildcardShelf((folder,)).now().lines("pipe")


def test_lists_stay_what_they_were_during_a_job_and_change_for_the_next(folder: Path) -> None:
    shelf = WildcardShelf((folder,))
    before = shelf.now()
    assert before.lines("colour") == ("red", "green")
    put(folder, "colour.txt", "violet, quite another length")
    assert before.lines("colour") == ("red", "green")
    assert shelf.now().lines("colour") == ("violet, quite another length",)


def test_a_thousand_lists_are_each_read_once_and_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1_000):
        put(tmp_path, f"{number % 10}/{number}.txt", "a\nb")
    shelf = WildcardShelf((tmp_path,))
    opened = files_opened(monkeypatch)

    def look() -> None:
        assert len(shelf.now().names) == 1_000
        assert shelf.now().lines("1/1") == ("a", "b")

    assert lines_run(look) < 50 * 1_000
    assert opened == [tmp_path / "1" / "1.txt"]
    assert shelf.now().lines("*") == ("a", "b")
    # Of so many, not all are kept.
    assert len(opened) == 1_000

"""A1111's `styles.csv`: named texts that are put around the page's own.

Columns `name,prompt,negative_prompt` (before version 1.0: `name,text`), UTF-8 with or without a
byte order mark. In a text `{prompt}` is the place of the page's own; a text without it follows.
Rows whose name begins with `#` are comments; those without a text stand over the styles below them
as their section, and so do `---- rows like this ----`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from webui.comparison import PLACE
from webui.errors import BrokenFileError
from webui.interchange.loratags import take_tags
from webui.interchange.sparse import listed

MAX_BYTES = 4 * 1024**2
"""Largest file that is read."""

MAX_STYLES = 2_000
"""Most styles that are taken from one file."""

MAX_SECTION = 100
"""Characters of a section's title that are kept."""

_PROMPT_COLUMNS = ("prompt", "text", "positive_prompt")
"""A1111's, its old one, and InvokeAI's."""

_NEGATIVE_COLUMN = "negative_prompt"
_LINES = ("---", "===", "___")
_SECTION = re.compile(r"(?:#|---|===|___)[-=_#* ]*(.*?)[-=_#* ]*")


@dataclass(frozen=True)
class Style:
    """A style with its place for the page's own text in it.

    Attributes:
        prompt: Holds `{prompt}`, or is empty where the style has none.
        negative_prompt: As `prompt`.
        section: What stands over it; empty where nothing does.
    """

    name: str
    prompt: str
    negative_prompt: str
    section: str = ""


@dataclass(frozen=True)
class Styles:
    """What a file of styles holds.

    Attributes:
        report: One sentence for each thing that was changed, dropped or not understood.
    """

    styles: tuple[Style, ...]
    report: tuple[str, ...]


def read_styles(data: bytes) -> Styles:
    """The styles of a `styles.csv`, in its order.

    Of two with one name the last counts, as in A1111.

    Raises:
        BrokenFileError: The file is too large, no CSV, or has not the columns of a `styles.csv`.
    """
    if len(data) > MAX_BYTES:
        raise BrokenFileError(f"The file of styles is larger than {MAX_BYTES // 1024**2} MiB.")
    text, encoding_report = _decoded(data)
    found: dict[str, Style] = {}
    empty: list[str] = []
    twice: list[str] = []
    tagged: list[str] = []
    section = ""
    for name, *texts in _rows(text):
        if not any(each.strip() for each in texts) and (title := _SECTION.fullmatch(name)):
            section = title[1][:MAX_SECTION].strip()
        if name.startswith(("#", *_LINES)):
            continue
        untagged = [take_tags(each).text.strip() for each in texts]
        if not name or not any(untagged):
            empty.append(name or "(no name)")
            continue
        if name in found:
            twice.append(name)
        if untagged != [each.strip() for each in texts]:
            tagged.append(name)
        prompt, negative_prompt = (_with_place(each) for each in untagged)
        found[name] = Style(name, prompt, negative_prompt, section)
    report = (
        ("Styles without a name or without text were left out", empty),
        ("Of styles with the same name the last was taken", twice),
        ("Tags such as <lora:...> were taken out of the text of styles", tagged),
        (f"Only the first {MAX_STYLES:,} styles were taken, not", list(found)[MAX_STYLES:]),
    )
    sentences = tuple(f"{sentence}: {listed(names)}." for sentence, names in report if names)
    return Styles(tuple(found.values())[:MAX_STYLES], (*encoding_report, *sentences))


def write_styles(styles: Iterable[Style]) -> bytes:
    """The `styles.csv` of these, which `read_styles` reads as the same.

    Sections come in the order of their first styles. A name must not begin with `#`.
    """
    by_section: dict[str, list[Style]] = {}
    for style in styles:
        by_section.setdefault(style.section, []).append(style)
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("name", _PROMPT_COLUMNS[0], _NEGATIVE_COLUMN))
    # What has no section would be in the one before.
    for section in sorted(by_section, key=bool):
        if section:
            rows.writerow((f"# {section}", "", ""))
        for style in by_section[section]:
            texts = map(_without_place, (style.prompt, style.negative_prompt))
            rows.writerow((style.name, *texts))
    return text.getvalue().encode("utf-8-sig")


def _decoded(data: bytes) -> tuple[str, tuple[str, ...]]:
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        notice = "The file is not UTF-8 and was read as Windows-1252: look at accented letters."
        return data.decode("cp1252", errors="replace"), (notice,)


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, prompt and negative prompt of each row that is not blank."""
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        header = [title.strip().casefold() for title in next(rows, list[str]())]
        prompt = next((title for title in _PROMPT_COLUMNS if title in header), None)
        if "name" not in header or prompt is None:
            raise BrokenFileError(
                "This is no file of styles: its first line must be name,prompt,negative_prompt."
            )
        for row in rows:
            cells = dict(zip(header, row, strict=False))
            if any(cell.strip() for cell in row):
                negative = cells.get(_NEGATIVE_COLUMN, "")
                yield cells.get("name", "").strip(), cells.get(prompt, ""), negative
    except csv.Error as error:
        raise BrokenFileError(f"The file of styles cannot be read: {error}.") from None


def _with_place(text: str) -> str:
    return f"{PLACE}, {text}" if text and PLACE not in text else text


def _without_place(text: str) -> str:
    """As A1111 writes a text that follows the page's own."""
    rest = text.removeprefix(f"{PLACE}, ")
    return rest if rest and rest == rest.lstrip() and PLACE not in rest else text

"""What lies beside a file of weights: notes, where it comes from, and a picture of what it makes.

Own facts are kept in `<name>.easel.json` (in a folder: `easel.json`). Read as well is what other
tools put there: A1111's `<name>.json`, the Civitai helpers' `<name>.civitai.info`, and pictures
`<name>.preview.png`, `<name>.png` and the like.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from webui.errors import BadRequestError, StorageError
from webui.library.files import write_atomically
from webui.library.headers import PICKLE_SUFFIXES, WEIGHT_SUFFIXES
from webui.library.sources import CIVITAI

MAX_NOTE = 4_000
"""Most characters of a note."""

_OWN = "easel.json"
_OWN_PICTURE = "easel.webp"
_MAX_BYTES = 1024**2
_MAX_TEXT = 300
_MAX_WORDS = 24
_PICTURES = tuple(
    f"{before}{ending}" for before in ("preview.", "") for ending in ("png", "jpg", "jpeg", "webp")
)


_NOTES = (_OWN, "civitai.info", "json")
_FILES = WEIGHT_SUFFIXES | PICKLE_SUFFIXES


@dataclass(frozen=True)
class Notes:
    """What is known of a file of weights from beside it.

    Attributes:
        note: The owner's words.
        licence: As it was told when it was downloaded.
        page: Where people read about it.
        words: Words it was trained to answer to.
        base: What it was made for or from, in its maker's words.
        title: Its maker's name for it.
        terms: As in `webui.library.findings.Found`.
    """

    note: str = ""
    licence: str | None = None
    page: str | None = None
    words: tuple[str, ...] = ()
    base: str | None = None
    title: str | None = None
    terms: tuple[str, ...] = ()


class Beside:
    """What lies beside many files, for one look around the shelves: each folder is listed once."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def notes(self, path: Path) -> Notes:
        """As `read_notes`."""
        return read_notes(path) if self._has(path, _NOTES) else Notes()

    def picture(self, path: Path) -> Path | None:
        """As `picture_of`."""
        return picture_of(path) if self._has(path, (_OWN_PICTURE, *_PICTURES)) else None

    def _has(self, path: Path, endings: tuple[str, ...]) -> bool:
        folder = os.path.dirname(path)
        names = self._names.get(folder)
        if names is None:
            names = self._names[folder] = _listed(folder)
        # Of a folder with a model it would have to be listed itself: there are few.
        if os.path.splitext(path.name)[1].casefold() not in _FILES:
            return True
        return any(f"{path.stem}.{ending}" in names for ending in endings)


def read_notes(path: Path) -> Notes:
    """The notes beside a file or in a folder; what is damaged or too long counts as missing."""
    others = _merged(_of_civitai(_read(path, "civitai.info")), _of_a1111(_read(path, "json")))
    return _merged(_own(_read(path, _OWN)), others)


def write_notes(path: Path, notes: Notes) -> None:
    """Keeps them beside the file.

    Raises:
        StorageError: They cannot be written there.
    """
    told = {key: value for key, value in asdict(notes).items() if value}
    write_atomically(_beside(path, _OWN), json.dumps(told, indent=2, ensure_ascii=False).encode())


def set_note(path: Path, note: str) -> Notes:
    """Replaces the owner's words.

    Raises:
        BadRequestError: They are too many.
        StorageError: They cannot be written there.
    """
    if len(note) > MAX_NOTE:
        raise BadRequestError(f"A note may have {MAX_NOTE:,} characters.", field="note")
    # Only what is our own is written again: other tools' words stay theirs.
    write_notes(path, replace(_own(_read(path, _OWN)), note=note.strip()))
    return read_notes(path)


def picture_of(path: Path) -> Path | None:
    """The picture that stands for it: the one chosen, else the one that lies beside it."""
    for ending in (_OWN_PICTURE, *_PICTURES):
        picture = _beside(path, ending)
        if picture.is_file() and not picture.is_symlink():
            return picture
    return None


def set_picture(path: Path, picture: bytes | None) -> None:
    """Chooses a picture, a WebP file; `None` goes back to the one that lies beside it.

    Raises:
        StorageError: It cannot be written there.
    """
    own = _beside(path, _OWN_PICTURE)
    if picture is not None:
        write_atomically(own, picture)
        return
    try:
        own.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{own.name} cannot be removed: {error.strerror}.") from None


def _listed(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _beside(path: Path, ending: str) -> Path:
    return path / ending if path.is_dir() else path.with_name(f"{path.stem}.{ending}")


def _read(path: Path, ending: str) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        with _beside(path, ending).open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        found: Any = json.loads(text) if len(text) <= _MAX_BYTES else None
        if isinstance(found, dict):
            return cast(dict[str, Any], found)
    return {}


def _own(said: dict[str, Any]) -> Notes:
    return Notes(
        note=_text(said.get("note"), MAX_NOTE) or "",
        licence=_text(said.get("licence")),
        page=_address(said.get("page")),
        words=_words(said.get("words")),
        base=_text(said.get("base")),
        title=_text(said.get("title")),
        terms=_words(said.get("terms")),
    )


def _of_civitai(said: dict[str, Any]) -> Notes:
    """The answer of Civitai's API, as the helpers keep it."""
    about = said.get("model")
    name = cast(dict[str, Any], about).get("name") if isinstance(about, dict) else None
    model, version = said.get("modelId"), said.get("id")
    page = None
    if isinstance(model, int) and isinstance(version, int):
        page = f"{CIVITAI}/models/{model}?modelVersionId={version}"
    return Notes(
        page=page,
        words=_words(said.get("trainedWords")),
        base=_text(said.get("baseModel")),
        title=_text(name),
    )


def _of_a1111(said: dict[str, Any]) -> Notes:
    activation = _text(said.get("activation text"))
    return Notes(
        note=_text(said.get("notes"), MAX_NOTE) or _text(said.get("description"), MAX_NOTE) or "",
        words=_words([part.strip() for part in activation.split(",")] if activation else None),
        base=_text(said.get("sd version")) if said.get("sd version") != "Unknown" else None,
    )


def _merged(first: Notes, second: Notes) -> Notes:
    """What the first says, and where it is silent what the second does."""
    if second == Notes():
        return first
    names = [field.name for field in fields(Notes)]
    return Notes(**{name: getattr(first, name) or getattr(second, name) for name in names})


def _text(value: object, most: int = _MAX_TEXT) -> str | None:
    return value[:most] if isinstance(value, str) and value.strip() else None


def _address(value: object) -> str | None:
    text = _text(value, 2_000)
    return text if text and text.startswith("https://") else None


def _words(value: object) -> tuple[str, ...]:
    words = cast(list[Any], value) if isinstance(value, list | tuple) else []
    return tuple(word for word in map(_text, words) if word)[:_MAX_WORDS]

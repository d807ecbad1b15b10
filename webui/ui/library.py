"""The shelves as the page shows them: what is there, where it is used, and what is said of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, cast

from webui.errors import NotFoundError, WebuiError
from webui.library.catalogue import Card
from webui.library.hashing import BackgroundHasher
from webui.library.headers import WEIGHT_SUFFIXES, Header, read_header
from webui.library.history import History
from webui.library.history_index import Use, UsedAs
from webui.library.history_query import HistoryQuery
from webui.library.kinds import Kind
from webui.library.notes import Notes, picture_of, read_notes, set_note, set_picture, write_notes
from webui.library.offers import Found
from webui.library.presets import PresetShelf
from webui.library.recognition import recognise
from webui.library.thumbnails import Thumbnails

MOST_PICTURES = 24
"""Shown of those that were made with something."""

_USED_AS: Mapping[str, UsedAs] = MappingProxyType(
    {"model": "model", "denoiser": "model", "lora": "lora", "controlnet": "controlnet"}
)


@dataclass(frozen=True)
class Uses:
    """Where names are used.

    Attributes:
        pictures: By what they are used as, then by name.
        presets: Names of presets, likewise.
    """

    pictures: Mapping[UsedAs, Mapping[str, Use]]
    presets: Mapping[tuple[UsedAs, str], tuple[str, ...]]

    def count(self, card: Card) -> int:
        """Pictures that were made with it."""
        return sum(use.count for use in self._found(card))

    def newest(self, card: Card) -> str | None:
        """Id of the newest of them."""
        return next((use.newest for use in self._found(card)), None)

    def presets_of(self, card: Card) -> tuple[str, ...]:
        """Presets that name it."""
        used_as = _USED_AS.get(card.kind)
        if used_as is None:
            return ()
        found = (self.presets.get((used_as, name), ()) for name in names_of(card))
        return tuple(dict.fromkeys(name for names in found for name in names))

    def _found(self, card: Card) -> list[Use]:
        used_as = _USED_AS.get(card.kind)
        if used_as is None:
            return []
        known = self.pictures[used_as]
        return [known[name] for name in names_of(card) if name in known]


class Library:
    """Everything on the shelves, by ids that tell no path.

    Args:
        cards: All there is now.
        thumbnails: Small copies of pictures that lie beside files.
        hasher: Computes hashes in the background, once somebody has looked at the shelves.
    """

    def __init__(
        self,
        cards: Callable[[], Sequence[Card]],
        history: History,
        presets: PresetShelf,
        thumbnails: Thumbnails,
        hasher: BackgroundHasher,
    ) -> None:
        self._cards = cards
        self._history = history
        self._presets = presets
        self._thumbnails = thumbnails
        self._hasher = hasher

    def close(self) -> None:
        """Ends what goes on in the background."""
        self._hasher.stop()

    def all(self) -> list[dict[str, Any]]:
        """A row for each card; their hashes are computed from now on."""
        self._hasher.start()
        uses = self._uses()
        return [self._row(card, uses) for card in self._cards()]

    def about(self, id: str) -> dict[str, Any]:
        """All there is to say of one.

        Raises:
            NotFoundError: It is not there any more.
        """
        card = self.card(id)
        uses = self._uses()
        notes = read_notes(card.path)
        said = _said(card)
        return self._row(card, uses) | {
            "path": str(card.path),
            "sha256": card.sha256,
            "auto_v3": card.auto_v3,
            "hashable": not card.path.is_dir(),
            "lacks": card.lacks,
            "licence": notes.licence or said.get("modelspec.license"),
            "page": notes.page,
            "base": notes.base or said.get("modelspec.architecture"),
            "words": notes.words,
            "title": notes.title or said.get("modelspec.title"),
            "note": notes.note,
            "own_picture": _has_own(card.path),
            "presets": uses.presets_of(card),
            "pictures": self._pictures(card),
        }

    def card(self, id: str) -> Card:
        """The card of that id.

        Raises:
            NotFoundError: It is not there any more.
        """
        for card in self._cards():
            if id_of(card.path) == id:
                return card
        raise NotFoundError("This file is not on the shelf any more.")

    def picture(self, id: str) -> bytes:
        """A small picture of what it makes, a WebP file.

        Raises:
            NotFoundError: There is none.
            BrokenFileError: It cannot be shown.
        """
        card = self.card(id)
        beside = picture_of(card.path)
        if beside is not None:
            stat = beside.stat()
            name = hashlib.sha256(f"{beside}|{stat.st_mtime_ns}|{stat.st_size}".encode())
            return self._thumbnails.get(name.hexdigest()[:32], beside)
        newest = self._uses().newest(card)
        if newest is None:
            raise NotFoundError("There is no picture of it.")
        return self._history.thumbnail(newest)

    def note(self, id: str, text: str) -> Notes:
        """Replaces the owner's note.

        Raises:
            NotFoundError: It is not there any more.
            StorageError: It cannot be kept beside the file.
        """
        return set_note(self.card(id).path, text)

    def choose_picture(self, id: str, picture: str | None) -> None:
        """Chooses a picture of the history to stand for it; `None` takes the choice back.

        Raises:
            NotFoundError: One of the two is not there any more.
            StorageError: It cannot be kept beside the file.
        """
        path = self.card(id).path
        set_picture(path, None if picture is None else self._history.thumbnail(picture))

    def _row(self, card: Card, uses: Uses) -> dict[str, Any]:
        beside = picture_of(card.path)
        newest = None if beside else uses.newest(card)
        return {
            "id": id_of(card.path),
            "name": card.name,
            "file": card.file,
            "kind": card.kind,
            "family": card.family,
            "size": card.size,
            "modified": card.modified,
            "precision": card.precision,
            "problem": card.problem,
            "auto_v2": card.auto_v2,
            "used": uses.count(card),
            # Another picture has another address, so that browsers may keep what they have.
            "picture": beside.stat().st_mtime_ns if beside else newest,
            "found_by": _words(card),
        }

    def _pictures(self, card: Card) -> list[str]:
        used_as = _USED_AS.get(card.kind)
        if used_as is None:
            return []
        found: dict[str, None] = {}
        for name in names_of(card):
            query = HistoryQuery(**cast(dict[str, Any], {used_as: name}))
            page = self._history.search(query, limit=MOST_PICTURES)
            found |= {picture.id: None for picture in page.pictures if not picture.broken}
        return [*found][:MOST_PICTURES]

    def _uses(self) -> Uses:
        kinds: tuple[UsedAs, ...] = ("model", "lora", "controlnet")
        presets: dict[tuple[UsedAs, str], tuple[str, ...]] = {}
        for preset in self._presets.listing().presets:
            for named in _named(preset.request):
                presets[named] = (*presets.get(named, ()), preset.name)
        return Uses({kind: self._history.uses(kind) for kind in kinds}, presets)


def id_of(path: Path) -> str:
    """What the page calls the thing at a path."""
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def names_of(card: Card) -> tuple[str, ...]:
    """What requests may call it."""
    stem = PurePosixPath(card.file)
    whole = stem.with_suffix("").as_posix() if stem.suffix in WEIGHT_SUFFIXES else card.file
    return tuple(dict.fromkeys((card.name, whole, PurePosixPath(whole).name)))


def _named(request: Mapping[str, Any]) -> Iterable[tuple[UsedAs, str]]:
    if isinstance(model := request.get("model"), str):
        yield "model", model
    for lora in request.get("loras") or ():
        yield "lora", str(lora["name"])
    for control in request.get("controls") or ():
        if isinstance(net := control.get("model"), str):
            yield "controlnet", net


def _said(card: Card) -> Mapping[str, str]:
    """The metadata of a single file; a broken one says nothing."""
    if card.problem or card.path.is_dir():
        return {}
    try:
        return read_header(card.path).metadata
    except WebuiError:
        return {}


def _words(card: Card) -> str:
    notes = read_notes(card.path)
    return "\n".join((notes.title or "", notes.base or "", notes.note, *notes.words))


def _has_own(path: Path) -> bool:
    picture = picture_of(path)
    return picture is not None and picture.name.endswith("easel.webp")


def kind_and_family(header: Header, file: str) -> tuple[Kind, str, str | None]:
    """Kind, family, and what is wrong, of a file that is to be downloaded."""
    said = recognise(header, file=file)
    if said.kind != "unknown":
        return said.kind, said.family, said.problem
    # Of what is not known here the owner may say what it is; a part of a whole is of no use.
    return "", "unknown", said.problem if "-of-" in file else None


def keep_origin(found: Found, path: Path) -> None:
    """Writes beside something that was downloaded where it comes from."""
    notes = Notes(
        licence=found.licence,
        page=found.page,
        words=found.words,
        base=found.base,
        title=found.title if found.title != found.name else None,
    )
    # What was fetched is whole without it.
    with suppress(WebuiError):
        write_notes(path, notes)

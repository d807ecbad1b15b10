"""The shelves as the page shows them: what is there, where it is used, and what is said of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from webui.errors import BadRequestError, NotFoundError, WebuiError
from webui.library.catalogue import Card
from webui.library.hashing import BackgroundHasher
from webui.library.headers import read_header
from webui.library.history import History
from webui.library.history_index import USES, Use, UsedAs
from webui.library.history_query import HistoryQuery
from webui.library.notes import (
    Beside,
    Notes,
    picture_of,
    read_notes,
    set_note,
    set_picture,
)
from webui.library.presets import PresetShelf
from webui.library.thumbnails import Thumbnails

_FIELDS: tuple[UsedAs, ...] = ("model", "refiner", "vae")
"""Fields of requests that name one file."""

_PROMPTS = ("prompt", "negative_prompt")

MOST_PICTURES = 24
"""Shown of those that were made with something."""

_USED_AS: Mapping[str, tuple[UsedAs, ...]] = MappingProxyType(
    {
        "model": ("model", "refiner"),
        "denoiser": ("model", "refiner"),
        "vae": ("vae",),
        "lora": ("lora",),
        "controlnet": ("controlnet",),
        "embedding": ("embedding",),
    }
)


@dataclass(frozen=True)
class Uses:
    """Where names are used.

    Attributes:
        pictures: By what they are used as, then by name.
        presets: Names of presets, likewise; without embeddings.
        prompts: Prompts of presets, with the preset's name.
    """

    pictures: Mapping[UsedAs, Mapping[str, Use]]
    presets: Mapping[tuple[UsedAs, str], tuple[str, ...]]
    prompts: Sequence[tuple[str, str]]

    def count(self, card: Card) -> int:
        """Pictures that were made with it."""
        return sum(use.count for use in self._found(card))

    def newest(self, card: Card) -> str | None:
        """Id of the newest of them."""
        found = max(self._found(card), key=lambda use: use.made, default=None)
        return None if found is None else found.newest

    def presets_of(self, card: Card) -> tuple[str, ...]:
        """Presets that name it."""
        found = [self.presets.get(named, ()) for named in _named_as(card)]
        if card.kind == "embedding":
            found.append(self._prompting(card))
        return tuple(dict.fromkeys(name for names in found for name in names))

    def _prompting(self, card: Card) -> tuple[str, ...]:
        """Presets with an embedding's name as a word of its own, in whatever case."""
        words = "|".join(map(re.escape, card.names))
        said = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)
        return tuple(preset for preset, prompt in self.prompts if said.search(prompt))

    def _found(self, card: Card) -> list[Use]:
        found = (self.pictures[used_as].get(name) for used_as, name in _named_as(card))
        return [use for use in found if use is not None]


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
        beside = Beside()
        return [self._row(card, uses, beside) for card in self._cards()]

    def about(self, id: str) -> dict[str, Any]:
        """All there is to say of one.

        Raises:
            NotFoundError: It is not there any more.
        """
        card = self.card(id)
        uses = self._uses()
        notes = read_notes(card.path)
        said = _said(card)
        return self._row(card, uses, Beside()) | {
            "path": str(card.path),
            "sha256": card.sha256,
            "auto_v3": card.auto_v3,
            "hashes_left": self._hasher.left,
            "lacks": card.lacks,
            "licence": notes.licence or said.get("modelspec.license"),
            "page": notes.page,
            "base": notes.base or said.get("modelspec.architecture"),
            "words": notes.words,
            "terms": notes.terms,
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
            BadRequestError: It lies where nothing is written.
            StorageError: It cannot be kept beside the file.
        """
        return set_note(self._own(id).path, text)

    def choose_picture(self, id: str, picture: str | None) -> None:
        """Chooses a picture of the history to stand for it; `None` takes the choice back.

        Raises:
            NotFoundError: One of the two is not there any more.
            BadRequestError: It lies where nothing is written.
            StorageError: It cannot be kept beside the file.
        """
        path = self._own(id).path
        set_picture(path, None if picture is None else self._history.thumbnail(picture))

    def _own(self, id: str) -> Card:
        """A card that things may be written beside."""
        card = self.card(id)
        if card.in_hub:
            raise BadRequestError(
                f"{card.name} lies in the Hugging Face cache, which other programs use too: nothing"
                " is written there."
            )
        return card

    def _row(self, card: Card, uses: Uses, beside: Beside) -> dict[str, Any]:
        picture = beside.picture(card.path)
        newest = None if picture else uses.newest(card)
        return {
            "id": id_of(card.path),
            "name": card.name,
            "names": card.names,
            "file": card.file,
            "in_hub": card.in_hub,
            "kind": card.kind,
            "family": card.family,
            "size": card.size,
            "modified": card.modified,
            "precision": card.precision,
            "problem": card.problem,
            "auto_v2": card.auto_v2,
            "used": uses.count(card),
            # Another picture has another address, so that browsers may keep what they have.
            "picture": picture.stat().st_mtime_ns if picture else newest,
            "found_by": _words(beside.notes(card.path)),
        }

    def _pictures(self, card: Card) -> list[str]:
        """Ids of pictures that were made with it, the newest first."""
        found: dict[str, str] = {}
        for used_as, name in _named_as(card):
            query = HistoryQuery(**cast(dict[str, Any], {used_as: name}))
            page = self._history.search(query, limit=MOST_PICTURES)
            found |= {picture.id: picture.made for picture in page.pictures if not picture.broken}
        return sorted(found, key=found.__getitem__, reverse=True)[:MOST_PICTURES]

    def _uses(self) -> Uses:
        presets: dict[tuple[UsedAs, str], tuple[str, ...]] = {}
        prompts: list[tuple[str, str]] = []
        for preset in self._presets.listing().presets:
            for named in _named(preset.request):
                presets[named] = (*presets.get(named, ()), preset.name)
            prompts += [(preset.name, str(preset.request.get(field, ""))) for field in _PROMPTS]
        return Uses({kind: self._history.uses(kind) for kind in USES}, presets, prompts)


def id_of(path: Path) -> str:
    """What the page calls the thing at a path."""
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _named_as(card: Card) -> list[tuple[UsedAs, str]]:
    """What it may be used as, with all names it has."""
    return [(used_as, name) for used_as in _USED_AS.get(card.kind, ()) for name in card.names]


def _named(request: Mapping[str, Any]) -> Iterable[tuple[UsedAs, str]]:
    for field in _FIELDS:
        if isinstance(name := request.get(field), str):
            yield field, name
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


def _words(notes: Notes) -> str:
    return "\n".join((notes.title or "", notes.base or "", notes.note, *notes.words))


def _has_own(path: Path) -> bool:
    picture = picture_of(path)
    return picture is not None and picture.name.endswith("easel.webp")

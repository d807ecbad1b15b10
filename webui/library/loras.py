"""The shelf of LoRAs: safetensors files and peft's folders, by name, by their headers alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from webui.errors import BrokenFileError, NotFoundError
from webui.library.alike import Alike
from webui.library.distilled import read_distilled
from webui.library.facts_cache import FactsCache, stamp_of
from webui.library.hashes import HashBook
from webui.library.headers import PICKLE_SUFFIXES, pickle_problem, read_header
from webui.library.lora_facts import BUILD_SAYS, LoraFacts, facts_of, read_build, read_facts
from webui.library.weight_files import Found, find_files, label_of, stem_of
from webui.request import nearest

CACHE = "loras.json"
"""What headers said, beside the book of hashes."""

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER = "adapter_model.safetensors"
_MAX_CONFIG_BYTES = 1024**2
_MOST_NAMED = 4


_RULES = "8"
"""Goes into every stamp: another number when more is read from headers."""


@dataclass(frozen=True)
class LoraCard:
    """A LoRA on the shelf.

    Attributes:
        name: What a request calls it: the file's stem (of a folder its name), with the folders
            before it where several have the same.
        file: Where it lies, counted from its shelf's folder.
        config: peft's configuration beside the file, where there is one.
        size: Bytes of the file.
    """

    name: str
    file: str
    path: Path
    config: Path | None
    size: int
    facts: LoraFacts

    @property
    def stem(self) -> str:
        """`file` without suffix; of a folder, the folder."""
        return label_of(self.file)


@dataclass(frozen=True)
class LoraHashes:
    """Digests of a LoRA in hex, as other tools name them.

    Attributes:
        sha256: Of the whole file; with peft's configuration, of both.
        auto_v2: First 10 digits of the file's SHA-256.
        auto_v3: First 12 digits of the SHA-256 of its tensors, which metadata do not change.
    """

    sha256: str
    auto_v2: str
    auto_v3: str


class LoraShelf:
    """Finds LoRAs under a few folders, subfolders too; the first folder to hold a path wins.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        self._folders = folders
        self._hashes = hashes
        self._cache = FactsCache(
            hashes.folder / CACHE, TypeAdapter(dict[str, tuple[str, LoraFacts]])
        )

    @property
    def folder(self) -> Path:
        """Where LoRAs are looked for first."""
        return self._folders[0]

    def cards(self) -> tuple[LoraCard, ...]:
        """All LoRAs by name; those that cannot be used too, with the reason in `facts.problem`.

        Only headers of files that are new or have changed are read.
        """
        found = find_files(self._folders)
        facts = self._cache.of([(one.path, _stamp(one)) for one in found], _Reader().read)
        times = Counter(one.short for one in found)
        cards = (
            LoraCard(
                name=one.short if times[one.short] == 1 else one.long,
                file=one.file,
                path=one.path,
                config=_config_of(one.path),
                size=one.size,
                facts=said,
            )
            for one, said in zip(found, facts, strict=True)
        )
        return tuple(sorted(cards, key=lambda card: card.name.casefold()))

    def find(self, name: str) -> LoraCard:
        """The LoRA of that name: its path without suffix, its file's stem or its alias.

        Raises:
            NotFoundError: There is none, or the name stands for several; names them.
            BrokenFileError: It cannot be used; says why.
        """
        cards = self.cards()
        card = self._named(name, cards)
        if card.facts.problem is not None:
            raise BrokenFileError(card.facts.problem, field="loras")
        return card

    def hashes(self, card: LoraCard) -> LoraHashes:
        """The LoRA's digests, computed when they are first asked for.

        Raises:
            BrokenFileError: The file cannot be read.
        """
        try:
            starts = (0, read_header(card.path).data_start)
            whole, tensors = self._hashes.digests(card.path, starts)
            sha256 = whole
            if card.config is not None:
                config = hashlib.sha256(card.config.read_bytes()).hexdigest()
                sha256 = hashlib.sha256(f"{whole} {config}".encode()).hexdigest()
        except OSError as error:
            raise BrokenFileError(
                f"{card.file} cannot be read: {error.strerror}.", field="loras"
            ) from None
        return LoraHashes(sha256, whole[:10], tensors[:12])

    def _named(self, name: str, cards: tuple[LoraCard, ...]) -> LoraCard:
        for known_as in (_paths_of, _stems_of, _aliases_of):
            fitting = [card for card in cards if name in known_as(card)]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                files = ", ".join(card.file for card in fitting[:_MOST_NAMED])
                more = f" and {len(fitting) - _MOST_NAMED} more"
                raise NotFoundError(
                    f"{name!r} stands for {len(fitting)} LoRAs, {files}"
                    f"{more if len(fitting) > _MOST_NAMED else ''}: choose one by its path.",
                    field="loras",
                )
        if not cards:
            raise NotFoundError(
                f"There is no LoRA in {self._folders[0]}: put {name!r} there or remove its row.",
                field="loras",
            )
        known = tuple(dict.fromkeys(card.name for card in cards))
        raise NotFoundError(f"Unknown LoRA {name!r}: {_nearest(name, known)}", field="loras")


def card_of(name: str, path: Path) -> LoraCard:
    """The card of a LoRA that lies on another shelf.

    Raises:
        BrokenFileError: It is damaged.
    """
    facts = read_facts(read_header(path), None, file=path.name)
    return LoraCard(name, path.name, path, None, path.stat().st_size, facts)


def read_adapter_config(path: Path) -> dict[str, Any]:
    """peft's `adapter_config.json`.

    Raises:
        BrokenFileError: It is damaged, or far too long.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG_BYTES + 1)
        data: Any = json.loads(text) if len(text) <= _MAX_CONFIG_BYTES else None
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BrokenFileError(
            f"{path.parent.name}/{path.name} is damaged: fetch it again.", field="loras"
        )
    return cast(dict[str, Any], data)


class _Reader:
    """Reads what LoRAs say of themselves, for one look around the shelf."""

    def __init__(self) -> None:
        self._alike = Alike(lambda header, _file: read_build(header), says=BUILD_SAYS)

    def read(self, path: Path) -> LoraFacts:
        """The facts of a file, whatever is wrong with it."""
        try:
            if path.suffix.casefold() in PICKLE_SUFFIXES:
                raise BrokenFileError(pickle_problem(path))
            config = _config_of(path)
            said = None if config is None else read_adapter_config(config)
            seen = self._alike.look(path)
        except BrokenFileError as error:
            return LoraFacts(problem=error.message)
        facts = replace(
            facts_of(seen.tensors, seen.metadata, said, file=path.name),
            distilled=read_distilled(seen.metadata, stem_of(path), is_lora=True),
        )
        if not seen.tensors.reads_a_hint:
            return facts
        return replace(
            facts,
            problem=f"{path.name} steers by a picture: put it into the folder controlnet of the"
            " models, and add it as a control instead.",
        )


def _config_of(path: Path) -> Path | None:
    config = path.with_name(ADAPTER_CONFIG)
    return config if path.name == _ADAPTER and config.is_file() else None


def _stamp(one: Found) -> str:
    config = _config_of(one.path)
    own = f"{_RULES}:{one.stamp}"
    return own if config is None else f"{own}:{stamp_of(config.stat())}"


def _paths_of(card: LoraCard) -> Iterable[str]:
    return (card.file, card.stem)


def _stems_of(card: LoraCard) -> Iterable[str]:
    return (Path(card.stem).name,)


def _aliases_of(card: LoraCard) -> Iterable[str]:
    return () if card.facts.alias is None else (card.facts.alias,)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    """As `webui.request.nearest`, but without a list of a thousand names."""
    said = nearest(name, known)
    return said if said.startswith("did") or len(known) <= _MOST_NAMED else "there is none like it."

"""Everything of which a user says "my models": all weight files of all kinds, each with a card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webui.library.architectures import ModelFamily
from webui.library.checkpoints import RESERVED, names_of
from webui.library.contents import digest_of
from webui.library.embeddings import FOLDER as EMBEDDINGS
from webui.library.hashes import HashBook
from webui.library.recognised_files import FileFacts, RecognisedFiles
from webui.library.recognition import Kind
from webui.library.weight_files import Found, find_weights, weights_in

_NOT_THE_USERS = ("guards", "annotators")
"""Folders of models that Easel works with and nobody chooses from."""

_AUTO_V2, _AUTO_V3 = 10, 12
"""Digits of the digests that other tools show."""


@dataclass(frozen=True)
class Card:
    """A file, or a folder in the diffusers layout, of whatever kind and state.

    Attributes:
        name: No other card has it.
        names: All that requests may call it, `name` first.
        file: Where it lies, counted from the folder it was found in.
        size: Bytes.
        modified: Time of the last change in seconds since 1970.
        precision: How most of its weights are stored: "fp16", "gguf Q4_K".
        problem: Why it cannot be used, in a sentence; None where nothing is wrong.
        lacks: Components, by diffusers' names, that a model needs and this file does not hold.
        sha256, auto_v2, auto_v3: Digests in hex, of the whole file (of a folder as
            `digest_of` has it) and its first 10 digits, and 12 digits of that of the tensors alone;
            None until they have been computed, the last two for folders too.
        data_start: Offset in bytes at which the tensors of a safetensors file begin; 0 for others.
        in_hub: Whether it lies in the hub's own cache, where nothing is written.
    """

    name: str
    names: tuple[str, ...]
    kind: Kind
    family: ModelFamily
    file: str
    path: Path
    size: int
    modified: float
    precision: str
    problem: str | None
    lacks: tuple[str, ...]
    sha256: str | None
    auto_v2: str | None
    auto_v3: str | None
    data_start: int
    in_hub: bool


class Catalogue:
    """Finds weight files under folders of models and of LoRAs; the first to hold a path wins.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(
        self,
        models: tuple[Path, ...],
        loras: tuple[Path, ...],
        hashes: HashBook,
        hub: Path | None = None,
    ) -> None:
        """`hub`: the hub's own cache, of which whole models alone have cards."""
        self._models = models
        self._loras = loras
        self._hub = hub
        self._hashes = hashes
        self._recognised = RecognisedFiles(hashes.folder)

    def cards(self) -> tuple[Card, ...]:
        """All files by name. Only headers of files that are new or have changed are read."""
        models = {one.file: one for one in reversed(list(self._find_models()))}
        loras = {one.file: one for one in reversed(list(self._find_loras()))}
        found = [*models.values(), *loras.values()]
        facts = self._recognised.of(found)
        named = zip(names_of(found), found, facts, strict=True)
        cards = [self._card(name, one, said) for name, one, said in named]
        taken = {card.name for card in cards}
        cards += [
            self._card(one.long, one, said, in_hub=True)
            for one, said in self._recognised.in_hub(self._hub)
            if one.long not in taken
        ]
        return tuple(sorted(cards, key=lambda card: card.name.casefold()))

    def _find_models(self) -> Iterator[Found]:
        for folder in self._models:
            yield from find_weights(folder, but=_NOT_THE_USERS)

    def _find_loras(self) -> Iterator[Found]:
        for folder in self._loras:
            yield from find_weights(folder)

    def _card(self, name: str, found: Found, facts: FileFacts, *, in_hub: bool = False) -> Card:
        said = facts.recognised
        sha256 = self._sha256(found)
        auto_v3 = self._known(found.path, facts.data_start) if facts.data_start else None
        return Card(
            name=name,
            names=_names(name, found),
            kind=_kind_of(said.kind, found),
            family=said.family,
            file=found.file,
            path=found.path,
            size=found.size,
            modified=found.modified,
            precision=said.precision,
            problem=said.problem,
            lacks=said.lacks,
            sha256=sha256,
            auto_v2=None if sha256 is None or found.is_folder else sha256[:_AUTO_V2],
            auto_v3=None if auto_v3 is None else auto_v3[:_AUTO_V3],
            data_start=facts.data_start,
            in_hub=in_hub,
        )

    def _sha256(self, found: Found) -> str | None:
        if not found.is_folder:
            return self._known(found.path)
        known = {file: self._known(file) for file in weights_in(found.path)}
        digests = {file: digest for file, digest in known.items() if digest is not None}
        return digest_of(digests, found.path) if known and digests.keys() == known.keys() else None

    def _known(self, path: Path, start: int = 0) -> str | None:
        try:
            return self._hashes.known(path, start=start)
        except OSError:
            # It went while the cards were written.
            return None


def _names(name: str, found: Found) -> tuple[str, ...]:
    """What its own shelf calls it, which may count from a folder in that of the models."""
    first, _, within = found.long.partition("/")
    inside = (within,) if first in RESERVED and within else ()
    return tuple(dict.fromkeys((name, found.file, found.long, *inside, found.short)))


def _kind_of(kind: Kind, found: Found) -> Kind:
    """What it is; of what cannot be read and lies among the embeddings, such as pickles, that."""
    among = found.file.startswith(f"{EMBEDDINGS}/")
    return "embedding" if kind == "unknown" and among else kind

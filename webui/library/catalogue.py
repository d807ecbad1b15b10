"""Everything of which a user says "my models": all weight files of all kinds, each with a card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webui.library.architectures import ModelFamily
from webui.library.checkpoints import names_of
from webui.library.components import Component
from webui.library.distilled import Distilled
from webui.library.hashes import HashBook
from webui.library.recognised_files import FileFacts, RecognisedFiles
from webui.library.recognition import Kind
from webui.library.weight_files import Found, find_weights

_NOT_THE_USERS = ("guards", "annotators")
"""Folders of models that Easel works with and nobody chooses from."""

_AUTO_V2, _AUTO_V3 = 10, 12
"""Digits of the digests that other tools show."""


@dataclass(frozen=True)
class Card:
    """A file, or a folder in the diffusers layout, of whatever kind and state.

    Attributes:
        name: No other card has it.
        file: Where it lies, counted from the folder it was found in.
        size: Bytes.
        modified: Time of the last change in seconds since 1970.
        precision: How most of its weights are stored: "fp16", "gguf Q4_K".
        problem: Why it cannot be used, in a sentence; None where nothing is wrong.
        config: Name of the shipped configuration that fits it.
        component: Which VAE or text encoder it is.
        lacks: Components, by diffusers' names, that a model needs and this file does not hold.
        sha256, auto_v2, auto_v3: Digests in hex, of the whole file and its first 10 digits, and
            12 digits of that of the tensors alone; None until they have been computed, and for
            folders.
        data_start: Offset in bytes at which the tensors of a safetensors file begin; 0 for others.
    """

    name: str
    kind: Kind
    family: ModelFamily
    file: str
    path: Path
    size: int
    modified: float
    precision: str
    problem: str | None
    config: str | None
    component: Component | None
    lacks: tuple[str, ...]
    distilled: Distilled | None
    sha256: str | None
    auto_v2: str | None
    auto_v3: str | None
    data_start: int


class Catalogue:
    """Finds weight files under folders of models and of LoRAs; the first to hold a path wins.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(self, models: tuple[Path, ...], loras: tuple[Path, ...], hashes: HashBook) -> None:
        self._models = models
        self._loras = loras
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
        return tuple(sorted(cards, key=lambda card: card.name.casefold()))

    def _find_models(self) -> Iterator[Found]:
        for folder in self._models:
            yield from find_weights(folder, but=_NOT_THE_USERS)

    def _find_loras(self) -> Iterator[Found]:
        for folder in self._loras:
            yield from find_weights(folder)

    def _card(self, name: str, found: Found, facts: FileFacts) -> Card:
        said = facts.recognised
        sha256 = None if found.is_folder else self._known(found, 0)
        auto_v3 = self._known(found, facts.data_start) if facts.data_start else None
        return Card(
            name=name,
            kind=said.kind,
            family=said.family,
            file=found.file,
            path=found.path,
            size=found.size,
            modified=found.modified,
            precision=said.precision,
            problem=said.problem,
            config=said.config,
            component=said.component,
            lacks=said.lacks,
            distilled=said.distilled,
            sha256=sha256,
            auto_v2=None if sha256 is None else sha256[:_AUTO_V2],
            auto_v3=None if auto_v3 is None else auto_v3[:_AUTO_V3],
            data_start=facts.data_start,
        )

    def _known(self, found: Found, start: int) -> str | None:
        try:
            return self._hashes.known(found.path, start=start)
        except OSError:
            # It went while the cards were written.
            return None

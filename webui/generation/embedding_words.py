"""Which words of a prompt are textual-inversion embeddings, for one model.

`<name>` is one where the shelf knows the name; a bare name, as a word of its own in whatever case,
is one where there is a file of that name for models of this family. Names are read in the text as
the attention grammar leaves it, so that weights, BREAK, schedules and AND hold for them too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from webui.generation.families import Family
from webui.generation.prompts import (
    Block,
    EmbeddedWord,
    ParsedPrompt,
    PromptField,
    Segment,
    Source,
    refusal,
)
from webui.generation.text_encoders import clip_widths
from webui.library.checkpoints import Model
from webui.library.embeddings import EmbeddingCard, EmbeddingShelf

RemarkKind = Literal["family", "encoders", "several", "broken", "unknown"]

_WORD = re.compile(
    r"<(?P<marked>[^<>:\s](?:[^<>:\n]{0,198}[^<>:\s])?)(?P<more>:[^<>\n]{0,40})?>|(?P<run>[\w-]+)"
)
_EDGE = re.compile(r"[\w-]")


@dataclass(frozen=True)
class Remark:
    """Why something that looks like an embedding is plain text.

    Attributes:
        kind: "family": made for another one; "encoders": for text encoders of other sizes;
            "several": it stands for more than one file; "broken": its file cannot be used;
            "unknown": nothing is called so that stands in pointed brackets.
        why: The families, files or sentence that the kind leaves open.
    """

    field: PromptField
    kind: RemarkKind
    name: str
    why: str

    @property
    def sentence(self) -> str:
        """The remark in English."""
        match self.kind:
            case "family":
                said = f"is an embedding for {self.why}"
            case "encoders":
                said = f"is an embedding for other text encoders than those of {self.why}"
            case "several":
                said = f"stands for several embeddings ({self.why})"
            case "broken":
                said = f"is an embedding that cannot be used ({self.why.rstrip('.')})"
            case "unknown":
                said = "names no embedding that is here"
        return f"{self.name!r} {said}: it is read as plain text."


class _Found(NamedTuple):
    """A place in a text that may be an embedding.

    Attributes:
        marked: Whether it is in pointed brackets.
        tagged: Whether something else follows in them, as in tags of LoRAs.
    """

    start: int
    end: int
    name: str
    cards: tuple[EmbeddingCard, ...]
    marked: bool
    tagged: bool = False


class EmbeddingReader:
    """Reads prompts for one model, and keeps what there is to remark on them."""

    def __init__(self, model: Model, family: Family, shelf: EmbeddingShelf) -> None:
        self._model = model
        self._family = family
        self._shelf = shelf
        self._remarks: dict[Remark, None] = {}
        self._embeddings: dict[tuple[PromptField, EmbeddedWord], None] = {}
        by_name: defaultdict[str, list[EmbeddingCard]] = defaultdict(list)
        by_word: defaultdict[str, list[EmbeddingCard]] = defaultdict(list)
        for card in shelf.cards():
            for name in card.names:
                by_name[name.lower()].append(card)
            if card.facts.word is not None:
                by_word[card.facts.word.lower()].append(card)
        self._by_name = {name: tuple(cards) for name, cards in by_name.items()}
        # What a file was trained for is often an ordinary word: it counts in pointed brackets only.
        self._marked = {name: tuple(cards) for name, cards in by_word.items()} | self._by_name
        self._bare = _by_first_word(self._by_name)
        self._widths = clip_widths(model) if self._by_name else ()

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """On all that has been read so far, once each."""
        return tuple(self._remarks)

    def embeddings_in(self, field: PromptField) -> tuple[EmbeddedWord, ...]:
        """What has been put into that field's prompts so far, once each."""
        return tuple(word for where, word in self._embeddings if where == field)

    def put(
        self, parsed: ParsedPrompt, source: Source, field: PromptField
    ) -> tuple[ParsedPrompt, Source]:
        """The prompt with embeddings in the place of their names.

        Raises:
            BadRequestError: `<name>` is one that does not fit the model or cannot be used; with
                its position.
        """
        blocks: list[Block] = []
        characters: list[tuple[tuple[int, ...], ...]] = []
        for block, spans in zip(parsed.blocks, source.characters, strict=True):
            pieces = [
                (piece, span[start : start + len(piece.text)])
                for segment, span in zip(block, spans, strict=True)
                for start, piece in self._pieces(segment, span, field)
            ]
            blocks.append(tuple(piece for piece, _ in pieces))
            characters.append(tuple(span for _, span in pieces))
        return ParsedPrompt(tuple(blocks)), Source(source.blocks, tuple(characters))

    def check_plain(self, text: str, field: PromptField) -> None:
        """Passes a text that a model reads as it stands, and remarks on the names in it.

        Raises:
            BadRequestError: `<name>` is an embedding.
        """
        for found in self._find(text):
            self._chosen(found, found.start, field)

    def _pieces(
        self, segment: Segment, places: Sequence[int], field: PromptField
    ) -> Iterator[tuple[int, Segment]]:
        """A segment parted at its embeddings, each piece with where in the segment it begins."""
        text, at = segment.text, 0
        for found in self._find(text):
            card = self._chosen(found, places[found.start], field)
            if card is None:
                continue
            if found.start > at:
                yield at, segment._replace(text=text[at : found.start])
            word = EmbeddedWord(
                card.name,
                self._shelf.sha256(card),
                card.facts.vectors,
                card.facts.word,
                card.path,
            )
            self._embeddings[field, word] = None
            written = text[found.start : found.end]
            yield found.start, segment._replace(text=written, embedding=word)
            at = found.end
        if at < len(text) or not text:
            yield at, segment._replace(text=text[at:])

    def _find(self, text: str) -> Iterator[_Found]:
        at = 0
        while (match := _WORD.search(text, at)) is not None:
            at = match.end()
            if match["run"] is not None:
                found = self._bare_at(text, match)
                if found is not None:
                    at = found.end
                    yield found
                continue
            name = match["marked"]
            cards = self._marked.get(name.lower(), ())
            tagged = match["more"] is not None
            if cards or not tagged:
                yield _Found(*match.span(), name, cards, marked=True, tagged=tagged)
            if not cards:
                at = match.start() + 1

    def _bare_at(self, text: str, match: re.Match[str]) -> _Found | None:
        """The longest name that begins with a word of the text."""
        start = match.start()
        for name in self._bare.get(match["run"].lower(), ()):
            end = start + len(name)
            ends = end == len(text) or not _EDGE.match(text, end)
            if ends and text[start:end].lower() == name:
                return _Found(start, end, text[start:end], self._by_name[name], marked=False)
        return None

    def _chosen(self, found: _Found, position: int, field: PromptField) -> EmbeddingCard | None:
        """The file it stands for; None where it is text, on which there is a remark then."""
        if found.tagged:
            reason = f"an embedding takes no weight in its brackets: write (<{found.name}>:1.2)"
            raise refusal(field, position, reason)
        usable = [card for card in found.cards if card.facts.problem is None]
        of_family = [card for card in usable if card.facts.family == self._family.loras]
        fitting = [card for card in of_family if self._fits(card)]
        if len(fitting) == 1:
            return fitting[0]
        kind, why = self._trouble(found, usable, of_family, fitting)
        if found.marked and found.cards:
            raise refusal(field, position, self._refused(found.name, kind, why, usable))
        self._remarks[Remark(field, kind, found.name, why)] = None
        return None

    def _fits(self, card: EmbeddingCard) -> bool:
        return bool(self._widths) and set(self._widths) <= set(card.facts.widths)

    def _trouble(
        self,
        found: _Found,
        usable: Sequence[EmbeddingCard],
        of_family: Sequence[EmbeddingCard],
        fitting: Sequence[EmbeddingCard],
    ) -> tuple[RemarkKind, str]:
        if not found.cards:
            return "unknown", ""
        if fitting:
            return "several", ", ".join(card.file for card in fitting)
        if of_family:
            return "encoders", self._model.name
        if usable:
            return "family", _families(usable)
        return "broken", found.cards[0].facts.problem or ""

    def _refused(
        self, name: str, kind: RemarkKind, why: str, usable: Sequence[EmbeddingCard]
    ) -> str:
        model = f"the model {self._model.name!r} is {self._family.name}"
        if kind == "broken":
            return f"<{name}> cannot be used: {why.rstrip('.')}"
        if kind == "several":
            return f"<{name}> stands for several embeddings: choose one by its path, of {why}"
        made = f"the embedding <{name}> is made for {_families(usable)}, and {model}"
        if not self._widths:
            return f"{made}, which reads prompts with other encoders than CLIP alone: take it out"
        if kind == "encoders":
            return f"{made} with text encoders of another size: take it out"
        return f"{made}: take it out, or choose another model"


def _families(cards: Sequence[EmbeddingCard]) -> str:
    return " and ".join(dict.fromkeys(card.facts.family for card in cards))


def _by_first_word(names: dict[str, tuple[EmbeddingCard, ...]]) -> dict[str, tuple[str, ...]]:
    """Names in lower case by the word they begin with, the longest first.

    Those that begin or end with another sign are embeddings in pointed brackets only.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=len, reverse=True):
        first = _WORD.match(name)
        if first is not None and first["run"] and _EDGE.match(name[-1]):
            found[first["run"]].append(name)
    return {first: tuple(those) for first, those in found.items()}

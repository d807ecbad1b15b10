"""The shelf of textual-inversion embeddings: files under `embeddings/`, by their headers alone.

A file is one or more vectors that stand in a prompt for words (Gal et al., arXiv 2208.01618). Read
are `emb_params` (A1111, ComfyUI, kohya), `clip_l` with `clip_g` (SDXL) and diffusers' files, whose
one tensor is called by the word it was trained for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from webui.errors import BrokenFileError
from webui.library.architectures import ModelFamily
from webui.library.facts_cache import FactsCache
from webui.library.hashes import HashBook
from webui.library.headers import PICKLE_SUFFIXES, Header, pickle_problem, read_header
from webui.library.parts import read_embedding
from webui.library.weight_files import find_files

FOLDER = "embeddings"
"""Name of the folder in each folder of models that embeddings lie in."""

CACHE = "embeddings.json"
"""What headers said, beside the book of hashes."""

MAX_VECTORS = 75
"""A chunk of a prompt has room for as many, and an embedding is never parted."""

_RULES = "1"
"""Goes into every stamp: another number when more is read from headers."""

_NO_WORDS = frozenset({"emb_params", "clip_l", "clip_g", "t5xxl", "*"})
"""Names of tensors that every file has, and so no word that one was trained for."""

_NUMBERS = frozenset({"F16", "BF16", "F32", "F64"})


@dataclass(frozen=True)
class EmbeddingFacts:
    """What a file says of its embedding.

    Attributes:
        vectors: How many tokens it takes in a prompt.
        widths: Of the text encoders that its vectors are for, in order.
        word: What it was trained for, where the file says it.
        problem: Why it cannot be used, in a sentence; `None` where nothing is wrong.
    """

    family: ModelFamily = "unknown"
    vectors: int = 0
    widths: tuple[int, ...] = ()
    word: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class EmbeddingCard:
    """An embedding on the shelf.

    Attributes:
        name: The file's stem, with the folders before it where several have the same.
        file: Where it lies, counted from its shelf's folder.
        size: Bytes of the file.
    """

    name: str
    file: str
    path: Path
    size: int
    facts: EmbeddingFacts

    @property
    def names(self) -> tuple[str, ...]:
        """What a prompt may call it: its path without suffix, and its stem."""
        whole = Path(self.file).with_suffix("")
        return tuple(dict.fromkeys((whole.as_posix(), whole.name)))


class EmbeddingShelf:
    """Finds embeddings under a few folders, subfolders too; the first folder to hold a path wins.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        """`folders` are those of the models."""
        self._folders = tuple(folder / FOLDER for folder in folders)
        self._hashes = hashes
        self._cache = FactsCache(
            hashes.folder / CACHE, TypeAdapter(dict[str, tuple[str, EmbeddingFacts]])
        )

    def cards(self) -> tuple[EmbeddingCard, ...]:
        """All embeddings by name; those that cannot be used too, with the reason.

        Only headers of files that are new or have changed are read.
        """
        found = find_files(self._folders)
        stamped = [(one.path, f"{_RULES}:{one.stamp}") for one in found]
        facts = self._cache.of(stamped, read_embedding_file)
        stems = [Path(one.file).stem for one in found]
        times = Counter(stem.casefold() for stem in stems)
        cards = (
            EmbeddingCard(
                name=stem
                if times[stem.casefold()] == 1
                else Path(one.file).with_suffix("").as_posix(),
                file=one.file,
                path=one.path,
                size=one.size,
                facts=said,
            )
            for one, stem, said in zip(found, stems, facts, strict=True)
        )
        return tuple(sorted(cards, key=lambda card: card.name.casefold()))

    def sha256(self, card: EmbeddingCard) -> str:
        """Hex digest of the file, computed when it is first asked for.

        Raises:
            BrokenFileError: The file cannot be read.
        """
        try:
            return self._hashes.sha256(card.path)
        except OSError as error:
            raise BrokenFileError(f"{card.file} cannot be read: {error.strerror}.") from None

    def known_hashes(self) -> tuple[tuple[str, str], ...]:
        """Name and SHA-256 of each that can be used; the files are small enough to be read."""
        usable = (card for card in self.cards() if card.facts.problem is None)
        return tuple((card.name, self.sha256(card)) for card in usable)


def read_embedding_file(path: Path) -> EmbeddingFacts:
    """What a file says of itself, whatever is wrong with it; of a pickle nothing is read."""
    try:
        if path.suffix.casefold() in PICKLE_SUFFIXES:
            raise BrokenFileError(pickle_problem(path))
        return read_embedding_facts(read_header(path), file=path.name)
    except BrokenFileError as error:
        return EmbeddingFacts(problem=error.message)


def read_embedding_facts(header: Header, *, file: str) -> EmbeddingFacts:
    """What a header says of an embedding.

    Raises:
        BrokenFileError: It holds none, or one of an odd shape; says which.
    """
    part = read_embedding(header)
    if part is None:
        raise BrokenFileError(
            f"{file} is no embedding that is known here: its vectors would be 768, 1024, or 768 and"
            " 1280 wide."
        )
    sizes = {1 if len(shape) == 1 else shape[0] for shape in header.shapes.values()}
    kinds = set(header.dtypes.values()) - _NUMBERS
    vectors = max(sizes)
    wrong = None
    if len(sizes) > 1:
        wrong = f"holds {' and '.join(map(str, sorted(sizes)))} vectors for its text encoders"
    elif not 1 <= vectors <= MAX_VECTORS:
        wrong = f"holds {vectors} vectors, and 1 to {MAX_VECTORS} fit into a prompt's chunk"
    elif kinds:
        wrong = f"is stored as {min(kinds)}, which is not read here"
    if wrong is not None:
        raise BrokenFileError(f"{file} {wrong}: take another version of it.")
    name = next(iter(header.shapes))
    return EmbeddingFacts(
        family=part.family,
        vectors=vectors,
        widths=tuple(sorted({shape[-1] for shape in header.shapes.values()})),
        word=None if len(header.shapes) > 1 or name in _NO_WORDS else name.strip("<>"),
    )

"""Headers of many files, of which those that are built alike are looked through once.

Trainers write the same tensors into file after file: what differs are the metadata, which the
safetensors library puts first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic_core import from_json

from webui.errors import BrokenFileError
from webui.library.headers import (
    GGUF_SUFFIX,
    Header,
    check_end,
    header_in,
    header_length,
    read_header,
)

T = TypeVar("T")

_METADATA = re.compile(rb'\s*\{\s*"__metadata__"\s*:\s*(\{(?:[^"{}]|"(?:[^"\\]+|\\.)*")*\})\s*,')
_MARK = b'"__metadata__"'


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What one file says.

    Attributes:
        tensors: What was found out about its tensors.
        data_start: Offset in bytes at which they begin; 0 of GGUF.
    """

    tensors: T
    metadata: Mapping[str, str]
    data_start: int


class Alike(Generic[T]):
    """Looks into many files; made for one look around the shelves, and then let go of.

    Args:
        find: What follows from a header and the file's path.
        holds: Whether that goes for all files with the same tensors and `says`, by any name.
        says: Keys of metadata that `find` looks at.
    """

    def __init__(
        self,
        find: Callable[[Header, Path], T],
        holds: Callable[[T], bool] = lambda _: True,
        says: tuple[str, ...] = (),
    ) -> None:
        self._find = find
        self._holds = holds
        self._says = says
        self._known: dict[tuple[object, ...], tuple[T, int]] = {}

    def look(self, path: Path) -> Seen[T]:
        """What a file says; it has been checked to be whole.

        Raises:
            BrokenFileError: As `webui.library.headers.read_header`.
        """
        if path.suffix.casefold() == GGUF_SUFFIX:
            header = read_header(path)
            return Seen(self._find(header, path), header.metadata, 0)
        size, text = _read(path)
        start = 8 + len(text)
        metadata, rest = _split(text)
        key = None if rest is None else (_digest(rest), *map(metadata.get, self._says))
        if key is not None and key in self._known:
            found, end = self._known[key]
            check_end(path.name, end, size - start)
            return Seen(found, metadata, start)
        header = header_in(text, size=size, file=path.name)
        found = self._find(header, path)
        if key is not None and self._holds(found):
            self._known[key] = found, header.data_end - start
        return Seen(found, header.metadata, start)


def _read(path: Path) -> tuple[int, bytes]:
    """A safetensors file's size in bytes, and its header's text."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = header_length(file.read(8), size=size, file=path.name)
            return size, file.read(length)
    except OSError as error:
        raise BrokenFileError(f"{path.name} cannot be read: {error.strerror}.") from None


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _split(text: bytes) -> tuple[Mapping[str, str], bytes | None]:
    """The metadata and what stands after them; `None` where they do not stand first and alone."""
    if _MARK not in text:
        return {}, text
    found = _METADATA.match(text)
    if found is None or text.find(_MARK, found.end()) >= 0:
        return {}, None
    try:
        metadata: Any = from_json(found[1])
    except ValueError:
        return {}, None
    texts = cast(dict[str, Any], metadata) if isinstance(metadata, dict) else {}
    if not {str}.issuperset(map(type, texts.values())):
        return {}, None
    return cast(dict[str, str], texts), text[found.end() :]

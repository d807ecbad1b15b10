"""A first look at a file out there: name, size, checksum, header; no weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx2

from webui.errors import BadRequestError, BrokenFileError
from webui.library.far_ends import host_of
from webui.library.fetch_errors import CutError, FetchError
from webui.library.filenames import PICKLES, sound_name
from webui.library.headers import Header, header_in, header_length, is_safetensors
from webui.library.kinds import Kind
from webui.library.outward import Answer, Outward, check_status

MAX_PROBED_BYTES = 24 * 1024**2
"""Longest header that is read from a server."""

MAX_FILE_BYTES = 1024**4
"""Largest file: no model is that large, and a server that says so lies."""

Classify = Callable[[Header, str], tuple[Kind, str]]
"""Kind and family of a file by its header and name; raises `BrokenFileError` with the reason why it
cannot be used."""

_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Probed:
    """What a file out there says of itself.

    Attributes:
        name: To be used for the file here.
        size: In bytes, as its own header has it.
        sha256: Where the server tells it.
    """

    name: str
    size: int
    sha256: str | None
    header: Header


def probe(outward: Outward, address: str) -> Probed:
    """Reads the begin of a file.

    Raises:
        BadRequestError: It is a pickle, or anything else that is no safetensors file.
        FetchError: The server does not give it, or contradicts itself.
        CutError: The server cannot be reached or breaks off.
    """
    asked = {"range": f"bytes=0-{MAX_PROBED_BYTES - 1}"}
    with outward.get(address, asked) as answer:
        check_status(answer, has_token=outward.has_token(host_of(address)))
        name = _name(answer, address)
        refuse_pickle(name, b"")
        size = whole_size(answer)
        pieces = answer.pieces()
        begin = _take(bytearray(), pieces, 8)
        refuse_pickle(name, bytes(begin))
        if not is_safetensors(name):
            raise BadRequestError(_other(answer, name))
        length = header_length(bytes(begin[:8]), size=size or MAX_FILE_BYTES, file=name)
        if length > MAX_PROBED_BYTES - 8:
            raise BrokenFileError(f"{name} has a header that is far too long.")
        text = bytes(_take(begin, pieces, 8 + length)[8 : 8 + length])
    header = header_in(text, size=None, file=name)
    if size is not None and header.data_end != size:
        raise FetchError(
            f"{host_of(address)} says that {name} has {size:,} bytes, and the file itself says"
            f" {header.data_end:,}: it is not whole there."
        )
    return Probed(name, header.data_end, told_sha256(answer), header)


def refuse_pickle(name: str, begin: bytes) -> None:
    """Refuses what can hold programs, by its name and by its first bytes.

    Raises:
        BadRequestError: It is a pickle, or an archive of one.
    """
    by_name = PurePosixPath(name).suffix.lower() in PICKLES
    # A safetensors file begins with the length of its header, whose upper half is zero.
    by_content = begin[:4] == b"PK\x03\x04" or (begin[:1] == b"\x80" and any(begin[4:8]))
    if by_name or by_content:
        raise BadRequestError(
            f"{name} is a pickle, which can hold programs and is not fetched: look for the same as"
            " safetensors."
        )


def whole_size(answer: Answer) -> int | None:
    """The whole file's size in bytes as the answer's headers tell it."""
    if answer.status == 206:
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        said = found[3] if found and found[1] == "0" else ""
    else:
        said = answer.headers.get("content-length", "")
    return int(said) if said.isdecimal() and int(said) <= MAX_FILE_BYTES else None


def range_of(headers: httpx2.Headers) -> tuple[int, int | None] | None:
    """Where a part of a file begins, and the whole file's size, in bytes."""
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None:
        return None
    return int(found[1]), int(found[3]) if found[3] != "*" else None


def told_sha256(answer: Answer) -> str | None:
    """The digest that the hub tells of a large file on the way to it."""
    for headers in (*answer.on_the_way, answer.headers):
        if found := _SHA256.fullmatch(headers.get("x-linked-etag", "")):
            return found[1]
    return None


def _name(answer: Answer, address: str) -> str:
    """By what the answer says, else by the address asked for, else by the one that answered."""
    said = _disposition_name(answer.headers.get("content-disposition", ""))
    if said:
        return sound_name(said)
    names = [unquote(PurePosixPath(urlsplit(one).path).name) for one in (address, answer.address)]
    return sound_name(next((name for name in names if "." in name), names[0] or "file"))


def _disposition_name(disposition: str) -> str | None:
    message = Message()
    message["content-disposition"] = disposition
    try:
        return message.get_filename()
    except (ValueError, LookupError, TypeError):
        return None


def _other(answer: Answer, name: str) -> str:
    if "html" in answer.headers.get("content-type", ""):
        return (
            f"{host_of(answer.address)} answers with a page instead of a file: paste the address"
            " of its download button, or set an access token."
        )
    return f"{name} is no safetensors file: nothing else is fetched."


def _take(body: bytearray, pieces: Iterator[bytes], size: int) -> bytearray:
    """Reads on until so many bytes are there."""
    while len(body) < size:
        piece = next(pieces, None)
        if piece is None:
            raise CutError("The server broke the connection off.")
        body += piece
    return body

"""Gets the recipe out of a picture's file: our own JSON, or the infotext of A1111 and its kin.

PNG, JPEG and WebP are read; text and header only, the pixels never. The order is that of trust: our
JSON holds everything, the infotext what A1111 has a word for.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

from webui.errors import BrokenFileError, NotFoundError
from webui.interchange.infotext import ReadInfotext, read_infotext
from webui.interchange.sparse import keep_valid
from webui.levels import NEVER_TAKEN
from webui.provenance.exif import MAKE, MAKER_NOTE, MODEL, USER_COMMENT, read_tags
from webui.provenance.heads import Head, jpeg_head, webp_head
from webui.provenance.pngtext import read_size, text_chunks
from webui.provenance.recipe import KEY, SCHEMA

Source = Literal["easel", "a1111"]

_PARAMETERS, _SCHEME = "parameters", "fooocus_scheme"
_READ = frozenset({_PARAMETERS, _SCHEME})

_SHA256 = re.compile(r"[0-9a-f]{64}")

_TOOLS = (
    ("ComfyUI", frozenset({"prompt", "workflow"})),
    ("InvokeAI", frozenset({"invokeai_metadata", "invokeai_graph", "sd-metadata", "Dream"})),
)
"""Keywords by which the pictures of tools are known whose recipes are not read."""


class OtherToolError(NotFoundError):
    """The picture carries the recipe of another tool, which is not read.

    Attributes:
        tool: Its name.
    """

    def __init__(self, tool: str) -> None:
        super().__init__(f"This picture was made by {tool}, whose recipes are not read yet.")
        self.tool = tool


@dataclass(frozen=True)
class Recovered:
    """A recipe that was in a picture.

    Attributes:
        source: Which text it was read from.
        request: Sparse request of JSON values; the model's name is the picture's own.
        report: One sentence for each thing that was changed, dropped or not understood.
        width: Of the picture, in pixels; `None` where a text came without one.
        height: As `width`.
        model_hash: Hex digits of the model's hash, 8 to 64, as far as the recipe tells them.
        embeddings: Names of the embeddings in its prompts, with such digits of each one's file.
    """

    source: Source
    request: dict[str, Any]
    report: tuple[str, ...]
    width: int | None
    height: int | None
    model_hash: str | None
    embeddings: tuple[tuple[str, str], ...] = ()


def recover(picture: bytes | BinaryIO) -> Recovered:
    """The recipe in a picture's file.

    Args:
        picture: The file's bytes, or a seekable file, of which little is read.

    Raises:
        NotFoundError: It carries no recipe, or only one of a tool that is named.
        BadRequestError: The infotext in it is too long.
        BrokenFileError: It is no PNG, JPEG or WebP file, or what it carries cannot be read.
    """
    file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    file.seek(0)
    start = file.read(12)
    if not start:
        raise BrokenFileError("The file is empty.")
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _from_png(file)
    if start.startswith(b"\xff\xd8\xff"):
        return _from_exif(jpeg_head(file))
    if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        return _from_exif(webp_head(file))
    raise BrokenFileError("The file is no picture of the kinds that are read: PNG, JPEG, WebP.")


def recover_text(text: str) -> Recovered:
    """The recipe in a pasted text.

    Raises:
        NotFoundError: It is a recipe of a tool that is named.
        BadRequestError: The text is empty or too long.
    """
    _refuse_other_tools(text, scheme="")
    read = read_infotext(text)
    return _of_infotext(read, None, None)


def _from_png(file: BinaryIO) -> Recovered:
    width, height = read_size(file)
    texts: dict[str, str] = {}
    troubles: list[str] = []
    try:
        for chunk in text_chunks(file):
            try:
                if chunk.keyword == KEY:
                    return _from_json(chunk.read(), width, height)
                if chunk.keyword not in texts:
                    texts[chunk.keyword] = chunk.read() if chunk.keyword in _READ else ""
            except BrokenFileError as error:
                troubles.append(error.message)
    except BrokenFileError as error:
        # What stands before the place where the file is broken is whole.
        troubles.append(error.message)
    if texts.get(_PARAMETERS, "").strip():
        _refuse_other_tools(texts[_PARAMETERS], texts.get(_SCHEME, ""))
        read = read_infotext(texts[_PARAMETERS])
        return _of_infotext(read, width, height, troubles)
    if troubles:
        raise BrokenFileError(troubles[0])
    for tool, keywords in _TOOLS:
        if keywords & texts.keys():
            raise OtherToolError(tool)
    raise _no_recipe()


def _from_exif(head: Head) -> Recovered:
    tags = read_tags(head.exif) if head.exif else {}
    comment = tags.get(USER_COMMENT, "")
    _refuse_other_tools(comment, tags.get(MAKER_NOTE, ""))
    if tags.get(MODEL, "").startswith("prompt:") or tags.get(MAKE, "").startswith("workflow:"):
        raise OtherToolError("ComfyUI")
    if not comment.strip():
        raise _no_recipe()
    read = read_infotext(comment)
    if not read.has_fields:
        # Cameras write comments of their own there.
        raise _no_recipe()
    return _of_infotext(read, head.width, head.height)


def _of_infotext(
    read: ReadInfotext, width: int | None, height: int | None, troubles: Sequence[str] = ()
) -> Recovered:
    report = (*troubles, *read.report)
    return Recovered("a1111", read.request, report, width, height, read.model_hash, read.embeddings)


def _from_json(text: str, width: int, height: int) -> Recovered:
    """The recipe that `webui.provenance.recipe` has written, or a later schema's."""
    try:
        recipe: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenFileError("The picture's recipe is damaged: it is not valid JSON.") from None
    request = _object_in(recipe, "request")
    if request is None:
        raise BrokenFileError("The picture's recipe is damaged: it holds no request.")
    report: list[str] = []
    if recipe.get("schema", SCHEMA) != SCHEMA:
        report.append("The recipe is of another version of Easel: what is known here was taken.")
    if "level" in recipe and "level" not in request:
        report.append(NEVER_TAKEN)
    kept, refused = keep_valid(request)
    sha256 = str((_object_in(recipe, "model") or {}).get("sha256"))
    model_hash = sha256 if _SHA256.fullmatch(sha256) else None
    said = (*report, *refused)
    return Recovered("easel", kept, said, width, height, model_hash, _embeddings_in(recipe))


def _embeddings_in(recipe: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Name and SHA-256 of each embedding; what is none is left out."""
    listed: Any = recipe.get("embeddings")
    found: list[tuple[str, str]] = []
    for one in cast(list[Any], listed) if isinstance(listed, list) else []:
        match one:
            case {"name": str(name), "sha256": str(digits)} if _SHA256.fullmatch(digits):
                found.append((name, digits))
            case _:
                continue
    return tuple(found)


def _object_in(value: object, key: str) -> Mapping[str, Any] | None:
    if not isinstance(value, dict):
        return None
    inner = cast(dict[str, Any], value).get(key)
    return cast(dict[str, Any], inner) if isinstance(inner, dict) else None


def _refuse_other_tools(text: str, scheme: str) -> None:
    """Passes infotext; Swarm and Fooocus put JSON of their own in the same place."""
    if not text.lstrip().startswith("{"):
        return
    if '"sui_image_params"' in text:
        raise OtherToolError("SwarmUI")
    if scheme == "fooocus" or '"metadata_scheme"' in text:
        raise OtherToolError("Fooocus")


def _no_recipe() -> NotFoundError:
    return NotFoundError("This picture carries no recipe.")

"""Pictures named by a path, as on the command line, taken onto the shelf of those brought in."""

from __future__ import annotations

import re
from pathlib import Path

from webui.errors import BadRequestError, WebuiError
from webui.library.uploads import MAX_FILE_BYTES, Kind, Uploads
from webui.request import GenerationRequest, parse_request

_ID = re.compile(r"[0-9a-f]{64}")


def with_pictures_taken(request: GenerationRequest, uploads: Uploads) -> GenerationRequest:
    """The request with the id of what was taken in place of each path; ids stay.

    Raises:
        BadRequestError: A file cannot be read or is no picture; with its field and the path.
    """

    def taken(field: str, name: str, kind: Kind = "picture") -> str:
        return name if _ID.fullmatch(name) else _take(Path(name), uploads, field, kind)

    changes: dict[str, object] = {}
    if request.init is not None:
        changes["init"] = taken("init", request.init)
    if request.mask is not None:
        changes["mask"] = taken("mask", request.mask, "mask")
    if any(control.picture for control in request.controls):
        changes["controls"] = [
            control.model_dump(exclude_unset=True)
            | ({"picture": taken("controls", control.picture)} if control.picture else {})
            for control in request.controls
        ]
    if not changes:
        return request
    return parse_request(request.model_dump(exclude_unset=True) | changes)


def _take(path: Path, uploads: Uploads, field: str, kind: Kind) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadRequestError(f"{path} cannot be read: {error.strerror}.", field=field) from None
    except ValueError:
        raise BadRequestError("A picture's path holds a null character.", field=field) from None
    try:
        return uploads.take(data, kind=kind).id
    except WebuiError as error:
        raise type(error)(f"{path}: {error.message}", field=field) from None

"""Names for files that somebody else has named."""

from __future__ import annotations

import re
import unicodedata

from webui.errors import BadRequestError
from webui.library.headers import PICKLE_SUFFIXES

PICKLES = PICKLE_SUFFIXES | {".pkl", ".pickle"}
"""Endings of files that can hold programs."""

MAX_NAME_BYTES = 180
"""Leaves room for the endings of what lies beside a file."""

_NEVER = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def sound_name(said: str) -> str:
    """A name that every file system takes, and that leads nowhere.

    Raises:
        BadRequestError: Nothing is left of it.
    """
    name = unicodedata.normalize("NFC", said).replace("\\", "/").rpartition("/")[2]
    # What is not printed (direction marks among it) makes names look like others.
    shown = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    name = _NEVER.sub("_", shown).strip().lstrip(".").rstrip(". ")
    if _DEVICES.fullmatch(name):
        name = f"_{name}"
    stem, dot, ending = name.rpartition(".")
    if not (stem or ending):
        raise BadRequestError("The server gives this file no name that can be used.")
    while len(name.encode()) > MAX_NAME_BYTES:
        if len(ending.encode()) > MAX_NAME_BYTES // 2 or not stem:
            stem, dot, ending = name[: MAX_NAME_BYTES // 4], "", ""
        else:
            stem = stem[:-1]
        name = f"{stem}{dot}{ending}"
    return name

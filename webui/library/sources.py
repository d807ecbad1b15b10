"""What people paste to have a model fetched: a repository's name, or an address.

Addresses as huggingface.co and civitai.com have them, 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from webui.errors import BadRequestError

HUB = "https://huggingface.co"
CIVITAI = "https://civitai.com"

MAX_PASTED = 2_000
"""Most characters of a source."""

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPO = re.compile(rf"({_PART}/{_PART})(?:/(.+))?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_CIVITAI_HOSTS = frozenset({"civitai.com", "www.civitai.com"})
_PAGES = frozenset({"blob", "resolve", "tree", "raw"})
_NO_MODELS = frozenset({"datasets", "spaces", "docs", "papers", "collections", "api"})


@dataclass(frozen=True)
class HubSource:
    """A repository on the hub, or one file or folder of it.

    Attributes:
        repo: As "owner/name".
        file: Path in the repository, of a folder as well; empty for whatever it offers.
    """

    repo: str
    file: str = ""
    revision: str = "main"


@dataclass(frozen=True)
class CivitaiSource:
    """A model on Civitai: one version of it by number, or its newest by the model's.

    Attributes:
        query: By which one of a version's files is asked for, as its download button has it.
    """

    version: int | None
    model: int | None
    query: str = ""


@dataclass(frozen=True)
class AddressSource:
    """A file at a plain address."""

    address: str


Source = HubSource | CivitaiSource | AddressSource


def source_of(pasted: str) -> Source:
    """What is meant.

    Raises:
        BadRequestError: It is neither an address nor a repository's name.
    """
    text = pasted.strip().strip("<>\"'")
    if not text or len(text) > MAX_PASTED:
        raise BadRequestError("Paste the address of a model, or the name of a repository.")
    if "://" not in text:
        host = text.partition("/")[0].lower()
        if host in _HUB_HOSTS | _CIVITAI_HOSTS:
            return _of_address(f"https://{text}")
        if found := _REPO.fullmatch(text):
            steps = [step for step in text.split("/") if step]
            is_page = len(steps) > 3 and steps[2] in _PAGES
            return _of_hub(steps) if is_page else HubSource(found[1], _path(found[2] or ""))
        raise BadRequestError(
            f"{text[:80]!r} is neither an address (https://...) nor the name of a repository"
            " (owner/name)."
        )
    return _of_address(text)


def _of_address(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
        secret = parts.username is not None
    except ValueError:
        host, secret, parts = "", False, urlsplit("")
    if not host or secret:
        raise BadRequestError("This is no address that a file can be fetched from.")
    steps = [unquote(step) for step in parts.path.split("/") if step]
    if host in _HUB_HOSTS:
        return _of_hub(steps)
    if host in _CIVITAI_HOSTS:
        found = _of_civitai(steps, parts.query)
        if found is not None:
            return found
    return AddressSource(parts._replace(fragment="").geturl())


def _of_hub(steps: list[str]) -> HubSource:
    found = _REPO.fullmatch("/".join(steps[:2]))
    if found is None or steps[0] in _NO_MODELS:
        raise BadRequestError("This is not the page of a model: open the model's and copy that.")
    if len(steps) < 4 or steps[2] not in _PAGES:
        return HubSource(found[1])
    if not _REVISION.fullmatch(steps[3]):
        raise BadRequestError(f"{steps[3][:80]!r} is no revision of a repository.")
    return HubSource(found[1], _path("/".join(steps[4:])), steps[3])


def _of_civitai(steps: list[str], query: str) -> CivitaiSource | None:
    match steps:
        case ["models", model, *_] if model.isdecimal():
            version = parse_qs(query).get("modelVersionId", [""])[0]
            return CivitaiSource(int(version) if version.isdecimal() else None, int(model))
        case ["api", "download", "models", version] if version.isdecimal():
            return CivitaiSource(int(version), None, query)
        case _:
            return None


def _path(file: str) -> str:
    file = file.removesuffix("/")
    steps = file.split("/")
    if any(step in ("", ".", "..") for step in steps) and file:
        raise BadRequestError(f"{file[:80]!r} is no path in a repository.")
    return file


def hub_file(hub: str, repo: str, revision: str, file: str) -> str:
    """The address a repository's file is fetched from.

    Args:
        hub: The hub's own, such as `HUB`.
    """
    return f"{hub}/{repo}/resolve/{quote(revision, safe='')}/{quote(file)}"

"""What can be fetched from where somebody points to: looked at before anything is kept.

The hub's answers: https://huggingface.co/docs/hub/api; Civitai's:
https://developer.civitai.com/docs/api/public-rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import quote

from webui.errors import BadRequestError, BrokenFileError, NotFoundError
from webui.library.filenames import PICKLES, sound_name
from webui.library.kinds import Kind
from webui.library.outward import FetchError, Outward
from webui.library.probing import Classify, probe
from webui.library.repositories import folder_files, names_of_parts
from webui.library.sources import (
    CIVITAI,
    HUB,
    AddressSource,
    CivitaiSource,
    HubSource,
    hub_file,
    source_of,
)

INDEX = "model_index.json"
CONFIG = "config.json"
_FOLDERS = (INDEX, CONFIG)
"""A repository's file by which the folder around it is meant."""

_MOST_CHOICES = 60
_MOST_WORDS = 24
_MAX_TEXT = 200
_CIVITAI_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "checkpoint": "model",
        "lora": "lora",
        "locon": "lora",
        "dora": "lora",
        "textualinversion": "embedding",
        "vae": "vae",
        "controlnet": "controlnet",
        "upscaler": "upscaler",
    }
)


@dataclass(frozen=True)
class RemoteFile:
    """A file to be fetched.

    Attributes:
        path: Where it goes, below the folder; of a single file its name.
        size: In bytes.
        sha256: Hex digest, where the server tells one.
    """

    address: str
    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Found:
    """One thing that can be fetched.

    Attributes:
        name: Of the file, or of the folder, that it becomes.
        is_folder: Whether `files` make a folder together.
        family: As in `webui.library.lora_facts.LoraFamily`.
        licence: In the words of who published it; `None` when they do not say.
        page: Where people read about it.
        words: Words it was trained to answer to.
        base: What it was made for or from, in its maker's words.
    """

    title: str
    name: str
    kind: Kind
    files: tuple[RemoteFile, ...]
    is_folder: bool = False
    family: str = "unknown"
    licence: str | None = None
    page: str | None = None
    words: tuple[str, ...] = ()
    base: str | None = None

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Choice:
    """One of several things that lie at the same place; `source` is what leads to it alone."""

    source: str
    name: str
    size: int


@dataclass(frozen=True)
class Choices:
    """A place with more than one thing to fetch."""

    title: str
    licence: str | None
    page: str
    rows: tuple[Choice, ...]


class Offers:
    """Looks at what lies behind a repository's name or an address.

    Args:
        classify: Kind and family of a file by its header.
        hub: The hub's address, and `civitai` the other's; tests have their own.
    """

    def __init__(
        self, outward: Outward, classify: Classify, *, hub: str = HUB, civitai: str = CIVITAI
    ) -> None:
        self._outward = outward
        self._classify = classify
        self._hub = hub
        self._civitai = civitai

    def look(self, pasted: str) -> Found | Choices:
        """What there is to fetch.

        Raises:
            BadRequestError: It is no source, or holds nothing that is fetched.
            FetchError: The server's answer is not what was asked for.
        """
        match source_of(pasted):
            case HubSource() as source:
                return self._hub_repo(source)
            case CivitaiSource() as source:
                return self._civitai_version(source)
            case AddressSource(address):
                return self._file(address, page=None)

    def _hub_repo(self, source: HubSource) -> Found | Choices:
        revision = quote(source.revision, safe="")
        about = self._outward.json(
            f"{self._hub}/api/models/{source.repo}/revision/{revision}?blobs=true"
        )
        # What is fetched are the files as they are now, also when the branch moves on meanwhile.
        pinned = replace(source, revision=_text(about.get("sha")) or source.revision)
        licence = _hub_licence(about)
        page = f"{self._hub}/{source.repo}"
        files = _siblings(about)
        if not source.file:
            rows = _rows(source, files)
            only = next(iter(rows), None)
            if only is None:
                raise NotFoundError(_nothing_in(source.repo, files))
            if len(rows) > 1:
                return Choices(source.repo, licence, page, rows)
            source = cast(HubSource, source_of(only.source))
            pinned = replace(pinned, file=source.file)
        if pinned.file in _FOLDERS:
            return self._hub_folder(pinned, files, licence, page)
        if pinned.file not in files:
            raise NotFoundError(f"There is no {pinned.file!r} in {source.repo}.")
        _refuse_by_name(pinned.file)
        size, sha256 = files[pinned.file]
        found = self._file(self._address(pinned, pinned.file), page=page, sha256=sha256)
        if found.size != size:
            raise FetchError(f"{source.repo} gives two different sizes for {pinned.file}.")
        name = sound_name(_telling_name(source.repo, pinned.file))
        return replace(
            found,
            title=source.repo,
            name=name,
            files=(replace(found.files[0], path=name),),
            licence=found.licence or licence,
            base=_hub_base(about),
        )

    def _hub_folder(
        self,
        source: HubSource,
        files: Mapping[str, tuple[int, str | None]],
        licence: str | None,
        page: str,
    ) -> Found:
        if source.file not in files:
            raise NotFoundError(f"There is no {source.file!r} in {source.repo}.")
        index = self._outward.json(self._address(source, source.file))
        is_model = source.file == INDEX
        if not is_model and "controlnet" not in str(index.get("_class_name")).lower():
            raise BadRequestError(
                f"{source.repo} is one part of a model, not a whole one: choose a file of it."
            )
        parts = names_of_parts(index) if is_model else ("",)
        wanted = folder_files(source.repo, files, parts)
        remote = tuple(
            RemoteFile(self._address(source, file), path, files[file][0], files[file][1])
            for file, path in wanted.items()
        )
        name = sound_name(source.repo.partition("/")[2])
        kind: Kind = "model" if is_model else "controlnet"
        return Found(source.repo, name, kind, remote, is_folder=True, licence=licence, page=page)

    def _civitai_version(self, source: CivitaiSource) -> Found:
        version = source.version
        if version is None:
            about = self._outward.json(f"{self._civitai}/api/v1/models/{source.model}")
            versions = _list(about.get("modelVersions"))
            version = next((_number(one.get("id")) for one in versions), None)
            if version is None:
                raise NotFoundError("This model has no version that can be fetched.")
        about = self._outward.json(f"{self._civitai}/api/v1/model-versions/{version}")
        file = _safe_file(about)
        model = _object(about.get("model"))
        address = _text(file.get("downloadUrl"))
        if address is None:
            raise FetchError("Civitai names no address for this file.")
        sha256 = _text(_object(file.get("hashes")).get("SHA256"))
        page = f"{self._civitai}/models/{_number(about.get('modelId'))}?modelVersionId={version}"
        found = self._file(address, page=page, sha256=sha256 and sha256.lower())
        name = sound_name(_text(file.get("name")) or found.name)
        words = (word for word in cast(list[Any], about.get("trainedWords") or []))
        title = " · ".join(filter(None, (_text(model.get("name")), _text(about.get("name")))))
        kind = found.kind or _CIVITAI_KINDS.get(str(model.get("type")).lower(), "")
        return replace(
            found,
            title=title or name,
            name=name,
            kind=kind,
            files=(replace(found.files[0], path=name),),
            words=tuple(filter(None, map(_text, words)))[:_MOST_WORDS],
            base=_text(about.get("baseModel")),
        )

    def _file(self, address: str, *, page: str | None, sha256: str | None = None) -> Found:
        """A single file of weights, its header looked at."""
        seen = probe(self._outward, address)
        if sha256 and seen.sha256 and sha256 != seen.sha256:
            raise FetchError(f"The server gives two different checksums for {seen.name}.")
        kind, family, problem = self._classify(seen.header, seen.name)
        if problem:
            raise BrokenFileError(problem)
        said = seen.header.metadata
        return Found(
            title=_text(said.get("modelspec.title")) or seen.name,
            name=seen.name,
            kind=kind,
            files=(RemoteFile(address, seen.name, seen.size, sha256 or seen.sha256),),
            family=family,
            licence=_text(said.get("modelspec.license")),
            page=page,
        )

    def _address(self, source: HubSource, file: str) -> str:
        return hub_file(self._hub, source.repo, source.revision, file)


def _siblings(about: Mapping[str, Any]) -> dict[str, tuple[int, str | None]]:
    """Size and SHA-256 of a repository's files, by their paths."""
    files: dict[str, tuple[int, str | None]] = {}
    for one in _list(about.get("siblings")):
        path, size = one.get("rfilename"), _number(one.get("size"))
        steps = path.split("/") if isinstance(path, str) else [""]
        if isinstance(path, str) and size is not None and not {"", ".", ".."} & {*steps}:
            files[path] = (size, _text(_object(one.get("lfs")).get("sha256")))
    return files


def _rows(source: HubSource, files: Mapping[str, tuple[int, str | None]]) -> tuple[Choice, ...]:
    """What there is in a repository: the folder as a whole first, then single files."""
    rows: list[Choice] = []
    index = next((name for name in _FOLDERS if name in files), None)
    if index == CONFIG and "diffusion_pytorch_model.safetensors" not in files:
        index = None
    if index is not None:
        rows.append(Choice(f"{source.repo}/{index}", "", 0))
    for path, (size, _) in sorted(files.items()):
        parent = PurePosixPath(path).parent.as_posix()
        # The parts of a folder in the diffusers layout are of no use alone.
        is_part = index is not None and (parent != "." or "diffusion_pytorch_model" in path)
        if path.endswith(".safetensors") and not is_part and "-of-" not in path:
            rows.append(Choice(f"{source.repo}/{path}", path, size))
    at = "" if source.revision == "main" else source.revision
    if at:
        rows = [
            replace(row, source=_at_revision(source, row.source.removeprefix(f"{source.repo}/")))
            for row in rows
        ]
    return tuple(rows[:_MOST_CHOICES])


def _at_revision(source: HubSource, file: str) -> str:
    return f"{HUB}/{source.repo}/blob/{quote(source.revision, safe='')}/{quote(file)}"


def _nothing_in(repo: str, files: Mapping[str, object]) -> str:
    if any(PurePosixPath(file).suffix.lower() in PICKLES for file in files):
        return (
            f"{repo} holds its weights as pickles alone, which can hold programs and are not"
            " fetched: look for one with safetensors."
        )
    return f"{repo} holds no safetensors weights: it is no model that can be used here."


def _refuse_by_name(file: str) -> None:
    if not file.lower().endswith(".safetensors"):
        raise BadRequestError(
            f"{PurePosixPath(file).name} is no safetensors file: nothing else is fetched, since"
            " other formats can hold programs."
        )


def _telling_name(repo: str, file: str) -> str:
    """A file's name; the repository's where the file's says nothing."""
    name = PurePosixPath(file).name
    silent = ("diffusion_pytorch_model", "model", "pytorch_lora_weights", "adapter_model")
    if name.partition(".")[0] in silent:
        return f"{repo.partition('/')[2]}.safetensors"
    return name


def _hub_licence(about: Mapping[str, Any]) -> str | None:
    card = _object(about.get("cardData"))
    licence = card.get("license")
    if isinstance(licence, list):
        licence = ", ".join(str(one) for one in cast(list[Any], licence))
    named = _text(card.get("license_name"))
    return named if named and licence in (None, "other") else _text(licence)


def _hub_base(about: Mapping[str, Any]) -> str | None:
    base = _object(about.get("cardData")).get("base_model")
    if isinstance(base, list):
        base = next(iter(cast(list[Any], base)), None)
    return _text(base)


def _safe_file(version: Mapping[str, Any]) -> dict[str, Any]:
    """The version's main file among those that are safetensors.

    Raises:
        NotFoundError: There is none.
    """
    files = _list(version.get("files"))
    safe = [file for file in files if str(file.get("name")).lower().endswith(".safetensors")]
    if not safe:
        raise NotFoundError(
            "This version is there as a pickle alone, which can hold programs and is not fetched:"
            " look for one with safetensors."
        )
    return next((file for file in safe if file.get("primary") is True), safe[0])


def _object(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    rows = cast(list[Any], value) if isinstance(value, list) else []
    return [cast(dict[str, Any], row) for row in rows if isinstance(row, dict)]


def _text(value: object) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) and value.strip() else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

"""What can be fetched from where somebody points to: looked at before anything is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import quote

from webui.errors import BadRequestError, NotFoundError
from webui.library.civitai import safe_file, terms_of, words_of
from webui.library.fetch_errors import FetchError
from webui.library.filenames import sound_name
from webui.library.findings import Choices, Found, RemoteFile
from webui.library.headers import is_safetensors
from webui.library.hub import (
    CONFIG,
    INDEX,
    TOKENIZER,
    WEIGHTS,
    Repository,
    choices_in,
    folder_name,
    nothing_in,
    repository_in,
    telling_name,
)
from webui.library.kinds import Kind
from webui.library.outward import Outward
from webui.library.probing import Classify, probe
from webui.library.repositories import folder_files, folder_of, names_of_parts, tokenizer_files
from webui.library.sources import (
    CIVITAI,
    HUB,
    AddressSource,
    CivitaiSource,
    HubSource,
    hub_file,
    source_of,
)
from webui.library.told import number_in, object_in, objects_in, text_in


class Offers:
    """Looks at what lies behind a repository's name or an address.

    Args:
        classify: Kind and family of a file by its header.
        served: Classes of diffusers, of pipelines and of ControlNets, that are run here.
        hub: The hub's address, and `civitai` the other's; tests have their own.
    """

    def __init__(
        self,
        outward: Outward,
        classify: Classify,
        served: Collection[str],
        *,
        hub: str = HUB,
        civitai: str = CIVITAI,
    ) -> None:
        self._outward = outward
        self._classify = classify
        self._served = served
        self._hub = hub
        self._civitai = civitai

    def look(self, pasted: str) -> Found | Choices:
        """What there is to fetch.

        Raises:
            BadRequestError: It is no source, or holds nothing that is fetched.
            BrokenFileError: It holds what cannot be used here.
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
        repo = repository_in(about, source)
        if source.file not in repo.files:
            rows = choices_in(repo, source.revision)
            only = next(iter(rows), None)
            if only is None:
                raise NotFoundError(nothing_in(repo))
            if len(rows) > 1:
                return Choices(source.repo, repo.licence, self._page(repo), rows)
            repo = repo.at(cast(HubSource, source_of(only.source)).file)
        if repo.source.file == INDEX:
            return self._model(repo)
        if repo.source.file == CONFIG:
            return self._with_config(repo)
        if PurePosixPath(repo.source.file).name == TOKENIZER:
            return self._tokenizer(repo)
        return self._single(repo)

    def _model(self, repo: Repository) -> Found:
        index = self._outward.json(self._address(repo, INDEX))
        self._check_class(repo, index)
        files = folder_files(repo.source.repo, repo.files, names_of_parts(index))
        return self._folder(repo, "model", files)

    def _with_config(self, repo: Repository) -> Found:
        """A ControlNet in a repository of its own; any other part of a model is its weights."""
        config = self._outward.json(self._address(repo, CONFIG))
        if "controlnet" not in str(config.get("_class_name")).lower():
            return self._single(repo.at(WEIGHTS))
        self._check_class(repo, config)
        files = folder_files(repo.source.repo, repo.files, ("",))
        return self._folder(repo, "controlnet", files)

    def _tokenizer(self, repo: Repository) -> Found:
        files = tokenizer_files(repo.files, folder_of(repo.source.file))
        if not files:
            raise NotFoundError(f"{repo.source.repo} has no vocabulary beside {repo.source.file}.")
        return self._folder(repo, "tokenizer", files)

    def _check_class(self, repo: Repository, config: Mapping[str, Any]) -> None:
        name = text_in(config.get("_class_name"))
        if name not in self._served:
            what = "does not say what it is" if name is None else f"is a {name}"
            raise BadRequestError(
                f"{repo.source.repo} {what}: models of that kind are not served here."
            )

    def _folder(self, repo: Repository, kind: Kind, wanted: Mapping[str, str]) -> Found:
        """Paths in the repository to paths in the folder that they become."""
        remote = tuple(
            RemoteFile(self._address(repo, file), path, *repo.files[file])
            for file, path in wanted.items()
        )
        return Found(
            repo.source.repo,
            sound_name(folder_name(repo)),
            kind,
            remote,
            is_folder=True,
            licence=repo.licence,
            page=self._page(repo),
        )

    def _single(self, repo: Repository) -> Found:
        file = repo.source.file
        if file not in repo.files:
            raise NotFoundError(f"There is no {file!r} in {repo.source.repo}.")
        _refuse_by_name(file)
        size, sha256 = repo.files[file]
        name = sound_name(telling_name(repo))
        address = self._address(repo, file)
        found = self._file(address, page=self._page(repo), sha256=sha256, name=name)
        if found.size != size:
            raise FetchError(f"{repo.source.repo} gives two different sizes for {file}.")
        licence = found.licence or repo.licence
        return replace(found, title=repo.source.repo, licence=licence, base=repo.base)

    def _civitai_version(self, source: CivitaiSource) -> Found:
        version = source.version
        if version is None:
            about = self._outward.json(f"{self._civitai}/api/v1/models/{source.model}")
            versions = objects_in(about.get("modelVersions"))
            version = next((number_in(one.get("id")) for one in versions), None)
            if version is None:
                raise NotFoundError("This model has no version that can be fetched.")
        about = self._outward.json(f"{self._civitai}/api/v1/model-versions/{version}")
        file = safe_file(about, source.query)
        model, number = object_in(about.get("model")), number_in(about.get("modelId"))
        address = text_in(file.get("downloadUrl"))
        if source.query:
            address = f"{self._civitai}/api/download/models/{version}?{source.query}"
        if address is None:
            raise FetchError("Civitai names no address for this file.")
        sha256 = text_in(object_in(file.get("hashes")).get("SHA256"))
        page = f"{self._civitai}/models/{number}?modelVersionId={version}"
        name = sound_name(str(file["name"])) if file else None
        found = self._file(address, page=page, sha256=sha256 and sha256.lower(), name=name)
        title = " · ".join(filter(None, (text_in(model.get("name")), text_in(about.get("name")))))
        return replace(
            found,
            title=title or found.name,
            words=words_of(about),
            base=text_in(about.get("baseModel")),
            terms=terms_of(self._civitai_model(number)),
        )

    def _civitai_model(self, number: int | None) -> dict[str, Any]:
        """What Civitai says of all versions together; nothing where it does not say it."""
        with suppress(FetchError):
            return self._outward.json(f"{self._civitai}/api/v1/models/{number}")
        return {}

    def _file(
        self, address: str, *, page: str | None, sha256: str | None = None, name: str | None = None
    ) -> Found:
        """A single file of weights, its header looked at.

        Args:
            name: What it is to be called; by default what the server calls it.
        """
        seen = probe(self._outward, address)
        name = name or seen.name
        if sha256 and seen.sha256 and sha256 != seen.sha256:
            raise FetchError(f"The server gives two different checksums for {name}.")
        kind, family = self._classify(seen.header, name)
        said = seen.header.metadata
        return Found(
            title=text_in(said.get("modelspec.title")) or name,
            name=name,
            kind=kind,
            files=(RemoteFile(address, name, seen.size, sha256 or seen.sha256),),
            family=family,
            licence=text_in(said.get("modelspec.license")),
            page=page,
        )

    def _page(self, repo: Repository) -> str:
        return f"{self._hub}/{repo.source.repo}"

    def _address(self, repo: Repository, file: str) -> str:
        return hub_file(self._hub, repo.source.repo, repo.source.revision, file)


def _refuse_by_name(file: str) -> None:
    if not is_safetensors(file):
        raise BadRequestError(
            f"{PurePosixPath(file).name} is no safetensors file: nothing else is fetched, since"
            " other formats can hold programs."
        )

"""What the hub's list of a repository tells.

The hub's answers: https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import quote

from webui.library.filenames import PICKLES
from webui.library.findings import Choice
from webui.library.headers import is_safetensors
from webui.library.repositories import Files, tokenizer_files
from webui.library.sources import HUB, HubSource
from webui.library.told import number_in, object_in, objects_in, text_in

INDEX = "model_index.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer_config.json"
"""A repository's files by which the folder around them is meant."""

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""What a part of a model is called that has a repository of its own."""

_MOST_CHOICES = 60


@dataclass(frozen=True)
class Repository:
    """A repository at one revision, or a file or folder of it.

    Attributes:
        source: With the revision that the files have now.
        licence: In the words of who published it.
        base: What it was made from.
    """

    source: HubSource
    files: Files
    licence: str | None = None
    base: str | None = None

    @property
    def name(self) -> str:
        """Without its owner's."""
        return self.source.repo.partition("/")[2]

    def at(self, file: str) -> Repository:
        """The same with another file of it asked for."""
        return replace(self, source=replace(self.source, file=file))


def repository_in(about: Mapping[str, Any], source: HubSource) -> Repository:
    """A repository as the hub tells of it."""
    # What is fetched are the files as they are now, also when the branch moves on meanwhile.
    pinned = replace(source, revision=text_in(about.get("sha")) or source.revision)
    return Repository(pinned, _siblings(about), _licence_of(about), _base_of(about))


def choices_in(repo: Repository, revision: str) -> tuple[Choice, ...]:
    """What there is in a repository, or in the folder of it that is asked for: what makes a whole
    first, then single files.

    Args:
        revision: The one that was asked for.
    """
    source = repo.source
    rows = [*_wholes(repo), *_single_files(repo)]
    if revision != "main":
        at = f"{HUB}/{source.repo}/blob/{quote(revision, safe='')}"
        begin = len(source.repo) + 1
        rows = [replace(row, source=f"{at}/{quote(row.source[begin:])}") for row in rows]
    return tuple(rows[:_MOST_CHOICES])


def nothing_in(repo: Repository) -> str:
    """Why nothing of a repository can be fetched, in a sentence."""
    name, folder = repo.source.repo, repo.source.file
    within = [path for path in repo.files if not folder or path.startswith(f"{folder}/")]
    if folder and not within:
        return f"There is no {folder!r} in {name}."
    if any("-of-" in path and is_safetensors(path) for path in within):
        return (
            f"The weights in {folder or name} are in several files, which are read in the folder of"
            " a whole model alone: fetch that, or one with a single file."
        )
    if any(PurePosixPath(file).suffix.lower() in PICKLES for file in repo.files):
        return (
            f"{name} holds its weights as pickles alone, which can hold programs and are not"
            " fetched: look for one with safetensors."
        )
    return f"{name} holds no safetensors weights: it is no model that can be used here."


def telling_name(repo: Repository) -> str:
    """The name of the file that is asked for; the repository's and its folder's where the file's
    says nothing."""
    path = PurePosixPath(repo.source.file)
    silent = ("diffusion_pytorch_model", "model", "pytorch_lora_weights", "adapter_model")
    if path.name.partition(".")[0] in silent:
        return f"{folder_name(repo)}.safetensors"
    return path.name


def folder_name(repo: Repository) -> str:
    """A name for the folder that the file asked for lies in."""
    return "-".join(filter(None, (repo.name, PurePosixPath(repo.source.file).parent.name)))


def _wholes(repo: Repository) -> Iterator[Choice]:
    folder, files = repo.source.file, repo.files
    if not folder and INDEX in files:
        yield Choice(f"{repo.source.repo}/{INDEX}", "", 0)
    elif not folder and {CONFIG, WEIGHTS} <= {*files}:
        yield Choice(f"{repo.source.repo}/{CONFIG}", "", 0)
    tokenizer = tokenizer_files(files, folder)
    if tokenizer:
        path = f"{folder}/{TOKENIZER}".removeprefix("/")
        yield Choice(f"{repo.source.repo}/{path}", path, sum(files[one][0] for one in tokenizer))


def _single_files(repo: Repository) -> Iterator[Choice]:
    folder, files = repo.source.file, repo.files
    in_layout = not folder and (INDEX in files or {CONFIG, WEIGHTS} <= {*files})
    for path, (size, _) in sorted(files.items()):
        if not is_safetensors(path) or (folder and not path.startswith(f"{folder}/")):
            continue
        # The parts of a folder in the diffusers layout are of no use alone.
        is_part = in_layout and ("/" in path or "diffusion_pytorch_model" in path)
        if not is_part and "-of-" not in path:
            yield Choice(f"{repo.source.repo}/{path}", path, size)


def _siblings(about: Mapping[str, Any]) -> Files:
    files: dict[str, tuple[int, str | None]] = {}
    for one in objects_in(about.get("siblings")):
        path, size = one.get("rfilename"), number_in(one.get("size"))
        steps = path.split("/") if isinstance(path, str) else [""]
        if isinstance(path, str) and size is not None and not {"", ".", ".."} & {*steps}:
            files[path] = (size, text_in(object_in(one.get("lfs")).get("sha256")))
    return files


def _licence_of(about: Mapping[str, Any]) -> str | None:
    card = object_in(about.get("cardData"))
    licence = card.get("license")
    if isinstance(licence, list):
        licence = ", ".join(str(one) for one in cast(list[Any], licence))
    named = text_in(card.get("license_name"))
    return named if named and licence in (None, "other") else text_in(licence)


def _base_of(about: Mapping[str, Any]) -> str | None:
    base = object_in(about.get("cardData")).get("base_model")
    if isinstance(base, list):
        base = next(iter(cast(list[Any], base)), None)
    return text_in(base)

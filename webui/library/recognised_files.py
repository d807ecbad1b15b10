"""What lies where weights lie: each file or folder recognised, read anew only when it changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from webui.errors import BrokenFileError
from webui.library.alike import Alike
from webui.library.distilled import read_distilled
from webui.library.facts_cache import FactsCache
from webui.library.headers import PICKLE_SUFFIXES, pickle_problem, read_header
from webui.library.lora_facts import BUILD_SAYS
from webui.library.packed_folders import packed_by, packed_problem
from webui.library.pipeline_folders import PIPELINES, check_folder, read_index, read_object
from webui.library.recognition import Recognised, recognise
from webui.library.weight_files import Found, find_in_hub, stem_of, weights_in

CACHE = "models.json"
"""What headers said, beside the book of hashes."""

_RULES = "7"
"""Goes into every stamp: another number when the rules of recognition have changed."""


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file without its weights.

    Attributes:
        data_start: Offset in bytes at which the tensors of a safetensors file begin; 0 for others.
    """

    recognised: Recognised
    data_start: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is a model that lacks nothing."""
        said = self.recognised
        return said.kind == "model" and said.problem is None and not said.lacks


class RecognisedFiles:
    """Recognises files; safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the cache."""
        self._cache = FactsCache(folder / CACHE, TypeAdapter(dict[str, tuple[str, FileFacts]]))

    def of(self, found: Iterable[Found]) -> list[FileFacts]:
        """The facts of each."""
        stamped = [(one.path, f"{_RULES}:{one.stamp}") for one in found]
        return self._cache.of(stamped, FileReader().read)

    def in_hub(self, cache: Path | None, name: str | None = None) -> list[tuple[Found, FileFacts]]:
        """Models in the hub's own cache that can be used as they lie there.

        All else in it belongs to other programs, and to put a missing part beside it is not for
        Easel to ask.

        Args:
            cache: `None`: there is none.
            name: As for `find_in_hub`.
        """
        found = [] if cache is None else list(find_in_hub(cache, name))
        return [
            (one, said) for one, said in zip(found, self.of(found), strict=True) if said.is_whole
        ]


class FileReader:
    """Recognises files, for one look around the shelves."""

    def __init__(self) -> None:
        # Of files of other kinds there are few, and their names tell a lot.
        self._alike = Alike(
            lambda header, path: recognise(header, file=path.as_posix()),
            holds=lambda said: said.kind == "lora" and said.problem is None,
            says=BUILD_SAYS,
        )

    def read(self, path: Path) -> FileFacts:
        """The facts of a file or of a folder in the diffusers layout, whatever is wrong with it."""
        try:
            if path.is_dir():
                return FileFacts(_read_folder(path))
            if path.suffix.casefold() in PICKLE_SUFFIXES:
                raise BrokenFileError(pickle_problem(path))
            if "-of-" in path.stem:
                header = read_header(path)
                start = 0 if header.is_gguf else header.data_start
                return FileFacts(recognise(header, file=path.as_posix()), start)
            seen = self._alike.look(path)
        except BrokenFileError as error:
            return FileFacts(Recognised(problem=error.message))
        said = seen.tensors
        if said.kind == "lora":
            said = replace(
                said, distilled=read_distilled(seen.metadata, stem_of(path), is_lora=True)
            )
        return FileFacts(said, seen.data_start)


def _read_folder(path: Path) -> Recognised:
    """A folder by its configurations, and by the headers of all its weights."""
    name = _own_name(path)
    known = Recognised(kind="model", distilled=read_distilled({}, name))
    try:
        index = read_index(path, name)
        known = replace(known, **_said(path, index["_class_name"]))
        check_folder(path, index, name)
        weights = weights_in(path)
        if not weights:
            raise BrokenFileError(f"{name} holds no safetensors weights: fetch it again.")
        headers = {file: read_header(file) for file in weights}
    except BrokenFileError as error:
        return replace(known, problem=error.message)
    for part in sorted({file.parent for file in headers}):
        problem = packed_problem(packed_by(part))
        if problem is not None:
            return replace(known, problem=f"{name} {problem}.")
    heaviest = max(headers, key=lambda file: sum(headers[file].sizes.values()))
    looked = recognise(headers[heaviest], file=f"{name}.safetensors")
    return replace(known, precision=looked.precision)


def _said(path: Path, pipeline: str) -> dict[str, Any]:
    """Fields of `Recognised` by what the configurations say."""
    scheduler = read_object(path / "scheduler" / "scheduler_config.json")
    family = PIPELINES.get(pipeline, "unknown")
    if family == "SD 1":
        width = read_object(path / "unet" / "config.json").get("cross_attention_dim")
        family = "SD 2" if width == _SD2_WIDTH else family
    noise = "v_prediction" if scheduler.get("prediction_type") == "v_prediction" else "epsilon"
    return {
        "family": family,
        "prediction": noise if family in _NOISE else "flow",
        "zero_snr": scheduler.get("rescale_betas_zero_snr") is True,
    }


_SD2_WIDTH = 1024
_NOISE = frozenset({"SD 1", "SD 2", "SDXL"})


def _own_name(path: Path) -> str:
    """A folder's name, in the hub's cache that of the repository."""
    if path.parent.name == "snapshots":
        return path.parent.parent.name.rpartition("--")[2]
    return path.name

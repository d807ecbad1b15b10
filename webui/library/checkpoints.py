"""The shelf of models, by name: folders in the diffusers layout, single files, the hub's cache."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from webui.errors import BrokenFileError, NotFoundError
from webui.library.contents import Content, Contents, digest_of
from webui.library.distilled import SDXL_TURBO
from webui.library.facts_cache import stamp_of
from webui.library.hashes import HashBook
from webui.library.recognised_files import RecognisedFiles
from webui.library.recognition import KLEIN, Recognised
from webui.library.vaes import VaeShelf
from webui.library.weight_files import INDEX, Found, find_weights, weights_in
from webui.request import nearest

RESERVED = (
    "controlnet",
    "guards",
    "annotators",
    "vae",
    "text_encoders",
    "embeddings",
)
"""Folders directly in one of models that hold other things."""

_MOST_NAMED = 4


def _nothing_said() -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Model:
    """A model by what its configurations say; its weights have not been looked at.

    Attributes:
        path: The folder in the diffusers layout; of a single file the shipped configuration's.
        pipeline: Class name in `model_index.json`, such as "StableDiffusionPipeline".
        file: The single file with the weights; None where they lie in `path`.
        said: What the file says otherwise than the configuration, by component, or by `INDEX` of
            the model as a whole.
        facts: What its headers and its name say.
        folders: Those of models, in which parts may lie that the file lacks.
    """

    name: str
    path: Path
    pipeline: str
    file: Path | None = None
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=_nothing_said, hash=False)
    facts: Recognised | None = field(default=None, kw_only=True)
    folders: tuple[Path, ...] = field(default=(), kw_only=True)

    def config(self, part: str) -> dict[str, Any]:
        """The JSON configuration of a component such as "unet" or "scheduler".

        Raises:
            BrokenFileError: The component's configuration is missing or damaged.
        """
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        read = read_json(self.path / part / name, model=self.name)
        return read | dict(self.said.get(part, {}))


@dataclass(frozen=True)
class Checkpoint(Model):
    """A model on the shelf whose files have been found whole.

    Attributes:
        key: Stands for the model as it lies there: no two have the same, and another one comes
            when a file of it changes. Nothing is read for it, unlike for its content hash.
        content: The hash of its weights.
    """

    key: str = field(kw_only=True)
    content: Content = field(kw_only=True, compare=False, repr=False)

    @property
    def sha256(self) -> str:
        """The content hash; waits for it. See `Content.sha256`."""
        return self.content.sha256


@dataclass(frozen=True)
class _Entry:
    name: str
    found: Found
    facts: Recognised


class CheckpointShelf:
    """Finds models under a few folders, the first to hold a name wins; no name leads out.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        hashes: HashBook,
        configs: Path | None = None,
        hub: Path | None = None,
    ) -> None:
        """
        Args:
            configs: Holds the shipped configurations; without it there are no single files.
            hub: The hub's own cache, whose whole models are on the shelf too, after all others.
        """
        self._folders = folders
        self._hub = hub
        self._hashes = hashes
        self._configs = configs
        self._recognised = RecognisedFiles(hashes.folder)
        self._contents = Contents(hashes)
        self.vaes = VaeShelf(folders, hashes)
        """VAEs for use in place of a model's own."""

    def names(self) -> tuple[str, ...]:
        """Names of all models, also of those that cannot be used, sorted; empty without any."""
        return tuple(sorted(self._entries()))

    def folder(self, name: str) -> Model:
        """The model of that name without a look at its weights: a matter of milliseconds.

        Raises:
            NotFoundError: There is no such model; names the nearest.
            BrokenFileError: Its index is missing or damaged, or it cannot be used.
        """
        return self._model(self._entry(name))

    def find(self, name: str) -> Checkpoint:
        """The model of that name, of whose weights only the headers are read.

        Raises:
            NotFoundError: There is no such model; names the nearest.
            BrokenFileError: A file of it is missing, truncated or damaged, or it is not served.
        """
        entry = self._entry(name)
        if entry.facts.problem is not None:
            raise BrokenFileError(entry.facts.problem, field="model")
        model = self._model(entry)
        files = _files(entry.found)
        key = entry.found.key
        folder = entry.found.path if entry.found.is_folder else None
        return Checkpoint(
            model.name,
            model.path,
            model.pipeline,
            model.file,
            model.said,
            key=key,
            content=self._contents.of(key, _stamps(files), folder),
            facts=entry.facts,
            folders=model.folders,
        )

    def known_hashes(self) -> list[tuple[str, str]]:
        """Name and digest of each model; the digest is empty until it has been computed once."""
        known: list[tuple[str, str]] = []
        for name, entry in sorted(self._entries().items()):
            files = {file: self._hashes.known(file) or "" for file in _files(entry.found)}
            whole = bool(files) and all(files.values())
            folder = entry.found.path if entry.found.is_folder else None
            known.append((name, digest_of(files, folder) if whole else ""))
        return known

    def _entries(self) -> dict[str, _Entry]:
        return self._in_hub() | self._own()

    def _in_hub(self, name: str | None = None) -> dict[str, _Entry]:
        return {
            one.long: _Entry(one.long, one, facts.recognised)
            for one, facts in self._recognised.in_hub(self._hub, name)
            if one.is_folder or self._configs is not None
        }

    def _own(self) -> dict[str, _Entry]:
        found: dict[str, Found] = {}
        for folder in self._folders:
            for one in find_weights(folder, but=RESERVED):
                if one.is_folder or self._configs is not None:
                    found.setdefault(one.file, one)
        facts = [facts.recognised for facts in self._recognised.of(found.values())]
        pairs = [
            (one, said)
            for one, said in zip(found.values(), facts, strict=True)
            if said.kind in ("model", "denoiser") or (said.kind == "unknown" and said.problem)
        ]
        names = names_of([one for one, _ in pairs])
        return {
            name: _Entry(name, one, said) for name, (one, said) in zip(names, pairs, strict=True)
        }

    def _entry(self, name: str) -> _Entry:
        entries = self._own()
        if name not in entries:
            # One look at one repository: the cache may hold hundreds.
            entries = self._in_hub(name) | entries
        if name in entries:
            return entries[name]
        fitting = [e for e in entries.values() if name in (e.found.file, e.found.long)]
        if len(fitting) != 1:
            fitting = [entry for entry in entries.values() if name == entry.found.short]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            known = ", ".join(repr(entry.name) for entry in fitting[:_MOST_NAMED])
            raise NotFoundError(
                f"{name!r} stands for {len(fitting)} models: choose one of {known}.", field="model"
            )
        names = self.names()
        if not names:
            raise NotFoundError(
                f"There is no model in {self._folders[0]}: put one there or name another folder"
                " with --models.",
                field="model",
            )
        raise NotFoundError(f"Unknown model {name!r}: {nearest(name, names)}", field="model")

    def _model(self, entry: _Entry) -> Model:
        name, facts = entry.name, entry.facts
        if entry.found.is_folder:
            index = read_json(entry.found.path / INDEX, model=name)
            return Model(name, entry.found.path, str(index.get("_class_name")), facts=facts)
        if facts.problem is not None or facts.config is None or self._configs is None:
            raise BrokenFileError(
                facts.problem or f"{entry.found.path.name} is no model.", field="model"
            )
        path = self._configs / facts.config
        index = read_json(path / INDEX, model=name)
        return Model(
            name,
            path,
            str(index.get("_class_name")),
            entry.found.path,
            _said(facts),
            facts=facts,
            folders=self._folders,
        )


def names_of(found: Iterable[Found]) -> list[str]:
    """A name for each that no other has: short, then with its folders, then with its suffix."""
    found = list(found)
    short = Counter(one.short for one in found)
    long = Counter(one.long for one in found)
    return [
        one.short if short[one.short] == 1 else one.long if long[one.long] == 1 else one.file
        for one in found
    ]


def _said(facts: Recognised) -> Mapping[str, Mapping[str, Any]]:
    """What a single file says otherwise than the configuration that fits it."""
    scheduler: dict[str, Any] = {}
    if facts.prediction in ("v_prediction", "sample"):
        scheduler["prediction_type"] = facts.prediction
    if facts.zero_snr:
        # The last timestep must be among those sampled, or the pictures come out grey.
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    # Of klein's two kinds, whose tensors are alike, the configuration is for the distilled one.
    index = {"is_distilled": False} if facts.config in KLEIN and facts.distilled is None else {}
    unet: dict[str, Any] = {}
    if facts.guidance_width:
        unet["time_cond_proj_dim"] = facts.guidance_width
    if facts.config == "sdxl" and facts.distilled == SDXL_TURBO:
        unet["sample_size"] = _SIDE_OF_SDXL_TURBO // 8
    said = {"scheduler": scheduler, "unet": unet, INDEX: index}
    return MappingProxyType({part: values for part, values in said.items() if values})


_SIDE_OF_SDXL_TURBO = 512
"""Pixels; what others merged from it makes pictures as large as SDXL's."""


def _files(found: Found) -> list[Path]:
    return weights_in(found.path) if found.is_folder else [found.path]


def _stamps(files: Iterable[Path]) -> dict[Path, str]:
    try:
        return {file: stamp_of(file.stat()) for file in files}
    except OSError as error:
        raise BrokenFileError(f"{error.filename} cannot be read: {error.strerror}.") from None


def read_json(path: Path, *, model: str) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        BrokenFileError: The file is missing or is no JSON object.
    """
    try:
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        where = f"{path.parent.name}/{path.name}" if path.name != INDEX else INDEX
        raise BrokenFileError(
            f"The model {model!r} is incomplete: {where} is missing or damaged.", field="model"
        )
    return cast(dict[str, Any], data)

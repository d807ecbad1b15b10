"""What a single file lacks, found among what else is on disk: never on the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from webui.generation.part_names import DENOISERS, VAE, is_tokenizer, prefix_of
from webui.generation.stored_tokenizers import (
    has_vocabulary,
    kinds_in_folder,
    stem_of,
)
from webui.generation.surroundings import TEXT_ENCODERS, VAES, PartFile, Surroundings
from webui.generation.wanted_tokenizers import WantedTokenizer, is_same_size
from webui.library.checkpoints import INDEX, Model, read_json
from webui.library.components import COMPONENTS, VAE_MODELS, Component
from webui.library.facts_cache import stamp_of
from webui.library.headers import Header, read_header
from webui.library.pipeline_folders import parts_of, read_object
from webui.library.tokenizer_addresses import tokenizer_address

Places = Mapping[str, Path]
"""Files or folders by the names of the parts that are taken from them."""

_NONE: Places = MappingProxyType({})

_DISPENSABLE = ("text_encoder_3", "tokenizer_3")
"""Stable Diffusion 3 works without its T5 encoder."""

_NAMES = MappingProxyType(
    {
        "CLIPTextModel": "a CLIP text encoder",
        "CLIPTextModelWithProjection": "a CLIP text encoder",
        "T5EncoderModel": "the T5 text encoder (t5xxl)",
        "Qwen3Model": "the Qwen3 text encoder",
        "Qwen3ForCausalLM": "the Qwen3 text encoder",
        "Qwen2_5_VLForConditionalGeneration": "the Qwen2.5-VL text encoder",
        "Mistral3ForConditionalGeneration": "the Mistral Small text encoder",
        "T5Tokenizer": "the T5 tokenizer",
        "Qwen2Tokenizer": "the Qwen tokenizer",
        "PixtralProcessor": "the Mistral tokenizer",
    }
)
"""Parts by their classes, in words."""


@dataclass(frozen=True)
class MissingPart:
    """A part that is neither in a model's file nor anywhere else on disk.

    Attributes:
        part: What diffusers calls it, such as "tokenizer_2".
        name: In words, such as "the T5 tokenizer".
        folder: Where it belongs.
        address: The hub's "owner/name/folder" of a tokenizer.
    """

    part: str
    name: str
    folder: Path
    address: str | None = None


@dataclass(frozen=True)
class FoundPart:
    """A network of a single file that is taken from elsewhere.

    Attributes:
        stamp: Changes when its files do.
        others: Files with the same network that are not used.
        is_of_another: Whether it is another model's, for want of this one's own.
    """

    part: str
    name: str
    path: Path
    stamp: str
    others: tuple[Path, ...] = ()
    is_of_another: bool = False

    @property
    def label(self) -> str:
        """Name of the file; of a folder, that of the model it is in before it."""
        if not self.path.is_dir():
            return self.path.name
        model = self.path.parent
        if model.parent.name != "snapshots":
            return f"{model.name}/{self.path.name}"
        repo = model.parent.parent.name.removeprefix("models--").replace("--", "/")
        return f"{repo}/{self.path.name}"

    @property
    def choice(self) -> str | None:
        """Which of several files is used and why, or what stands in, in a sentence."""
        if self.is_of_another:
            return (
                f"For want of this model's own, {self.path.name} is used as {self.name}: it was"
                " made for another model."
            )
        if not self.others:
            return None
        return (
            f"Of {len(self.others) + 1} files with {self.name}, {self.path.name} is used: no other"
            " is stored more exactly."
        )


def find_tokenizer(model: Model, part: str = "tokenizer") -> Path | None:
    """Where the model's tokenizer of that name is: a folder, or a text encoder's file.

    What `webui.generation.stored_tokenizers.is_stored` is read by that module. CLIP's, which is
    shipped, is where the configuration of a single file is.

    Raises:
        BrokenFileError: The file is damaged.
    """
    place = Companions(model).place(part)
    is_there = place is not None and (model.file is not None or has_vocabulary(place))
    return place if is_there else None


def missing_parts(model: Model, others: Places = _NONE) -> tuple[MissingPart, ...]:
    """What a model lacks and cannot do without; of weights nothing is read but headers.

    Args:
        others: Where parts are taken from instead.

    Raises:
        BrokenFileError: The file is damaged.
    """
    return Companions(model, others).missing


def _folder_of(part: str) -> str:
    return VAES if part == VAE else TEXT_ENCODERS


def _stamp_of(place: Path) -> str:
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    return "|".join(stamp_of(file.stat()) for file in files)


def _encoder_of(tokenizer: str) -> str:
    return tokenizer.replace("tokenizer", "text_encoder")


class Companions:
    """Where each part of a model is, each looked for when it is asked for.

    Parts of a single file are in it, in the configuration that is shipped, or elsewhere on disk.
    """

    def __init__(self, model: Model, others: Places = _NONE) -> None:
        """Raises `BrokenFileError`: the model's index is damaged."""
        self._model = model
        self._around = Surroundings(model)
        index = read_json(model.path / INDEX, model=model.name)
        self._classes = {part: kind for part, (_, kind) in parts_of(index).items()}
        self._places: dict[str, Path | None] = {**others}

    def place(self, part: str) -> Path | None:
        """Where a part is; None where it is nowhere, or the model has none.

        Raises:
            BrokenFileError: The file is damaged.
        """
        if part not in self._classes:
            return None
        if part not in self._places:
            self._places[part] = self._find(part)
        return self._places[part]

    @property
    def places(self) -> dict[str, Path | None]:
        """Where all parts are."""
        return {part: self.place(part) for part in self._classes}

    @property
    def missing(self) -> tuple[MissingPart, ...]:
        """What the model cannot do without."""
        return tuple(
            MissingPart(
                part,
                self._name_of(part),
                self._around.home / _folder_of(part),
                tokenizer_address(self._model.path.name, part) if is_tokenizer(part) else None,
            )
            for part, place in self.places.items()
            if place is None and not self._can_do_without(part)
        )

    @property
    def elsewhere(self) -> tuple[FoundPart, ...]:
        """The networks that are neither in the model's file nor in its folder."""
        return tuple(
            FoundPart(
                part,
                self._name_of(part),
                place,
                _stamp_of(place),
                *self._choice(part, place),
            )
            for part, place in self.places.items()
            if place is not None
            and place != self._model.file
            and not place.is_relative_to(self._model.path)
            and not is_tokenizer(part)
        )

    def _can_do_without(self, part: str) -> bool:
        """Whether the pipeline runs without a part: of a tokenizer, if its text encoder lacks."""
        if is_tokenizer(part) and self.place(_encoder_of(part)) is not None:
            return False
        return part in _DISPENSABLE

    def _name_of(self, part: str) -> str:
        if part != VAE:
            kind = self._classes[part]
            return _NAMES.get(stem_of(kind), f"its {part} ({kind})")
        wanted = self._wanted(part)
        return "a VAE" if wanted is None else f"the VAE of {VAE_MODELS[wanted]}"

    def _wanted(self, part: str) -> Component | None:
        """Which VAE or text encoder the model's configuration asks for."""
        return COMPONENTS.get(self._model.path.name, {}).get(part)

    @cached_property
    def _header(self) -> Header:
        assert self._model.file is not None
        return read_header(self._model.file)

    def _choice(self, part: str, used: Path) -> tuple[tuple[Path, ...], bool]:
        """The other files that it is one of, and whether those are another model's."""
        files = self._files(part)
        is_of_another = any(one.path == used and one.is_of_another for one in files)
        alike = (one.path for one in files if one.is_of_another == is_of_another)
        return tuple(path for path in alike if path != used), is_of_another

    def _find(self, part: str) -> Path | None:
        model = self._model
        if model.file is None:
            return model.path / part
        if part == "scheduler" or self._classes[part] == "CLIPTokenizer":
            return model.path
        if is_tokenizer(part):
            return self._find_tokenizer(part)
        prefix = prefix_of(part, self._classes[part], self._header, model)
        if part in DENOISERS or prefix is not None:
            return model.file
        return self._find_network(part)

    def _find_network(self, part: str) -> Path | None:
        for file in self._files(part):
            return file.path
        ours = self._model.config(part)
        for folder in self._around.parts(self._classes[part]):
            theirs = read_object(folder.path / "config.json")
            if any(folder.path.glob("*.safetensors")) and is_same_size(ours, theirs):
                return folder.path
        return None

    def _files(self, part: str) -> list[PartFile]:
        """Files with that part alone, by rank, then those beside the model first."""
        wanted = self._wanted(part)
        fitting = [one for one in self._around.files(_folder_of(part)) if one.component == wanted]
        return sorted(fitting, key=lambda one: one.rank)

    def _find_tokenizer(self, part: str) -> Path | None:
        """In the text encoder's own file or model, in another of its files, in a folder.

        Of folders those first that lie with a text encoder like the model's.
        """
        encoder = _encoder_of(part)
        wanted = WantedTokenizer(
            stem_of(self._classes[part]), self._classes[encoder], self._model.config(encoder)
        )
        place = self.place(encoder)
        if place is not None and place.is_dir():
            own = place.parent / place.name.replace("text_encoder", "tokenizer")
            if wanted.is_in(own):
                return own
        for file in sorted(self._files(encoder), key=lambda one: one.path != place):
            if wanted.is_in_file(file):
                return file.path
        lone = (
            one for one in self._around.tokenizers() if wanted.kind in kinds_in_folder(one.path)
        )
        folders = (*lone, *self._around.parts(wanted.kind))
        ranked = sorted(folders, key=lambda one: wanted.distance(one))
        return next((one.path for one in ranked if wanted.is_in(one.path)), None)

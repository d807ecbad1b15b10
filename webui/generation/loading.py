"""From a folder or a single file to diffusers' components, without a question to any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from webui.errors import BrokenFileError, NotFoundError
from webui.generation.companions import Companions, MissingPart
from webui.generation.failures import as_broken
from webui.generation.file_parts import LOADED_OTHERWISE, load_folder, load_part
from webui.generation.language_models import is_language_model
from webui.generation.part_names import DENOISERS
from webui.generation.weights import WeightFile
from webui.library.checkpoints import INDEX, Checkpoint, read_json
from webui.library.packed_folders import BITSANDBYTES, packed_by, packed_problem
from webui.library.pipeline_folders import NEVER_LOADED, parts_of, variant_in

Aside = Callable[[str, Any, Callable[[], Any], Path], None]


def load_pipe(
    checkpoint: Checkpoint,
    pipeline: str,
    dtype: torch.dtype,
    *,
    others: Mapping[str, Path] = MappingProxyType({}),
    layout: torch.memory_format = torch.contiguous_format,
    in_fp8: bool = False,
    aside: Aside | None = None,
) -> DiffusionPipeline:
    """The model as a diffusers pipeline on the CPU, weights that are not converted being views of
    the mapped files.

    Weights in fp8 without scales stay in it, converted layer by layer as they are used; a
    transformer from a GGUF file stays packed. All others are in `dtype`.

    Args:
        pipeline: Class of diffusers.
        others: Files or folders to take parts from instead, by the parts' names; a tokenizer's
            folder likewise.
        layout: Of the convolutions' weights that are converted from a single file.
        in_fp8: Whether the denoiser's weights that bear it are read as fp8.
        aside: Given the denoiser and each text encoder as soon as it is read, with what reads it
            again, and the file or folder that does from.

    Raises:
        BrokenFileError: A file is damaged, incomplete, or stored in a way that is not read.
        NotFoundError: A part is neither in the file nor anywhere else on disk; says where to put
            it.
    """
    with as_broken(f"The model {checkpoint.name!r}", "model"):
        if checkpoint.file is None:
            return _from_folder(checkpoint, pipeline, dtype, others, in_fp8=in_fp8, aside=aside)
        return _from_file(
            checkpoint,
            checkpoint.file,
            pipeline,
            dtype,
            others,
            layout,
            in_fp8=in_fp8,
            aside=aside,
        )


def _from_folder(
    checkpoint: Checkpoint,
    pipeline: str,
    dtype: torch.dtype,
    others: Mapping[str, Path],
    *,
    in_fp8: bool,
    aside: Aside | None,
) -> DiffusionPipeline:
    index = read_json(checkpoint.path / INDEX, model=checkpoint.name)
    parts = parts_of(index)
    # Unpacked here, which needs neither bitsandbytes nor a graphics card, and rounded here.
    ours = {*_packed(checkpoint, parts), *(DENOISERS if in_fp8 else ())} - others.keys()
    singly = [
        part
        for part, (_, kind) in parts.items()
        if part in others or part in ours or is_language_model(kind) or (aside and _is_aside(part))
    ]
    own: dict[str, Any] = {}
    # The largest first.
    for part in sorted(singly, key=lambda part: part not in DENOISERS):
        place, named = others.get(part, checkpoint.path / part), parts[part]
        read = (
            partial(load_folder, place, named, checkpoint, dtype, in_fp8=in_fp8)
            if part in ours
            else partial(load_part, place, named, checkpoint, part, dtype, in_fp8=in_fp8)
        )
        own[part] = _read(part, read, place, aside)
    # diffusers wants to be told about those that a pipeline can do without only at a price, and to
    # know the class of what it is given.
    left_out = {name: None for name, named in index.items() if named == [None, None]}
    apart = {
        part: load_part(others.get(part, checkpoint.path / part), named, checkpoint, part, dtype)
        for part, named in parts.items()
        if named[1] in LOADED_OTHERWISE
    }
    # diffusers declares neither its classes' keyword arguments nor what they give back.
    kind: Any = getattr(diffusers, pipeline)
    pipe = kind.from_pretrained(
        checkpoint.path,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        variant=next(filter(None, (variant_in(checkpoint.path / part) for part in parts)), None),
        **(left_out | own | dict.fromkeys(apart) | _without_unused(kind)),
    )
    pipe.register_modules(**apart)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _is_aside(part: str) -> bool:
    return part in DENOISERS or part.startswith("text_encoder")


def _read(part: str, read: Callable[[], Any], place: Path, aside: Aside | None) -> Any:
    made = read()
    if aside is not None and _is_aside(part):
        aside(part, made, read, place)
    return made


def _without_unused(pipeline: Any) -> dict[str, Any]:
    """Arguments by which a pipeline leaves out its own content filter and what belongs to it."""
    expected, _ = pipeline._get_signature_keys(pipeline)
    unused: dict[str, Any] = {part: None for part in NEVER_LOADED if part in expected}
    return unused | ({"requires_safety_checker": False} if "safety_checker" in unused else {})


def _packed(checkpoint: Checkpoint, parts: Mapping[str, tuple[str, str]]) -> list[str]:
    """The parts of a folder that bitsandbytes has packed; raises for those that another has."""
    packed: list[str] = []
    for part in parts:
        method = packed_by(checkpoint.path / part)
        problem = packed_problem(method)
        if problem is not None:
            raise BrokenFileError(f"The model {checkpoint.name!r} {problem}.", field="model")
        if method == BITSANDBYTES:
            packed.append(part)
    return packed


def _from_file(
    checkpoint: Checkpoint,
    path: Path,
    pipeline: str,
    dtype: torch.dtype,
    others: Mapping[str, Path],
    layout: torch.memory_format,
    *,
    in_fp8: bool,
    aside: Aside | None,
) -> DiffusionPipeline:
    index = read_json(checkpoint.path / INDEX, model=checkpoint.name)
    parts = parts_of(index)
    file = WeightFile(path)
    companions = Companions(checkpoint, others)
    # All that is missing is known before the first tensor is read.
    _check_found(path, companions.missing)
    places = companions.places
    kind: Any = getattr(diffusers, pipeline)
    expected, options = kind._get_signature_keys(kind)
    made: dict[str, Any] = dict.fromkeys(expected)
    made |= {key: value for key, value in index.items() if key in options}
    if "is_distilled" in options and checkpoint.facts is not None:
        made["is_distilled"] = checkpoint.facts.distilled is not None
    # The largest first: while one is converted it is there twice, and the others not yet.
    for part in sorted(places, key=lambda part: part not in DENOISERS):
        place = places[part]
        if place is None:
            continue
        read = partial(
            load_part,
            *(place, parts[part], checkpoint, part, dtype, file),
            layout=layout,
            in_fp8=in_fp8,
        )
        made[part] = _read(part, read, place, aside)
    made |= _without_unused(kind)
    pipe = kind(**made)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _check_found(file: Path, missing: Sequence[MissingPart]) -> None:
    """Raises `NotFoundError` where something is missing: what, and where to put it."""
    if not missing:
        return
    wanted: dict[Path, list[str]] = {}
    for one in missing:
        source = "" if one.address is None else f" (which the Library downloads from {one.address})"
        wanted.setdefault(one.folder, []).append(one.name + source)
    put = (f"{_listed(names)} into {folder}" for folder, names in wanted.items())
    raise NotFoundError(f"The file {file.name} needs more: put {_listed(put)}.", field="model")


def _listed(words: Iterable[str]) -> str:
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} and {last}" if others else last

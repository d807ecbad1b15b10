"""What a weight file is, by the names and shapes of its tensors and what its metadata say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from webui.library.architectures import (
    GUIDANCE_LAYERS,
    Denoiser,
    ModelFamily,
    Tensors,
    read_denoiser,
)
from webui.library.components import COMPONENTS, Component, missing_components
from webui.library.distilled import Distilled, as_words, read_distilled
from webui.library.headers import Header
from webui.library.lora_facts import LORA_TENSOR, read_facts, reads_a_hint
from webui.library.parts import Part, read_embedding, read_part
from webui.library.weight_files import stem_of

__all__ = ["Distilled", "Kind", "ModelFamily", "Prediction", "Recognised", "recognise"]

Kind = Literal[
    "model", "denoiser", "vae", "text encoder", "embedding", "lora", "controlnet", "unknown"
]
Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class Recognised:
    """What a weight file is.

    Attributes:
        kind: "model" has a denoiser and more, "denoiser" nothing else.
        family: Of a VAE the family it is customary in; of a text encoder, which several share,
            "unknown".
        config: Name of the shipped configuration that fits, of a VAE one whose VAE it is.
        component: Which VAE or text encoder it is.
        lacks: Components of the configuration, by diffusers' names, that are not in the file.
        precision: Of the greatest part of the weights: "fp16", "fp8", "nf4", "gguf Q4_K".
        prediction: What the denoiser predicts.
        zero_snr: Whether its last timestep was trained on noise alone.
        guidance_width: Width of the layer that a UNet takes distilled guidance in by; 0 where it
            has none.
        problem: Why it cannot be used, in a sentence; None where nothing is wrong.
    """

    kind: Kind = "unknown"
    family: ModelFamily = "unknown"
    config: str | None = None
    component: Component | None = None
    lacks: tuple[str, ...] = ()
    precision: str = ""
    prediction: Prediction = "epsilon"
    zero_snr: bool = False
    guidance_width: int = 0
    distilled: Distilled | None = None
    problem: str | None = None


def recognise(header: Header, *, file: str) -> Recognised:
    """What a file with this header is.

    Args:
        file: The file's name, or the path to it: what it or its folder is called tells what the
            header leaves open.
    """
    stem, file = stem_of(Path(file)), Path(file).name
    if _SHARD.search(stem):
        return Recognised(
            precision=_precision(header, ""),
            problem=f"{file} is one of several files that are a whole only together: keep them in"
            " the folder of their model.",
        )
    denoiser = read_denoiser(header)
    part = read_part(header, stem=stem)
    if part is not None and (denoiser is None or part.kind == "controlnet"):
        return _with_part(header, part, file)
    if denoiser is not None:
        return _with_denoiser(header, denoiser, file, stem)
    if any(map(LORA_TENSOR.search, header.shapes)):
        return _with_lora(header, file, stem)
    embedding = read_embedding(header)
    if embedding is not None:
        return _with_part(header, embedding, file)
    of = header.metadata.get("general.architecture", "")
    said = f" ({of[:40]})" if of else ""
    return Recognised(
        precision=_precision(header, ""),
        problem=f"{file} holds nothing that is known here{said}.",
    )


_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def _with_denoiser(header: Header, denoiser: Denoiser, file: str, stem: str) -> Recognised:
    config, prediction, zero_snr = _prediction(header, denoiser, stem)
    distilled = _distilled(header, denoiser, stem)
    if config == "z-image" and distilled is not None:
        config = "z-image-turbo"
    precision = _precision(header, denoiser.prefix)
    wrong = denoiser.wrong or _UNREAD.get(precision) or _edits(header, denoiser.family, stem)
    lacks = () if config is None else missing_components(config, header.shapes)
    is_whole = config is not None and len(lacks) < len(COMPONENTS[config])
    return Recognised(
        kind="model" if is_whole else "denoiser",
        family=denoiser.family,
        config=config,
        lacks=lacks,
        precision=precision,
        prediction=prediction,
        zero_snr=zero_snr,
        guidance_width=max(map(Tensors(header, denoiser.prefix).width, GUIDANCE_LAYERS)),
        distilled=distilled,
        problem=None if wrong is None else f"{file} {wrong}.",
    )


def _with_part(header: Header, part: Part, file: str) -> Recognised:
    precision = _precision(header, "")
    wrong = part.wrong or _UNREAD.get(precision)
    return Recognised(
        kind=part.kind,
        family=part.family,
        config=part.config,
        component=part.component,
        precision=precision,
        problem=None if wrong is None else f"{file} {wrong}.",
    )


def _with_lora(header: Header, file: str, stem: str) -> Recognised:
    facts = read_facts(header, None, file=file)
    hinted = reads_a_hint(header)
    return Recognised(
        # It belongs among what steers by pictures.
        kind="controlnet" if hinted else "lora",
        family=facts.family,
        config="flux-control" if hinted else None,
        precision=_precision(header, ""),
        distilled=read_distilled(header.metadata, stem, is_lora=True),
        problem=facts.problem,
    )


def _distilled(header: Header, denoiser: Denoiser, stem: str) -> Distilled | None:
    """Few steps: by the architecture where that decides, otherwise by what the file says."""
    if denoiser.config == "flux-schnell":
        return Distilled("schnell", 4)
    if denoiser.config in KLEIN:
        return None if "base" in as_words(stem).split() else Distilled("klein", 4)
    if denoiser.config == "z-image" and "zit" in as_words(stem).split():
        # As its Turbo's fine-tunes are called.
        return Distilled("turbo", 8)
    return read_distilled(header.metadata, stem)


def _edits(header: Header, family: ModelFamily, stem: str) -> str | None:
    """That it changes pictures as it is told, where it says so: its tensors do not."""
    kind = _EDITORS.get(family)
    if kind is None:
        return None
    name, said = kind
    texts = (*(header.metadata.get(key, "") for key in _TITLES), stem)
    if not any(said.search(as_words(text)) for text in texts):
        return None
    return f"is a {name} model, which changes pictures as it is told; that is not served"


_EDITORS: Mapping[ModelFamily, tuple[str, re.Pattern[str]]] = MappingProxyType(
    {
        "Flux": ("FLUX.1 Kontext", re.compile(r"kontext")),
        "Qwen-Image": ("Qwen-Image-Edit", re.compile(r"\bedit\b")),
    }
)
_TITLES = ("modelspec.title", "modelspec.architecture", "general.name")

KLEIN = ("flux2-klein-4b", "flux2-klein-9b")
"""Models whose many-step kind has the same header and "base" in its name."""


def _prediction(
    header: Header, denoiser: Denoiser, stem: str
) -> tuple[str | None, Prediction, bool]:
    """The configuration, what is predicted, and whether the last timestep is noise alone."""
    config = denoiser.config
    if denoiser.family not in _NOISE_FAMILIES:
        return config, "flow", False
    words = as_words(stem)
    zero_snr = (
        "ztsnr" in header.shapes
        or any(header.metadata.get(key) == "True" for key in _SAYS_ZERO_SNR)
        or _ZERO_SNR_NAME.search(words) is not None
    )
    said = _said_prediction(header, words)
    if config == "sd2":
        # Nothing in the header tells the two apart; most fine-tunes came from the larger one.
        said = said or ("epsilon" if _SMALL_SD2_NAME.search(words) else "v_prediction")
        config = "sd2-v" if said == "v_prediction" else "sd2"
    return config, said or "epsilon", zero_snr


_NOISE_FAMILIES = frozenset({"SD 1", "SD 2", "SDXL"})
_SAYS_ZERO_SNR = ("ss_zero_terminal_snr", "zero_terminal_snr", "modelspec.zero_terminal_snr")
_SAYS_V = ("ss_v_parameterization", "v_parameterization")
_ZERO_SNR_NAME = re.compile(r"\b(?:ztsnr|zsnr|zero snr)\b")
_V_NAME = re.compile(r"\bv ?pred|\b768 v\b")
_EPSILON_NAME = re.compile(r"\beps(?:ilon)?\b")
_SMALL_SD2_NAME = re.compile(r"\b512\b|\bbase\b|\bsd ?turbo\b")
_SAMPLE_NAME = re.compile(r"\blightning 1 ?step x0\b")


def _said_prediction(header: Header, words: str) -> Prediction | None:
    """What is predicted by the mark in the file, then by metadata, then by the file's name."""
    if "v_pred" in header.shapes:
        # Set on purpose, while trainers write "epsilon" into the metadata unasked.
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").casefold()
    if said.startswith("v"):
        return "v_prediction"
    if said.startswith("eps"):
        return "epsilon"
    architecture = as_words(header.metadata.get("modelspec.architecture", ""))
    marked = any(header.metadata.get(key) == "True" for key in _SAYS_V)
    if marked or _V_NAME.search(architecture) or _V_NAME.search(words):
        return "v_prediction"
    if _SAMPLE_NAME.search(words):
        return "sample"
    if _EPSILON_NAME.search(words) or _SMALL_SD2_NAME.search(architecture):
        return "epsilon"
    return None


def _precision(header: Header, prefix: str) -> str:
    """How most bytes of the tensors under a prefix are stored.

    However few of a file's weights they are, those that cannot be read decide.
    """
    packing = _packing(header)
    if packing is not None and packing in _UNREAD:
        return packing
    dtypes = set(header.dtypes.values())
    if len(dtypes) != 1:
        bytes_by_type = Counter[str]()
        for name, dtype in header.dtypes.items():
            if name.startswith(prefix):
                bytes_by_type[dtype] += header.sizes[name]
        dtypes = [dtype for dtype, _ in bytes_by_type.most_common(1)]
    dtype = next(iter(dtypes), "")
    if header.is_gguf:
        return f"gguf {dtype}"
    if dtype in _PACKED:
        return packing or "int8"
    return _PRECISIONS.get(dtype, dtype.casefold())


_PRECISIONS: Mapping[str, str] = MappingProxyType(
    {
        "F16": "fp16",
        "BF16": "bf16",
        "F32": "fp32",
        "F64": "fp64",
        "F8_E4M3": "fp8",
        "F8_E5M2": "fp8",
    }
)
_PACKED = frozenset({"U8", "I8", "I16", "I32"})
"""Types in which several numbers may lie in one, as marks beside them tell."""

_MARKED = _PACKED | {"F8_E4M3"}
"""Types of weights that marks beside them may belong to."""

_EXPONENTS = frozenset({"U8", "F8_E8M0"})
"""Types of the scales of blocks that are powers of two."""

_PACKINGS: tuple[tuple[str, str], ...] = (
    ("bitsandbytes__nf4", "nf4"),
    ("bitsandbytes__fp4", "fp4"),
    (".weight_scale_2", "nvfp4"),
    (".wscales", "int4"),
    (".qweight", "int4"),
    (".weight_scale_inv", "fp8 in blocks"),
    (".SCB", "int8 (bitsandbytes)"),
    ("._data", "quanto"),
    ("_qdata", "torchao"),
)
"""Ends of tensors beside packed ones, and how those are stored; the blocks are squares of 128."""

_UNREAD: Mapping[str, str] = MappingProxyType(
    {
        name: f"is stored as {name}, which is not read here: take another version of it"
        for name in ("nvfp4", "int4", "int8", "quanto", "torchao", "fp8 in blocks", "mxfp8")
    }
)


def _packing(header: Header) -> str | None:
    """How weights are packed, by the marks beside them; None where there are none."""
    if header.is_gguf or _MARKED.isdisjoint(header.dtypes.values()):
        return None
    for end, name in _PACKINGS:
        if any(tensor.endswith(end) for tensor in header.shapes):
            return name
    scales = (dtype for name, dtype in header.dtypes.items() if name.endswith(".weight_scale"))
    if not _EXPONENTS.isdisjoint(scales):
        return "mxfp8"
    return "int8" if "I8" in header.dtypes.values() else None

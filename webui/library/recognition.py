"""What a weight file is, by the names and shapes of its tensors and what its metadata say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from webui.library.architectures import Denoiser, ModelFamily, read_denoiser
from webui.library.components import COMPONENTS, Component, missing_components
from webui.library.distilled import Distilled, as_words, read_distilled
from webui.library.headers import Header
from webui.library.lora_facts import LORA_TENSOR, read_facts
from webui.library.parts import Part, read_embedding, read_part

__all__ = ["Distilled", "Kind", "ModelFamily", "Prediction", "Recognised", "recognise"]

Kind = Literal[
    "model", "denoiser", "vae", "text encoder", "embedding", "lora", "controlnet", "unknown"
]
Prediction = Literal["epsilon", "v_prediction", "flow"]


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
    distilled: Distilled | None = None
    problem: str | None = None


def recognise(header: Header, *, file: str) -> Recognised:
    """What a file with this header is.

    Args:
        file: The file's name, which tells what the header leaves open.
    """
    stem = Path(file).stem
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
        return _with_denoiser(header, denoiser, file)
    if any(map(LORA_TENSOR.search, header.shapes)):
        return _with_lora(header, file)
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


def _with_denoiser(header: Header, denoiser: Denoiser, file: str) -> Recognised:
    config, prediction, zero_snr = _prediction(header, denoiser, file)
    distilled = _distilled(header, denoiser, file)
    if config == "z-image" and distilled is not None:
        config = "z-image-turbo"
    precision = _precision(header, denoiser.prefix)
    wrong = denoiser.wrong or _UNREAD.get(precision)
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
        distilled=distilled,
        problem=None if wrong is None else f"{file} {wrong}.",
    )


def _with_part(header: Header, part: Part, file: str) -> Recognised:
    return Recognised(
        kind=part.kind,
        family=part.family,
        config=part.config,
        component=part.component,
        precision=_precision(header, ""),
        problem=None if part.wrong is None else f"{file} {part.wrong}.",
    )


def _with_lora(header: Header, file: str) -> Recognised:
    facts = read_facts(header, None, file=file)
    takes_picture = any(
        name.endswith(_FLUX_FIRST_LAYERS) and shape[-1:] == (_FLUX_CONTROL_WIDTH,)
        for name, shape in header.shapes.items()
    )
    return Recognised(
        kind="lora",
        family=facts.family,
        config="flux-control" if facts.family == "Flux" and takes_picture else None,
        precision=_precision(header, ""),
        distilled=read_distilled(header.metadata, Path(file).stem, is_lora=True),
        problem=facts.problem,
    )


_FLUX_FIRST_LAYERS = (
    "img_in.lora_A.weight",
    "img_in.lora_down.weight",
    "x_embedder.lora_A.weight",
)
_FLUX_CONTROL_WIDTH = 128
"""Width of noise beside a picture, as FLUX.1's LoRAs for edges and depth take it."""


def _distilled(header: Header, denoiser: Denoiser, file: str) -> Distilled | None:
    """Few steps: by the architecture where that decides, otherwise by what the file says."""
    if denoiser.config == "flux-schnell":
        return Distilled("schnell", 4)
    stem = Path(file).stem
    if denoiser.config in _KLEIN:
        return None if "base" in as_words(stem).split() else Distilled("klein", 4)
    return read_distilled(header.metadata, stem)


_KLEIN = ("flux2-klein-4b", "flux2-klein-9b")
"""Models whose many-step kind has the same header and "base" in its name."""


def _prediction(
    header: Header, denoiser: Denoiser, file: str
) -> tuple[str | None, Prediction, bool]:
    """The configuration, what is predicted, and whether the last timestep is noise alone."""
    config = denoiser.config
    if denoiser.family not in _NOISE_FAMILIES:
        return config, "flow", False
    words = as_words(Path(file).stem)
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
_SMALL_SD2_NAME = re.compile(r"\b512\b|\bbase\b")


def _said_prediction(header: Header, words: str) -> Prediction | None:
    """What is predicted by metadata, then by the marks trainers leave, then by the file's name."""
    said = header.metadata.get("modelspec.prediction_type", "").casefold()
    if said.startswith("v"):
        return "v_prediction"
    if said.startswith("eps"):
        return "epsilon"
    architecture = as_words(header.metadata.get("modelspec.architecture", ""))
    marked = "v_pred" in header.shapes or any(header.metadata.get(k) == "True" for k in _SAYS_V)
    if marked or _V_NAME.search(architecture) or _V_NAME.search(words):
        return "v_prediction"
    if _EPSILON_NAME.search(words) or _SMALL_SD2_NAME.search(architecture):
        return "epsilon"
    return None


def _precision(header: Header, prefix: str) -> str:
    """How most bytes of the tensors under a prefix are stored."""
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
    return _packed(header) if dtype in _PACKED else _PRECISIONS.get(dtype, dtype.casefold())


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
_PACKED = frozenset({"U8", "I8", "I32"})
"""Types in which several numbers may lie in one, as marks beside them tell."""

_PACKINGS: tuple[tuple[str, str], ...] = (
    ("bitsandbytes__nf4", "nf4"),
    ("bitsandbytes__fp4", "fp4"),
    (".weight_scale_2", "nvfp4"),
    (".wscales", "int4"),
    (".qweight", "int4"),
    (".SCB", "int8"),
)
"""Ends of tensors beside packed ones, and how those are stored."""

_UNREAD: Mapping[str, str] = MappingProxyType(
    {
        name: f"is stored as {name}, which is not read here: take another version of it"
        for name in ("nvfp4", "int4", "int8")
    }
)


def _packed(header: Header) -> str:
    for end, name in _PACKINGS:
        if any(tensor.endswith(end) for tensor in header.shapes):
            return name
    return "int8"

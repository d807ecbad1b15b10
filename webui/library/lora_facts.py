"""What a LoRA's file says of itself in its header: family, kind, rank, parts, trigger words.

Names of tensors and metadata as kohya's scripts, LyCORIS, diffusers and peft write them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

from pydantic_core import from_json

from webui.library.architectures import ModelFamily
from webui.library.distilled import Distilled, read_distilled
from webui.library.headers import Header
from webui.library.lora_families import newer_family

LoraFamily = ModelFamily
LoraKind = Literal["lora", "locon", "loha", "lokr", "dora", "full", "unknown"]
LoraPart = Literal["unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"]

DENOISERS: tuple[LoraPart, ...] = ("unet", "transformer")
"""The parts that predict the noise; the others read the prompt."""

MAX_TRIGGERS = 12
MAX_TEXT = 200
"""Most characters that are kept of a text somebody else wrote."""

LORA_TENSOR = re.compile(
    r"[._](?:lora_(?:down|up|mid|A|B|embedding_A|embedding_B)|lora[12]?\.(?:down|up)"
    r"|lora_linear_layer\.(?:down|up)|lora_magnitude_vector|dora_scale|alpha|diff|diff_b"
    r"|w_norm|b_norm|hada_\w+|lokr_\w+|oft_\w+)(?:\.default)?(?:\.weight)?$"
)
"""The end of a tensor's name by which it belongs to a LoRA."""

_DOWN = tuple(
    f"{mark}.weight"
    for mark in (
        *("lora_down", "lora_A", "lora_A.default", "lora_linear_layer.down"),
        *("lora.down", "lora1.down", "lora2.down"),
    )
)
_READS = (*_DOWN, ".hada_w1_b", ".hada_w2_b", ".diff")
"""Ends of tensors whose second dimension is the width of what goes into the layer."""

_RANKED = (*_DOWN, ".hada_w1_b", ".hada_w2_b", ".lokr_w1_b", ".lokr_w2_b")
"""Ends of tensors whose first dimension is the rank."""

_CROSS_ATTENTION = re.compile(r"attn2[._](?:processor\.)?to_[kv][._]")

_UNET_LAYER = re.compile(
    r"(?:down|up|input|output)_blocks|mid(?:dle)?_block|conv_|time_emb|add_embedding|label_emb"
    r"|(?:unet|model)[._]out[._]"
)

_TRANSFORMER_LAYER = re.compile(
    r"double_blocks|single_blocks|single_transformer_blocks|joint_blocks|_refiner|_embedder"
    r"|transformer_blocks[._]{2}(?:attn[._]|ff|norm|img_|txt_)"
    r"|layers[._]{2}(?:attention|feed_forward|adaLN)"
)
"""As `read_build` has the names: without numbers."""

_HINTED_WIDTH = 128
_FIRST_LAYERS = tuple(
    f"{layer}.{down}.weight"
    for layer in ("img_in", "x_embedder")
    for down in ("lora_A", "lora_down", "lora_A.default")
)

_FULL = (".diff", ".diff_b", ".w_norm", ".b_norm")
_WRAPPED = "base_model.model."
_LONGEST_BEGIN = 44
"""Characters of a name, without peft's own, by which its part is known."""

_PARTS: Mapping[LoraPart, re.Pattern[str]] = MappingProxyType(
    {
        "text_encoder": re.compile(
            r"lora_te1?_|text_encoder\.|text_model\.|encoder\.|final_layer_norm\."
            r"|text_encoders\.clip_[lh]\."
        ),
        "text_encoder_2": re.compile(r"lora_te2_|text_encoder_2\.|text_encoders\.clip_g\."),
        "text_encoder_3": re.compile(r"lora_te3_|text_encoder_3\.|text_encoders\.t5xxl\."),
        "transformer": re.compile(
            r"(?:lora_)?transformer[._]|(?:diffusion_model\.|lora_unet_|lycoris_)?"
            r"(?:(?:double|single|joint|(?:single_)?transformer)_blocks[._]|layers[._]\d"
            r"|(?:noise|context)_refiner[._])"
        ),
        "unet": re.compile(
            r"lora_unet_|lycoris_|unet\."
            r"|(?:down_blocks|mid_block|up_blocks|conv_in|conv_norm_out|conv_out|time_embedding"
            r"|add_embedding)\."
            r"|diffusion_model\.(?:(?:input|middle|output)_blocks?|time_embed|label_emb|out)\."
        ),
    }
)
"""How the names of the tensors of each part begin; the first that fits counts."""

_WIDTHS: Mapping[int, LoraFamily] = MappingProxyType({768: "SD 1", 1024: "SD 2", 2048: "SDXL"})
_FLUX_BLOCKS = ("double_blocks", "single_transformer_blocks", "single_blocks")
_SD3_WIDTHS = frozenset({1536, 2432})
_FLUX_WIDTH = 3072
_SAID: tuple[tuple[str, LoraFamily], ...] = (
    ("sdxl", "SDXL"),
    ("stable-diffusion-xl", "SDXL"),
    ("sd3", "SD 3"),
    ("stable-diffusion-3", "SD 3"),
    *((begin, "Flux 2") for begin in ("flux2", "flux.2", "flux-2")),
    ("flux", "Flux"),
    *((begin, "Z-Image") for begin in ("zimage", "z-image", "z_image")),
    *((begin, "Qwen-Image") for begin in ("qwen-image", "qwen_image")),
    ("sd_v2", "SD 2"),
    ("stable-diffusion-v2", "SD 2"),
    ("sd_v1", "SD 1"),
    ("stable-diffusion-v1", "SD 1"),
)
"""How `ss_base_model_version` and `modelspec.architecture` begin."""


@dataclass(frozen=True)
class LoraFacts:
    """What is known of a LoRA without its weights.

    Attributes:
        alias: `ss_output_name`, the name it was trained under.
        rank: The rank most of its layers have; None where there is none.
        alpha: As the metadata tells it; the scale is `alpha / rank`.
        parts: The parts of a model that it changes.
        trained_on: Name of the model it was trained on, in its maker's words.
        triggers: Words that it was trained to answer to, the commonest first.
        distilled: For how few steps it makes a model fit, if it does.
        problem: Why it cannot be used, in a sentence; None where nothing is wrong.
    """

    alias: str | None = None
    family: LoraFamily = "unknown"
    kind: LoraKind = "unknown"
    rank: int | None = None
    alpha: float | None = None
    parts: tuple[LoraPart, ...] = ()
    trained_on: str | None = None
    triggers: tuple[str, ...] = ()
    distilled: Distilled | None = None
    problem: str | None = None


@dataclass(frozen=True)
class LoraBuild:
    """What a LoRA's tensors tell; the attributes are those of `LoraFacts`.

    Attributes:
        is_foreign: Whether its layers are those of no model that is served.
        reads_a_hint: Whether it has FLUX.1 take a picture's latents beside its own, as those for
            edges and depth do: its first layer is as wide as both.
    """

    family: LoraFamily
    kind: LoraKind
    rank: int | None
    parts: tuple[LoraPart, ...]
    is_lora: bool
    is_foreign: bool
    reads_a_hint: bool


BUILD_SAYS = ("ss_base_model_version", "modelspec.architecture")
"""Keys of metadata that tell a family where tensors do not."""


def read_build(header: Header) -> LoraBuild:
    """How a LoRA is built, by its tensors and the metadata `BUILD_SAYS`."""
    shapes = header.shapes
    # Blocks differ in their numbers alone: a hundredth is left to be looked through.
    endings = "\n".join(shapes).encode(errors="replace").translate(None, b"0123456789")
    names = b"\n".join({*endings.split(b"\n")}).decode()
    read = [(name, shape) for name, shape in shapes.items() if name.endswith(_READS)]
    if ".lokr_" in names:
        read += _kronecker_products(shapes)
    parts = _parts(shapes)
    family = _family(names, read, parts, header.metadata)
    return LoraBuild(
        family=family,
        kind=_kind(names, read),
        rank=_rank(shapes),
        parts=parts,
        is_lora=any(map(LORA_TENSOR.search, shapes)),
        is_foreign=family == "unknown" and _is_foreign(names, parts),
        # FLUX.2's own first layer is as wide.
        reads_a_hint=family == "Flux" and _is_wide(shapes),
    )


def read_facts(
    header: Header,
    config: Mapping[str, Any] | None,
    *,
    file: str,
) -> LoraFacts:
    """The facts in a file's header.

    Args:
        config: peft's `adapter_config.json`, where there is one beside the file.
        file: The file's name, for the sentence about what is wrong.
    """
    return facts_of(read_build(header), header.metadata, config, file=file)


def facts_of(
    build: LoraBuild, said: Mapping[str, str], config: Mapping[str, Any] | None, *, file: str
) -> LoraFacts:
    """The facts by how it is built and what its metadata say; otherwise as `read_facts`."""
    config = config or {}
    alpha = config.get("lora_alpha", said.get("ss_network_alpha"))
    return LoraFacts(
        alias=_text(said.get("ss_output_name")),
        family=build.family,
        kind=build.kind,
        rank=build.rank,
        alpha=_number(alpha),
        parts=build.parts,
        trained_on=_text(
            said.get("ss_sd_model_name")
            or config.get("base_model_name_or_path")
            or said.get("modelspec.architecture")
            or said.get("ss_base_model_version")
        ),
        triggers=_triggers(said),
        distilled=read_distilled(said, Path(file).stem, is_lora=True),
        problem=_problem(build, file),
    )


def _problem(build: LoraBuild, file: str) -> str | None:
    if not build.is_lora:
        return f"{file} is no LoRA: there are no layers of one in it."
    if build.is_foreign:
        return (
            f"{file} is a LoRA for a kind of model that is not served: take one for Stable"
            " Diffusion, FLUX, Z-Image or Qwen-Image."
        )
    return None


def reads_a_hint(header: Header) -> bool:
    """Whether a LoRA is one of those of `LoraBuild.reads_a_hint`."""
    return _is_wide(header.shapes) and read_build(header).reads_a_hint


def _is_wide(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return any(
        shape[-1:] == (_HINTED_WIDTH,) and name.endswith(_FIRST_LAYERS)
        for name, shape in shapes.items()
    )


def _parts(names: Iterable[str]) -> tuple[LoraPart, ...]:
    begins = {name.removeprefix(_WRAPPED)[:_LONGEST_BEGIN] for name in names}
    found = {
        next((part for part, pattern in _PARTS.items() if pattern.match(begin)), None)
        for begin in begins
    }
    return tuple(part for part in _PARTS if part in found)


def _family(
    names: str,
    read: Sequence[tuple[str, tuple[int, ...]]],
    parts: Container[LoraPart],
    said: Mapping[str, str],
) -> LoraFamily:
    """By names of layers and widths of cross attention, then by what the metadata say."""
    inner = [(name, _inner(shape)) for name, shape in read]
    newer = newer_family(names, inner, said)
    if newer is not None:
        return newer
    if "joint_blocks" in names:
        return "SD 3"
    if any(blocks in names for blocks in _FLUX_BLOCKS):
        return "Flux"
    if "transformer" in parts:
        widths = {width for _, width in inner}
        return "SD 3" if widths & _SD3_WIDTHS else "Flux" if _FLUX_WIDTH in widths else "unknown"
    if "text_encoder_2" in parts:
        return "SDXL"
    widths = Counter(width for name, width in inner if _CROSS_ATTENTION.search(name))
    for width, _ in widths.most_common(1):
        if width in _WIDTHS:
            return _WIDTHS[width]
    return _said_family(said)


def _kronecker_products(
    shapes: Mapping[str, tuple[int, ...]],
) -> Iterator[tuple[str, tuple[int, int]]]:
    """For each layer of a LoKr the width of what goes into it, which both its factors share in."""
    for name, shape in shapes.items():
        layer, mark, end = name.rpartition(".lokr_w1")
        if mark and end in ("", "_b"):
            for second in (f"{layer}.lokr_w2", f"{layer}.lokr_w2_b"):
                if second in shapes:
                    yield f"{layer}.lokr", (0, _inner(shape) * _inner(shapes[second]))


def _is_foreign(names: str, parts: Container[LoraPart]) -> bool:
    """Whether no layer is called as one of a model that is served. Widths tell nothing: there are
    models of all kinds of them.
    """
    if any(part in parts for part in _PARTS if part.startswith("text_encoder")):
        return False
    return not (_UNET_LAYER.search(names) or _TRANSFORMER_LAYER.search(names))


def _inner(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 0


def _said_family(said: Mapping[str, str]) -> LoraFamily:
    for key in BUILD_SAYS:
        text = said.get(key, "").casefold()
        for begin, family in _SAID:
            if text.startswith(begin):
                return family
    return "unknown"


def _kind(names: str, read: Sequence[tuple[str, tuple[int, ...]]]) -> LoraKind:
    if "dora_scale" in names or "lora_magnitude_vector" in names:
        return "dora"
    if ".hada_" in names:
        return "loha"
    if ".lokr_" in names:
        return "lokr"
    downs = [shape for name, shape in read if name.endswith(_DOWN)]
    if ".lora_mid" in names or any(len(shape) == 4 and shape[2:] != (1, 1) for shape in downs):
        return "locon"
    if downs:
        return "lora"
    return "full" if any(name.endswith(_FULL) for name in names.split("\n")) else "unknown"


def _rank(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    ranks = Counter(shape[0] for name, shape in shapes.items() if shape and name.endswith(_RANKED))
    return ranks.most_common(1)[0][0] if ranks else None


def _triggers(said: Mapping[str, str]) -> tuple[str, ...]:
    """Trigger phrases and the commonest tags of the training, each once."""
    phrases = said.get("modelspec.trigger_phrase", "").split(",")
    words = (word.strip()[:MAX_TEXT] for word in (*phrases, *_tags(said)))
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_TRIGGERS]


def _tags(said: Mapping[str, str]) -> Iterable[str]:
    counts = Counter[str]()
    folders = _json(said.get("ss_tag_frequency", ""))
    for tags in folders.values():
        for tag, count in cast(dict[str, Any], tags).items() if isinstance(tags, dict) else ():
            counts[tag] += count if isinstance(count, int) else 0
    return (tag for tag, _ in counts.most_common(MAX_TRIGGERS))


def _json(text: str) -> dict[str, Any]:
    try:
        value: Any = from_json(text)
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) and value not in ("", "None") else None


def _number(value: object) -> float | None:
    try:
        number = float(cast(Any, value))
    except (TypeError, ValueError):
        return None
    return number if 0 < abs(number) < 1e6 else None

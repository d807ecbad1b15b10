"""The kinds of hints that can steer a picture, and which ControlNet reads them. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from webui.errors import BadRequestError
from webui.library.checkpoints import Model
from webui.library.controlnets import ControlNetFolder
from webui.request import ControlKind, Preprocessor


@dataclass(frozen=True)
class Kind:
    """One row: what a hint of that kind shows.

    Attributes:
        preprocessors: What makes it of a picture, the usual one first.
        words: A ControlNet with one of them in its name is of that kind.
        union_type: Its place among the control types of a union model, in the order of xinsir's
            ControlNet++; None where union models do not read it.
    """

    preprocessors: tuple[Preprocessor, ...]
    words: tuple[str, ...]
    union_type: int | None


KINDS: Mapping[ControlKind, Kind] = MappingProxyType(
    {
        "pose": Kind(("openpose", "openpose full", "none"), ("openpose", "pose"), 0),
        "canny": Kind(("canny", "none"), ("canny",), 3),
        "soft edge": Kind(("hed", "none"), ("softedge", "soft_edge", "soft-edge", "hed"), 2),
        "line art": Kind(("line art", "canny", "none"), ("lineart", "line_art", "line-art"), 3),
        "scribble": Kind(("scribble hed", "none"), ("scribble",), 2),
        "depth": Kind(("depth", "none"), ("depth",), 1),
        "normal": Kind(("normal bae", "normal depth", "none"), ("normal",), 4),
        "lines": Kind(("mlsd", "none"), ("mlsd",), 3),
        "segment": Kind(("segment", "none"), ("seg",), 5),
        "other": Kind(("none",), (), None),
    }
)


@dataclass(frozen=True)
class Thresholds:
    """A preprocessor's two thresholds: where they usually are, and the highest."""

    low: float
    high: float
    most: float


THRESHOLDS: Mapping[Preprocessor, Thresholds] = MappingProxyType(
    {"canny": Thresholds(100, 200, 255), "mlsd": Thresholds(0.1, 0.1, 20)}
)

_PLAIN = "ControlNetModel"
_UNIONS = ("ControlNetUnionModel", "ControlNetModel_Union")
"""As diffusers calls it, and as the authors of the first one do."""


_OF_TRANSFORMERS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "QwenImageControlNetModel": (
            "QwenImageTransformer2DModel",
            ("attention_head_dim", "num_attention_heads", "joint_attention_dim", "in_channels"),
        ),
        "FluxControlNetModel": (
            "FluxTransformer2DModel",
            ("attention_head_dim", "num_attention_heads", "joint_attention_dim", "in_channels"),
        ),
        # Some read no prompt, and so have no width of its tokens.
        "SD3ControlNetModel": (
            "SD3Transformer2DModel",
            ("attention_head_dim", "num_attention_heads", "pooled_projection_dim", "in_channels"),
        ),
    }
)
"""Classes of ControlNets for transformers: the transformer's, and what both have in common."""


_MORE_THAN_A_HINT = (
    "extra_condition_channels",
    "extra_conditioning_channels",
    "num_mode",
    "conditioning_embedding_channels",
)
"""Settings of ControlNets that are told or shown something that is not made here: a mask beside the
hint, its kind by a number of their own, or its pixels in place of its latents."""


def is_union(net: ControlNetFolder) -> bool:
    """Whether the ControlNet reads hints of several kinds."""
    return net.class_name in _UNIONS


def is_of_kind(net: ControlNetFolder, kind: ControlKind) -> bool:
    """Whether the ControlNet reads hints of that kind, by what it is, says or is called."""
    if is_union(net):
        return union_type(net, kind) is not None
    if net.kind:
        return net.kind == kind
    return any(word in net.name.casefold() for word in KINDS[kind].words)


def union_type(net: ControlNetFolder, kind: ControlKind) -> int | None:
    """The kind's place among a union model's control types; None where it is none of them."""
    place = KINDS[kind].union_type
    known = _number(net.config, "num_control_type", _FEWEST_TYPES)
    return place if place is not None and place < known else None


_FEWEST_TYPES = 6
"""What diffusers takes where the configuration does not say."""


_SHAPE = ("block_out_channels", "cross_attention_dim", "layers_per_block")


def fits(net: ControlNetFolder, denoiser: Mapping[str, Any]) -> bool:
    """Whether the ControlNet is served, and steers a denoiser of that configuration."""
    if net.class_name in _OF_TRANSFORMERS:
        steered, shape = _OF_TRANSFORMERS[net.class_name]
        same = all(net.config.get(name) == denoiser.get(name) for name in shape)
        plain = not any(net.config.get(name) for name in _MORE_THAN_A_HINT)
        return denoiser.get("_class_name") == steered and same and plain
    # A UNet for inpainting takes more channels, of which the first are the latents.
    return (
        net.class_name in (_PLAIN, *_UNIONS)
        and all(net.config.get(name) == denoiser.get(name) for name in _SHAPE)
        and _number(net.config, "in_channels", 4) <= _number(denoiser, "in_channels", 4)
    )


def _number(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else default


def fitting_nets(
    nets: Iterable[ControlNetFolder], kind: ControlKind, denoiser: Mapping[str, Any]
) -> list[ControlNetFolder]:
    """Those that read the kind and fit the denoiser, the one that is taken first of all first."""
    found = (net for net in nets if is_of_kind(net, kind) and fits(net, denoiser))
    # One that was trained for that kind alone goes before one that reads several.
    return sorted(found, key=is_union)


def check_fits(net: ControlNetFolder, denoiser: Mapping[str, Any], model: Model) -> None:
    """Passes a ControlNet that steers the model with that denoiser.

    Raises:
        BadRequestError: It is of a class that is not served, or made for other models.
    """
    if net.class_name not in (_PLAIN, *_UNIONS, *_OF_TRANSFORMERS):
        served = ", ".join((_PLAIN, _UNIONS[0], *_OF_TRANSFORMERS))
        raise BadRequestError(
            f"{net.name!r} is a {net.class_name}; served are: {served}.",
            field="controls",
        )
    if not fits(net, denoiser):
        raise BadRequestError(
            f"The ControlNet {net.name!r} is made for other models than {model.name!r}.",
            field="controls",
        )

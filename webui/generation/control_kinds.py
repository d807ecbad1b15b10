"""The kinds of hints that can steer a picture, and which ControlNet reads them. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from webui.errors import BadRequestError
from webui.library.checkpoints import Model
from webui.library.controlnet_files import CONTROL_LORA
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
        flux_mode: Its number to union models for FLUX.1, in the order of InstantX and Shakker Labs.
    """

    preprocessors: tuple[Preprocessor, ...]
    words: tuple[str, ...]
    union_type: int | None
    flux_mode: int | None = None


KINDS: Mapping[ControlKind, Kind] = MappingProxyType(
    {
        "pose": Kind(("openpose", "openpose full", "none"), ("openpose", "pose"), 0, 4),
        "canny": Kind(("canny", "none"), ("canny",), 3, 0),
        "soft edge": Kind(("hed", "none"), ("softedge", "soft_edge", "soft-edge", "hed"), 2),
        "line art": Kind(("line art", "canny", "none"), ("lineart", "line_art", "line-art"), 3),
        "scribble": Kind(("scribble hed", "none"), ("scribble",), 2),
        "depth": Kind(("depth", "none"), ("depth",), 1, 2),
        "normal": Kind(("normal bae", "normal depth", "none"), ("normal",), 4),
        "lines": Kind(("mlsd", "none"), ("mlsd",), 3),
        "segment": Kind(("segment", "none"), ("seg",), 5),
        "tile": Kind(("none",), ("tile",), 6, 1),
        "blur": Kind(("blur", "none"), ("blur",), None, 3),
        "gray": Kind(("gray", "none"), ("gray", "grey"), None, 5),
        "inpaint": Kind(("none",), ("inpaint",), None),
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


_WIDTHS = ("attention_head_dim", "num_attention_heads", "joint_attention_dim", "in_channels")

_OF_TRANSFORMERS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "QwenImageControlNetModel": ("QwenImageTransformer2DModel", _WIDTHS),
        "FluxControlNetModel": ("FluxTransformer2DModel", _WIDTHS),
        # Some read no prompt, and so have no width of its tokens.
        "SD3ControlNetModel": (
            "SD3Transformer2DModel",
            ("attention_head_dim", "num_attention_heads", "pooled_projection_dim", "in_channels"),
        ),
        "ZImageControlNetModel": ("ZImageTransformer2DModel", ("dim", "n_heads", "n_kv_heads")),
    }
)
"""Classes of ControlNets for transformers: the transformer's, and what both have in common."""

SERVED_NETS = (_PLAIN, *_UNIONS, *_OF_TRANSFORMERS, CONTROL_LORA)
"""Classes of diffusers, and the one name of our own, that run ControlNets."""

_MASK_CHANNELS: Mapping[str, int] = MappingProxyType(
    {"extra_condition_channels": 4, "extra_conditioning_channels": 1}
)
"""Settings of ControlNets that are shown a mask beside the hint, and the channels that it takes."""

_UNTOLD_UNION = "union"
"""In the names of ControlNets for transformers that read hints of several kinds without being told
which, and the kinds that they all read."""
_UNTOLD_KINDS: tuple[ControlKind, ...] = ("pose", "canny", "soft edge", "depth")

HINTED_GUIDANCE: Mapping[ControlKind, float] = MappingProxyType({"canny": 30.0, "depth": 10.0})
"""The kinds of hints that there are FLUX.1 models and LoRAs for, and the distilled guidance that
those were made for, as their makers run them."""


def own_kinds(model: Model) -> tuple[ControlKind, ...]:
    """What a model that takes a hint itself can be shown: by its name or, without one, either."""
    name = model.name.casefold()
    named: tuple[ControlKind, ...] = tuple(kind for kind in HINTED_GUIDANCE if kind in name)
    return named if len(named) == 1 else tuple(HINTED_GUIDANCE)


def is_union(net: ControlNetFolder) -> bool:
    """Whether the ControlNet reads hints of several kinds."""
    return net.class_name in _UNIONS


def is_of_kind(net: ControlNetFolder, kind: ControlKind) -> bool:
    """Whether the ControlNet reads hints of that kind, by what it is, says or is called."""
    if is_told(net):
        return union_type(net, kind) is not None
    if net.kind:
        return net.kind == kind
    name = net.name.casefold()
    untold = net.class_name in _OF_TRANSFORMERS and _UNTOLD_UNION in name
    return (untold and kind in _UNTOLD_KINDS) or any(word in name for word in KINDS[kind].words)


def sees_mask(net: ControlNetFolder) -> bool:
    """Whether the ControlNet is shown a picture to be painted anew in part, and where."""
    return any(net.config.get(name) for name in _MASK_CHANNELS)


def _sees_more(net: ControlNetFolder) -> bool:
    return any(net.config.get(name) not in (None, 0, n) for name, n in _MASK_CHANNELS.items())


def is_told(net: ControlNetFolder) -> bool:
    """Whether the ControlNet is told by a number what its hints show."""
    return is_union(net) or bool(net.config.get("num_mode"))


def union_type(net: ControlNetFolder, kind: ControlKind) -> int | None:
    """The kind's number to a ControlNet that is told it; None where it knows no such kind."""
    if is_union(net):
        place = KINDS[kind].union_type
        known = _number(net.config, "num_control_type", _FEWEST_TYPES)
    else:
        place = KINDS[kind].flux_mode
        known = _number(net.config, "num_mode", 0)
    return place if place is not None and place < known else None


_FEWEST_TYPES = 6
"""What diffusers takes where the configuration does not say."""


_SHAPE = ("block_out_channels", "cross_attention_dim", "layers_per_block")


def fits(net: ControlNetFolder, denoiser: Mapping[str, Any]) -> bool:
    """Whether the ControlNet is served, and steers a denoiser of that configuration."""
    if net.class_name == CONTROL_LORA:
        width = _number(denoiser, "attention_head_dim", 0) * _number(
            denoiser, "num_attention_heads", 0
        )
        plain = denoiser.get("in_channels") == _FLUX_CHANNELS
        is_flux = denoiser.get("_class_name") == "FluxTransformer2DModel"
        return is_flux and plain and net.config["width"] == width
    if net.class_name in _OF_TRANSFORMERS:
        steered, shape = _OF_TRANSFORMERS[net.class_name]
        same = all(net.config.get(name) == denoiser.get(name) for name in shape)
        return denoiser.get("_class_name") == steered and same and not _sees_more(net)
    # A UNet for inpainting takes more channels, of which the first are the latents.
    return (
        net.class_name in (_PLAIN, *_UNIONS)
        and all(net.config.get(name) == denoiser.get(name) for name in _SHAPE)
        and _number(net.config, "in_channels", 4) <= _number(denoiser, "in_channels", 4)
    )


_FLUX_CHANNELS = 64
"""Of its latents; its kinds for filling and for hints take more."""


def _number(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else default


def fitting_nets(
    nets: Iterable[ControlNetFolder], kind: ControlKind, denoiser: Mapping[str, Any]
) -> list[ControlNetFolder]:
    """Those that read the kind and fit the denoiser, the one that is taken first of all first."""
    found = (net for net in nets if is_of_kind(net, kind) and fits(net, denoiser))
    # One that was trained for that kind alone goes before one that reads several.
    return sorted(found, key=lambda net: is_told(net) or _UNTOLD_UNION in net.name.casefold())


def check_fits(net: ControlNetFolder, denoiser: Mapping[str, Any], model: Model) -> None:
    """Passes a ControlNet that steers the model with that denoiser.

    Raises:
        BadRequestError: It is of a class that is not served, sees more than is made here, or is
            made for other models.
    """
    if net.class_name not in SERVED_NETS:
        served = ", ".join((_PLAIN, _UNIONS[0], *_OF_TRANSFORMERS))
        raise BadRequestError(
            f"{net.name!r} is a {net.class_name}; served are: {served}.",
            field="controls",
        )
    if _sees_more(net):
        raise BadRequestError(
            f"The ControlNet {net.name!r} is shown more than a hint and a mask, which is not made"
            " here.",
            field="controls",
        )
    if not fits(net, denoiser):
        raise BadRequestError(
            f"The ControlNet {net.name!r} is made for other models than {model.name!r}.",
            field="controls",
        )

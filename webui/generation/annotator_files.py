"""What the networks that draw a picture need on disk, and where it belongs. Knows no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from webui.request import Preprocessor

FOLDER = "annotators"
"""Name of the folder in each folder of models that the networks' weights lie in."""

PACKAGE = "controlnet_aux"

HED = "ControlNetHED.safetensors"
LINE_ART = "sk_model.safetensors"
MLSD = "mlsd_large_512_fp32.safetensors"
BODY = "body_pose_model.safetensors"
HAND = "hand_pose_model.safetensors"
FACE = "facenet.safetensors"
NORMAL_BAE = "scannet.safetensors"
DEPTH = "depth"
SEGMENT = "segment"


@dataclass(frozen=True)
class Files:
    """What one network needs.

    Attributes:
        names: Files or folders in `models/annotators/`.
        origin: Where they are to be had.
        package: Whether it needs controlnet-aux.
    """

    names: tuple[str, ...]
    origin: str
    package: bool = True


_ANNOTATORS = "of lllyasviel/Annotators on Hugging Face, converted to safetensors"
_TERMS = "for non-commercial use only"
_DEPTH_MODEL = "the folder of a depth model for transformers, such as Intel/dpt-hybrid-midas"

FILES: Mapping[Preprocessor, Files] = MappingProxyType(
    {
        "hed": Files((HED,), f"ControlNetHED.pth {_ANNOTATORS}"),
        "scribble hed": Files((HED,), f"ControlNetHED.pth {_ANNOTATORS}"),
        "line art": Files((LINE_ART,), f"sk_model.pth {_ANNOTATORS}"),
        "mlsd": Files((MLSD,), f"mlsd_large_512_fp32.pth {_ANNOTATORS}"),
        "openpose": Files((BODY,), f"body_pose_model.pth {_ANNOTATORS}; {_TERMS}"),
        "openpose full": Files(
            (BODY, HAND, FACE),
            f"body_pose_model.pth, hand_pose_model.pth and facenet.pth {_ANNOTATORS}; {_TERMS}",
        ),
        "normal bae": Files((NORMAL_BAE,), f"scannet.pt {_ANNOTATORS}"),
        "depth": Files((DEPTH,), _DEPTH_MODEL, package=False),
        "normal depth": Files((DEPTH,), _DEPTH_MODEL, package=False),
        "segment": Files(
            (SEGMENT,),
            "the folder of an ADE20K model for transformers, such as"
            " openmmlab/upernet-convnext-small",
        ),
    }
)
"""One row for each preprocessor that is a network."""


def missing(name: Preprocessor, folders: tuple[Path, ...]) -> str:
    """One sentence about what a preprocessor lacks and where that belongs; else empty.

    Args:
        folders: Where the weights may lie.
    """
    row = FILES.get(name)
    if row is None:
        return ""
    needs: list[str] = []
    if row.package and importlib.util.find_spec(PACKAGE) is None:
        needs.append("install the package controlnet-aux in Easel's environment")
    if complete_folder(name, folders) is None:
        files = " and ".join(row.names)
        needs.append(f"put {files} into {folders[0]} ({row.origin})")
    return f"The preprocessor {name!r} is not here: {'; '.join(needs)}." if needs else ""


def complete_folder(name: Preprocessor, folders: tuple[Path, ...]) -> Path | None:
    """The first of the folders with everything that the network of that name needs."""
    needed = FILES[name].names
    whole = (folder for folder in folders if all((folder / file).exists() for file in needed))
    return next(whole, None)

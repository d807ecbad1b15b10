"""The networks that draw a picture as edges, lines, depth, parts or a pose.

Those of controlnet-aux are imported one module at a time, past the package's own `__init__`, which
imports them all (38 seconds), and get their weights from safetensors files: the package's own
loading unpickles. None of them is fetched; `annotator_files` says what belongs where.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image

from webui.errors import NotFoundError
from webui.generation.annotator_files import (
    BODY,
    DEPTH,
    FACE,
    HAND,
    HED,
    LINE_ART,
    MLSD,
    NORMAL_BAE,
    PACKAGE,
    SEGMENT,
    complete_folder,
    missing,
)
from webui.generation.failures import as_broken
from webui.generation.poses import draw_face, draw_hand, draw_pose
from webui.poses import MAX_PEOPLE, Pose
from webui.request import Preprocessor

Picture = NDArray[np.uint8]
"""Height x width x 3, RGB, 0..255."""


@dataclass(frozen=True)
class Options:
    """What a network is to do.

    Attributes:
        resolution: Pixels of the shorter side it looks at.
        low, high: Thresholds, where it has some.
    """

    resolution: int
    low: float
    high: float


@dataclass(frozen=True)
class _Place:
    """Where a network finds what it needs."""

    folder: Path
    device: str

    def network(self, network: torch.nn.Module, file: str) -> torch.nn.Module:
        """The network with the weights in that file, on the device."""
        network.load_state_dict(self.weights(file))
        return network.float().eval().to(self.device)

    def weights(self, file: str) -> dict[str, torch.Tensor]:
        untyped: Any = safetensors.torch
        return cast(dict[str, torch.Tensor], untyped.load_file(self.folder / file))


def annotate(
    name: Preprocessor, picture: Picture, options: Options, folders: tuple[Path, ...], device: str
) -> Picture:
    """The picture as the network of that name draws it, in the picture's size.

    Raises:
        NotFoundError: Its weights, or the package it is in, are not here; says what belongs where.
        BrokenFileError: Its weights do not fit.
    """
    place = _Place(_folder_of(name, folders), device)
    broken = as_broken(f"The preprocessor {name!r}", "controls", trouble="does not work")
    with broken, torch.inference_mode():
        drawn = NETWORKS[name](place, picture, options)
    height, width = picture.shape[:2]
    return np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _folder_of(name: Preprocessor, folders: tuple[Path, ...]) -> Path:
    sentence = missing(name, folders)
    found = complete_folder(name, folders)
    if sentence or found is None:
        raise NotFoundError(sentence, field="controls")
    return found


def _module(name: str) -> Any:
    """One module of controlnet-aux; the package around it is found, but not run."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.{name}")


def _sized(options: Options) -> dict[str, Any]:
    side = options.resolution
    return {"detect_resolution": side, "image_resolution": side, "output_type": "np"}


def _hed(place: _Place, picture: Picture, options: Options, *, scribble: bool = False) -> Picture:
    module = _module("hed")
    network = place.network(module.ControlNetHED_Apache2(), HED)
    return module.HEDdetector(network)(picture, scribble=scribble, **_sized(options))


def _scribble(place: _Place, picture: Picture, options: Options) -> Picture:
    return _hed(place, picture, options, scribble=True)


def _line_art(place: _Place, picture: Picture, options: Options) -> Picture:
    module = _module("lineart")
    network = place.network(module.Generator(3, 1, 3), LINE_ART)
    return module.LineartDetector(network, network)(picture, **_sized(options))


def _mlsd(place: _Place, picture: Picture, options: Options) -> Picture:
    module = _module("mlsd")
    network = place.network(module.MobileV2_MLSD_Large(), MLSD)
    thresholds = {"thr_v": options.low, "thr_d": options.high}
    return module.MLSDdetector(network)(picture, **thresholds, **_sized(options))


def _depth_of(place: _Place, picture: Picture, options: Options) -> NDArray[np.float32]:
    """Nearness, 0 far and 1 near, in the picture's size."""
    outputs = _transformer("AutoModelForDepthEstimation", place, DEPTH, picture, options)
    depth = outputs.predicted_depth.float().squeeze().cpu().numpy()
    low, high = float(depth.min()), float(depth.max())
    near = (depth - low) / (high - low or 1.0)
    height, width = picture.shape[:2]
    return np.asarray(cv2.resize(near, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _depth(place: _Place, picture: Picture, options: Options) -> Picture:
    near = (_depth_of(place, picture, options).clip(0, 1) * 255).round().astype(np.uint8)
    return np.stack([near] * 3, axis=-1)


def _normal(place: _Place, picture: Picture, options: Options) -> Picture:
    """Normals of the depth, in the colours of ScanNet: what faces left red, up green, us blue."""
    near = cv2.GaussianBlur(_depth_of(place, picture, options), (0, 0), 1.5)
    across, down = (cv2.Sobel(near, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    normal = np.stack([across, down, np.full_like(near, _FLATNESS / max(near.shape))], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return (127.5 + 127.5 * normal).round().astype(np.uint8)


_FLATNESS = 6.0
"""How little the depth stands out; it has no unit, so this is by eye."""


def _segment(place: _Place, picture: Picture, options: Options) -> Picture:
    outputs = _transformer("AutoModelForSemanticSegmentation", place, SEGMENT, picture, options)
    parts = outputs.logits.argmax(dim=1).squeeze(0).cpu().numpy().astype(np.uint8)
    palette = np.array(_module("util").ade_palette(), np.uint8)
    height, width = picture.shape[:2]
    coloured = palette[parts % len(palette)]
    whole = cv2.resize(coloured, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(whole, np.uint8)


def _transformer(kind: str, place: _Place, folder: str, picture: Picture, options: Options) -> Any:
    """What a model of transformers in that folder makes of the picture."""
    transformers: Any = importlib.import_module("transformers")
    path = place.folder / folder
    processor = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
    model = getattr(transformers, kind).from_pretrained(
        path, local_files_only=True, use_safetensors=True
    )
    inputs = processor(images=_scaled(picture, options.resolution), return_tensors="pt")
    return model.eval().to(place.device)(**inputs.to(place.device))


def _scaled(picture: Picture, side: int) -> Picture:
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _normal_bae(place: _Place, picture: Picture, options: Options) -> Picture:
    module = _module("normalbae")
    settings = SimpleNamespace(
        mode="client",
        architecture="BN",
        pretrained="scannet",
        sampling_ratio=0.4,
        importance_ratio=0.7,
    )
    # It tells on the console what it builds.
    with contextlib.redirect_stdout(io.StringIO()):
        network = module.NNET(settings)
    network = place.network(network, NORMAL_BAE)
    return module.NormalBaeDetector(network)(picture, **_sized(options))


def _openpose(place: _Place, picture: Picture, options: Options) -> Picture:
    return _drawn(_detector(place), _scaled(picture, options.resolution), parts=False)


def _openpose_full(place: _Place, picture: Picture, options: Options) -> Picture:
    module = _module("open_pose")
    detector = _detector(place)
    for name, kind, network, file in (
        ("hand_estimation", module.hand.Hand, module.hand.handpose_model, HAND),
        ("face_estimation", module.face.Face, module.face.FaceNet, FACE),
    ):
        setattr(detector, name, _unpickled(kind, network(), place, file))
    detector.face_estimation.inference_size = module.face.params["inference_img_size"]
    detector.face_estimation.sigma = module.face.params["gaussian_sigma"]
    detector.face_estimation.threshold = module.face.params["heatmap_peak_thresh"]
    return _drawn(detector, _scaled(picture, options.resolution), parts=True)


def detect_pose(picture: Picture, folders: tuple[Path, ...], device: str) -> Pose | None:
    """The pose of everybody in the picture, in its pixels; None where there is nobody.

    Raises:
        NotFoundError: The detector is not here; says what belongs where.
    """
    place = _Place(_folder_of("openpose", folders), device)
    with torch.inference_mode():
        return _pose_of(_detector(place).detect_poses(picture), picture)


def _detector(place: _Place) -> Any:
    module = _module("open_pose")
    body = _unpickled(module.body.Body, module.body.bodypose_model(), place, BODY)
    return module.OpenposeDetector(body)


def _unpickled(kind: type[Any], network: torch.nn.Module, place: _Place, file: str) -> Any:
    """A part of the detector, past its constructor, which would unpickle its network's weights."""
    part: Any = object.__new__(kind)
    weights = place.weights(file)
    if not weights.keys() & network.state_dict().keys():
        # The original files name their tensors without the blocks they are in.
        weights = _module("open_pose.util").transfer(network, weights)
    network.load_state_dict(weights)
    part.model = network.float().eval().to(place.device)
    return part


def _drawn(detector: Any, picture: Picture, *, parts: bool) -> Picture:
    found = detector.detect_poses(picture, include_hand=parts, include_face=parts)
    pose = _pose_of(found, picture)
    height, width = picture.shape[:2]
    drawn = Image.new("RGB", (width, height)) if pose is None else draw_pose(pose, width, height)
    for person in found:
        for hand in (person.left_hand, person.right_hand):
            draw_hand(drawn, _spots(hand, picture))
        draw_face(drawn, _spots(person.face, picture))
    return np.asarray(drawn)


def _spots(points: Any, picture: Picture) -> list[tuple[float, float] | None]:
    """A hand's or face's points in pixels; None for one that was not found."""
    height, width = picture.shape[:2]
    return [(p.x * width, p.y * height) if p.x > 0 and p.y > 0 else None for p in points or ()]


def _pose_of(found: list[Any], picture: Picture) -> Pose | None:
    height, width = picture.shape[:2]
    people = tuple(
        tuple(
            (0.0, 0.0, False) if k is None else (float(k.x) * width, float(k.y) * height, True)
            for k in person.body.keypoints
        )
        for person in found[:MAX_PEOPLE]
    )
    return Pose(width=width, height=height, people=people) if people else None


NETWORKS: Mapping[Preprocessor, Callable[[_Place, Picture, Options], Picture]] = MappingProxyType(
    {
        "hed": _hed,
        "scribble hed": _scribble,
        "line art": _line_art,
        "mlsd": _mlsd,
        "openpose": _openpose,
        "openpose full": _openpose_full,
        "normal bae": _normal_bae,
        "depth": _depth,
        "normal depth": _normal,
        "segment": _segment,
    }
)
"""What draws the picture, for each row of `annotator_files.FILES`; the result may have another
size."""

"""OpenPose's JSON of poses: its own COCO-18 and BODY_25, and the dialect of ControlNet's editors.

Grammar: `{"people": [{"pose_keypoints_2d": [x, y, confidence, ...]}]}`, an absent point 0, 0, 0,
an absent part null. The dialect adds `canvas_width` and `canvas_height` and knows only the
confidences 0 and 1. Coordinates are pixels, or shares of the canvas when all lie in 0..1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from webui.errors import BrokenFileError
from webui.poses import JOINTS, MAX_PEOPLE, MAX_SIDE, Pose

MAX_BYTES = 4 * 1024**2
"""Largest file that is read."""

SEEN = 0.1
"""A point of at most this confidence is hidden; genuine files hold every value in 0..1."""

DEFAULT_SIDE = 512
"""Side of the canvas, in pixels, of a file of shares that does not tell its own."""

_JOINTS = len(JOINTS)
_OF_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""Where BODY_25, which has the middle of the hips at 8 and feet from 19, keeps our joints."""

_NEXT = (1, 1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15)
"""The joint each joint hangs on; the neck on itself."""

_OTHER_PARTS = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")

_Spot = tuple[float, float]


@dataclass(frozen=True)
class ReadPose:
    """What a file of poses holds.

    Attributes:
        report: One sentence for each thing that was changed or left out.
    """

    pose: Pose
    report: tuple[str, ...]


@dataclass(frozen=True)
class _Body:
    """One person: the place of each joint, or None, and which are seen."""

    at: tuple[_Spot | None, ...]
    seen: tuple[bool, ...]


def read_openpose(data: bytes | str, *, width: int = 0, height: int = 0) -> ReadPose:
    """The pose in a JSON file of OpenPose or of a ControlNet editor.

    Args:
        width, height: Pixels of the canvas where the file does not tell its own and all points
            lie on this one; else, or with 0, it is one that holds them.

    Raises:
        BrokenFileError: It is no such file, or nobody is in it.
    """
    people, canvas = _people(data)
    bodies = [body for body in map(_body, people[: 4 * MAX_PEOPLE]) if any(body.seen)]
    if not bodies:
        raise BrokenFileError("Nobody is in this pose: no person in it has a point that is seen.")
    report: list[str] = []
    if len(bodies) < len(people):
        report.append("People without a point that is seen were left out.")
    if len(bodies) > MAX_PEOPLE:
        report.append(f"Only the first {MAX_PEOPLE} of {len(bodies)} people were taken.")
        bodies = bodies[:MAX_PEOPLE]
    if any(person.get(part) for person in people for part in _OTHER_PARTS):
        report.append("Hands and faces were left out: only the body is drawn.")
    spots = [spot for body in bodies for spot in _seen(body)]
    shares = all(0 <= part <= 1 for spot in spots for part in spot)
    if canvas is None and (shares or all(x <= width and y <= height for x, y in spots)):
        canvas = (width, height)
    if canvas is None or not all(canvas):
        canvas = (DEFAULT_SIDE,) * 2 if shares else _around(spots)
        report.append(f"The file does not tell the size of its canvas: {canvas[0]}x{canvas[1]}.")
    scale = (float(canvas[0]), float(canvas[1])) if shares else (1.0, 1.0)
    for x, y in spots:
        if not (-MAX_SIDE <= x * scale[0] <= 2 * MAX_SIDE >= y * scale[1] >= -MAX_SIDE):
            raise BrokenFileError("This pose has a point far outside of its canvas.")
    placed = tuple(_placed(body, scale) for body in bodies)
    return ReadPose(Pose(width=canvas[0], height=canvas[1], people=placed), tuple(report))


def write_openpose(pose: Pose) -> str:
    """The pose as ControlNet's editors read it; a hidden joint keeps its place at confidence 0."""
    people: list[dict[str, Any]] = [
        {
            "pose_keypoints_2d": [part for x, y, seen in person for part in (x, y, float(seen))],
            **dict.fromkeys(_OTHER_PARTS),
        }
        for person in pose.people
    ]
    canvas = {"canvas_width": pose.width, "canvas_height": pose.height}
    return json.dumps({"people": people} | canvas)


def _people(data: bytes | str) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """The records of all people, and the size of the canvas where the file tells it."""
    if len(data) > MAX_BYTES:
        raise BrokenFileError(f"The file of poses is larger than {MAX_BYTES // 1024**2} MiB.")
    try:
        read: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenFileError("This is no pose: the file is not valid JSON.") from None
    # Editors that work on several pictures at once write a list with a record for each.
    if isinstance(read, list) and read:
        read = cast(list[Any], read)[0]
    record = cast(dict[str, Any], read) if isinstance(read, dict) else {}
    people = record.get("people")
    if not isinstance(people, list):
        raise BrokenFileError("This is no pose: the file has no list of people.")
    found = [cast(dict[str, Any], p) for p in cast(list[Any], people) if isinstance(p, dict)]
    stated = (record.get("canvas_width"), record.get("canvas_height"))
    if stated == (None, None):
        return found, None
    width, height = map(_side, stated)
    return found, (width, height)


def _side(stated: object) -> int:
    if isinstance(stated, int | float) and 8 <= stated <= MAX_SIDE:
        return round(stated)
    raise BrokenFileError(f"The canvas of this pose has no size from 8 to {MAX_SIDE} pixels.")


def _body(person: dict[str, Any]) -> _Body:
    numbers = person.get("pose_keypoints_2d")
    if numbers is None or numbers == []:
        return _Body((None,) * _JOINTS, (False,) * _JOINTS)
    values = cast(list[Any], numbers) if isinstance(numbers, list) else []
    if len(values) not in (3 * _JOINTS, 75):
        raise BrokenFileError(
            "A person in this pose has neither 18 nor 25 points of three numbers each."
        )
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise BrokenFileError("A point of this pose is no three ordinary numbers.")
    order = _OF_BODY_25 if len(values) == 75 else range(_JOINTS)
    points = [cast(tuple[float, float, float], values[3 * n : 3 * n + 3]) for n in order]
    seen = tuple(confidence > SEEN for _, _, confidence in points)
    at = tuple(
        (x, y) if here or x or y else None for (x, y, _), here in zip(points, seen, strict=True)
    )
    return _Body(at, seen)


def _seen(body: _Body) -> list[_Spot]:
    return [spot for spot, seen in zip(body.at, body.seen, strict=True) if spot and seen]


def _placed(body: _Body, scale: _Spot) -> tuple[tuple[float, float, bool], ...]:
    """All joints; an absent one is hidden where the next one towards the neck is."""
    spots = _seen(body)
    middle = (sum(x for x, _ in spots) / len(spots), sum(y for _, y in spots) / len(spots))
    placed: list[tuple[float, float, bool]] = []
    for joint, seen in enumerate(body.seen):
        x, y = _nearest(body.at, joint) or middle
        limit = 2.0 * MAX_SIDE
        x, y = (min(max(part, -MAX_SIDE), limit) for part in (x * scale[0], y * scale[1]))
        placed.append((round(x, 3), round(y, 3), seen))
    return tuple(placed)


def _nearest(at: Sequence[_Spot | None], joint: int) -> _Spot | None:
    while at[joint] is None and _NEXT[joint] != joint:
        joint = _NEXT[joint]
    return at[joint]


def _around(spots: list[_Spot]) -> tuple[int, int]:
    """The smallest canvas with sides of whole eights that all points fit on."""
    sides = [8 * max(1, math.ceil(max(side) / 8)) for side in zip(*spots, strict=True)]
    if max(sides) > MAX_SIDE:
        raise BrokenFileError("This pose has a point far outside of its canvas.")
    return sides[0], sides[1]

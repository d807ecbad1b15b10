"""A pose as data: people of 18 joints on a canvas, drawn by the engine."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, FailFast, Field

Joint = Literal[
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
]
JOINTS: tuple[Joint, ...] = get_args(Joint)
"""Order of OpenPose's COCO-18; right and left are the person's own."""

MAX_PEOPLE = 16
MAX_SIDE = 8192
"""Longest side of a canvas, in pixels."""

_Coordinate = Annotated[float, Field(ge=-MAX_SIDE, le=2 * MAX_SIDE, allow_inf_nan=False)]
_Side = Annotated[int, Field(ge=8, le=MAX_SIDE)]

Point = tuple[_Coordinate, _Coordinate, bool]
"""x to the right and y downwards in pixels of the canvas, and whether the joint is drawn; it may
lie outside the canvas. A hidden joint keeps its place."""

Person = Annotated[
    tuple[Point, ...], Field(min_length=len(JOINTS), max_length=len(JOINTS)), FailFast()
]
"""One point a joint, in the order of `JOINTS`."""


class Pose(BaseModel):
    """Who stands where. Frozen and hashable; in JSON `{"width", "height", "people"}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: _Side
    height: _Side
    people: Annotated[tuple[Person, ...], Field(min_length=1, max_length=MAX_PEOPLE), FailFast()]

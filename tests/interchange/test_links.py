from __future__ import annotations

from webui.interchange.links import read_link
from webui.levels import NEVER_TAKEN
from webui.poses import JOINTS

POSE = {"width": 512, "height": 768, "people": [[[8 * n, n, True] for n in range(len(JOINTS))]]}


def test_what_a_link_says_is_checked_field_by_field() -> None:
    read = read_link({"prompt": "a hill", "steps": 500, "glow": 1})
    assert read.request == {"prompt": "a hill"}
    assert len(read.report) == 2
    assert "at most 150" in read.report[0]
    assert read.report[1] == "Not known here and left out: glow."


def test_a_level_is_told_and_not_taken() -> None:
    assert read_link({"level": 2, "steps": 4}).request == {"steps": 4}
    assert read_link({"level": 2}).report == (NEVER_TAKEN,)


def test_pictures_are_left_out_and_poses_stay() -> None:
    units = [{"kind": "canny", "picture": "a" * 64}, {"pose": POSE, "weight": 0.5}]
    read = read_link({"init": "a" * 64, "mask": "b" * 64, "controls": units, "strength": 0.4})
    assert set(read.request) == {"controls", "strength"}
    (unit,) = read.request["controls"]
    assert unit["pose"] == POSE
    assert unit["weight"] == 0.5
    assert len(read.report) == 1
    assert "no pictures" in read.report[0]
    for values in ({"init": "a"}, {"controls": units[:1]}):
        assert len(read_link(values).report) == 1
    assert read_link({"init": None, "controls": units[1:]}).report == ()

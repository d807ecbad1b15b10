from __future__ import annotations

import json
from typing import Any

import pytest

from webui.errors import BrokenFileError
from webui.interchange.openpose import MAX_BYTES, read_openpose, write_openpose
from webui.poses import JOINTS, MAX_PEOPLE, Pose

COCO = [part for n in range(18) for part in (10.0 * n + 5, 20.0 * n + 3, 1.0)]


def file(*people: Any, **more: Any) -> str:
    return json.dumps({"version": 1.3, "people": list(people)} | more)


def body(points: list[float] | None, **more: Any) -> dict[str, Any]:
    return {"person_id": [-1], "pose_keypoints_2d": points} | more


def test_coco_18_with_its_canvas() -> None:
    read = read_openpose(file(body(COCO), canvas_width=512, canvas_height=768))
    assert read.report == ()
    assert (read.pose.width, read.pose.height) == (512, 768)
    assert read.pose.people == (tuple((10.0 * n + 5, 20.0 * n + 3, True) for n in range(18)),)


def test_body_25_drops_the_middle_of_the_hips_and_the_feet() -> None:
    numbers = [part for n in range(25) for part in (float(n + 1), 100.0 + n, 0.9)]
    read = read_openpose(file(body(numbers)), width=300, height=300)
    xs = [x for x, _, _ in read.pose.people[0]]
    assert xs == [float(n + 1) for n in range(19) if n != 8]


def test_genuine_confidences_count_from_a_tenth_on() -> None:
    points = COCO.copy()
    points[2::3] = [0.07, 0.3, 0.95] * 6
    read = read_openpose(file(body(points)), width=512, height=512)
    assert [seen for _, _, seen in read.pose.people[0]] == [False, True, True] * 6


def test_absent_points_are_hidden_where_the_next_one_is() -> None:
    points = COCO.copy()
    wrist = JOINTS.index("right wrist")
    points[3 * wrist : 3 * wrist + 3] = [0, 0, 0]
    person = read_openpose(file(body(points)), width=512, height=512).pose.people[0]
    elbow = person[JOINTS.index("right elbow")]
    assert person[wrist] == (elbow[0], elbow[1], False)


def test_shares_become_pixels_only_when_all_are_shares() -> None:
    shares = [part / 400 if n % 3 < 2 else part for n, part in enumerate(COCO)]
    read = read_openpose(file(body(shares)), width=400, height=800)
    assert read.pose.people[0][2] == pytest.approx((25.0, 86.0, True))
    mixed = read_openpose(file(body(shares), body(COCO)), width=400, height=800)
    assert mixed.pose.people[0][2] == pytest.approx((0.062, 0.107, True), abs=1e-3)


def test_a_canvas_is_found_for_a_file_without_one() -> None:
    read = read_openpose(file(body(COCO)))
    assert (read.pose.width, read.pose.height) == (176, 344)
    assert "176x344" in read.report[0]


def test_a_canvas_that_does_not_hold_all_points_gives_way_to_one_that_does() -> None:
    read = read_openpose(file(body(COCO)), width=512, height=512)
    assert (read.pose.width, read.pose.height, read.report) == (512, 512, ())
    read = read_openpose(file(body(COCO)), width=512, height=256)
    assert (read.pose.width, read.pose.height) == (176, 344)
    assert "176x344" in read.report[0]
    told = file(body(COCO), canvas_width=64, canvas_height=64)
    assert read_openpose(told, width=512, height=512).pose.width == 64


def test_null_parts_empty_people_and_hands() -> None:
    absent = body(None, hand_left_keypoints_2d=None, face_keypoints_2d=[])
    nobody = body([0.0] * 54)
    hands = body(COCO, hand_left_keypoints_2d=[1, 2, 1])
    read = read_openpose(file(absent, nobody, hands), width=512, height=512)
    assert len(read.pose.people) == 1
    assert len(read.report) == 2
    assert "left out" in read.report[0]
    assert "Hands" in read.report[1]


def test_a_list_of_records_as_editors_write_it() -> None:
    text = json.dumps([json.loads(file(body(COCO), canvas_width=512, canvas_height=512))])
    assert len(read_openpose(text).pose.people) == 1


def test_too_many_people_are_cut_and_reported() -> None:
    read = read_openpose(file(*[body(COCO)] * (MAX_PEOPLE + 3)), width=512, height=512)
    assert len(read.pose.people) == MAX_PEOPLE
    assert str(MAX_PEOPLE) in read.report[0]


def test_what_is_written_is_read_again_hidden_joints_with_their_place() -> None:
    person = tuple((4.5 * n + 1, 3.25 * n + 2, n % 5 != 2) for n in range(18))
    pose = Pose(width=640, height=512, people=(person, (*person[:17], (7.0, 9.0, False))))
    read = read_openpose(write_openpose(pose))
    assert read.pose == pose
    assert read.report == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no list of people"),
        ("{}", "no list of people"),
        ('{"people": 3}', "no list of people"),
        (file(), "Nobody"),
        (file(body([0.0] * 54)), "Nobody"),
        (file(body([1.0] * 51)), "neither 18 nor 25"),
        (file({"pose_keypoints_2d": "x"}), "neither 18 nor 25"),
        (file(body([*COCO[:-1], float("nan")])), "ordinary numbers"),
        (file({"pose_keypoints_2d": [*COCO[:-1], True]}), "ordinary numbers"),
        (file({"pose_keypoints_2d": [*COCO[:-1], None]}), "ordinary numbers"),
        (file(body([1e9, *COCO[1:]])), "far outside"),
        (file(body([1e9, *COCO[1:]]), canvas_width=64, canvas_height=64), "far outside"),
        (file(body(COCO), canvas_width=0, canvas_height=64), "no size"),
        (file(body(COCO), canvas_width=None, canvas_height=64), "no size"),
        (file(body(COCO), canvas_width="9", canvas_height=64), "no size"),
        (" " * (MAX_BYTES + 1), "larger"),
    ],
)
def test_what_is_no_pose_is_told_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says) as error:
        read_openpose(text)
    assert error.value.message.endswith(".")

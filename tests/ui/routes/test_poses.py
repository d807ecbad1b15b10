from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.ui.routes.client import client_of
from webui.interchange.openpose import MAX_BYTES
from webui.poses import Pose
from webui.ui.routes.poses import add_poses_routes

PERSON = [(10.0 * n + 5, 7.5 * n, n != 4) for n in range(18)]


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    add_poses_routes(app)
    return client_of(app)


def body_25(confidence: float) -> bytes:
    numbers = [part for n in range(25) for part in (n + 1.0, 100.0 + n, confidence)]
    return json.dumps({"version": 1.3, "people": [{"pose_keypoints_2d": numbers}]}).encode()


def read(client: TestClient, data: bytes, width: int, height: int) -> dict[str, Any]:
    answer = client.post(f"/poses/read?width={width}&height={height}", content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_is_written_is_read_back_equal(client: TestClient) -> None:
    pose = {"width": 256, "height": 320, "people": [PERSON, PERSON]}
    written = client.post("/poses/write", json=pose)
    assert written.headers["content-type"] == "application/json"
    assert len(written.json()["people"][1]["pose_keypoints_2d"]) == 54
    answer = read(client, written.content, 64, 64)
    assert Pose.model_validate(answer["pose"]) == Pose.model_validate(pose)
    assert answer["report"] == []


def test_body_25_comes_on_the_canvas_that_was_asked_for_where_it_fits(client: TestClient) -> None:
    answer = read(client, body_25(0.4), 200, 300)
    assert (answer["pose"]["width"], answer["pose"]["height"]) == (200, 300)
    assert [x for x, _, _ in answer["pose"]["people"][0]] == [n + 1 for n in range(19) if n != 8]
    answer = read(client, body_25(0.4), 64, 64)
    assert answer["pose"]["height"] == 120
    assert "does not tell the size of its canvas" in answer["report"][0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not valid JSON"),
        (b"[[[", "not valid JSON"),
        (b'{"people": 3}', "no list of people"),
        (body_25(0.01), "Nobody is in this pose"),
        (b" " * (MAX_BYTES + 1), "larger than 4 MiB"),
    ],
)
def test_a_file_that_is_none_is_answered_with_a_sentence(
    client: TestClient, data: bytes, says: str
) -> None:
    answer = client.post("/poses/read?width=64&height=64", content=data)
    assert answer.status_code == 422
    assert says in answer.json()["message"]


@pytest.mark.parametrize("people", [[], [PERSON[:17]], [PERSON] * 17])
def test_a_pose_that_is_none_is_not_written(client: TestClient, people: list[Any]) -> None:
    answer = client.post("/poses/write", json={"width": 64, "height": 64, "people": people})
    assert answer.status_code == 422
    assert answer.json()["message"].endswith(".")


@pytest.mark.parametrize("query", ["", "?width=64", "?width=7&height=64", "?width=64&height=9000"])
def test_a_canvas_that_is_none_is_refused(client: TestClient, query: str) -> None:
    answer = client.post(f"/poses/read{query}", content=body_25(0.4))
    assert answer.status_code == 422
    assert answer.json()["message"].endswith(".")

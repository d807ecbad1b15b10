from __future__ import annotations

from pathlib import Path

from webui.events import Event, Finished, Notice, Saved
from webui.generator import Session
from webui.jobs import Job
from webui.request import GenerationRequest
from webui.ui.pictures import Pictures


def job_of(session: str, *events: Event) -> Job:
    job = Job(GenerationRequest(prompt="a hill"), Session(id=session), lambda _: None)
    for event in events:
        job.add(event)
    return job


def shelf(*, max_sessions: int = 9, max_per_session: int = 9) -> Pictures:
    def unheard(_: Path) -> None:
        raise AssertionError("only what is recorded is told of")

    return Pictures(unheard, max_sessions=max_sessions, max_per_session=max_per_session)


def saved(name: str) -> Saved:
    return Saved(path=f"/out/{name}.png", seed=1, sha256=name, width=64, height=32)


def ids(pictures: Pictures, session: str) -> list[str]:
    return [picture.id for picture in pictures.newest_first(session)]


def test_a_session_finds_its_own_pictures_newest_first_and_no_others() -> None:
    pictures = shelf()
    for session, name in (("one", "a"), ("one", "b"), ("two", "c")):
        assert pictures.keep(job_of(session), saved(name)).id == name
    assert ids(pictures, "one") == ["b", "a"]
    assert ids(pictures, "two") == ["c"]
    assert ids(pictures, "three") == []
    found = pictures.find("one", "a")
    assert found is not None
    assert (found.prompt, found.path.name, found.width) == ("a hill", "a.png", 64)
    assert pictures.find("two", "a") is None


def test_keeping_a_picture_again_changes_nothing() -> None:
    pictures = shelf()
    for name in ("a", "b", "a"):
        pictures.keep(job_of("one"), saved(name))
    assert ids(pictures, "one") == ["b", "a"]


def test_both_bounds_drop_what_is_oldest() -> None:
    pictures = shelf(max_sessions=2, max_per_session=2)
    for session, name in (("one", "a"), ("one", "b"), ("one", "c")):
        pictures.keep(job_of(session), saved(name))
    assert ids(pictures, "one") == ["c", "b"]
    for session, name in (("two", "d"), ("one", "e"), ("three", "f")):
        pictures.keep(job_of(session), saved(name))
    assert ids(pictures, "two") == []
    assert ids(pictures, "one") == ["e", "c"]


def test_a_job_is_recorded_without_anybody_watching_and_the_history_told() -> None:
    told: list[str] = []
    pictures = Pictures(lambda path: told.append(path.name))
    end = Finished(saved=2, withheld=0, seconds=1)
    pictures.record(job_of("one", Notice(message="x"), saved("a"), saved("b"), end))
    assert ids(pictures, "one") == ["b", "a"]
    assert told == ["a.png", "b.png"]

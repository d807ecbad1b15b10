from __future__ import annotations

from webui.events import Event, Finished, Notice, Saved
from webui.request import GenerationRequest
from webui.ui.pictures import Pictures

REQUEST = GenerationRequest(prompt="a hill")


def saved(name: str) -> Saved:
    return Saved(path=f"/out/{name}.png", seed=1, sha256=name, width=64, height=32)


def ids(pictures: Pictures, session: str) -> list[str]:
    return [picture.id for picture in pictures.newest_first(session)]


def test_a_session_finds_its_own_pictures_newest_first_and_no_others() -> None:
    pictures = Pictures()
    pictures.keep("one", saved("a"), REQUEST)
    pictures.keep("one", saved("b"), REQUEST)
    pictures.keep("two", saved("c"), REQUEST)
    assert ids(pictures, "one") == ["b", "a"]
    assert ids(pictures, "two") == ["c"]
    assert ids(pictures, "three") == []
    found = pictures.find("one", "a")
    assert found is not None
    assert (found.prompt, found.path.name, found.width) == ("a hill", "a.png", 64)
    assert pictures.find("two", "a") is None


def test_keeping_a_picture_again_changes_nothing() -> None:
    pictures = Pictures()
    for name in ("a", "b", "a"):
        pictures.keep("one", saved(name), REQUEST)
    assert ids(pictures, "one") == ["b", "a"]


def test_both_bounds_drop_what_is_oldest() -> None:
    pictures = Pictures(max_sessions=2, max_per_session=2)
    for name in ("a", "b", "c"):
        pictures.keep("one", saved(name), REQUEST)
    assert ids(pictures, "one") == ["c", "b"]
    pictures.keep("two", saved("d"), REQUEST)
    pictures.keep("one", saved("e"), REQUEST)
    pictures.keep("three", saved("f"), REQUEST)
    assert ids(pictures, "two") == []
    assert ids(pictures, "one") == ["e", "c"]


def test_a_job_is_recorded_without_anybody_watching() -> None:
    events: tuple[Event, ...] = (
        Notice(message="x"),
        saved("a"),
        saved("b"),
        Finished(saved=2, withheld=0, seconds=1),
    )
    pictures = Pictures()
    pictures.record("one", events, REQUEST)
    assert ids(pictures, "one") == ["b", "a"]

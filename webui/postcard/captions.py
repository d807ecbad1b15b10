"""Captions of a scene in varied wording; they mention only what is drawn.

What a short prompt leaves out most often has a usual case, so that a small model need not choose
between eight poses: a person who is said to do nothing stands, trousers nobody mentions are blue,
and an object is on the right unless it is said to be on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType

from webui.postcard.scenes import Object, Person, Scene
from webui.postcard.vocabulary import Pose, Setting, Time

PLACES: Mapping[Setting, Sequence[str]] = MappingProxyType(
    {
        "beach": ("on a beach", "on the beach", "at the beach", "on a sandy beach by the sea"),
        "forest": ("in a forest", "in the forest", "in a pine forest", "in the woods"),
        "city": ("in a city", "in the city", "on a city street", "in front of city buildings"),
        "mountains": ("in the mountains", "in front of mountains", "near snowy mountains"),
        "desert": ("in the desert", "in a desert", "in a sandy desert with cactus"),
        "snow": ("in the snow", "in snow", "in a snowy field", "on a snowy winter landscape"),
        "meadow": ("in a meadow", "in a green meadow with flowers", "in a grassy meadow"),
        "room": ("in a room", "indoors in a room", "inside a room", "at home in a room"),
    }
)
HOURS: Mapping[Time, Sequence[str]] = MappingProxyType(
    {
        "day": ("by day", "in daylight", "on a sunny day", "during the day"),
        "sunset": ("at sunset", "at sunset", "in the evening at sunset", "at dusk"),
        "night": ("at night", "at night", "under the moon at night", "on a starry night"),
    }
)
ACTIONS: Mapping[Pose, Sequence[str]] = MappingProxyType(
    {
        "standing": ("standing", "standing still", "standing upright"),
        "waving": ("waving", "waving a hand", "waving hello"),
        "arms raised": ("with arms raised", "raising both arms", "with both arms raised"),
        "running": ("running", "running fast"),
        "sitting": ("sitting", "sitting down", "sitting on a box"),
        "jumping": ("jumping", "jumping in the air"),
        "hands on hips": ("with hands on hips", "with both hands on hips"),
        "arms outstretched": ("with arms outstretched", "with outstretched arms"),
    }
)
_SUBJECTS = ("a person", "a person", "a person", "a figure", "someone", "person")
_LEADS = ("", "", "", "", "a postcard of ", "a picture of ", "an illustration of ", "a photo of ")
_PRAISE = (
    "high quality",
    "best quality, highly detailed",
    "masterpiece, 4k",
    "flat illustration",
    "clean and simple, bright colours",
)
_TROUSERS = ("trousers", "trousers", "trousers", "pants")

UNCONDITIONAL = ("", "", "", "blurry, low quality", "bad, ugly, deformed, worst quality, text")
"""What stands for "nothing asked": the empty caption and usual negative prompts."""


def with_article(words: str) -> str:
    """Return the words after "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(scene: Scene, random: Random, *, complete: bool = False) -> str:
    """Return one caption; single parts are left unsaid now and then, none is ever wrong.

    A complete caption, as evaluation uses, names everything but hair and the usual side.
    """
    place = random.choice(PLACES[scene.setting]) if _said(0.94, random, complete) else ""
    hour = random.choice(HOURS[scene.time]) if _said(0.94, random, complete) else ""
    tail = [place, hour] if random.random() < 0.8 else [hour, place]
    subject: list[str] = []
    thing = ""
    if scene.object is not None and _said(0.98, random, complete):
        thing = _describe_object(scene.object, random, complete, alone=scene.person is None)
    if scene.person is not None:
        subject = _describe_person(scene.person, random, complete)
        if thing:
            tail.append(random.choice((f", {thing}", f"and {thing}", f"with {thing}")))
    else:
        subject = [thing or random.choice(("an empty place", "a view", "nobody"))]
    words = " ".join(part for part in [*subject, *tail] if part)
    praise = f", {random.choice(_PRAISE)}" if random.random() < 0.12 else ""
    return (random.choice(_LEADS) + words).replace(" ,", ",") + praise


def _said(share: float, random: Random, complete: bool) -> bool:
    return random.random() < share or complete


def _describe_person(person: Person, random: Random, complete: bool) -> list[str]:
    parts = [random.choice(_SUBJECTS)]
    if random.random() < 0.4:
        length = "long " if person.long_hair else "short "
        parts.append(f"with {length if random.random() < 0.6 else ''}{person.hair} hair")
    clothes = _describe_clothes(person, random, complete)
    usual = person.pose == "standing"
    action = random.choice(ACTIONS[person.pose])
    if not _said(0.5 if usual else 1.0, random, complete):
        action = ""
    parts += [clothes, action] if random.random() < 0.75 else [action, clothes]
    return parts


def _describe_clothes(person: Person, random: Random, complete: bool) -> str:
    shirt = f"{person.shirt} shirt"
    trousers = f"{person.trousers} {random.choice(_TROUSERS)}"
    kinds = ("both", "shirt", "trousers", "neither")
    usual = person.trousers == "blue"
    kind = random.choices(kinds, (0.32, 0.6, 0.04, 0.04) if usual else (0.92, 0.0, 0.04, 0.04))[0]
    match "both" if complete else kind:
        case "both":
            clothes = f"{with_article(shirt)} and {trousers}"
        case "shirt":
            clothes = with_article(shirt)
        case "trousers":
            clothes = trousers
        case _:
            return ""
    return f"{random.choice(('in', 'in', 'in', 'wearing'))} {clothes}"


def _describe_object(item: Object, random: Random, complete: bool, *, alone: bool) -> str:
    colour = f"{item.colour} " if _said(0.95, random, complete) else ""
    unsaid = alone or (item.side == "right" and random.random() < 0.6)
    where = "" if unsaid else f" on the {item.side}"
    return with_article(f"{colour}{item.thing}") + where

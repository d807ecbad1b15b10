"""Presets for the page: list, save, delete, export, import, compare and take over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel, FailFast

from webui.comparison import PLACE, TEXTS, apply, differences
from webui.errors import BadRequestError, NotFoundError
from webui.interchange.sparse import listed
from webui.interchange.styles import Style, Styles, read_styles, write_styles
from webui.library.lines import is_plain_line
from webui.library.presetfile import Draft, make_draft
from webui.library.presets import Preset, PresetShelf, file_name
from webui.request import GROUPS, group_of, parse_request
from webui.ui.routes.bodies import read_up_to
from webui.ui.visitor import at_this_machine

MAX_FILE_BYTES = 4 * 1024**2
"""Largest file of presets or styles that is brought in."""


class Saved(BaseModel):
    """A preset to be saved."""

    name: str
    about: str = ""
    request: dict[str, Any]
    replace: bool = False


class Pair(BaseModel):
    """The page's request, and the sparse or whole one that it is compared with.

    With `literal` the second is a finished picture's, in which `{prompt}` is ordinary text.
    """

    now: dict[str, Any]
    then: dict[str, Any]
    literal: bool = False


class Taken(Pair):
    """A pair, and the fields of the second that are to be taken over."""

    fields: Annotated[list[str], FailFast()]


async def file_sent(request: Request) -> bytes:
    """A FastAPI dependency: the file that is the request's body.

    Raises:
        BadRequestError: It is larger than `MAX_FILE_BYTES`.
    """
    data = await read_up_to(request, MAX_FILE_BYTES)
    if len(data) > MAX_FILE_BYTES:
        raise BadRequestError(
            f"This file is larger than the {MAX_FILE_BYTES // 1024**2} MiB that presets may have."
        )
    return data


def add_presets_routes(app: FastAPI, shelf: PresetShelf) -> None:
    """Adds the routes below `/presets`."""

    @app.get("/presets")
    def listing() -> dict[str, Any]:
        found = shelf.listing()
        return {
            "presets": [_json(preset) for preset in found.presets],
            "broken": [asdict(file) for file in found.broken],
        }

    @app.post("/presets", dependencies=[Depends(at_this_machine)])
    def save(body: Saved) -> dict[str, Any]:
        return _json(shelf.store(body.name, body.about, body.request, replace=body.replace))

    @app.delete("/presets/{id}", dependencies=[Depends(at_this_machine)])
    def delete(id: str) -> dict[str, Any]:
        return _json(shelf.delete(id))

    @app.get("/presets/styles")
    def styles() -> dict[str, Any]:
        found, report = _styles(shelf.listing().presets)
        if not found:
            raise NotFoundError("None of your presets has a prompt that could be written.")
        return {"file": write_styles(found).decode(), "count": len(found), "report": report}

    @app.get("/presets/{id}/file")
    def download(id: str) -> Response:
        name = file_name(shelf.find(id).name)
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(shelf.export(id), media_type="application/json", headers=headers)

    @app.post("/presets/import", dependencies=[Depends(at_this_machine)])
    def bring_in(name: str, data: Annotated[bytes, Depends(file_sent)]) -> dict[str, Any]:
        if not name.casefold().endswith(".csv"):
            preset = shelf.import_file(data, name)
            return {"added": [preset.id], "report": list(preset.notices)}
        drafts, report = _drafts(read_styles(data))
        return {"added": [preset.id for preset in shelf.add(drafts)], "report": report}

    @app.post("/presets/differences")
    def compare(body: Pair) -> dict[str, Any]:
        found = differences(parse_request(body.now), body.then, literal=body.literal)
        return {"differences": [asdict(difference) for difference in found]}

    @app.post("/presets/apply")
    def take_over(body: Taken) -> dict[str, Any]:
        now = parse_request(body.now)
        request = apply(now, body.then, body.fields, literal=body.literal)
        return {"request": request.model_dump(mode="json")}


def _json(preset: Preset) -> dict[str, Any]:
    named = {group_of(field) for field in preset.request}
    return {
        "id": preset.id,
        "name": preset.name,
        "about": preset.about,
        "notices": list(preset.notices),
        "own": preset.own,
        "request": dict(preset.request),
        "groups": [group for group in GROUPS if group in named],
    }


def _drafts(found: Styles) -> tuple[list[Draft], list[str]]:
    drafts: list[Draft] = []
    report = list(found.report)
    for style in found.styles:
        texts = {"prompt": style.prompt, "negative_prompt": style.negative_prompt}
        about = style.section if is_plain_line(style.section) else ""
        try:
            drafts.append(make_draft(style.name, about, {k: v for k, v in texts.items() if v}))
        except BadRequestError as error:
            report.append(f"The style {style.name[:80]!r} was left out: {error.message}")
    return drafts, report


def _styles(presets: Iterable[Preset]) -> tuple[list[Style], list[str]]:
    """The user's own presets as styles, and what of them a `styles.csv` cannot hold."""
    styles: list[Style] = []
    left_out: list[str] = []
    shortened: list[str] = []
    following: list[str] = []
    for preset in presets:
        texts = [str(preset.request.get(field, "")) for field in TEXTS]
        if not preset.own:
            continue
        if not any(texts) or preset.name.startswith("#"):
            left_out.append(preset.name)
            continue
        if not set(preset.request) <= {*TEXTS}:
            shortened.append(preset.name)
        if any(text and PLACE not in text for text in texts):
            following.append(preset.name)
        styles.append(Style(preset.name, *texts, section=preset.about))
    report = (
        ("Left out, since a style is a prompt with a name", left_out),
        ("Only the prompts were written of", shortened),
        ("As styles these follow the prompt that is there instead of replacing it", following),
    )
    return styles, [f"{sentence}: {listed(names)}." for sentence, names in report if names]

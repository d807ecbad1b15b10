"""How errors are answered: one sentence, the field it is about, and the error's HTTP status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from webui.errors import NotFoundError, WebuiError

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def answer_errors(app: FastAPI) -> None:
    """Answers every `WebuiError` of the app's routes, and bodies that are not as asked for.

    Routes below `app` that are mounted (Gradio's) keep their own ways.
    """
    app.add_exception_handler(WebuiError, _known)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _refused)


def answer_the_rest(app: FastAPI, paths: Iterable[str]) -> None:
    """Says that nothing is there, for all below `paths` that no route before this one answers."""

    def nothing(_: Request) -> NoReturn:
        raise NotFoundError("There is nothing here.")

    for path in paths:
        app.add_route(f"/{path}", nothing, methods=[*_METHODS])
        app.add_route(f"/{path}/{{rest:path}}", nothing, methods=[*_METHODS])


def _known(_: Request, error: Exception) -> JSONResponse:
    known = cast(WebuiError, error)
    return JSONResponse({"message": known.message, "field": known.field}, known.status)


def _refused(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's own refusals: a body that cannot be read, a path or method there is none for."""
    refused = cast(HTTPException, error)
    content = {"message": f"{refused.detail}.", "field": None}
    return JSONResponse(content, refused.status_code, headers=refused.headers)


def _malformed(_: Request, error: Exception) -> JSONResponse:
    first = cast(RequestValidationError, error).errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"message": f"{where}: {first['msg']}.", "field": None}, 422)

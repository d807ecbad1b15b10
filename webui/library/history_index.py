"""The index of saved pictures: its tables, and what is asked of them.

Nothing is in them that the files do not say.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from webui.errors import BadRequestError
from webui.library.history_database import Database, Schema
from webui.library.history_query import HistoryQuery, conditions, folded
from webui.library.picture_files import Stamp

VERSION = 2
"""Of the tables; an index of another one is made anew."""

_ID = re.compile("[0-9a-f]{24}")
_IDS_AT_ONCE = 500
"""Values bound in one statement; SQLite's own bound was 999 for long."""


@dataclass(frozen=True)
class Picture:
    """One saved picture: the columns of its row.

    Attributes:
        id: See `webui.library.picture_files.picture_id`.
        folder: Relative to the pictures' folder, with "/" between the parts.
        size: Of the file, in bytes.
        made: Local time, ISO 8601 with microseconds, so that text sorts as time does.
        trashed: When it was thrown away, in the same form; None when it was not.
        width, height: In pixels; 0 when the file cannot be read.
        prompt, negative_prompt, model, seed: From the recipe; None where it does not say.
        embeddings: Names of those in its prompts, as a list in JSON; None where there are none.
        broken: Why the file cannot be read, one sentence; None when it can.
        settings: The rest of the recipe's request as JSON; None when the file has no recipe.
    """

    id: str
    folder: str
    name: str
    mtime_ns: int
    size: int
    made: str
    trashed: str | None
    width: int
    height: int
    prompt: str | None
    negative_prompt: str | None
    model: str | None
    seed: int | None
    embeddings: str | None
    broken: str | None
    settings: str | None


@dataclass(frozen=True)
class Page:
    """Some of the pictures that were looked for, the newest first.

    Attributes:
        cursor: Asks for the next page; None when there is none.
        total: How many pictures there are over all pages.
    """

    pictures: tuple[Picture, ...]
    cursor: str | None
    total: int


_COLUMNS = tuple(field.name for field in fields(Picture) if field.name != "settings")
_SELECTED = ", ".join(
    (*_COLUMNS, "(SELECT settings FROM recipes WHERE recipes.id = recipe) AS settings")
)
_TABLES = f"""
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS pictures;
DROP TABLE IF EXISTS recipes;
CREATE TABLE recipes (id INTEGER PRIMARY KEY, settings TEXT NOT NULL UNIQUE);
CREATE TABLE pictures (
    id TEXT PRIMARY KEY, folder BLOB NOT NULL, name BLOB NOT NULL, mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL, made TEXT NOT NULL, trashed TEXT, width INTEGER NOT NULL,
    height INTEGER NOT NULL, prompt TEXT, negative_prompt TEXT, model TEXT, seed INTEGER,
    embeddings TEXT, broken TEXT, recipe INTEGER REFERENCES recipes (id), searched TEXT NOT NULL,
    UNIQUE (folder, name)
);
CREATE INDEX shown ON pictures (made DESC, id DESC) WHERE trashed IS NULL;
CREATE INDEX thrown ON pictures (made DESC, id DESC) WHERE trashed IS NOT NULL;
CREATE INDEX by_model ON pictures (model) WHERE trashed IS NULL;
PRAGMA user_version = {VERSION};
COMMIT;
"""
_PUT = (
    f"INSERT INTO pictures ({', '.join(_COLUMNS)}, recipe, searched)"
    f" VALUES ({', '.join('?' * len(_COLUMNS))}, (SELECT id FROM recipes WHERE settings = ?), ?)"
    # The same picture twice: a copy of one in the trash. The one outside is shown.
    " ON CONFLICT (id) DO UPDATE SET folder = excluded.folder, name = excluded.name,"
    " trashed = NULL WHERE excluded.trashed IS NULL"
)
_PAGE = """
WITH found (place, made, id) AS {once} (SELECT rowid, made, id FROM pictures WHERE {where})
SELECT total, picture.*
FROM (SELECT count(*) AS total FROM found)
LEFT JOIN (SELECT place FROM found {after} ORDER BY made DESC, id DESC LIMIT ?) ON true
LEFT JOIN (SELECT rowid AS number, {columns} FROM pictures) AS picture ON number = place
ORDER BY picture.made DESC, picture.id DESC
"""

_SCHEMA = Schema(VERSION, _TABLES, "pictures", frozenset({*_COLUMNS, "recipe", "searched"}))


UsedAs = Literal["model", "refiner", "vae", "lora", "controlnet", "embedding"]
"""What a picture's recipe names files as."""

USES: tuple[UsedAs, ...] = get_args(UsedAs)

_OF_RECIPES = (
    "pictures JOIN recipes ON recipes.id = recipe, json_each(settings, '$.{}') AS one"
    " WHERE coalesce(json_extract(one.value, '$.enabled'), 1) AND"
)
_NAMED: Mapping[UsedAs, tuple[str, str]] = MappingProxyType(
    {
        "model": ("model", "pictures WHERE"),
        # One that is its own refiner has made the picture once.
        "refiner": (
            "json_extract(settings, '$.refiner')",
            "pictures JOIN recipes ON recipes.id = recipe WHERE used IS NOT model AND",
        ),
        "vae": (
            "json_extract(settings, '$.vae')",
            "pictures JOIN recipes ON recipes.id = recipe WHERE",
        ),
        "lora": ("json_extract(one.value, '$.name')", _OF_RECIPES.format("loras")),
        "controlnet": ("json_extract(one.value, '$.model')", _OF_RECIPES.format("controls")),
        "embedding": ("one.value", "pictures, json_each(embeddings) AS one WHERE"),
    }
)
"""The name, and the rows that have one."""

_USES = (
    "SELECT {name} AS used, count(*), pictures.id, max(made) FROM {rows} trashed IS NULL"
    " AND used IS NOT NULL GROUP BY used"
)


@dataclass(frozen=True)
class Use:
    """How often a name is used, and the newest picture that was made with it.

    Attributes:
        newest: Its id.
        made: When, as `Picture.made`.
    """

    count: int
    newest: str
    made: str


class HistoryIndex:
    """Rows of `Picture`, in `<folder>/.history.sqlite3` or, where that fails, in memory."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder, _SCHEMA)

    @property
    def generation(self) -> int:
        """Another number whenever rows may have been lost and the files must be gone through."""
        return self._database.generation

    @property
    def notice(self) -> str | None:
        """One sentence about what keeps the index from being kept; None when all is well."""
        return self._database.notice

    def is_there(self) -> bool:
        """Whether the folder is; finds out first whether the file is still the one it was."""
        return self._database.is_there()

    def close(self) -> None:
        """Ends the use of the file; nothing else may be called after that."""
        self._database.close()

    def put(self, pictures: Sequence[Picture]) -> None:
        """Adds pictures; one at the same path is replaced."""

        def work(connection: sqlite3.Connection) -> None:
            places = [_place(picture.folder, picture.name) for picture in pictures]
            connection.executemany("DELETE FROM pictures WHERE folder = ? AND name = ?", places)
            settings = {(picture.settings,) for picture in pictures if picture.settings}
            connection.executemany("INSERT OR IGNORE INTO recipes (settings) VALUES (?)", settings)
            connection.executemany(_PUT, [_values(picture) for picture in pictures])

        self._database.run(work)

    def remove(self, places: Iterable[tuple[str, str]]) -> None:
        """Forgets the pictures at these (folder, name)."""
        encoded = [_place(*place) for place in places]
        self._database.run(
            lambda connection: connection.executemany(
                "DELETE FROM pictures WHERE folder = ? AND name = ?", encoded
            )
        )

    def move(self, moved: Iterable[tuple[str, str, str]], trashed: str | None) -> None:
        """Takes note that pictures (id, new folder, new name) now lie elsewhere."""
        values = [(*_place(folder, name), trashed, id) for id, folder, name in moved]
        self._database.run(
            lambda connection: connection.executemany(
                "UPDATE OR REPLACE pictures SET folder = ?, name = ?, trashed = ? WHERE id = ?",
                values,
            )
        )

    def folders(self) -> set[str]:
        """Every folder that holds a picture."""
        rows = self._rows("SELECT DISTINCT folder FROM pictures")
        return {os.fsdecode(folder) for (folder,) in rows}

    def stamps(self, folder: str) -> dict[str, Stamp]:
        """The pictures of a folder by name, as they were when they were read."""
        rows = self._rows(
            "SELECT name, mtime_ns, size FROM pictures WHERE folder = ?", (os.fsencode(folder),)
        )
        return {os.fsdecode(name): Stamp(mtime, size) for name, mtime, size in rows}

    def ids(self) -> set[str]:
        """The ids of all pictures."""
        return {id for (id,) in self._rows("SELECT id FROM pictures")}

    def find(self, ids: Sequence[str]) -> dict[str, Picture]:
        """Those of the pictures that are known, by id."""
        # A client's text may hold what SQLite cannot even be asked for.
        ids = [id for id in ids if _ID.fullmatch(id)]
        found: dict[str, Picture] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = tuple(ids[start : start + _IDS_AT_ONCE])
            rows = self._rows(
                f"SELECT {_SELECTED} FROM pictures WHERE id IN ({', '.join('?' * len(some))})",
                some,
            )
            found |= {picture.id: picture for picture in map(_picture, rows)}
        return found

    def trashed(self) -> list[Picture]:
        """All pictures in the trash."""
        rows = self._rows(f"SELECT {_SELECTED} FROM pictures WHERE trashed IS NOT NULL")
        return [_picture(row) for row in rows]

    def search(self, query: HistoryQuery, *, cursor: str | None, limit: int) -> Page:
        """One page of what is looked for; costs the same however far down it is.

        Raises:
            BadRequestError: The cursor is none of ours, or there are too many words.
        """
        where, values = conditions(query)
        after = "" if cursor is None else "WHERE (made, id) < (?, ?)"
        position = () if cursor is None else _position(cursor)
        # Words are looked for once; what a column tells is found twice, to count and to show.
        once = "MATERIALIZED" if query.search.strip() else "NOT MATERIALIZED"
        rows = self._rows(
            _PAGE.format(where=where, columns=_SELECTED, after=after, once=once),
            (*values, *position, limit + 1),
        )
        pictures = tuple(_picture(row[2:]) for row in rows[:limit] if row[1] is not None)
        more = len(rows) > limit
        last = f"{pictures[-1].made}_{pictures[-1].id}" if more else None
        return Page(pictures, last, rows[0][0])

    def models(self) -> list[tuple[str, int]]:
        """Models and how many pictures each has made, the busiest first."""
        return self._rows(
            "SELECT model, count(*) FROM pictures WHERE trashed IS NULL AND model IS NOT NULL"
            " GROUP BY model ORDER BY count(*) DESC, model"
        )

    def uses(self, used_as: UsedAs) -> dict[str, Use]:
        """How often each name is used by the pictures outside of the trash."""
        name, those = _NAMED[used_as]
        rows = self._rows(_USES.format(name=name, rows=those))
        return {used: Use(*use) for used, *use in rows if isinstance(used, str)}

    def months(self) -> list[tuple[str, int]]:
        """Months ("2026-05") and how many pictures each has, the newest first."""
        return self._rows(
            "SELECT substr(made, 1, 7) AS month, count(*) FROM pictures WHERE trashed IS NULL"
            " GROUP BY month ORDER BY month DESC"
        )

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self._database.run(lambda connection: connection.execute(sql, values).fetchall())


def _place(folder: str, name: str) -> tuple[bytes, bytes]:
    """As bytes, since a file's name need not be text."""
    return os.fsencode(folder), os.fsencode(name)


def _values(picture: Picture) -> tuple[Any, ...]:
    id, _, _, *rest = astuple(picture)
    folder, name = _place(picture.folder, picture.name)
    text = picture.prompt or name.decode("utf-8", errors="replace")
    # The settings are the last field; their row is found by them.
    return (id, folder, name, *rest, folded(text))


def _picture(row: Sequence[Any]) -> Picture:
    id, folder, name, *rest = row
    return Picture(id, os.fsdecode(folder), os.fsdecode(name), *rest)


def _position(cursor: str) -> tuple[str, str]:
    made, found, id = cursor.partition("_")
    if not found or not cursor.isascii():
        raise BadRequestError("This place in the history is not known: open it anew.")
    return made, id

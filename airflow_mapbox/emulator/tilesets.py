"""Published tilesets in the emulator's folder: their rows in the database and their MBTiles files."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.calls import TILESET
from airflow_mapbox.emulator.database import Database
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.figures import made_up_compute_units, read_figures
from airflow_mapbox.emulator.sampletiles import write_sample

SCHEMA = """
CREATE TABLE IF NOT EXISTS tilesets (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, layer TEXT, created REAL NOT NULL,
    modified REAL NOT NULL);
CREATE TABLE IF NOT EXISTS deleted_tilesets (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, modified REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tiling_service (tileset TEXT PRIMARY KEY);
"""
# Columns that the first version of the emulator did not have.
ADDED_COLUMNS = {
    "type": "TEXT",
    "center": "TEXT NOT NULL DEFAULT '[0, 0, 0]'",
    "filesize": "INTEGER NOT NULL DEFAULT 0",
    "precisions": "TEXT NOT NULL DEFAULT '{}'",
    "cu": "REAL NOT NULL DEFAULT 0",
    "description": "TEXT NOT NULL DEFAULT ''",
    "private": "INTEGER NOT NULL DEFAULT 1",
    "attribution": "TEXT NOT NULL DEFAULT '[]'",
    "status": "TEXT NOT NULL DEFAULT 'available'",
    "client": "TEXT",
    "file": "TEXT",
}
TYPES = ("vector", "raster")
VISIBILITIES = ("public", "private")
STATUSES = ("available", "pending", "invalid")
SORTS = ("created", "modified")
# The fields of a tileset that is added without an upload.
GIVEN_FIELDS = (
    "created",
    "modified",
    "visibility",
    "filesize",
    "type",
    "name",
    "description",
    "status",
    "created_by_client",
)


@dataclass(frozen=True)
class Tileset:
    """A published tileset.

    :param layer: the source layer that the next upload keeps; None if the data has its own layers.
    :param center: longitude, latitude and zoom.
    :param filesize: bytes.
    :param precisions: square kilometres by precision, made up.
    :param cu: compute units, made up.
    :param attribution: objects with ``text`` and ``link``.
    :param client: the program that made the tileset, as Mapbox's list names it.
    :param file: the name of its MBTiles file.
    """

    id: str
    owner: str
    name: str
    layer: str | None
    created: float
    modified: float
    type: str = "vector"
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    filesize: int = 0
    precisions: Mapping[str, float] = field(default_factory=dict)
    cu: float = 0.0
    description: str = ""
    private: bool = True
    attribution: tuple[Mapping[str, str], ...] = ()
    status: str = "available"
    client: str | None = None
    file: str | None = None

    @property
    def visibility(self) -> str:
        """``public`` or ``private``."""
        return "private" if self.private else "public"


COLUMNS = tuple(column.name for column in dataclasses.fields(Tileset))
_JSON_COLUMNS = ("center", "precisions", "attribution")


@dataclass(frozen=True)
class Listing:
    """What a list of tilesets contains.

    :param type: ``vector`` or ``raster``; None for both.
    :param visibility: ``public`` or ``private``; None for both.
    :param sort: ``created`` or ``modified``; the newest is first.
    :param after: the id of the tileset before the page.
    :param shows_pending: show tilesets that have an upload in processing as ``pending``, also before they exist.
    :param only_public: leave out private tilesets, for a token of another account.
    :param keeps_deleted: allow ``after`` to be a tileset that was deleted.
    """

    type: str | None = None
    visibility: str | None = None
    sort: str = "created"
    after: str | None = None
    shows_pending: bool = False
    only_public: bool = False
    keeps_deleted: bool = True


class TilesetStore:
    """The tilesets of an emulator; thread-safe.

    :param database: a database with the tables of :data:`SCHEMA` and the table of uploads.
    :param folder: the folder of the MBTiles files.
    :param clock: Unix time in seconds.
    """

    def __init__(self, database: Database, folder: Path, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._folder = folder
        self._clock = clock
        database.add_missing_columns("tilesets", ADDED_COLUMNS)
        self._complete_old_rows()

    def file(self, tileset: Tileset) -> Path:
        """Return the MBTiles file of a tileset. Tilesets that were added without an upload share theirs."""
        return self._folder / (tileset.file or _file_name(tileset.id))

    def find(self, tileset_id: str) -> Tileset | None:
        """Return a published tileset, or None if it is unknown."""
        # Only ids from the database become part of a file's name.
        if not TILESET.match(tileset_id):
            return None
        rows = self._database.rows(f"SELECT {', '.join(COLUMNS)} FROM tilesets WHERE id = ?", tileset_id)  # noqa: S608
        return _tileset(rows[0]) if rows else None

    def all(self) -> list[Tileset]:
        """Return all published tilesets, last modified first."""
        rows = self._database.rows(f"SELECT {', '.join(COLUMNS)} FROM tilesets ORDER BY modified DESC, id")  # noqa: S608
        return [_tileset(row) for row in rows]

    def page(self, owner: str, listing: Listing, *, count: int) -> list[Tileset]:
        """Return the next tilesets of a list.

        :param count: maximum number of tilesets.
        :raises RefusedError: 422 if ``listing.after`` is unknown.
        """
        with self._database.lock:
            position = self._position(owner, listing)
            rows = self._database.named_rows(
                f"SELECT {', '.join(COLUMNS)} FROM {_listed(listing)}"  # noqa: S608 - only names of columns
                " WHERE owner = :owner AND coalesce(type = :type, 1) AND coalesce(private = :private, 1)"
                " AND (private = 0 OR NOT :only_public)"
                f" AND ({listing.sort}, id) < (:moment, :id) ORDER BY {listing.sort} DESC, id DESC LIMIT :count",
                {
                    "owner": owner,
                    "type": listing.type,
                    "private": None if listing.visibility is None else listing.visibility == "private",
                    "only_public": listing.only_public,
                    "moment": position[0],
                    "id": position[1],
                    "count": count,
                },
            )
        return [_tileset(row) for row in rows]

    def _position(self, owner: str, listing: Listing) -> tuple[object, object]:
        if listing.after is None:
            return float("inf"), ""
        tables = (_listed(listing), "deleted_tilesets") if listing.keeps_deleted else (_listed(listing),)
        for table in tables:
            rows = self._database.rows(
                f"SELECT {listing.sort}, id FROM {table} WHERE id = ? AND owner = ?",  # noqa: S608
                listing.after,
                owner,
            )
            if rows:
                return rows[0][0], rows[0][1]
        raise RefusedError(422, ApiMessage.INVALID_START)

    def publish(self, db: sqlite3.Connection, made: Tileset, mbtiles: Path) -> None:
        """Replace a tileset's MBTiles file and its row, inside the caller's transaction.

        Visibility, description, attribution and the time of creation stay. The file is replaced first: if the emulator
        is killed before the commit, the upload is processed again.
        """
        made = dataclasses.replace(made, file=_file_name(made.id))
        mbtiles.replace(self.file(made))
        replaced = ("name", "layer", "modified", "type", "center", "filesize", "precisions", "cu", "status", "file")
        _insert(db, made, on_conflict="UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in replaced))

    def add(self, tileset: Tileset) -> None:
        """Add a tileset without an upload, or replace it. It shares the MBTiles file of all that were added so."""
        file = f"sample-{tileset.type}.mbtiles"
        with self._database.lock:
            if not (self._folder / file).exists():
                write_sample(self._folder / file, is_raster=tileset.type == "raster")
            with self._database.transaction() as db:
                db.execute("DELETE FROM tilesets WHERE id = ?", (tileset.id,))
                _insert(db, dataclasses.replace(tileset, file=file), on_conflict="NOTHING")
            (self._folder / _file_name(tileset.id)).unlink(missing_ok=True)

    def delete(self, tileset_id: str, *, active_status: int | None) -> bool:
        """Delete a tileset and its tiles; return False if there is none.

        :param active_status: the status of the refusal if an upload of the tileset is in processing; None allows it.
        :raises RefusedError: with ``active_status``.
        """
        with self._database.lock:
            with self._database.transaction() as db:
                active = db.execute(
                    "SELECT 1 FROM uploads WHERE tileset = ? AND finished = 0", (tileset_id,)
                ).fetchone()
                if active and active_status is not None:
                    raise RefusedError(active_status, ApiMessage.LOCKED)
                db.execute(
                    "INSERT OR REPLACE INTO deleted_tilesets"
                    " SELECT id, owner, created, modified FROM tilesets WHERE id = ?",
                    (tileset_id,),
                )
                is_deleted = db.execute("DELETE FROM tilesets WHERE id = ?", (tileset_id,)).rowcount > 0
                if is_deleted:
                    db.execute("DELETE FROM tiling_service WHERE tileset = ?", (tileset_id,))
            if is_deleted:
                (self._folder / _file_name(tileset_id)).unlink(missing_ok=True)
        return is_deleted

    def update(self, tileset_id: str, changes: Mapping[str, Any]) -> None:
        """Change some columns of a tileset.

        :param changes: values by the name of a field of :class:`Tileset`.
        """
        if changes:
            assignments = ", ".join(f"{COLUMNS[COLUMNS.index(name)]} = ?" for name in changes)
            with self._database.transaction() as db:
                db.execute(
                    f"UPDATE tilesets SET {assignments} WHERE id = ?",  # noqa: S608 - only names of columns
                    (*(_column(name, value) for name, value in changes.items()), tileset_id),
                )

    def mark_tiling_service(self, tileset_id: str) -> None:
        """Mark a tileset as made by the Mapbox Tiling Service. An upload cannot replace it then."""
        with self._database.transaction() as db:
            db.execute("INSERT OR IGNORE INTO tiling_service VALUES (?)", (tileset_id,))

    def tiling_service_tilesets(self) -> list[str]:
        """Return the tilesets that :meth:`mark_tiling_service` marked."""
        rows = self._database.rows("SELECT tileset FROM tiling_service ORDER BY tileset")
        return [str(tileset) for (tileset,) in rows]

    def _complete_old_rows(self) -> None:
        """Store the figures of tilesets in a folder of an older version."""
        for (tileset_id,) in self._database.rows("SELECT id FROM tilesets WHERE type IS NULL"):
            file = self._folder / _file_name(str(tileset_id))
            if file.is_file():
                figures = read_figures(file)
                self.update(str(tileset_id), dataclasses.asdict(figures))


def describe_tileset(tileset_id: object, fields: Mapping[str, Any], *, account: str, now: float) -> Tileset:
    """Return a tileset with some fields of :func:`make_tileset`.

    :param fields: values by name, not yet checked.
    :raises ValueError: for an invalid value.
    :raises TypeError: for an unknown field, and for a value of a wrong type.
    """
    for name in fields:
        if name not in GIVEN_FIELDS:
            raise TypeError(f"a tileset has no field {name!r}, only {', '.join(GIVEN_FIELDS)}")
    return make_tileset(tileset_id, account=account, now=now, **fields)


def make_tileset(
    tileset_id: object,
    *,
    account: str,
    now: float,
    created: float | str | datetime.datetime | None = None,
    modified: float | str | datetime.datetime | None = None,
    visibility: str = "private",
    filesize: int = 1000,
    type: str = "vector",
    name: str | None = None,
    description: str = "",
    status: str = "available",
    created_by_client: str | None = None,
) -> Tileset:
    """Return a tileset as the caller describes it.

    :param tileset_id: its id, ``account.name``.
    :param account: the emulator's account, to which the id must belong.
    :param now: Unix time in seconds, for ``created`` and ``modified`` that are not given.
    :param created: Unix seconds, a ``datetime`` with a time zone, or an ISO 8601 string with one.
    :param modified: the same; by default equal to ``created``.
    :param filesize: bytes.
    :raises ValueError: for an invalid value.
    :raises TypeError: for a value of a wrong type.
    """
    match = TILESET.match(tileset_id) if isinstance(tileset_id, str) else None
    if not isinstance(tileset_id, str) or match is None or match[1] != account:
        raise ValueError(f"{tileset_id!r} is not the id of a tileset of account {account!r} (account.name)")
    for label, value, choices in (
        ("type", type, TYPES),
        ("visibility", visibility, VISIBILITIES),
        ("status", status, STATUSES),
    ):
        if value not in choices:
            raise ValueError(f"{label} of a tileset must be one of {', '.join(choices)}, not {value!r}")
    for label, text in (
        ("name", name or ""),
        ("description", description),
        ("created_by_client", created_by_client or ""),
    ):
        if not isinstance(text, str):
            raise TypeError(f"{label} of a tileset must be a string, not {text!r}")
    if not isinstance(filesize, int) or isinstance(filesize, bool) or not 0 <= filesize < 2**63:
        raise ValueError(f"filesize of a tileset must be a whole number of bytes, not {filesize!r}")
    made = _seconds("created", created, default=now)
    return Tileset(
        tileset_id,
        account,
        name or match[2],
        None,
        created=made,
        modified=_seconds("modified", modified, default=made),
        type=type,
        filesize=filesize,
        precisions={"free": 0},
        cu=made_up_compute_units(filesize),
        description=description,
        private=visibility == "private",
        status=status,
        client=created_by_client,
    )


def _seconds(label: str, moment: float | str | datetime.datetime | None, *, default: float) -> float:
    if moment is None:
        return default
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{label} of a tileset needs a time zone: {moment.isoformat()}")
        return moment.timestamp()
    if not isinstance(moment, int | float) or isinstance(moment, bool) or not 0 <= moment < 2**36:
        raise ValueError(f"{label} of a tileset must be a time in Unix seconds, not {moment!r}")
    return float(moment)


def _file_name(tileset_id: str) -> str:
    return f"{tileset_id}.mbtiles"


def _listed(listing: Listing) -> str:
    """Return the SQL of the table of tilesets to list, with the pending ones if the listing shows them."""
    if not listing.shows_pending:
        return "tilesets"
    active = "SELECT 1 FROM uploads WHERE uploads.tileset = tilesets.id AND finished = 0"
    status = f"CASE WHEN EXISTS ({active}) THEN 'pending' ELSE status END AS status"
    shown = ", ".join(status if column == "status" else column for column in COLUMNS)
    # An upload's columns in the place of a tileset that does not exist yet.
    pending = {"id": "tileset", "owner": "owner", "name": "coalesce(name, substr(tileset, length(owner) + 2))"}
    pending |= {
        "layer": "NULL",
        "created": "created",
        "modified": "modified",
        "type": "'vector'",
        "center": "'[0, 0, 0]'",
    }
    pending |= {"filesize": "0", "precisions": "'{}'", "cu": "0", "description": "''", "private": "1"}
    pending |= {"attribution": "'[]'", "status": "'pending'", "client": "NULL", "file": "NULL"}
    unpublished = "finished = 0 AND NOT EXISTS (SELECT 1 FROM tilesets WHERE tilesets.id = uploads.tileset)"
    columns = ", ".join(pending[column] for column in COLUMNS)
    return f"(SELECT {shown} FROM tilesets UNION ALL SELECT {columns} FROM uploads WHERE {unpublished})"  # noqa: S608


def _insert(db: sqlite3.Connection, tileset: Tileset, *, on_conflict: str) -> None:
    db.execute(
        f"INSERT INTO tilesets ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
        f" ON CONFLICT (id) DO {on_conflict}",
        tuple(_column(name, getattr(tileset, name)) for name in COLUMNS),
    )


def _column(name: str, value: object) -> object:
    return json.dumps(value) if name in _JSON_COLUMNS else value


def _tileset(row: tuple[Any, ...]) -> Tileset:
    values = dict(zip(COLUMNS, row, strict=True))
    for name in _JSON_COLUMNS:
        values[name] = json.loads(values[name])
    values["type"] = values["type"] or "vector"
    values["private"] = bool(values["private"])
    values["center"], values["attribution"] = tuple(values["center"]), tuple(values["attribution"])
    return Tileset(**values)

"""Store the emulator's state in a folder: a SQLite file, staged objects, tilesets."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_mapbox.emulator import tilesets
from airflow_mapbox.emulator.database import Database
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.figures import read_figures
from airflow_mapbox.emulator.tokens import SCOPES, Token, TokenState, make_cuid, make_token, parse_token

SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY, account TEXT NOT NULL, authorization TEXT NOT NULL, usage TEXT NOT NULL,
    scopes TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS credentials (
    access_key TEXT PRIMARY KEY, secret TEXT NOT NULL, session TEXT NOT NULL, account TEXT NOT NULL,
    bucket TEXT NOT NULL, key TEXT NOT NULL UNIQUE, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS uploads (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, tileset TEXT NOT NULL,
    name TEXT, url TEXT NOT NULL, staged TEXT UNIQUE, finished INTEGER NOT NULL DEFAULT 0, error TEXT,
    progress REAL NOT NULL DEFAULT 0, created REAL NOT NULL, modified REAL NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS one_active ON uploads (tileset) WHERE finished = 0;
"""


@dataclass(frozen=True)
class Credentials:
    """Temporary S3 credentials for one bucket and key."""

    access_key: str
    secret: str
    session: str
    account: str
    bucket: str
    key: str
    expires: float


@dataclass(frozen=True)
class Upload:
    """An upload, with its ``staged`` key, which the API does not show."""

    id: str
    owner: str
    tileset: str
    name: str | None
    url: str
    staged: str | None
    finished: bool
    error: str | None
    progress: float
    created: float
    modified: float

    def as_json(self, *, failed_complete: bool) -> dict[str, object]:
        """Return the upload object of the API.

        :param failed_complete: the value of ``complete`` if the upload failed.
        """
        return {
            "id": self.id,
            "name": self.name,
            "complete": self.finished and (self.error is None or failed_complete),
            "error": self.error,
            "created": timestamp(self.created),
            "modified": timestamp(self.modified),
            "tileset": self.tileset,
            "owner": self.owner,
            "progress": int(self.progress) if self.progress in (0, 1) else self.progress,
        }


def timestamp(seconds: float) -> str:
    """Return Unix seconds in Mapbox's time format: ``2015-10-20T19:29:34.270Z``."""
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


UPLOAD_COLUMNS = "id, owner, tileset, name, url, staged, finished, error, progress, created, modified"


def _upload(row: tuple[object, ...]) -> Upload:
    values = dict(zip(UPLOAD_COLUMNS.split(", "), row, strict=True))
    values["finished"] = bool(values["finished"])
    return Upload(**values)  # type: ignore[arg-type]


class Store:
    """The state of an emulator; thread-safe.

    :param folder: the folder of the state; created if it is missing.
    :param clock: Unix time in seconds.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.clock = clock
        for name in ("staged", "incoming", "tilesets", "datasets"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # Interrupted uploads are processed again from the beginning, so their intermediate files are useless.
        shutil.rmtree(self.work, ignore_errors=True)
        # The folder may still exist: the tiler of a killed emulator may still be writing to it.
        self.work.mkdir(exist_ok=True)
        self._database = Database(folder / "emulator.sqlite3", schema=SCHEMA + tilesets.SCHEMA)
        self._lock, self._db = self._database.lock, self._database.connection
        self._transaction, self._rows = self._database.transaction, self._database.rows
        self.tilesets = tilesets.TilesetStore(self._database, folder / "tilesets", clock=clock)
        self._remove_orphans()

    @property
    def work(self) -> Path:
        """The folder of unfinished files; emptied at every start."""
        return self.folder / "work"

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # Tokens

    def own_token(self, account: str, token: str | None) -> tuple[str, Path | None]:
        """Return the account's token with all scopes, and the file of the token or None.

        :param account: the token's account.
        :param token: a token to use instead of the stored token. It is not written to the folder.
        """
        if token is not None:
            payload = parse_token(token)
            if payload is None or payload["user"] != account:
                raise ValueError(f"the token in the settings is malformed, or not a token of account {account!r}")
            self.add_token(token, scopes=SCOPES)
            return token, None
        file = self.folder / "token"
        if file.exists():
            token = file.read_text(encoding="ascii").strip()
            payload = parse_token(token)
            if payload is not None and payload["user"] == account:
                self.add_token(token, scopes=SCOPES)
                return token, file
        token = make_token(account)
        temporary = self.work / "token"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(token + "\n")
        temporary.replace(file)
        self.add_token(token, scopes=SCOPES)
        return token, file

    def add_token(
        self, token: str, *, scopes: tuple[str, ...] | frozenset[str], state: TokenState = TokenState.VALID
    ) -> None:
        """Store a token's digest and record."""
        payload = parse_token(token)
        if payload is None:
            raise ValueError("the token is malformed")
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?)",
                (
                    _digest(token),
                    payload["user"],
                    payload["authorization"],
                    payload["usage"],
                    json.dumps(sorted(scopes)),
                    state,
                ),
            )

    def find_token(self, token: str) -> Token | None:
        """Return a token's record, or None if the token is unknown."""
        rows = self._rows(
            "SELECT account, authorization, usage, scopes, state FROM tokens WHERE digest = ?", _digest(token)
        )
        if not rows:
            return None
        account, authorization, usage, scopes, state = (str(value) for value in rows[0])
        return Token(account, authorization, usage, frozenset(json.loads(scopes)), TokenState(state))

    # Staging

    def issue_credentials(self, account: str, *, bucket: str, lifetime: float) -> Credentials:
        """Create and store temporary S3 credentials for a new key."""
        credentials = Credentials(
            # pragma: allowlist nextline secret
            access_key="ASIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)),
            secret=secrets.token_urlsafe(30),
            session=secrets.token_urlsafe(96),
            account=account,
            bucket=bucket,
            key=f"{secrets.token_hex(1)}/_pending/{make_cuid()}/{account}",
            expires=self.clock() + lifetime,
        )
        with self._transaction() as db:
            db.execute(
                "INSERT INTO credentials VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    credentials.access_key,
                    credentials.secret,
                    credentials.session,
                    credentials.account,
                    credentials.bucket,
                    credentials.key,
                    credentials.expires,
                ),
            )
        return credentials

    def find_credentials(self, access_key: str) -> Credentials | None:
        """Return issued credentials by their access key id, also if they are expired, or None."""
        rows = self._rows(
            "SELECT access_key, secret, session, account, bucket, key, expires FROM credentials WHERE access_key = ?",
            access_key,
        )
        return Credentials(*rows[0]) if rows else None  # type: ignore[arg-type]

    def expire_credentials(self, access_key: str) -> None:
        """Expire issued credentials now."""
        with self._transaction() as db:
            db.execute(
                "UPDATE credentials SET expires = min(expires, ?) WHERE access_key = ?", (self.clock(), access_key)
            )

    def staged_file(self, key: str) -> Path:
        """Return the file of a staged object. Its name is a digest, because keys contain slashes."""
        return self.folder / "staged" / hashlib.sha256(key.encode()).hexdigest()

    def staged_objects(self) -> list[tuple[str, Path]]:
        """Return the keys and files of all staged objects that no upload has used."""
        keys = [str(key) for (key,) in self._rows("SELECT key FROM credentials")]
        return [(key, file) for key in keys if (file := self.staged_file(key)).exists()]

    # Uploads

    def create_upload(
        self, *, owner: str, tileset: str, name: str | None, url: str, key: str | None, first_check: str = "used"
    ) -> Upload:
        """Create an upload in one transaction, and take its staged object.

        :param key: the staged object's key; None for a dataset.
        :param first_check: ``used``, ``staged`` or ``active``: the refusal that comes first if several apply.
        :raises RefusedError: 409 if an upload already used the key. 422 if the staged object is missing, the tileset is
            in processing, or the Mapbox Tiling Service made it.
        """
        with self._lock, self._transaction() as db:
            checks: dict[str, tuple[RefusedError, Callable[[], bool]]] = {
                "used": (RefusedError(409, ApiMessage.USED_URL), lambda: self._is_used(db, key)),
                "staged": (RefusedError(422, ApiMessage.NO_ACCESS), lambda: not self._is_staged(db, key, owner)),
                "active": (RefusedError(422, ApiMessage.ACTIVE), lambda: self._is_processing(db, tileset)),
            }
            for refusal, applies in (checks.pop(first_check), *checks.values()):
                if applies():
                    raise refusal
            if db.execute("SELECT 1 FROM tiling_service WHERE tileset = ?", (tileset,)).fetchone():
                raise RefusedError(422, ApiMessage.TILING_SERVICE)
            now = self.clock()
            upload = Upload(make_cuid(), owner, tileset, name, url, key, False, None, 0.0, now, now)
            db.execute(
                "INSERT INTO uploads (id, owner, tileset, name, url, staged, created, modified)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (upload.id, owner, tileset, name, url, key, now, now),
            )
        self.take_staged(upload)
        return upload

    def _is_used(self, db: sqlite3.Connection, key: str | None) -> bool:
        return key is not None and bool(db.execute("SELECT 1 FROM uploads WHERE staged = ?", (key,)).fetchone())

    def _is_staged(self, db: sqlite3.Connection, key: str | None, owner: str) -> bool:
        if key is None:
            return True
        row = db.execute("SELECT account FROM credentials WHERE key = ?", (key,)).fetchone()
        return row is not None and row[0] == owner and self.staged_file(key).exists()

    def _is_processing(self, db: sqlite3.Connection, tileset: str) -> bool:
        unfinished = "SELECT 1 FROM uploads WHERE tileset = ? AND finished = 0"
        return bool(db.execute(unfinished, (tileset,)).fetchone())

    def incoming_file(self, upload: Upload) -> Path:
        """Return the file of an upload's data while it waits for processing."""
        return self.folder / "incoming" / upload.id

    def take_staged(self, upload: Upload) -> Path | None:
        """Move an upload's staged object out of the bucket and return its file. A second call does not move again."""
        incoming = self.incoming_file(upload)
        with self._lock:
            if upload.staged is not None and not incoming.exists():
                staged = self.staged_file(upload.staged)
                if staged.exists():
                    staged.replace(incoming)
        return incoming if incoming.exists() else None

    def find_upload(self, owner: str, upload_id: str) -> Upload | None:
        """Return an account's upload, or None if it is unknown or was deleted."""
        rows = self._rows(
            f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE id = ? AND owner = ? AND removed = 0",  # noqa: S608
            upload_id,
            owner,
        )
        return _upload(rows[0]) if rows else None

    def list_uploads(
        self,
        owner: str,
        *,
        until: float = float("inf"),
        after: str | None = None,
        reverse: bool = False,
        count: int = 100,
    ) -> list[Upload]:
        """Return an account's uploads.

        :param until: leave out uploads created after this Unix time.
        :param after: id of the upload before the page; it may have been deleted.
        :param reverse: oldest first instead of newest first.
        :param count: maximum number of uploads.
        :raises RefusedError: 422 if ``after`` is unknown.
        """
        sign, order = (">", "ASC") if reverse else ("<", "DESC")
        start = 0 if reverse else 2**62
        if after is not None:
            positions = self._rows("SELECT seq FROM uploads WHERE id = ? AND owner = ?", after, owner)
            if not positions:
                raise RefusedError(422, ApiMessage.INVALID_VALUE.format("start"))
            start = int(str(positions[0][0]))
        rows = self._rows(
            f"SELECT {UPLOAD_COLUMNS} FROM uploads"  # noqa: S608
            f" WHERE owner = ? AND removed = 0 AND created <= ? AND seq {sign} ? ORDER BY seq {order} LIMIT ?",
            owner,
            until,
            start,
            count,
        )
        return [_upload(row) for row in rows]

    def remove_upload(self, owner: str, upload_id: str) -> bool:
        """Remove a finished upload from the list; return False if the upload is incomplete.

        Its row stays in the database, because a staged URL cannot make a second upload even after a delete.

        :raises RefusedError: 404 for an unknown id.
        """
        with self._lock:
            upload = self.find_upload(owner, upload_id)
            if upload is None:
                raise RefusedError(404, ApiMessage.NOT_FOUND)
            if not upload.finished:
                return False
            self._db.execute("UPDATE uploads SET removed = 1 WHERE id = ?", (upload_id,))
        return True

    def unfinished_uploads(self) -> list[Upload]:
        """Return the uploads that are not yet processed, oldest first."""
        rows = self._rows(f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE finished = 0 ORDER BY seq")  # noqa: S608
        return [_upload(row) for row in rows]

    def set_progress(self, upload_id: str, progress: float, *, may_fall: bool = False) -> None:
        """
        Store an upload's progress.

        :param upload_id: the upload's id.
        :param progress: from 0 to 1.
        :param may_fall: accept a lower progress than the stored one, too.
        """
        with self._lock:
            self._db.execute(
                "UPDATE uploads SET progress = ?, modified = ? WHERE id = ? AND finished = 0 AND (? OR progress < ?)",
                (progress, self.clock(), upload_id, may_fall, progress),
            )

    def fail_upload(self, upload: Upload, message: str) -> None:
        """Finish an upload with an error."""
        with self._transaction() as db:
            db.execute(
                "UPDATE uploads SET finished = 1, error = ?, modified = ? WHERE id = ?",
                (message, self.clock(), upload.id),
            )
        self.incoming_file(upload).unlink(missing_ok=True)

    def publish(self, upload: Upload, mbtiles: Path, *, name: str, layer: str | None) -> None:
        """Replace a tileset and complete the upload."""
        figures = dataclasses.asdict(read_figures(mbtiles))
        with self._transaction() as db:
            now = self.clock()
            made = tilesets.Tileset(upload.tileset, upload.owner, name, layer, created=now, modified=now, **figures)
            self.tilesets.publish(db, made, mbtiles)
            db.execute("UPDATE uploads SET finished = 1, progress = 1, modified = ? WHERE id = ?", (now, upload.id))
        self.incoming_file(upload).unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Delete the data of finished uploads, and objects that were staged again under a used key."""
        waiting = {upload.id for upload in self.unfinished_uploads()}
        for file in (self.folder / "incoming").iterdir():
            if file.name not in waiting:
                file.unlink()
        rows = self._rows("SELECT staged FROM uploads WHERE staged IS NOT NULL AND finished = 1")
        for (key,) in rows:
            self.staged_file(str(key)).unlink(missing_ok=True)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""The secrets of a run, looked for in everything that it left behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from demo.stack import Stack


def issued_secrets(stack: Stack) -> list[str]:
    """Give the token and every temporary credential that the emulator has given out, from its own store."""
    with sqlite3.connect(stack.folder / "emulator" / "emulator.sqlite3") as books:
        rows = books.execute("SELECT access_key, secret, session FROM credentials").fetchall()
    return [stack.emulator.token, *(secret for row in rows for secret in row)]


def places_with_secrets(stack: Stack) -> list[str]:
    """
    Give the logs that have a secret in them, and whether Airflow's database has.

    Looked through are the output of every process, task logs and a dump of the database: XComs, state, rendered fields.

    :raises AssertionError: where nothing was logged at DEBUG, so that the search would say little.
    """
    logs = [path for folder in (stack.logs, stack.home / "logs") for path in folder.rglob("*") if path.is_file()]
    texts = {str(path): path.read_text(errors="replace") for path in logs}
    texts["the database"] = stack.database_dump()
    assert any("[debug" in text or '"level":"debug"' in text for text in texts.values()), "nothing was logged at DEBUG"
    secrets = issued_secrets(stack)
    return [name for name, text in texts.items() if any(secret in text for secret in secrets)]


def exports_of(stack: Stack) -> Path:
    """Give the folder that tasks find in MAPBOX_EXPORT_FOLDER."""
    folder = stack.folder / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

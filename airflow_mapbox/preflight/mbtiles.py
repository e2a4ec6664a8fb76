"""Check the header and the schema of a local MBTiles file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from airflow_mapbox.preflight.problems import WRITER, Problem

_CONVERT = 'Send MBTiles, or export the data with format="auto", which reads GeoPackage and other SQLite formats.'


# https://www.sqlite.org/fileformat.html, "The Database Header"
_HEADER_BYTES = 100


def check_mbtiles(path: Path, head: bytes, size: int) -> Iterator[Problem]:
    """
    Check an MBTiles file.

    :param path: the file.
    :param head: its first bytes; 100 are enough.
    :param size: its size in bytes.
    """
    if len(head) < _HEADER_BYTES:
        yield Problem(f"is a database of {len(head)} bytes: it is cut off.", WRITER)
        return
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes  # 65,536 does not fit into the field
    pages = int.from_bytes(head[28:32], "big")
    # Old versions of SQLite do not write the number of pages ("In-header database size").
    if head[24:28] == head[92:96] and pages * page_bytes > size:
        yield Problem(f"has {size:,} of the {pages * page_bytes:,} bytes in its header: it is cut off.", WRITER)
        return
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        yield Problem(
            f"has changes in {log.name} that are not yet in the file itself.",
            'Close the program that writes it, or run sqlite3 with "PRAGMA wal_checkpoint(TRUNCATE)".',
        )
        return
    try:
        tables = _tables(path)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's message may quote a name that is not UTF-8
        yield Problem(f"is a database that cannot be read ({error}).", WRITER)
        return
    if not tables & {"tiles", "grids"}:
        yield Problem("is an SQLite database without a table of tiles, so it is not MBTiles.", _CONVERT)
    elif "metadata" not in tables:
        yield Problem(
            "is an MBTiles file without a table of metadata.",
            "Create it again with the tool that made it.",
            refused=False,
        )


def _tables(path: Path) -> set[str]:
    """Return the names of tables and views. Nothing in the schema is executed: the file may come from a stranger."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        db.text_factory = lambda text: text.decode("utf-8", "replace")
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA trusted_schema = OFF")
        names = db.execute("SELECT lower(name) FROM sqlite_schema WHERE type IN ('table', 'view')")
        return {str(name) for (name,) in names}

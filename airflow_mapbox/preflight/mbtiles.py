"""What Mapbox would refuse in an MBTiles file on this machine, as far as its header and its schema tell."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from airflow_mapbox.preflight.problems import WRITER, Problem

_CONVERT = (
    'Send MBTiles, or export the data: format="auto" reads GeoPackage and what else GDAL reads of SQLite\'s formats.'
)


def check_mbtiles(path: Path, head: bytes, size: int) -> Iterator[Problem]:
    """
    Check a database.

    :param path: the file.
    :param head: its first 100 bytes or more.
    :param size: of the file.
    """
    if len(head) < 100:
        yield Problem(f"is a database of {len(head)} bytes: it is cut off.", WRITER)
        return
    # https://www.sqlite.org/fileformat.html, "The Database Header": 1 stands for 65,536.
    page = int.from_bytes(head[16:18], "big")
    page = 65_536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    # The count is right only where whoever wrote last has written it too ("In-header database size").
    if head[24:28] == head[92:96] and pages * page > size:
        yield Problem(f"has {size:,} bytes of the {pages * page:,} that its header promises: it is cut off.", WRITER)
        return
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        yield Problem(
            f"has changes in {log.name} that are not in the file itself.",
            'Close it in the program that writes it, or run sqlite3 with "PRAGMA wal_checkpoint(TRUNCATE)".',
        )
        return
    try:
        tables = _tables(path)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's own words may have a broken name in them
        yield Problem(f"is a database that cannot be read ({error}).", WRITER)
        return
    if not tables & {"tiles", "grids"}:
        yield Problem("is an SQLite database without a table of tiles, and so no MBTiles.", _CONVERT)
    elif "metadata" not in tables:
        yield Problem(
            "is an MBTiles file without a table of metadata.",
            "Make it again with the tool that made it.",
            refused=False,
        )


def _tables(path: Path) -> set[str]:
    """Return the names of tables and views. The schema is read and nothing of it is run."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        db.text_factory = lambda text: text.decode("utf-8", "replace")
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA trusted_schema = OFF")
        names = db.execute("SELECT lower(name) FROM sqlite_schema WHERE type IN ('table', 'view')")
        return {str(name) for (name,) in names}

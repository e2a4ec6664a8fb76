"""The emulator's SQLite file: one connection for all threads, transactions, and the columns of older folders."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Database:
    """A SQLite file; thread-safe.

    :param file: created if it is missing, readable by its owner only.
    :param schema: statements that create what is missing.
    """

    def __init__(self, file: Path, *, schema: str) -> None:
        self.lock = threading.RLock()
        file.touch(mode=0o600)
        self.connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.executescript(schema)

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit the changes of a block together, or none if it raises."""
        with self.lock:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Return the rows of a query.

        :param values: the values of its ``?``.
        """
        with self.lock:
            return self.connection.execute(sql, values).fetchall()

    def named_rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        """Return the rows of a query with named values (``:name``)."""
        with self.lock:
            return self.connection.execute(sql, values).fetchall()

    def add_missing_columns(self, table: str, columns: Mapping[str, str]) -> None:
        """Add columns that a table of an older folder does not have yet.

        :param columns: the definition of each column by its name.
        """
        with self.transaction() as db:
            present = {str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")}
            for name, definition in columns.items():
                if name not in present:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {definition}")

"""Query an SQLite database that may come from a stranger: nothing is written, and every query ends in time."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

# A value may not be larger; a tile of more than 512,000 bytes is refused anyway.
_MAX_VALUE_BYTES = 20_000_000
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: _MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
# Functions that take no longer than their arguments are long. Others, such as instr and like, can take minutes.
_FUNCTIONS = frozenset({"count", "max", "min", "length", "typeof", "lower", "coalesce", "ifnull", "abs", "substr"})
_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_INSTRUCTIONS = 5_000
# Views that use each other can make a query exponentially large. SQLite asks for permission for each use.
_MAX_PERMISSIONS = 2_000
_MAX_SCHEMA_ENTRIES = 1_000


class TooSlowError(Exception):
    """The deadline has passed."""


class UncheckableError(Exception):
    """The schema uses something that is not safe to run. The message names it."""


class Database:
    """
    A database, opened for reading.

    :param path: the file.
    :param seconds: time for all queries together.
    :param clock: seconds.
    :raises sqlite3.Error: if the file is not a database, or is broken.
    :raises TooSlowError: if reading the schema takes too long.
    """

    def __init__(self, path: Path, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._deadline = clock() + seconds
        self._query_deadline = math.inf
        self._permissions = 0
        self._denied = ""
        self.is_recursive = False
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
        )
        try:
            self._connection.text_factory = lambda text: text.decode("utf-8", "replace")
            for limit, value in _LIMITS.items():
                self._connection.setlimit(limit, value)
            self._connection.set_progress_handler(self._is_late, _INSTRUCTIONS)
            for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON", "temp_store = FILE"):
                self._run(f"PRAGMA {pragma}", ())
            self.schema = self._schema()
            self._connection.set_authorizer(self._permit)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError) and self._is_late():
                raise TooSlowError from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    def row(self, query: str, *parameters: object, seconds: float = math.inf) -> tuple[Any, ...] | None:
        """
        Return the first row of a query, or None.

        :param query: the query.
        :param parameters: its parameters.
        :param seconds: time for this query, if less is left for all.
        :raises sqlite3.Error: if the database is broken, or has no such table or column.
        :raises TooSlowError: if the deadline has passed.
        :raises UncheckableError: if a view uses something that is not safe to run.
        """
        return next(self.rows(query, *parameters, seconds=seconds), None)

    def rows(self, query: str, *parameters: object, seconds: float = math.inf) -> Iterator[tuple[Any, ...]]:
        """
        Yield the rows of a query.

        :param query: the query.
        :param parameters: its parameters.
        :param seconds: time for this query, if less is left for all.
        :raises sqlite3.Error: if the database is broken, or has no such table or column.
        :raises TooSlowError: if the deadline has passed.
        :raises UncheckableError: if a view uses something that is not safe to run.
        """
        self._query_deadline = self._clock() + seconds
        if self._is_late():
            raise TooSlowError
        self._permissions, self._denied, self.is_recursive = 0, "", False
        try:
            yield from self._run(query, parameters)
        except sqlite3.OperationalError:
            if self._is_late():
                raise TooSlowError from None
            if self._denied:
                raise UncheckableError(self._denied) from None
            raise
        except sqlite3.DatabaseError:
            if self._denied:  # SQLite's error for a denied permission
                raise UncheckableError(self._denied) from None
            raise

    def start_again(self) -> None:
        """Move the deadline: the caller has received rows."""
        self._deadline, self._query_deadline = self._clock() + self._seconds, math.inf

    def _run(self, query: str, parameters: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        cursor = self._connection.execute(query, parameters)
        try:
            yield from cursor
        finally:
            cursor.close()

    def _schema(self) -> dict[str, tuple[str, str]]:
        """Return type and SQL of each table and view, by its name in lower case."""
        query = "SELECT lower(name), type, sql FROM sqlite_schema WHERE type IN ('table', 'view') LIMIT ?"
        rows = self._run(query, (_MAX_SCHEMA_ENTRIES,))
        return {str(name): (str(kind), str(sql or "")) for name, kind, sql in rows}

    def _is_late(self) -> bool:
        return self._clock() > min(self._deadline, self._query_deadline)

    def _permit(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        self._permissions += 1
        if self._permissions > _MAX_PERMISSIONS:
            self._denied = "views that use each other too often"
        elif action == sqlite3.SQLITE_FUNCTION and str(second).lower() not in _FUNCTIONS:
            self._denied = f"the function {second}"
        elif action not in _READS and action != sqlite3.SQLITE_FUNCTION:
            self._denied = f"something other than a query ({first})"
        else:
            self.is_recursive |= action == sqlite3.SQLITE_RECURSIVE
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

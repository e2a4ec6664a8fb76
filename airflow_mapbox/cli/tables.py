"""Print tables. What a server sent is shown as it is, and controls neither the terminal nor the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow.cli.simple_table import AirflowConsole
from rich.markup import escape

from airflow_mapbox.tilesets.report import plain_line


def print_table(rows: Sequence[Mapping[str, str]]) -> None:
    """
    Print rows as a table.

    :param rows: the cells by their column. All rows have the same columns.
    """
    AirflowConsole().print_as_table([{name: escape(plain_line(cell)) for name, cell in row.items()} for row in rows])

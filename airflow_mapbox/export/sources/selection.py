"""Which part of a source is exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from airflow_mapbox.export.errors import AttributeNameError


@dataclass(frozen=True)
class Selection:
    """
    Which part of a source.

    :param layer: by name or number, where a file has several.
    :param where: a condition on attributes, in OGR's SQL.
    :param columns: attributes by name, or None for all of them.
    :param bbox: west, south, east, north in the source's own reference system.
    :param x: the column of longitudes or eastings, for CSV.
    :param y: the column of latitudes or northings, for CSV.
    """

    layer: str | int | None = None
    where: str | None = None
    columns: Sequence[str] | None = None
    bbox: tuple[float, float, float, float] | None = None
    x: str | None = None
    y: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            raise TypeError(f"columns={self.columns!r}: give a list of column names.")

    def only(self, *names: str, of: str) -> None:
        """
        Refuse what a source cannot select by, which would otherwise be ignored without a word.

        :param names: what it can.
        :param of: the kind of source, for the message.
        """
        asked = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        for name in asked:
            if name not in names:
                raise ValueError(f"{name}= cannot be used with {of}: filter the data first.")

    def condition(self) -> str:
        """Say by what features were chosen; nothing where all are."""
        where = [] if self.where is None else [f"where={self.where!r}"]
        bbox = [] if self.bbox is None else [f"bbox={self.bbox!r}, which is in the source's own reference system"]
        return " and ".join(where + bbox)

    def chosen(self, names: Iterable[str]) -> list[str]:
        """
        Say which columns to read.

        :param names: of the attributes that there are.
        :raises AttributeNameError: where one was asked for that there is not.
        """
        there = list(names)
        if self.columns is None:
            return there
        missing = sorted(set(self.columns) - set(there))
        if missing:
            raise AttributeNameError(
                f"There is no column called {', '.join(missing)}: the source has {', '.join(there) or 'none'}."
            )
        return [name for name in there if name in self.columns]

"""Which part of a source is exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from airflow_mapbox.errors import OptionError
from airflow_mapbox.export.errors import AttributeNameError
from airflow_mapbox.export.options import is_number, is_string, is_whole, names_of

_MEANT_FOR = {"x": "it is for CSV", "y": "it is for CSV", "id_attribute": "it is for GeoJSON"}


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
    :param id_attribute: the attribute to write the ids of features to, for GeoJSON.
    """

    layer: str | int | None = None
    where: str | None = None
    columns: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    x: str | None = None
    y: str | None = None
    id_attribute: str | None = None

    def __post_init__(self) -> None:
        if self.columns is not None:
            # Kept as it was when it was checked: an iterator would be at its end when it is asked again.
            object.__setattr__(self, "columns", names_of("columns", self.columns))
        if self.bbox is not None:
            object.__setattr__(self, "bbox", _box(self.bbox))
        if self.id_attribute is not None and not (self.where is None and self.bbox is None):
            raise OptionError("id_attribute= cannot be used with where= or bbox=: filter the data first.")
        for name in ("where", "x", "y", "id_attribute"):
            if (value := getattr(self, name)) is not None and not is_string(value):
                raise OptionError(f"{name}={value!r}: give it as a string.")
        if not (self.layer is None or is_string(self.layer) or is_whole(self.layer)):
            raise OptionError(f"layer={self.layer!r}: give the name of a layer, or its number, from 0 on.")
        if is_whole(self.layer):
            object.__setattr__(self, "layer", int(self.layer))  # type: ignore[arg-type]

    def only(self, *names: str, of: str) -> None:
        """
        Refuse what a source cannot select by, which would otherwise be ignored without a word.

        :param names: what it can.
        :param of: the kind of source, for the message.
        """
        asked = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        for name in asked:
            if name not in names:
                raise OptionError(f"{name}= cannot be used with {of}: {_MEANT_FOR.get(name, 'filter the data first')}.")

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
        wanted = set(self.columns)
        missing = sorted(wanted - set(there))
        if missing:
            raise AttributeNameError(
                f"There is no column called {', '.join(missing)}.\nThe source has {', '.join(there) or 'none'}."
            )
        return [name for name in there if name in wanted]


def _box(given: Any) -> tuple[float, float, float, float]:
    """Read a box in any form that holds four numbers, such as a list from an XCom or a frame's ``total_bounds``."""
    sides = () if isinstance(given, str | bytes) or not isinstance(given, Iterable) else tuple(given)
    if len(sides) != 4 or not all(map(is_number, sides)):
        raise OptionError(f"bbox={given!r}: give four numbers, west, south, east, north.")
    west, south, east, north = map(float, sides)
    if not (west <= east and south <= north):
        raise OptionError(
            f"bbox={given!r}: west, south, east, north are given in this order, the smaller of two sides first."
        )
    return west, south, east, north

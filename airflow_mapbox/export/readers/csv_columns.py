"""CSV: which columns are coordinates, how GDAL detects the types of columns, and fields without a value."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.options import Selection

SUFFIXES = (".csv", ".tsv")

# Columns that Mapbox recognises (docs/reference/limits.md, "How the format is recognised").
_X, _Y, _GEOMETRY = "x,lon,lng,long,*longitude*", "y,lat,*latitude*", "wkt,geojson,*geom*"
# GDAL detects the type of each column from all rows. By default it reads only the first megabyte.
_TYPES = {"AUTODETECT_TYPE": "YES", "AUTODETECT_SIZE_LIMIT": "0"}


def open_options(name: str, header: Sequence[str], selection: Selection) -> dict[str, str]:
    """
    Return the options with which GDAL's CSV driver opens a file.

    :param name: name of the file, for errors.
    :param header: names of its columns.
    :param selection: may name the columns of coordinates.
    :raises UnreadableSourceError: if several columns may be coordinates.
    """
    candidates = {
        option: [chosen] if chosen else _matching(header, patterns)
        for option, chosen, patterns in (("x", selection.x, _X), ("y", selection.y, _Y))
    }
    if any(len(names) > 1 for names in candidates.values()):
        choices = " and ".join(f"{option}= is one of {', '.join(names)}" for option, names in candidates.items())
        raise UnreadableSourceError(f"{name} has several columns that may be coordinates.\nSet {choices}.")
    return {
        "X_POSSIBLE_NAMES": selection.x or _X,
        "Y_POSSIBLE_NAMES": selection.y or _Y,
        "GEOM_POSSIBLE_NAMES": _GEOMETRY,
        "KEEP_GEOM_COLUMNS": "NO",
        **_TYPES,
    }


def _matching(names: Sequence[str], patterns: str) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name.lower(), pattern) for pattern in patterns.split(","))]


def null_if_empty(column: pa.Array) -> pa.Array:
    """
    Return a column of strings in which empty fields are missing values.

    :param column: strings.
    """
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)


def numbers_as_strings(column: pa.Array) -> pa.Array:
    """
    Return the numbers of a column as strings without spaces. Empty fields are missing values.

    :param column: strings.
    """
    return null_if_empty(pc.utf8_trim_whitespace(column))


def unreadable_coordinates(geometry: pa.Array, coordinates: dict[str, pa.Array]) -> pa.Array:
    """
    Return the coordinates of rows that have coordinates but no geometry, as strings; null for other rows.

    :param geometry: the geometry of each row; null if GDAL could not read it.
    :param coordinates: the columns of coordinates by name, as strings.
    """
    fields = [pc.fill_null(pc.utf8_trim_whitespace(column), "") for column in coordinates.values()]
    has_coordinates = pc.not_equal(pc.binary_join_element_wise(*fields, ""), "")
    values = [
        pc.binary_join_element_wise(f"{name}='", field, "'", "")
        for name, field in zip(coordinates, fields, strict=True)
    ]
    return pc.if_else(pc.and_(geometry.is_null(), has_coordinates), pc.binary_join_element_wise(*values, ", "), None)

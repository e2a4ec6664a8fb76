"""Read a column of geometries, in any encoding of the sources, into arrays of coordinates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import geoarrow.pyarrow as geoarrow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from airflow_mapbox.export.geometry.shapes import KINDS, Kind, Shapes, from_shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray

# WKB, the nested lists of GeoArrow, or an array of shapely geometries.
GeometryColumn: TypeAlias = "pa.Array | NDArray[Any]"

_POINT, _COLLECTION, _LAST_CURVE = 1, 7, 14
_HEAD_BYTES = 5  # of WKB: the byte order and the type
_MIN_BYTES = _HEAD_BYTES + 4
_HAS_SRID, _HAS_Z_OR_M = 0x20000000, 0xC0000000  # flags of the type in PostGIS's EWKB
_LINEARISE = (
    "which GeoJSON does not have: linearise it first (ST_CurveToLine in PostGIS, ogr2ogr -nlt CONVERT_TO_LINEAR "
    "elsewhere)"
)
_MULTIPOLYGON_OF_TRIANGLES = "(SELECT ST_Collect(ST_MakePolygon(ST_ExteriorRing(geom))) FROM ST_Dump(…))"
# Surfaces that consist of faces, by WKB type: their name, and SQL of PostGIS that makes a multipolygon of one.
_FACETED = {
    15: ("polyhedral surface", "(SELECT ST_Collect(geom) FROM ST_Dump(…))"),
    16: ("TIN", _MULTIPOLYGON_OF_TRIANGLES),
    17: ("triangle", _MULTIPOLYGON_OF_TRIANGLES),
}
_UNKNOWN_TYPE = re.compile(r"Unknown WKB type (\d+)")  # GEOS's message for a member of a collection
_WKB_TYPES = {
    1: geoarrow.point(),
    2: geoarrow.linestring(),
    3: geoarrow.polygon(),
    4: geoarrow.multipoint(),
    5: geoarrow.multilinestring(),
    6: geoarrow.multipolygon(),
}
_DIMENSIONS = (
    geoarrow.Dimensions.XY,
    geoarrow.Dimensions.XYZ,
    geoarrow.Dimensions.XYM,
    geoarrow.Dimensions.XYZM,
)


class GeometryError(ValueError):
    """
    A geometry cannot be read.

    :param message: the rest of a message that names the feature.
    :param row: its row in the column.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class ReadGeometries:
    """
    The geometries of a column.

    :param shapes: geometries and members of collections, by kind. Their ``rows`` are numbers of members.
    :param owners: the row of the column that each member belongs to. None if there is no collection: each row is then
        its own member.
    :param missing: rows that are null.
    :param empty: rows without coordinates.
    :param collections: rows that are collections.
    :param measured: whether any geometry has M, for which GeoJSON has no place.
    """

    shapes: tuple[Shapes, ...]
    owners: NDArray[np.int64] | None
    missing: NDArray[np.int64]
    empty: NDArray[np.int64]
    collections: NDArray[np.int64]
    measured: bool


def to_storage(column: pa.Array, kind: Kind | None = None) -> pa.Array:
    """
    Convert a column to the types that :func:`read_geometries` reads: Arrow has more types for bytes.

    :param column: a column of a file.
    :param kind: the kind of all geometries, if they are nested lists.
    :raises pyarrow.ArrowException: if the column has neither lists nor bytes.
    """
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    is_readable = kind is not None or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    return column if is_readable else column.cast(pa.large_binary())


def read_geometries(column: GeometryColumn, kind: Kind | None = None) -> ReadGeometries:
    """
    Read the geometries of a column.

    :param column: a column in any encoding.
    :param kind: the kind of all geometries, if they are nested lists.
    :raises GeometryError: for the first geometry that cannot be read.
    """
    if isinstance(column, np.ndarray):
        return _from_shapely(column)
    if kind is not None:
        return _from_lists(column, kind)
    return _from_wkb(column)


def has_curves(column: pa.Array) -> bool:
    """
    Return whether a column has curves. Curves in collections do not count, because GDAL does not linearise them.

    :param column: a column of WKB.
    """
    starts = _starts(column)
    starts = starts[:-1][np.diff(starts) >= _HEAD_BYTES]  # null has no bytes
    if not len(starts):
        return False
    head = _octets(column)[starts[:, None] + np.arange(_HEAD_BYTES)].astype(np.int64)
    low, high = np.where(head[:, :1] == 1, head[:, 1:3], head[:, 4:2:-1]).T
    # ISO WKB adds thousands to the type; PostGIS sets flags in the upper half, which is not read here.
    numbers = (low | high << 8) % 1000
    return bool(((numbers > _COLLECTION) & (numbers <= _LAST_CURVE)).any())


def geometry_bytes(column: GeometryColumn) -> NDArray[np.int64]:
    """
    Return about how many bytes each geometry takes, shape (n,).

    :param column: a column in any encoding.
    """
    if isinstance(column, np.ndarray):
        return np.asarray(shapely.get_num_coordinates(column), dtype=np.int64) * 16
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return np.asarray(pc.fill_null(pc.binary_length(column), 0), dtype=np.int64)
    starts = np.arange(len(column) + 1)
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        levels = np.asarray(column.offsets, dtype=np.int64)
        starts, column = levels[starts] - levels[0], column.flatten()
    return np.diff(starts) * 16


def _from_shapely(column: NDArray[Any]) -> ReadGeometries:
    missing, empty = shapely.is_missing(column), shapely.is_empty(column)
    rows = np.flatnonzero(~(missing | empty))
    is_collection = shapely.get_type_id(column[rows]) == shapely.GeometryType.GEOMETRYCOLLECTION
    members, owners = _members(column[rows], rows) if is_collection.any() else (column[rows], None)
    return ReadGeometries(
        tuple(from_shapely(members, rows if owners is None else np.arange(len(members)))),
        owners,
        np.flatnonzero(missing),
        np.flatnonzero(empty),
        rows[is_collection],
        bool(shapely.has_m(members).any()) if hasattr(shapely, "has_m") else False,
    )


def _members(geometries: NDArray[Any], owners: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Split collections into members, at any depth (RFC 7946, section 3.1.8, advises against nesting)."""
    while (is_collection := shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION).any():
        # Only collections are split: the parts of a multi-part geometry stay together.
        counts = np.where(is_collection, shapely.get_num_geometries(geometries), 1)
        parts = _parts(geometries[is_collection], owners[is_collection])
        members = np.empty(counts.sum(), dtype=object)
        sources = np.repeat(np.arange(len(geometries)), counts)
        members[is_collection[sources]] = parts
        members[~is_collection[sources]] = geometries[~is_collection]
        geometries, owners = members, owners[sources]
    not_empty = ~shapely.is_empty(geometries)
    return geometries[not_empty], owners[not_empty]


def _parts(collections: NDArray[Any], owners: NDArray[np.int64]) -> NDArray[Any]:
    """Return the parts of collections. shapely reads curves in them, but fails to return them."""
    try:
        return np.asarray(shapely.get_parts(collections))
    except NotImplementedError:
        if len(collections) == 1:
            raise GeometryError(f"its collection has a curve, {_LINEARISE}", int(owners[0])) from None
    return np.concatenate([_parts(collections[i : i + 1], owners[i : i + 1]) for i in range(len(collections))])


def _from_lists(column: pa.Array, kind: Kind) -> ReadGeometries:
    missing = np.flatnonzero(np.asarray(column.is_null()))
    rows = np.flatnonzero(np.asarray(column.is_valid()))
    shapes = _walk(column.drop_null() if len(missing) else column, kind, rows)
    kept = shapes.drop_empty()
    return ReadGeometries((kept,), None, missing, _dropped(shapes, kept), np.empty(0, np.int64), False)


def _walk(column: pa.Array, kind: Kind, rows: NDArray[np.int64]) -> Shapes:
    """Read the nested lists of GeoArrow, which must not be null, down to the coordinates."""
    offsets = []
    for _ in range(kind.depth):
        level = np.asarray(column.offsets, dtype=np.int64)
        offsets.append(level - level[0])
        column = column.flatten()
    if pa.types.is_struct(column.type):
        ordinates = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
        x, y, z = (None if name not in ordinates else np.asarray(ordinates[name], np.float64) for name in "xyz")
    else:
        size = column.type.list_size
        flat = np.asarray(column.flatten(), np.float64).reshape(-1, size)
        has_z = "z" in column.type.value_field.name or (size == 3 and column.type.value_field.name != "xym")
        x, y, z = flat[:, 0].copy(), flat[:, 1].copy(), flat[:, 2].copy() if has_z else None
    return Shapes(kind, rows, tuple(offsets), x, y, z)  # type: ignore[arg-type]


def _dropped(before: Shapes, after: Shapes) -> NDArray[np.int64]:
    """Return the rows that were dropped."""
    return np.empty(0, np.int64) if len(before) == len(after) else np.setdiff1d(before.rows, after.rows)


def _from_wkb(column: pa.Array) -> ReadGeometries:
    missing = np.flatnonzero(np.asarray(column.is_null()))
    rows = np.flatnonzero(np.asarray(column.is_valid()))
    if len(missing):
        column = column.drop_null()
    uniform = _uniform(column)
    codes = _codes(column, uniform, rows)
    kinds = _distinct(codes)
    if (kinds % 10 == _COLLECTION).any():
        parsed = np.full(len(missing) + len(rows), None)
        parsed[rows] = _parsed(column, rows)
        return _from_shapely(parsed)
    groups, empty = [], [np.empty(0, np.int64)]
    for code in kinds:
        shapes = None if uniform is None else _points(uniform, int(code), rows)
        if shapes is None:
            chosen = codes == code
            of_kind = column if len(kinds) == 1 else column.filter(pa.array(chosen))
            shapes = _from_geoarrow(of_kind, int(code), rows[chosen])
        kept = shapes.drop_empty()
        groups.append(kept)
        empty.append(_dropped(shapes, kept))
    return ReadGeometries(
        tuple(shapes for shapes in groups if len(shapes)),
        None,
        missing,
        np.sort(np.concatenate(empty)),
        np.empty(0, np.int64),
        bool((kinds // 10 >= 2).any()),
    )


def _starts(column: pa.Array) -> NDArray[np.int64]:
    """Return where each value begins in the column's memory, and where the last one ends."""
    offset_type = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(column.buffers()[1], offset_type)
    return offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _octets(column: pa.Array) -> NDArray[np.uint8]:
    return np.frombuffer(column.buffers()[2], np.uint8)


def _uniform(column: pa.Array) -> NDArray[np.uint8] | None:
    """Return WKB as bytes of shape (n, length), or None if lengths, byte orders or types differ."""
    if not len(column):
        return None
    starts = _starts(column)
    length = int(starts[1] - starts[0])
    if length < _MIN_BYTES or (np.diff(starts) != length).any():
        return None
    records = _octets(column)[starts[0] : starts[-1]].reshape(-1, length)
    types = np.ndarray(len(records), np.uint32, records, offset=1, strides=(length,))
    return records if (records[:, 0] == records[0, 0]).all() and (types == types[0]).all() else None


def _codes(column: pa.Array, uniform: NDArray[np.uint8] | None, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """
    Return a code of each geometry: ten times the number of its dimensions in ``_DIMENSIONS``, plus its type.

    :param column: ISO WKB or PostGIS's EWKB.
    :param uniform: the same as uniform bytes, if it is uniform.
    :param rows: the row of each geometry, for messages.
    """
    if not len(column):
        return np.empty(0, np.int64)
    if uniform is not None:  # the first one has the code of all
        head = uniform[:1, :_HEAD_BYTES]
    else:
        starts = _starts(column)
        short = np.flatnonzero(np.diff(starts) < _MIN_BYTES)
        if len(short):
            raise GeometryError("its geometry has too few bytes for WKB", int(rows[short[0]]))
        head = _octets(column)[starts[:-1, None] + np.arange(_HEAD_BYTES)]
        if (head == head[0]).all():
            head = head[:1]
    head = head.astype(np.int64)
    little = head[:, :1] == 1
    octets = np.where(little, head[:, 4:0:-1], head[:, 1:])
    code = ((octets[:, 0] << 24) | (octets[:, 1] << 16) | (octets[:, 2] << 8) | octets[:, 3]).astype(np.int64)
    iso, flags = (code & 0x1FFFFFFF), code >> 29
    dimensions = np.where(iso >= 1000, iso // 1000, (flags >> 2 & 1) + (flags >> 1 & 1) * 2)
    numbers = iso % 1000
    unsupported = np.flatnonzero((head[:, 0] > 1) | (numbers < 1) | (numbers > _COLLECTION) | (dimensions > 3))
    if len(unsupported):
        first = unsupported[0]
        raise GeometryError(_unsupported_type(int(numbers[first])) or "its geometry is not WKB", int(rows[first]))
    return np.broadcast_to(dimensions * 10 + numbers, len(column))


def _points(records: NDArray[np.uint8], code: int, rows: NDArray[np.int64]) -> Shapes | None:
    """
    Read the coordinates of points from uniform WKB, ten times as fast as one by one.

    :param records: the bytes of all geometries, shape (n, length).
    :param code: their code.
    :param rows: the row of each geometry.
    :return: None if this is not plain WKB points; the caller falls back to the general reader.
    """
    if code % 10 != _POINT:
        return None
    names = _DIMENSIONS[code // 10].name.lower()
    little = records[0, 0] == 1
    kind = int.from_bytes(records[0, 1:_HEAD_BYTES].tobytes(), "little" if little else "big")
    head = _HEAD_BYTES + 4 * bool(kind & _HAS_SRID)
    names_dimensions_twice = kind & _HAS_Z_OR_M and kind & 0xFFFF >= 1000  # by a flag and by the number
    if names_dimensions_twice or records.shape[1] != head + 8 * len(names):
        return None
    ordinates = {
        name: np.ndarray(
            len(records), "<f8" if little else ">f8", records, offset=head + 8 * index, strides=records.strides[:1]
        ).astype(np.float64)
        for index, name in enumerate(names)
    }
    return Shapes(KINDS[_POINT], rows, (), ordinates["x"], ordinates["y"], ordinates.get("z"))


def _unsupported_type(number: int) -> str | None:
    """Name a WKB type that GeoJSON does not have, and say how to convert it; None for other types."""
    if 8 <= number <= 14:
        return f"its geometry is a curve (WKB type {number}), {_LINEARISE}"
    if number not in _FACETED:
        return None
    name, multipolygon = _FACETED[number]
    return (
        f"its geometry is a {name} (WKB type {number}), which GeoJSON does not have: make a multipolygon of its "
        f"faces first ({multipolygon} in PostGIS, ogr2ogr -nlt MULTIPOLYGON elsewhere)"
    )


def _distinct(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sorted distinct codes. Most columns have one code, which needs no sorting."""
    return codes[:1] if len(codes) and (codes == codes[0]).all() else np.unique(codes)


def _from_geoarrow(column: pa.Array, code: int, rows: NDArray[np.int64]) -> Shapes:
    target = _WKB_TYPES[code % 10].with_dimensions(_DIMENSIONS[code // 10])
    try:
        lists = geoarrow.as_geoarrow(geoarrow.wkb().wrap_array(column.cast(pa.binary())), target).storage
    except Exception:  # geoarrow-c raises errors of many kinds
        lists = None
    if lists is None:
        _parsed(column, rows)  # raises an error that names the row
        raise GeometryError("its geometry cannot be read", int(rows[0]))
    return _walk(lists, KINDS[code % 10], rows)


def _parsed(column: pa.Array, rows: NDArray[np.int64]) -> NDArray[Any]:
    data = np.asarray(column, dtype=object)
    geometries = shapely.from_wkb(data, on_invalid="ignore")
    failed = np.flatnonzero(shapely.is_missing(geometries))
    if len(failed):
        raise GeometryError(_problem(data[failed[0]]), int(rows[failed[0]]))
    parsed: NDArray[Any] = np.asarray(geometries)
    return parsed


def _problem(data: bytes) -> str:
    """Describe why GEOS cannot read a geometry."""
    try:
        shapely.from_wkb(data)
    except shapely.GEOSException as error:
        unknown = _UNKNOWN_TYPE.search(str(error))
        problem = _unsupported_type(int(unknown[1]) % 1000) if unknown else None
        if problem is not None:
            return problem.replace("is a", "has a", 1)
    return "its geometry is not readable WKB"

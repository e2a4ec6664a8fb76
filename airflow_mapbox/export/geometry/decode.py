"""A column of geometries, in any encoding that sources have, as arrays of coordinates."""

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

# WKB as binary, the nested lists of GeoArrow, or an array of shapely geometries.
GeometryColumn: TypeAlias = "pa.Array | NDArray[Any]"

_POINT, _COLLECTION, _LAST_CURVE = 1, 7, 14
_HEAD = 5  # bytes of WKB: the order of bytes, and the type
_LEAST = _HEAD + 4  # bytes of a geometry
_HAS_SRID, _HAS_Z_OR_M = 0x20000000, 0xC0000000  # of a type, as PostGIS writes it
_LINEARISE = (
    "which GeoJSON has not: linearise it first (ST_CurveToLine in PostGIS, ogr2ogr -nlt CONVERT_TO_LINEAR elsewhere)"
)
_OF_TRIANGLES = "(SELECT ST_Collect(ST_MakePolygon(ST_ExteriorRing(geom))) FROM ST_Dump(…))"
# Surfaces that are faces, by type of WKB: their name, and what makes a multipolygon of one in PostGIS.
_FACETED = {
    15: ("polyhedral surface", "(SELECT ST_Collect(geom) FROM ST_Dump(…))"),
    16: ("TIN", _OF_TRIANGLES),
    17: ("triangle", _OF_TRIANGLES),
}
_UNKNOWN = re.compile(r"Unknown WKB type (\d+)")  # as GEOS says of a member of a collection
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

    :param row: its place in the column.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class ReadGeometries:
    """
    What is in a column.

    :param shapes: simple geometries and the members of collections, by kind; their rows count members.
    :param owners: the row of the column that each member belongs to, or None where there is no collection, and each
        row is its own member.
    :param missing: rows that are null.
    :param empty: rows that have no coordinates.
    :param collections: rows that are collections.
    :param measured: whether some have an M, which GeoJSON has no place for.
    """

    shapes: tuple[Shapes, ...]
    owners: NDArray[np.int64] | None
    missing: NDArray[np.int64]
    empty: NDArray[np.int64]
    collections: NDArray[np.int64]
    measured: bool


def stored(column: pa.Array, kind: Kind | None = None) -> pa.Array:
    """
    Give a column of Arrow as it is read here: lists, or WKB one after the other, where Arrow has more types for bytes.

    :param column: of a file.
    :param kind: of all of them, for nested lists.
    :raises pyarrow.ArrowException: for what is no bytes.
    """
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    read = kind is not None or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    return column if read else column.cast(pa.large_binary())


def read_geometries(column: GeometryColumn, kind: Kind | None = None) -> ReadGeometries:
    """
    Read a column.

    :param column: of any encoding.
    :param kind: of all of them, for nested lists.
    :raises GeometryError: for bytes that are no geometry.
    """
    if isinstance(column, np.ndarray):
        return _from_shapely(column)
    if kind is not None:
        return _from_lists(column, kind)
    return _from_wkb(column)


def has_curves(column: pa.Array) -> bool:
    """
    Say whether some of a column are curves. Those in a collection are not looked for: GDAL leaves them as they are.

    :param column: of WKB.
    """
    starts = _starts(column)
    starts = starts[:-1][np.diff(starts) >= _HEAD]  # null is as short as nothing
    if not len(starts):
        return False
    head = _octets(column)[starts[:, None] + np.arange(_HEAD)].astype(np.int64)
    low, high = np.where(head[:, :1] == 1, head[:, 1:3], head[:, 4:2:-1]).T
    # Of both ISO's numbers, in thousands, and PostGIS's, whose flags are in the upper half.
    numbers = (low | high << 8) % 1000
    return bool(((numbers > _COLLECTION) & (numbers <= _LAST_CURVE)).any())


def geometry_bytes(column: GeometryColumn) -> NDArray[np.int64]:
    """
    Say how many bytes each geometry takes, about.

    :param column: of any encoding.
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
    collected = shapely.get_type_id(column[rows]) == shapely.GeometryType.GEOMETRYCOLLECTION
    members, owners = _members(column[rows], rows) if collected.any() else (column[rows], None)
    return ReadGeometries(
        tuple(from_shapely(members, rows if owners is None else np.arange(len(members)))),
        owners,
        np.flatnonzero(missing),
        np.flatnonzero(empty),
        rows[collected],
        bool(shapely.has_m(members).any()) if hasattr(shapely, "has_m") else False,
    )


def _members(geometries: NDArray[Any], owners: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Take collections apart, however deep they are nested (RFC 7946, section 3.1.8, advises against nesting)."""
    while (collected := shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION).any():
        # Parts of multi-part geometries stay together: only collections are taken apart.
        counts = np.where(collected, shapely.get_num_geometries(geometries), 1)
        parts = _parts(geometries[collected], owners[collected])
        apart = np.empty(counts.sum(), dtype=object)
        sources = np.repeat(np.arange(len(geometries)), counts)
        apart[collected[sources]] = parts
        apart[~collected[sources]] = geometries[~collected]
        geometries, owners = apart, owners[sources]
    full = ~shapely.is_empty(geometries)
    return geometries[full], owners[full]


def _parts(collections: NDArray[Any], owners: NDArray[np.int64]) -> NDArray[Any]:
    """Give the parts of collections; shapely holds curves in them, and refuses to give them out."""
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
    full = shapes.without_empty()
    return ReadGeometries((full,), None, missing, _gone(shapes, full), np.empty(0, np.int64), False)


def _walk(column: pa.Array, kind: Kind, rows: NDArray[np.int64]) -> Shapes:
    """Walk the nested lists of GeoArrow, none of them null, down to the coordinates."""
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
        high = "z" in column.type.value_field.name or (size == 3 and column.type.value_field.name != "xym")
        x, y, z = flat[:, 0].copy(), flat[:, 1].copy(), flat[:, 2].copy() if high else None
    return Shapes(kind, rows, tuple(offsets), x, y, z)  # type: ignore[arg-type]


def _gone(before: Shapes, after: Shapes) -> NDArray[np.int64]:
    """Give the rows that are not there any more."""
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
    found, empty = [], [np.empty(0, np.int64)]
    for code in kinds:
        shapes = None if uniform is None else _points(uniform, int(code), rows)
        if shapes is None:
            chosen = codes == code
            alike = column if len(kinds) == 1 else column.filter(pa.array(chosen))
            shapes = _native(alike, int(code), rows[chosen])
        full = shapes.without_empty()
        found.append(full)
        empty.append(_gone(shapes, full))
    return ReadGeometries(
        tuple(shapes for shapes in found if len(shapes)),
        None,
        missing,
        np.sort(np.concatenate(empty)),
        np.empty(0, np.int64),
        bool((kinds // 10 >= 2).any()),
    )


def _starts(column: pa.Array) -> NDArray[np.int64]:
    """Give where each text of bytes begins in its memory, and where the last one ends."""
    wide = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(column.buffers()[1], wide)
    return offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _octets(column: pa.Array) -> NDArray[np.uint8]:
    return np.frombuffer(column.buffers()[2], np.uint8)


def _uniform(column: pa.Array) -> NDArray[np.uint8] | None:
    """Give WKB as an array of bytes, shape (n, length), where all of it has the same length, byte order and type."""
    if not len(column):
        return None
    starts = _starts(column)
    length = int(starts[1] - starts[0])
    if length < _LEAST or (np.diff(starts) != length).any():
        return None
    records = _octets(column)[starts[0] : starts[-1]].reshape(-1, length)
    types = np.ndarray(len(records), np.uint32, records, offset=1, strides=(length,))
    return records if (records[:, 0] == records[0, 0]).all() and (types == types[0]).all() else None


def _codes(column: pa.Array, uniform: NDArray[np.uint8] | None, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give ten times the dimensions (XY, XYZ, XYM, XYZM) plus the type of each, of ISO WKB as well as PostGIS's."""
    if not len(column):
        return np.empty(0, np.int64)
    if uniform is not None:  # one is read for all
        head = uniform[:1, :_HEAD]
    else:
        starts = _starts(column)
        short = np.flatnonzero(np.diff(starts) < _LEAST)
        if len(short):
            raise GeometryError("its geometry has too few bytes for WKB", int(rows[short[0]]))
        head = _octets(column)[starts[:-1, None] + np.arange(_HEAD)]
        if (head == head[0]).all():
            head = head[:1]
    head = head.astype(np.int64)
    little = head[:, :1] == 1
    octets = np.where(little, head[:, 4:0:-1], head[:, 1:])
    code = ((octets[:, 0] << 24) | (octets[:, 1] << 16) | (octets[:, 2] << 8) | octets[:, 3]).astype(np.int64)
    iso, flags = (code & 0x1FFFFFFF), code >> 29
    dimensions = np.where(iso >= 1000, iso // 1000, (flags >> 2 & 1) + (flags >> 1 & 1) * 2)
    numbers = iso % 1000
    odd = np.flatnonzero((head[:, 0] > 1) | (numbers < 1) | (numbers > _COLLECTION) | (dimensions > 3))
    if len(odd):
        raise GeometryError(_unlike_geojson(int(numbers[odd[0]])) or "its geometry is no WKB", int(rows[odd[0]]))
    return np.broadcast_to(dimensions * 10 + numbers, len(column))


def _points(records: NDArray[np.uint8], code: int, rows: NDArray[np.int64]) -> Shapes | None:
    """
    Take the coordinates out of WKB of points, in a tenth of the time that reading one by one takes.

    :param records: uniform ones.
    :param code: of their type and dimensions.
    :return: None for other kinds, and for what is not just as points are, which others judge.
    """
    if code % 10 != _POINT:
        return None
    names = _DIMENSIONS[code // 10].name.lower()
    little = records[0, 0] == 1
    kind = int.from_bytes(records[0, 1:_HEAD].tobytes(), "little" if little else "big")
    head = _HEAD + 4 * bool(kind & _HAS_SRID)
    both = kind & _HAS_Z_OR_M and kind & 0xFFFF >= 1000  # ways to say which dimensions there are
    if both or records.shape[1] != head + 8 * len(names):
        return None
    ordinates = {
        name: np.ndarray(
            len(records), "<f8" if little else ">f8", records, offset=head + 8 * place, strides=records.strides[:1]
        ).astype(np.float64)
        for place, name in enumerate(names)
    }
    return Shapes(KINDS[_POINT], rows, (), ordinates["x"], ordinates["y"], ordinates.get("z"))


def _unlike_geojson(number: int) -> str | None:
    """Say what a type of WKB is that GeoJSON has not, and how to make of it what it has."""
    if 8 <= number <= 14:
        return f"its geometry is a curve (WKB type {number}), {_LINEARISE}"
    if number not in _FACETED:
        return None
    name, multipolygon = _FACETED[number]
    return (
        f"its geometry is a {name} (WKB type {number}), which GeoJSON has not: make a multipolygon of its faces first "
        f"({multipolygon} in PostGIS, ogr2ogr -nlt MULTIPOLYGON elsewhere)"
    )


def _distinct(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort and deduplicate; most columns have one kind."""
    return codes[:1] if len(codes) and (codes == codes[0]).all() else np.unique(codes)


def _native(column: pa.Array, code: int, rows: NDArray[np.int64]) -> Shapes:
    target = _WKB_TYPES[code % 10].with_dimensions(_DIMENSIONS[code // 10])
    try:
        lists = geoarrow.as_geoarrow(geoarrow.wkb().wrap_array(column.cast(pa.binary())), target).storage
    except Exception:  # geoarrow-c raises what it likes
        lists = None
    if lists is None:
        _parsed(column, rows)  # which says where
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
    """Say why GEOS cannot read a geometry."""
    try:
        shapely.from_wkb(data)
    except shapely.GEOSException as error:
        found = _UNKNOWN.search(str(error))
        known = _unlike_geojson(int(found[1]) % 1000) if found else None
        if known is not None:
            return known.replace("is a", "has a", 1)
    return "its geometry is no WKB that can be read"

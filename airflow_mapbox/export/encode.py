"""Encode the features of one batch as GeoJSON: coordinates and attributes by column, then joined by row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.billing.known import KnownTiles
from airflow_mapbox.export.area_zooms import NO_AREA, AreaZooms
from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.errors import CoordinatesError, InvalidGeometryError, UnreadableSourceError
from airflow_mapbox.export.geometry.clip import to_degrees
from airflow_mapbox.export.geometry.crs import data_crs, unused_crs_note
from airflow_mapbox.export.geometry.decode import GeometryError, ReadGeometries, read_geometries
from airflow_mapbox.export.geometry.shapes import Shapes
from airflow_mapbox.export.geometry.stages import PreparedGeometries, ProblemError, prepare_geometries
from airflow_mapbox.export.options import Options
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.sample import measure
from airflow_mapbox.export.text.attributes import encode_properties
from airflow_mapbox.export.text.join import RowParts, join_rows, take_rows
from airflow_mapbox.export.text.memory import KEPT_MEMORY
from airflow_mapbox.export.text.numbers import number_strings
from airflow_mapbox.export.text.positions import position_strings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyproj import CRS

# Why a feature is dropped before the stages of geometry. Their own reasons are in geometry/stages.py.
UNREADABLE = "coordinates that cannot be read"
_NO_GEOMETRY, _EMPTY = "no geometry", "empty geometry"


def encode(
    batch: Batch, crs: CRS | None, options: Options, opening: str, *, area_zooms: AreaZooms = NO_AREA
) -> tuple[pa.Array, Counts]:
    """
    Encode the features of a batch.

    :param batch: the features. Memory holds them several times.
    :param crs: the reference system of data that declares none.
    :param options: how to write features.
    :param opening: the string at the start of each feature.
    :param area_zooms: the zooms whose tiles are collected for the bill.
    :return: one string for each written feature, and the counts.
    :raises ExportError: if a feature cannot be exported.
    """
    counts = Counts(read=len(batch))
    geometries = read_batch_geometries(batch)
    unreadable = _count_unreadable(batch, counts)
    counts.drop(_NO_GEOMETRY, len(geometries.missing) - unreadable)
    counts.drop(_EMPTY, len(geometries.empty))
    if not geometries.shapes:
        return pa.array([], pa.string()), counts
    source_crs = data_crs(batch.crs, crs, batch.origin)
    crs_note = unused_crs_note(batch.crs, crs, batch.origin)
    if crs_note is not None:
        counts.notes[crs_note] = None
    try:
        prepared = prepare_geometries(geometries.shapes, source_crs, options.geometry)
    except ProblemError as error:
        raise _export_error(error, geometries, batch, crs_note) from None
    if any(map(len, prepared.shapes)):
        # The coordinates are in the processor's cache still.
        counts.bounds = _bounds(prepared)
        if zooms := area_zooms.within(counts.bounds, batch.total):
            counts.cover = cover_of(prepared.shapes, zooms, 10.0**-prepared.decimals, area_zooms.known)
    rows, geometry_parts = _geometry_parts(geometries, prepared)
    _count_prepared(geometries, prepared, rows, counts)
    if not len(rows):
        return pa.array([], pa.string()), counts
    boxes: RowParts = []
    if options.write_bbox:
        counts.heights = _heights(prepared)
        boxes = _boxes(geometries, prepared, rows)
    if geometries.measured:
        counts.notes["Measures (M) were dropped: GeoJSON has no place for them."] = None
    for name in sorted(batch.as_text & batch.columns.keys()):
        counts.notes[f"Column {name!r} has integers beyond 2^53 and is written as strings."] = None
    properties = all_properties = encode_properties(batch.columns, batch.as_text.union(options.as_text))
    if len(rows) < len(batch):
        properties = take_rows(properties, pa.array(rows))
    features = join_rows([opening, *boxes, '"geometry":', *geometry_parts, ',"properties":', *properties, "}"])
    area_zooms.add(len(batch), int(pc.sum(pc.binary_length(features)).as_py() or 0))
    if batch.first == 0:
        counts.sample = measure(batch.columns, all_properties, rows, prepared, features)
    return features, counts


def cover_of(
    groups: Iterable[Shapes], zooms: tuple[int, ...], unit: float = 1.0, known: KnownTiles | None = None
) -> Cover:
    """
    Return the tiles that geometries touch.

    :param groups: geometries by kind, in longitude, latitude.
    :param zooms: the zooms of the tiles, from the highest to the lowest.
    :param unit: the unit of the coordinates in degrees.
    :param known: the tiles of covers that are added to the same total. This one has not all of them.
    """
    touched = Cover(zooms, known)
    for shapes in groups:
        if shapes.kind.has_rings:
            touched.add_polygons(shapes.x, shapes.y, shapes.paths, shapes.offsets[-2], unit=unit)
        elif shapes.kind.min_positions:
            touched.add_lines(shapes.x, shapes.y, shapes.paths, unit=unit)
        else:
            touched.add_points(shapes.x, shapes.y, unit=unit)
    return touched


def read_batch_geometries(batch: Batch) -> ReadGeometries:
    """
    Read the geometries of a batch.

    :raises UnreadableSourceError: for the first geometry that cannot be read.
    """
    try:
        return read_geometries(batch.geometry, batch.kind)
    except GeometryError as error:
        raise UnreadableSourceError(
            f"{batch.origin} cannot be read: feature {batch.first + error.row}: {error}."
        ) from None


def _count_unreadable(batch: Batch, counts: Counts) -> int:
    """Count rows whose coordinates are not numbers or not WKT, and keep the first one for the report."""
    if batch.unreadable is None:
        return 0
    rows = np.flatnonzero(np.asarray(batch.unreadable.is_valid()))
    if len(rows):
        counts.drop(UNREADABLE, len(rows))
        counts.unreadable = batch.first + int(rows[0]), batch.unreadable[int(rows[0])].as_py()
    return len(rows)


def _count_prepared(
    geometries: ReadGeometries, prepared: PreparedGeometries, rows: NDArray[np.int64], counts: Counts
) -> None:
    """
    Count what happened to geometries.

    :param rows: the rows that are written.
    """
    counts.written = len(rows)
    counts.geometries = sum(map(len, prepared.shapes))
    counts.changed.update(prepared.changed)
    counts.crs_from[prepared.crs_name] = prepared.accuracy
    counts.edge_error = prepared.edge_error
    counted = rows
    for reason, dropped in prepared.dropped.items():
        if geometries.owners is None:
            counts.drop(reason, len(dropped))
        else:
            # A collection is one feature: if its members were dropped for several reasons, the first one counts.
            features = np.setdiff1d(geometries.owners[dropped], counted)
            counts.drop(reason, len(features))
            counted = np.union1d(counted, features)


def _geometry_parts(geometries: ReadGeometries, prepared: PreparedGeometries) -> tuple[NDArray[np.int64], RowParts]:
    """Return the rows that are written, in order, and the parts of the geometry of each."""
    members = np.concatenate([np.empty(0, np.int64), *(shapes.rows for shapes in prepared.shapes)])
    if geometries.owners is None and len(prepared.shapes) == 1 and bool((np.diff(members) > 0).all()):
        return members, _shape_parts(prepared.shapes[0], prepared.decimals)
    by_kind = [join_rows(_shape_parts(shapes, prepared.decimals)) for shapes in prepared.shapes]
    order = np.argsort(members, kind="stable")
    members, strings = members[order], pa.concat_arrays([pa.array([], pa.string()), *by_kind]).take(pa.array(order))
    if geometries.owners is None:
        return members, [strings]
    owners = geometries.owners[members]
    rows, starts, sizes = np.unique(owners, return_index=True, return_counts=True)
    if not len(rows):
        return rows, [strings]
    lists = pa.ListArray.from_arrays(pa.array(np.append(starts, starts[-1:] + sizes[-1:]), pa.int32()), strings)
    joined = pc.binary_join(lists, ",")
    is_collection = pa.array(np.isin(rows, geometries.collections))
    collections = join_rows(['{"type":"GeometryCollection","geometries":[', joined, "]}"])
    return rows, [pc.if_else(is_collection, collections, joined)]


def _shape_parts(shapes: Shapes, decimals: int) -> RowParts:
    """Return the parts of a JSON object for each geometry."""
    kind = shapes.kind
    brackets = kind.depth + 1
    ordinates = [shapes.x, shapes.y] if shapes.z is None else [shapes.x, shapes.y, shapes.z]
    strings = position_strings(ordinates, decimals, shapes.paths if kind.min_positions else None)
    levels = shapes.offsets[:-1] if kind.min_positions else shapes.offsets
    # First between positions of a multi-point, or rings of a polygon, or lines; then between polygons.
    for depth, level in enumerate(reversed(levels), start=2 if kind.min_positions else 1):
        if len(level) - 1 != level[-1] or (np.diff(level) != 1).any():
            strings = pc.binary_join(
                pa.ListArray.from_arrays(pa.array(level, pa.int32()), strings),
                "]" * depth + "," + "[" * depth,
                memory_pool=KEPT_MEMORY,
            )
    return [f'{{"type":"{kind.name}","coordinates":' + "[" * brackets, strings, "]" * brackets + "}"]


def _bounds(prepared: PreparedGeometries) -> tuple[float, float, float, float]:
    west = min(float(shapes.x.min()) for shapes in prepared.shapes)
    south = min(float(shapes.y.min()) for shapes in prepared.shapes)
    east = max(float(shapes.x.max()) for shapes in prepared.shapes)
    north = max(float(shapes.y.max()) for shapes in prepared.shapes)
    west, south, east, north = (to_degrees(side, prepared.decimals) for side in (west, south, east, north))
    return west, south, east, north


def _heights(prepared: PreparedGeometries) -> tuple[float, float]:
    heights = [shapes.z for shapes in prepared.shapes if shapes.z is not None]
    lowest = min((float(z.min()) for z in heights), default=np.inf)
    highest = max((float(z.max()) for z in heights), default=-np.inf)
    return to_degrees(lowest, prepared.decimals), to_degrees(highest, prepared.decimals)


def _boxes(geometries: ReadGeometries, prepared: PreparedGeometries, rows: NDArray[np.int64]) -> RowParts:
    """
    Return the ``bbox`` member of each feature (RFC 7946, section 5), with heights if the feature has any.

    If a feature was cut at the antimeridian, its box may cross it: west is greater than east then (section 5.2).
    """
    count = int(rows[-1]) + 1
    box = np.array([[np.inf], [np.inf], [-np.inf], [-np.inf]]).repeat(count, axis=1)
    for shapes in prepared.shapes:
        starts = shapes.starts[:-1]
        owners = _owners(geometries, shapes.rows)
        for side, (ordinate, extreme) in enumerate(
            ((shapes.x, np.minimum), (shapes.y, np.minimum), (shapes.x, np.maximum), (shapes.y, np.maximum))
        ):
            extreme.at(box[side], owners, extreme.reduceat(ordinate, starts))
    if len(prepared.crossing):
        _extend_across_antimeridian(box, geometries, prepared)
    corners: list[Any] = [number_strings(to_degrees(side[rows], prepared.decimals)) for side in box]
    lowest, highest = _height_parts(geometries, prepared, rows)
    return ['"bbox":[', corners[0], ",", corners[1], lowest, ",", corners[2], ",", corners[3], highest, "],"]


def _extend_across_antimeridian(
    box: NDArray[np.float64], geometries: ReadGeometries, prepared: PreparedGeometries
) -> None:
    """
    Leave the widest gap between parts out of the boxes of features that were cut at the antimeridian.

    :param box: west, south, east, north of each feature, in units of the last decimal; shape (4, n). It is changed.
    """
    owners, wests, easts = [], [], []
    for shapes in prepared.shapes:
        paths = shapes.paths if shapes.kind.min_positions else np.arange(len(shapes.x) + 1)
        owners.append(_owners(geometries, shapes.rows[shapes.owners(paths[:-1])]))
        wests.append(np.minimum.reduceat(shapes.x, paths[:-1]))
        easts.append(np.maximum.reduceat(shapes.x, paths[:-1]))
    owner, west, east = np.concatenate(owners), np.concatenate(wests), np.concatenate(easts)
    crosses = np.isin(owner, _owners(geometries, prepared.crossing))
    owner, west, east = owner[crosses], west[crosses], east[crosses]
    order = np.lexsort((west, owner))
    rows, starts = np.unique(owner[order], return_index=True)
    for row, paths in zip(rows, np.split(order, starts)[1:], strict=True):
        reached = np.maximum.accumulate(east[paths])
        # The gap to the west of each path. The first one lies across ±180 and is used unless another is wider.
        gaps = west[paths] - np.roll(reached, 1)
        gaps[0] += 360 * 10.0**prepared.decimals
        widest = np.argmax(gaps)
        box[0, row], box[2, row] = west[paths[widest]], reached[widest - 1]


def _height_parts(
    geometries: ReadGeometries, prepared: PreparedGeometries, rows: NDArray[np.int64]
) -> list[pa.Array | str]:
    """Return a comma and the lowest height of each feature, and the same for the highest; empty if it has none."""
    with_heights = [(shapes, shapes.z) for shapes in prepared.shapes if shapes.z is not None]
    if not with_heights:
        return ["", ""]
    parts: list[pa.Array | str] = []
    for extreme, start in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        heights = np.full(int(rows[-1]) + 1, start)
        for shapes, z in with_heights:
            extreme.at(heights, _owners(geometries, shapes.rows), extreme.reduceat(z, shapes.starts[:-1]))
        has_heights = pa.array(np.isfinite(heights[rows]))
        numbers = number_strings(to_degrees(heights[rows], prepared.decimals))
        parts.append(pc.if_else(has_heights, join_rows([",", numbers]), ""))
    return parts


def _owners(geometries: ReadGeometries, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the features that geometries belong to."""
    return rows if geometries.owners is None else geometries.owners[rows]


def _export_error(
    error: ProblemError, geometries: ReadGeometries, batch: Batch, crs_note: str | None
) -> CoordinatesError:
    """Name the feature of a problem. A system that was not used is often the cause."""
    row = error.problem.row if geometries.owners is None else int(geometries.owners[error.problem.row])
    kind = InvalidGeometryError if error.problem.clause.startswith("is not valid") else CoordinatesError
    clause = error.problem.clause if crs_note is None else f"{error.problem.clause} {crs_note}"
    return kind(f"Feature {batch.first + row} {clause}")

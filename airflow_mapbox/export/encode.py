"""Features of one slice as GeoJSON text: coordinates and attributes are written by column, and joined by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.counts import UNREADABLE, Tally
from airflow_mapbox.export.errors import CoordinatesError, InvalidGeometryError, UnreadableSourceError
from airflow_mapbox.export.geometry.clip import degrees
from airflow_mapbox.export.geometry.crs import given_in_vain, known_crs
from airflow_mapbox.export.geometry.decode import Geometries, GeometryError, read_geometries
from airflow_mapbox.export.geometry.shapes import Shapes
from airflow_mapbox.export.geometry.stages import Located, ProblemError, locate
from airflow_mapbox.export.options import Options
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.text.attributes import encode_properties
from airflow_mapbox.export.text.join import Pieces, joined, taken
from airflow_mapbox.export.text.memory import KEPT_MEMORY
from airflow_mapbox.export.text.numbers import number_texts
from airflow_mapbox.export.text.positions import position_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyproj import CRS

_NO_GEOMETRY, _EMPTY = "no geometry", "empty geometry"


def encode(batch: Batch, given: CRS | None, options: Options, opening: str) -> tuple[pa.Array, Tally]:
    """
    Write the features of a batch.

    :param batch: of a size that fits in memory several times.
    :param given: the reference system of data that does not name its own.
    :param options: what to do where there is a choice.
    :param opening: how each feature begins.
    :return: one text a feature that is left; and what happened.
    :raises ExportError: for what cannot be exported.
    """
    tally = Tally(read=len(batch))
    try:
        found = read_geometries(batch.geometry, batch.kind)
    except GeometryError as error:
        raise UnreadableSourceError(
            f"{batch.origin} cannot be read: feature {batch.first + error.row}: {error}."
        ) from None
    unreadable = _note_unreadable(batch, tally)
    tally.drop(_NO_GEOMETRY, len(found.missing) - unreadable)
    tally.drop(_EMPTY, len(found.empty))
    if not found.shapes:
        return pa.array([], pa.string()), tally
    crs = known_crs(batch.crs, given, batch.origin)
    in_vain = given_in_vain(batch.crs, given, batch.origin)
    if in_vain is not None:
        tally.notes[in_vain] = None
    try:
        located = locate(found.shapes, crs, options, tally)
    except ProblemError as error:
        raise _refused(error, found, batch, in_vain) from None
    rows, texts = _geometry_texts(found, located, tally)
    tally.written = len(rows)
    if not len(rows):
        return pa.array([], pa.string()), tally
    tally.bounds = _bounds(located)
    boxes: Pieces = []
    if options.write_bbox:
        tally.heights = _heights(located)
        boxes = _boxes(found, located, rows)
    if found.measured:
        tally.notes["Measures (M) were dropped: GeoJSON has no place for them."] = None
    for name in sorted(batch.as_text & batch.columns.keys()):
        tally.notes[f"Column {name!r} has whole numbers beyond 2^53 and is written as text."] = None
    properties = encode_properties(batch.columns, batch.as_text.union(options.as_text))
    if len(rows) < len(batch):
        properties = taken(properties, pa.array(rows))
    return joined([opening, *boxes, '"geometry":', *texts, ',"properties":', *properties, "}"]), tally


def _note_unreadable(batch: Batch, tally: Tally) -> int:
    """Count rows whose coordinates are no numbers or no WKT, and keep the first one for the report."""
    if batch.unreadable is None:
        return 0
    rows = np.flatnonzero(np.asarray(batch.unreadable.is_valid()))
    if len(rows):
        tally.drop(UNREADABLE, len(rows))
        tally.unreadable = batch.first + int(rows[0]), batch.unreadable[int(rows[0])].as_py()
    return len(rows)


def _geometry_texts(found: Geometries, located: Located, tally: Tally) -> tuple[NDArray[np.int64], Pieces]:
    """Give the rows that are left, in order, and the pieces of each one's geometry."""
    members = np.concatenate([np.empty(0, np.int64), *(shapes.rows for shapes in located.shapes)])
    order = np.argsort(members, kind="stable")
    tally.geometries = len(members)
    if found.owners is None:
        for reason, lost in located.lost.items():
            tally.drop(reason, len(lost))
        if len(located.shapes) == 1 and bool((np.diff(members) > 0).all()):
            return members, _shape_texts(located.shapes[0], located.decimals)
    alone = [joined(_shape_texts(shapes, located.decimals)) for shapes in located.shapes]
    texts = pa.concat_arrays([pa.array([], pa.string()), *alone])
    members, texts = members[order], texts.take(pa.array(order))
    if found.owners is None:
        return members, [texts]
    owners = found.owners[members]
    rows, starts, counts = np.unique(owners, return_index=True, return_counts=True)
    # A collection whose members were lost for several reasons is one feature: the first reason counts it.
    left = rows
    for reason, lost in located.lost.items():
        gone = np.setdiff1d(found.owners[lost], left)
        tally.drop(reason, len(gone))
        left = np.union1d(left, gone)
    if not len(rows):
        return rows, [texts]
    lists = pa.ListArray.from_arrays(pa.array(np.append(starts, starts[-1:] + counts[-1:]), pa.int32()), texts)
    together = pc.binary_join(lists, ",")
    collection = pa.array(np.isin(rows, found.collections))
    wrapped = joined(['{"type":"GeometryCollection","geometries":[', together, "]}"])
    return rows, [pc.if_else(collection, wrapped, together)]


def _shape_texts(shapes: Shapes, decimals: int) -> Pieces:
    """Give what makes up a JSON object for each geometry."""
    kind = shapes.kind
    brackets = kind.depth + 1
    ordinates = [shapes.x, shapes.y] if shapes.z is None else [shapes.x, shapes.y, shapes.z]
    texts = position_texts(ordinates, decimals, shapes.paths if kind.least else None)
    levels = shapes.offsets[:-1] if kind.least else shapes.offsets
    # Between positions of a multi-point, or rings of a polygon or lines; then between polygons.
    for depth, level in enumerate(reversed(levels), start=2 if kind.least else 1):
        if len(level) - 1 != level[-1] or (np.diff(level) != 1).any():
            texts = pc.binary_join(
                pa.ListArray.from_arrays(pa.array(level, pa.int32()), texts),
                "]" * depth + "," + "[" * depth,
                memory_pool=KEPT_MEMORY,
            )
    return [f'{{"type":"{kind.name}","coordinates":' + "[" * brackets, texts, "]" * brackets + "}"]


def _bounds(located: Located) -> tuple[float, float, float, float]:
    west = min(float(shapes.x.min()) for shapes in located.shapes)
    south = min(float(shapes.y.min()) for shapes in located.shapes)
    east = max(float(shapes.x.max()) for shapes in located.shapes)
    north = max(float(shapes.y.max()) for shapes in located.shapes)
    west, south, east, north = (degrees(side, located.decimals) for side in (west, south, east, north))
    return west, south, east, north


def _heights(located: Located) -> tuple[float, float]:
    heights = [shapes.z for shapes in located.shapes if shapes.z is not None]
    lowest = min((float(z.min()) for z in heights), default=np.inf)
    highest = max((float(z.max()) for z in heights), default=-np.inf)
    return degrees(lowest, located.decimals), degrees(highest, located.decimals)


def _boxes(found: Geometries, located: Located, rows: NDArray[np.int64]) -> Pieces:
    """
    Give the box of each feature (RFC 7946, section 5): with heights where it has any.

    That of a feature that was cut at the antimeridian may go across it, west being greater than east (section 5.2).
    """
    count = int(rows[-1]) + 1
    box = np.array([[np.inf], [np.inf], [-np.inf], [-np.inf]]).repeat(count, axis=1)
    for shapes in located.shapes:
        starts = shapes.starts[:-1]
        owners = shapes.rows if found.owners is None else found.owners[shapes.rows]
        for place, (ordinate, extreme) in enumerate(
            ((shapes.x, np.minimum), (shapes.y, np.minimum), (shapes.x, np.maximum), (shapes.y, np.maximum))
        ):
            extreme.at(box[place], owners, extreme.reduceat(ordinate, starts))
    if len(located.crossing):
        _go_across(box, found, located)
    corners: list[Any] = [number_texts(degrees(side[rows], located.decimals)) for side in box]
    lowest, highest = _height_texts(found, located, rows)
    return ['"bbox":[', corners[0], ",", corners[1], lowest, ",", corners[2], ",", corners[3], highest, "],"]


def _go_across(box: NDArray[np.float64], found: Geometries, located: Located) -> None:
    """
    Let the boxes of features that were cut at the antimeridian go around the widest gap between their paths.

    :param box: west, south, east, north of each feature, in whole numbers of the last decimal; shape (4, n).
    """
    crossing = located.crossing if found.owners is None else found.owners[located.crossing]
    owners, wests, easts = [], [], []
    for shapes in located.shapes:
        paths = shapes.paths if shapes.kind.least else np.arange(len(shapes.x) + 1)
        rows = shapes.rows[shapes.owners(paths[:-1])]
        owners.append(rows if found.owners is None else found.owners[rows])
        wests.append(np.minimum.reduceat(shapes.x, paths[:-1]))
        easts.append(np.maximum.reduceat(shapes.x, paths[:-1]))
    owner, west, east = np.concatenate(owners), np.concatenate(wests), np.concatenate(easts)
    across = np.isin(owner, crossing)
    owner, west, east = owner[across], west[across], east[across]
    order = np.lexsort((west, owner))
    rows, starts = np.unique(owner[order], return_index=True)
    for row, paths in zip(rows, np.split(order, starts)[1:], strict=True):
        reached = np.maximum.accumulate(east[paths])
        # West of each path; the first one, which is that over ±180, is taken where there is no wider one.
        gaps = west[paths] - np.roll(reached, 1)
        gaps[0] += 360 * 10.0**located.decimals
        widest = np.argmax(gaps)
        box[0, row], box[2, row] = west[paths[widest]], reached[widest - 1]


def _height_texts(found: Geometries, located: Located, rows: NDArray[np.int64]) -> list[pa.Array | str]:
    """Give the lowest and the highest height of each feature after a comma, or nothing where it has none."""
    high = [(shapes, shapes.z) for shapes in located.shapes if shapes.z is not None]
    if not high:
        return ["", ""]
    texts: list[pa.Array | str] = []
    for extreme, start in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        heights = np.full(int(rows[-1]) + 1, start)
        for shapes, z in high:
            owners = shapes.rows if found.owners is None else found.owners[shapes.rows]
            extreme.at(heights, owners, extreme.reduceat(z, shapes.starts[:-1]))
        there = pa.array(np.isfinite(heights[rows]))
        texts.append(pc.if_else(there, joined([",", number_texts(degrees(heights[rows], located.decimals))]), ""))
    return texts


def _refused(error: ProblemError, found: Geometries, batch: Batch, in_vain: str | None) -> CoordinatesError:
    row = error.problem.row if found.owners is None else int(found.owners[error.problem.row])
    kind = InvalidGeometryError if error.problem.clause.startswith("is not valid") else CoordinatesError
    clause = error.problem.clause if in_vain is None else f"{error.problem.clause} {in_vain}"
    return kind(f"Feature {batch.first + row} {clause}")

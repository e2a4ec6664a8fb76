"""
The stages of geometry, in the order that makes the result right.

Transform → antimeridian → clip → round → wind → check → repair → wind again. Repairing before the cut would turn a
polygon over a pole into lines without area. Rounding after the repair would break it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from pyproj import CRS

from airflow_mapbox.export.geometry import antimeridian, clip
from airflow_mapbox.export.geometry.accuracy import EXACT, Accuracy
from airflow_mapbox.export.geometry.areas import on_grid, repaired
from airflow_mapbox.export.geometry.clip import Problem
from airflow_mapbox.export.geometry.crs import Transformation, find_transformation
from airflow_mapbox.export.geometry.densify import densify, edge_error
from airflow_mapbox.export.geometry.lines import single_parts_as_lines
from airflow_mapbox.export.geometry.options import GeometryOptions
from airflow_mapbox.export.geometry.rings import (
    close_rings,
    drop_repeated_positions,
    drop_short_paths,
    has_enough_positions,
    wind_rings,
)
from airflow_mapbox.export.geometry.shapes import Shapes, from_shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Why a geometry is dropped.
BEYOND = "beyond ±85.0511 degrees"
COLLAPSED = "smaller than the precision"
INVALID = "invalid geometry"
# How a geometry is changed.
CUT = "cut at the antimeridian"
CLIPPED = "clipped at ±85.0511 degrees"
REPAIRED = "repaired"

# If a collection loses members for several reasons, it is counted once, under the reason that comes first here.
_REASONS_BY_PRIORITY = (INVALID, BEYOND, COLLAPSED)


class ProblemError(ValueError):
    """
    A geometry cannot be exported.

    :param problem: the first problem in the batch.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.clause)
        self.problem = problem


@dataclass(frozen=True)
class PreparedGeometries:
    """
    Geometries that can be written, and what happened to them.

    :param shapes: the geometries by kind; coordinates are integers in units of the last decimal.
    :param decimals: decimals of coordinates and heights.
    :param crossing: rows that were cut at the antimeridian.
    :param dropped: rows of dropped geometries by reason, the reason of the highest priority first.
    :param changed: number of changed geometries, by the change.
    :param crs_name: the source's reference system.
    :param accuracy: accuracy of the transformation at the worst place.
    :param edge_error: metres between the middle of the longest straight edge in a projected system and the middle of
        the same edge in longitude, latitude.
    """

    shapes: tuple[Shapes, ...]
    decimals: int
    crossing: NDArray[np.int64]
    dropped: Mapping[str, NDArray[np.int64]]
    changed: Mapping[str, int]
    crs_name: str
    accuracy: Accuracy
    edge_error: float


def prepare_geometries(groups: tuple[Shapes, ...], crs: CRS, options: GeometryOptions) -> PreparedGeometries:
    """
    Transform geometries to longitude, latitude, and make them valid for GeoJSON and Mapbox.

    :param groups: the source's geometries by kind. Each row is in one group.
    :param crs: their reference system.
    :param options: what to do if there is a choice.
    :raises ProblemError: for the first geometry that cannot be exported.
    """
    stages = _Stages(find_transformation(crs), options)
    prepared, problems = [], []
    for shapes in groups:
        try:
            prepared += list(stages.run(shapes))
        except ProblemError as error:
            problems.append(error)
    if problems:
        raise min(problems, key=lambda error: error.problem.row)
    return stages.result(prepared)


class _Stages:
    """Runs the stages for one kind of geometry after the other, and collects what happens."""

    def __init__(self, transformation: Transformation, options: GeometryOptions) -> None:
        self._transformation = transformation
        self._options = options
        self._crossing: list[NDArray[np.int64]] = []
        self._dropped: dict[str, list[NDArray[np.int64]]] = {}
        self._changed: Counter[str] = Counter()
        self._repaired: list[NDArray[np.int64]] = []
        self._accuracy = EXACT
        self._edge_error = 0.0

    def run(self, shapes: Shapes) -> Iterator[Shapes]:
        if self._options.z == "drop" and not self._transformation.geocentric:
            shapes = Shapes(shapes.kind, shapes.rows, shapes.offsets, shapes.x, shapes.y)
        _raise(clip.not_finite(shapes))
        source = drop_short_paths(close_rings(shapes))
        if len(source) < len(shapes):
            self._drop(COLLAPSED, np.setdiff1d(shapes.rows, source.rows))
            if not len(source):
                return
        has_straight_edges = self._transformation.projected and source.kind.min_positions > 0
        if has_straight_edges and self._options.max_segment is not None:
            source = densify(source, self._options.max_segment / self._transformation.metres_per_unit)
        lonlat = self._transformation.apply(source)
        _raise(clip.off_globe(lonlat))
        self._accuracy |= self._transformation.accuracy(lonlat)
        if has_straight_edges:
            self._edge_error = max(self._edge_error, edge_error(source, lonlat, self._transformation))
        for within_180 in self._cut(source, lonlat):
            for on_map in self._clip(source, within_180):
                yield from self._round_and_repair(source, on_map)

    def result(self, prepared: list[Shapes]) -> PreparedGeometries:
        """
        Return the geometries with everything that happened.

        :param prepared: what :meth:`run` has yielded for all kinds.
        """
        # A geometry counts as repaired once, however often it was.
        self._change(REPAIRED, len(np.unique(_concatenate(self._repaired))))
        return PreparedGeometries(
            tuple(shapes for shapes in prepared if len(shapes)),
            self._options.decimals,
            _concatenate(self._crossing),
            {
                reason: np.concatenate(self._dropped[reason])
                for reason in _REASONS_BY_PRIORITY
                if reason in self._dropped
            },
            self._changed,
            self._transformation.name,
            self._accuracy,
            self._edge_error,
        )

    def _cut(self, source: Shapes, lonlat: Shapes) -> Iterator[Shapes]:
        """Cut geometries at the antimeridian."""
        if self._options.antimeridian == "keep":
            yield lonlat
            return
        turns = antimeridian.crossings(source, lonlat, self._transformation)
        if turns.any() and lonlat.kind.has_rings:
            # A ring that collapses when it is rounded is not invalid data. The cut would count it as such.
            kept = has_enough_positions(clip.to_units(lonlat, self._options.decimals))
            if not kept.all():
                rows = lonlat.rows
                source, lonlat = source.keep_paths(kept), lonlat.keep_paths(kept)
                self._drop(COLLAPSED, np.setdiff1d(rows, lonlat.rows))
                turns = antimeridian.crossings(source, lonlat, self._transformation)
        if not turns.any():
            yield lonlat
            return
        crosses = np.zeros(len(lonlat), dtype=bool)
        crosses[lonlat.owners(np.flatnonzero(turns))] = True
        yield lonlat.select(~crosses)
        crossing, turns = lonlat.select(crosses), turns[np.repeat(crosses, np.diff(lonlat.starts))]
        if crossing.kind.has_rings:
            yield from self._cut_polygons(source.select(crosses), crossing, turns)
            return
        self._crossing.append(crossing.rows)
        self._change(CUT, len(crossing))
        yield from single_parts_as_lines(antimeridian.cut_lines(crossing, turns))

    def _cut_polygons(self, source: Shapes, crossing: Shapes, turns: NDArray[np.int64]) -> Iterator[Shapes]:
        projected = self._transformation.projected
        cut, uncut = antimeridian.cut_polygons(source, crossing, turns, projected=projected)
        invalid = _invalid(source) if projected else ~np.asarray(shapely.is_valid(uncut))
        if self._options.on_invalid == "fix":
            self._note_repaired(crossing.rows[invalid], cut[invalid])
        else:
            self._refuse(crossing, uncut, invalid)
            crossing, cut = crossing.select(~invalid), cut[~invalid]
        self._crossing.append(crossing.rows)
        self._change(CUT, int((~shapely.is_empty(cut)).sum()))
        yield from self._drop_empty(cut, crossing.rows, COLLAPSED)

    def _clip(self, source: Shapes, shapes: Shapes) -> Iterator[Shapes]:
        """Clip geometries at the latitude where Mapbox's map ends."""
        beyond = clip.off_map(shapes)
        if not beyond.any():
            yield shapes
            return
        if self._options.beyond_mercator == "error":
            _raise(clip.refused_latitude(shapes))
        yield shapes.select(~beyond)
        outer = shapes.select(beyond)
        if outer.kind.min_positions == 2:
            on_map = clip.clip_lines(outer, self._options.decimals)
            self._drop(BEYOND, np.setdiff1d(outer.rows, on_map.rows))
            self._change(CLIPPED, len(on_map))
            yield from single_parts_as_lines(on_map)
            return
        geometries = outer.to_shapely()
        invalid = ~shapely.is_valid(geometries)
        if invalid.any():
            kept = self._refuse_invalid_source(source, outer, geometries, invalid)
            outer, geometries, invalid = outer.select(kept), geometries[kept], invalid[kept]
            geometries[invalid] = repaired(geometries[invalid])
        inside = clip.clip(geometries, self._options.decimals)
        self._note_repaired(outer.rows[invalid], inside[invalid])
        self._change(CLIPPED, int((~shapely.is_empty(inside)).sum()))
        yield from self._drop_empty(inside, outer.rows, BEYOND)

    def _round_and_repair(self, source: Shapes, shapes: Shapes) -> Iterator[Shapes]:
        """Round and wind geometries, and repair those that are invalid then."""
        decimals = self._options.decimals
        rounded = drop_repeated_positions(clip.to_units(shapes, decimals))
        if len(rounded) < len(shapes):
            self._drop(COLLAPSED, np.setdiff1d(shapes.rows, rounded.rows))
        wound, certain, flat = wind_rings(rounded)
        invalid = ~certain
        invalid[invalid] = _invalid(clip.from_units(wound.select(invalid), decimals))
        if not invalid.any():
            yield self._drop_flat(wound, flat)
            return
        if wound.kind.has_rings:
            flat = flat[~invalid[wound.owners(wound.paths[:-1])]]
        yield self._drop_flat(wound.select(~invalid), flat)
        broken = clip.from_units(wound.select(invalid), decimals)
        geometries = broken.to_shapely()
        kept = self._refuse_invalid_source(source, broken, geometries, np.ones(len(broken), dtype=bool))
        broken, geometries = broken.select(kept), geometries[kept]
        mended = on_grid(repaired(geometries), 10.0**-decimals)
        self._note_repaired(broken.rows, mended)
        for valid in self._drop_empty(mended, broken.rows, COLLAPSED):
            mended_wound, _, flat = wind_rings(drop_repeated_positions(clip.to_units(valid, decimals)))
            yield self._drop_flat(mended_wound, flat)

    def _drop_flat(self, shapes: Shapes, flat: NDArray[np.bool_]) -> Shapes:
        """
        Drop rings that have no area once they are rounded.

        GEOS may call such a ring valid: in degrees, which are not exact in binary, it has a tiny area.
        """
        if not flat.any():
            return shapes
        kept = shapes.keep_paths(~flat)
        self._drop(COLLAPSED, np.setdiff1d(shapes.rows, kept.rows))
        return kept

    def _refuse_invalid_source(
        self, source: Shapes, shapes: Shapes, geometries: Any, invalid: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """
        Refuse geometries that are invalid in the source, unless they are to be repaired.

        A geometry that only rounding or the transformation made invalid is not the data's fault: it is always repaired.
        The validity of a geometry that crosses the antimeridian is tested before the cut.

        :return: whether each geometry is kept, shape (n,).
        """
        kept = np.ones(len(shapes), dtype=bool)
        if self._options.on_invalid != "fix":
            at_fault = invalid & ~np.isin(shapes.rows, _concatenate(self._crossing))
            at_fault[at_fault] = _invalid(source.select(np.isin(source.rows, shapes.rows[at_fault])))
            self._refuse(shapes, geometries, at_fault)
            kept = ~at_fault
        return kept

    def _refuse(self, shapes: Shapes, geometries: Any, invalid: NDArray[np.bool_]) -> None:
        """Raise an error for the first invalid geometry, or drop all of them."""
        if self._options.on_invalid == "error" and invalid.any():
            first = int(np.argmax(invalid))
            reason = shapely.is_valid_reason(geometries[first])
            _raise(
                Problem(
                    int(shapes.rows[first]),
                    f'is not valid ({reason}, in longitude, latitude).\nRepair such features with on_invalid="fix", or '
                    'drop them with on_invalid="drop".',
                )
            )
        self._drop(INVALID, shapes.rows[invalid])

    def _drop_empty(self, geometries: NDArray[Any], rows: NDArray[np.int64], reason: str) -> Iterator[Shapes]:
        empty = shapely.is_empty(geometries)
        self._drop(reason, rows[empty])
        yield from from_shapely(geometries[~empty], rows[~empty])

    def _drop(self, reason: str, rows: NDArray[np.int64]) -> None:
        if len(rows):
            self._dropped.setdefault(reason, []).append(rows)

    def _change(self, change: str, count: int) -> None:
        if count:
            self._changed[change] += count

    def _note_repaired(self, rows: NDArray[np.int64], mended: NDArray[Any]) -> None:
        self._repaired.append(rows[~shapely.is_empty(mended)])


def _concatenate(rows: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *rows])


def _invalid(shapes: Shapes) -> NDArray[np.bool_]:
    return ~np.asarray(shapely.is_valid(shapes.to_shapely())) if len(shapes) else np.empty(0, dtype=bool)


def _raise(problem: Problem | None) -> None:
    if problem is not None:
        raise ProblemError(problem)

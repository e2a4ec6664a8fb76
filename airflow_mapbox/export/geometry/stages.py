"""
The order of what happens to geometries, which decides whether they end up right.

Transform → antimeridian → clip → round → wind → validity → repair → wind again. Repairing before the cut would turn a
polygon over a pole into lines without area, and rounding after the repair would break it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from pyproj import CRS

from airflow_mapbox.export.counts import BEYOND, CLIPPED, Tally
from airflow_mapbox.export.geometry import antimeridian
from airflow_mapbox.export.geometry import clip as bounds
from airflow_mapbox.export.geometry.accuracy import EXACT
from airflow_mapbox.export.geometry.areas import on_grid, repaired
from airflow_mapbox.export.geometry.clip import Problem
from airflow_mapbox.export.geometry.crs import Transformation, transformation
from airflow_mapbox.export.geometry.densify import densify, edge_error
from airflow_mapbox.export.geometry.lines import simplest
from airflow_mapbox.export.geometry.rings import close_rings, lasting, wind_rings, without_repeats, without_short
from airflow_mapbox.export.geometry.shapes import Shapes, from_shapely
from airflow_mapbox.export.options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUT = "cut at the antimeridian"
REPAIRED = "repaired"
COLLAPSED = "smaller than the precision"
INVALID = "invalid geometry"
_REASONS = (INVALID, BEYOND, COLLAPSED)  # the first one that applies counts a feature


class ProblemError(ValueError):
    """
    Geometries that cannot be exported.

    :param problem: the first one.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.clause)
        self.problem = problem


@dataclass(frozen=True)
class Located:
    """
    Geometries as they are written.

    :param shapes: in whole numbers of the last decimal.
    :param decimals: kept, of degrees as well as of heights.
    :param crossing: rows that were cut at the antimeridian.
    :param lost: by reason, the weightiest first, rows of which nothing is left.
    """

    shapes: tuple[Shapes, ...]
    decimals: int
    crossing: NDArray[np.int64]
    lost: dict[str, NDArray[np.int64]]


def locate(groups: tuple[Shapes, ...], crs: CRS, options: Options, tally: Tally) -> Located:
    """
    Bring geometries to longitude, latitude, and make them what GeoJSON and Mapbox take.

    :param groups: of the source, by kind; no row twice.
    :param crs: what they are in.
    :param options: what to do where there is a choice.
    :param tally: told of the transformation.
    :raises ProblemError: for the first geometry that cannot be exported.
    """
    way = transformation(crs)
    locator = _Locator(way, options, tally)
    written, problems = [], []
    for shapes in groups:
        try:
            written += list(locator.locate(shapes))
        except ProblemError as error:
            problems.append(error)
    if problems:
        raise min(problems, key=lambda error: error.problem.row)
    locator.note()
    return Located(
        tuple(shapes for shapes in written if len(shapes)),
        options.decimals,
        np.concatenate([np.empty(0, np.int64), *locator.crossing]),
        {reason: np.concatenate(locator.lost[reason]) for reason in _REASONS if reason in locator.lost},
    )


class _Locator:
    """Takes geometries of one kind after another through the stages."""

    def __init__(self, way: Transformation, options: Options, tally: Tally) -> None:
        self._way = way
        self._options = options
        self._tally = tally
        self.crossing: list[NDArray[np.int64]] = []
        self.lost: dict[str, list[NDArray[np.int64]]] = {}
        self._repaired: list[NDArray[np.int64]] = []
        self._uncertainty = EXACT

    def locate(self, shapes: Shapes) -> Iterator[Shapes]:
        if self._options.z == "drop" and not self._way.geocentric:
            shapes = Shapes(shapes.kind, shapes.rows, shapes.offsets, shapes.x, shapes.y)
        _raise(bounds.not_finite(shapes))
        source = without_short(close_rings(shapes))
        if len(source) < len(shapes):
            self._lose(COLLAPSED, np.setdiff1d(shapes.rows, source.rows))
            if not len(source):
                return
        straight = self._way.projected and source.kind.least > 0
        if straight and self._options.max_segment is not None:
            source = densify(source, self._options.max_segment / self._way.metre)
        lonlat = self._way.apply(source)
        _raise(bounds.off_globe(lonlat))
        self._uncertainty |= self._way.uncertainty(lonlat)
        if straight:
            self._tally.edge_error = max(self._tally.edge_error, edge_error(source, lonlat, self._way))
        for uncut in self._cut(source, lonlat):
            for on_map in self._clipped(source, uncut):
                yield from self._tidied(source, on_map)

    def note(self) -> None:
        """Say what was repaired, and how the features were transformed."""
        self._tally.change(REPAIRED, len(np.unique(np.concatenate([np.empty(0, np.int64), *self._repaired]))))
        self._tally.crs_from[self._way.name] = self._uncertainty

    def _cut(self, source: Shapes, lonlat: Shapes) -> Iterator[Shapes]:
        if self._options.antimeridian == "keep":
            yield lonlat
            return
        turns = antimeridian.crossings(source, lonlat, self._way)
        if turns.any() and lonlat.kind.has_rings:
            # Rings that rounding closes up are no fault of the data; to the cut they would be.
            sized = lasting(bounds.scaled(lonlat, self._options.decimals))
            if not sized.all():
                whole, source, lonlat = lonlat, source.keep_paths(sized), lonlat.keep_paths(sized)
                self._lose(COLLAPSED, np.setdiff1d(whole.rows, lonlat.rows))
                turns = antimeridian.crossings(source, lonlat, self._way)
        if not turns.any():
            yield lonlat
            return
        suspects = np.zeros(len(lonlat), dtype=bool)
        suspects[lonlat.owners(np.flatnonzero(turns))] = True
        yield lonlat.select(~suspects)
        crossing, turns = lonlat.select(suspects), turns[np.repeat(suspects, np.diff(lonlat.starts))]
        if crossing.kind.has_rings:
            yield from self._cut_polygons(source.select(suspects), crossing, turns)
            return
        self.crossing.append(crossing.rows)
        self._tally.change(CUT, len(crossing))
        yield from simplest(antimeridian.cut_lines(crossing, turns))

    def _cut_polygons(self, source: Shapes, crossing: Shapes, turns: NDArray[np.int64]) -> Iterator[Shapes]:
        projected = self._way.projected
        pieces, uncut = antimeridian.cut_polygons(source, crossing, turns, projected=projected)
        invalid = _invalid(source) if projected else ~np.asarray(shapely.is_valid(uncut))
        if self._options.on_invalid == "fix":
            self._repair(crossing.rows[invalid], pieces[invalid])
        else:
            self._refuse(crossing, uncut, invalid)
            crossing, pieces = crossing.select(~invalid), pieces[~invalid]
        self.crossing.append(crossing.rows)
        self._tally.change(CUT, int((~shapely.is_empty(pieces)).sum()))
        yield from self._arrays(pieces, crossing.rows, COLLAPSED)

    def _clipped(self, source: Shapes, shapes: Shapes) -> Iterator[Shapes]:
        beyond = bounds.off_map(shapes)
        if not beyond.any():
            yield shapes
            return
        if self._options.beyond_mercator == "error":
            _raise(bounds.refused_latitude(shapes))
        yield shapes.select(~beyond)
        outer = shapes.select(beyond)
        if outer.kind.least == 2:
            on_map = bounds.clip_lines(outer, self._options.decimals)
            self._lose(BEYOND, np.setdiff1d(outer.rows, on_map.rows))
            self._tally.change(CLIPPED, len(on_map))
            yield from simplest(on_map)
            return
        geometries = outer.to_shapely()
        invalid = ~shapely.is_valid(geometries)
        if invalid.any():
            kept = self._faultless(source, outer, geometries, invalid)
            outer, geometries, invalid = outer.select(kept), geometries[kept], invalid[kept]
            geometries[invalid] = repaired(geometries[invalid])
        inside = bounds.clip(geometries, self._options.decimals)
        self._repair(outer.rows[invalid], inside[invalid])
        self._tally.change(CLIPPED, int((~shapely.is_empty(inside)).sum()))
        yield from self._arrays(inside, outer.rows, BEYOND)

    def _tidied(self, source: Shapes, shapes: Shapes) -> Iterator[Shapes]:
        """Round, wind, and repair."""
        decimals = self._options.decimals
        before = shapes.rows
        whole = without_repeats(bounds.scaled(shapes, decimals))
        if len(whole) < len(before):
            self._lose(COLLAPSED, np.setdiff1d(before, whole.rows))
        wound, certain = wind_rings(whole)
        invalid = ~certain
        invalid[invalid] = _invalid(bounds.unscaled(wound.select(invalid), decimals))
        if not invalid.any():
            yield wound
            return
        yield wound.select(~invalid)
        broken = bounds.unscaled(wound.select(invalid), decimals)
        geometries = broken.to_shapely()
        kept = self._faultless(source, broken, geometries, np.ones(len(broken), dtype=bool))
        broken, geometries = broken.select(kept), geometries[kept]
        mended = on_grid(repaired(geometries), 10.0**-decimals)
        self._repair(broken.rows, mended)
        for valid in self._arrays(mended, broken.rows, COLLAPSED):
            yield wind_rings(without_repeats(bounds.scaled(valid, decimals)))[0]

    def _faultless(
        self, source: Shapes, shapes: Shapes, geometries: Any, invalid: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """
        Refuse geometries that were invalid already in the source, and tell which are left.

        What only rounding or the transformation broke is not the data's fault, and repaired in any case; what was cut
        at the antimeridian has been judged before.
        """
        kept = np.ones(len(shapes), dtype=bool)
        if self._options.on_invalid != "fix":
            own = invalid & ~np.isin(shapes.rows, np.concatenate([np.empty(0, np.int64), *self.crossing]))
            own[own] = _invalid(source.select(np.isin(source.rows, shapes.rows[own])))
            self._refuse(shapes, geometries, own)
            kept = ~own
        return kept

    def _repair(self, rows: NDArray[np.int64], mended: NDArray[Any]) -> None:
        """Count what was repaired, once a geometry however often it was."""
        self._repaired.append(rows[~shapely.is_empty(mended)])

    def _refuse(self, shapes: Shapes, geometries: Any, invalid: NDArray[np.bool_]) -> None:
        if self._options.on_invalid == "error" and invalid.any():
            first = int(np.argmax(invalid))
            reason = shapely.is_valid_reason(geometries[first])
            _raise(
                Problem(
                    int(shapes.rows[first]),
                    f'is not valid ({reason}, in longitude, latitude).\nRepair such features with on_invalid="fix", or '
                    'leave them out with on_invalid="drop".',
                )
            )
        self._lose(INVALID, shapes.rows[invalid])

    def _arrays(self, geometries: NDArray[Any], rows: NDArray[np.int64], reason: str) -> Iterator[Shapes]:
        empty = shapely.is_empty(geometries)
        self._lose(reason, rows[empty])
        yield from from_shapely(geometries[~empty], rows[~empty])

    def _lose(self, reason: str, rows: NDArray[np.int64]) -> None:
        if len(rows):
            self.lost.setdefault(reason, []).append(rows)


def _invalid(shapes: Shapes) -> NDArray[np.bool_]:
    return ~np.asarray(shapely.is_valid(shapes.to_shapely())) if len(shapes) else np.empty(0, dtype=bool)


def _raise(problem: Problem | None) -> None:
    if problem is not None:
        raise ProblemError(problem)

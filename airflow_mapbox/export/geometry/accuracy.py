"""How far off a transformation may be, which differs from place to place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj.enums import TransformDirection
from pyproj.exceptions import ProjError

from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyproj import Transformer
    from pyproj.transformer import TransformerGroup

_STEPS = 100  # a degree: EPSG gives the sides of areas of use with two decimals
_UNKNOWN = -1.0  # as PROJ says it of an accuracy
_NONE = -1
_SAMPLES = 3  # coordinates of a path that are looked up: areas of use are larger than most of what is in them


@dataclass(frozen=True)
class MissingGrids:
    """
    Grids that are not installed.

    :param without: metres by which positions may be off, or None where PROJ does not know.
    :param better: metres with them.
    :param names: of their files.
    """

    without: float | None
    better: float
    names: frozenset[str]


@dataclass(frozen=True)
class Uncertainty:
    """
    How far off positions may be.

    :param accuracy: metres, or None where PROJ does not know.
    :param missing: grids that would help, if any.
    """

    accuracy: float | None
    missing: MissingGrids | None = None

    def __or__(self, other: Uncertainty) -> Uncertainty:
        """Give the worse of two, with the grids of both."""
        missing, others = self.missing, other.missing
        if missing is not None and others is not None:
            without, better = _worse(missing.without, others.without), max(missing.better, others.better)
            missing = MissingGrids(without, better, missing.names | others.names)
        return Uncertainty(_worse(self.accuracy, other.accuracy), missing or others)


EXACT = Uncertainty(0.0)


def _worse(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


class Uncertainties:
    """
    What PROJ knows of a transformation, by place.

    The sides of all operations' areas of use cut the world into cells. Within a cell the same operation is taken, so
    that one look each is enough, and neither the order of features nor the slices make a difference.

    :param transformer: to longitude, latitude.
    :param group: all operations between the same systems.
    :param projected: whether the source is in a projected system.
    """

    def __init__(self, transformer: Transformer, group: TransformerGroup, *, projected: bool) -> None:
        self._transformer = transformer
        used = group.transformers
        missing = [one for one in group.unavailable_operations if one.accuracy >= 0]
        missing.sort(key=lambda one: (-one.accuracy, one.name))
        # PROJ takes an only operation everywhere. Of several it looks, in a projected system, at areas in that system's
        # coordinates, where they are larger: smaller cells come near to that.
        several = len(used) > 1
        areas = [_area(one) for one in missing] + [_area(one) for one in used if several]
        self._x = _sides([side for area in areas for side in area[::2]], 180, degrees=several and projected)
        self._y = _sides([side for area in areas for side in area[1::2]], 90, degrees=several and projected)
        self._columns, self._rows = _cells(self._x), _cells(self._y)
        shape = len(self._y) - 1, len(self._x) - 1
        self._accuracies = np.full(shape, np.nan if several else max((one.accuracy for one in used), default=_UNKNOWN))
        self._missing = [
            (float(one.accuracy), frozenset(grid.short_name for grid in one.grids if not grid.available))
            for one in missing
        ]
        self._best_missing = np.full(shape, _NONE)
        for place, operation in enumerate(missing):  # the best one last, over all others
            self._best_missing[self._within(_area(operation))] = place

    def at(self, shapes: Shapes) -> set[Uncertainty]:
        """
        Say how far off positions may be, each different answer once.

        :param shapes: in longitude, latitude, on the globe.
        """
        cells = self._accuracies.shape
        if cells == (1, 1) and not np.isnan(self._accuracies[0, 0]):
            return {self._uncertainty(self._accuracies[0, 0], int(self._best_missing[0, 0]))}
        places: Any = slice(None)
        if shapes.kind.least:
            first, last = shapes.paths[:-1], shapes.paths[1:] - 1
            pieces = _SAMPLES - (not shapes.kind.has_rings)  # a ring ends where it begins
            places = np.concatenate([first + (last - first) * sample // pieces for sample in range(_SAMPLES)])
        columns = self._columns[((shapes.x[places] + 180) * _STEPS).astype(np.int64)]
        rows = self._rows[((shapes.y[places] + 90) * _STEPS).astype(np.int64)]
        found = np.unravel_index(np.flatnonzero(np.bincount(rows * cells[1] + columns)), cells)
        for row, column in zip(*(index[np.isnan(self._accuracies[found])] for index in found), strict=True):
            middle = self._x[column : column + 2].mean(), self._y[row : row + 2].mean()
            self._accuracies[row, column] = self._accuracy(*middle)
        distinct = set(zip(self._accuracies[found].tolist(), self._best_missing[found].tolist(), strict=True))
        return {self._uncertainty(*each) for each in distinct}

    def _uncertainty(self, accuracy: float, missing: int) -> Uncertainty:
        known = None if accuracy < 0 else float(accuracy)
        if missing == _NONE:
            return Uncertainty(known)
        better, names = self._missing[missing]
        return Uncertainty(known, MissingGrids(known, better, names) if known is None or better < known else None)

    def _within(self, area: tuple[float, float, float, float]) -> Any:
        """Give the cells of an area."""
        west, south, east, north = area
        x, y = (self._x[:-1] + self._x[1:]) / 2, (self._y[:-1] + self._y[1:]) / 2
        between = (x > west) & (x < east) if west <= east else (x > west) | (x < east)
        return np.ix_((y > south) & (y < north), between)

    def _accuracy(self, x: float, y: float) -> float:
        """Give the accuracy of what PROJ takes for a place: it only says so of what it has just transformed."""
        source = self._transformer.transform(x, y, 0.0, direction=TransformDirection.INVERSE)
        if not np.isfinite(self._transformer.transform(*source)).all():
            return _UNKNOWN
        try:
            return float(self._transformer.get_last_used_operation().accuracy)
        except ProjError:
            return float(self._transformer.accuracy)


def _area(operation: Any) -> tuple[float, float, float, float]:
    """Give west, south, east and north of where an operation may be used; west is greater than east across ±180."""
    area = operation.area_of_use
    return (-180.0, -90.0, 180.0, 90.0) if area is None else (area.west, area.south, area.east, area.north)


def _sides(areas: list[float], end: int, *, degrees: bool) -> NDArray[np.float64]:
    """Give where cells begin, and where the last one ends."""
    return np.unique([-float(end), *areas, end, *(range(-end, end) if degrees else ())])


def _cells(sides: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the cell of each hundredth of a degree: a search takes ten times as long as a look into a table."""
    steps = (np.arange(round((sides[-1] - sides[0]) * _STEPS) + 1) + 0.5) / _STEPS + sides[0]
    cells: NDArray[np.int64] = np.minimum(np.searchsorted(sides, steps) - 1, len(sides) - 2)
    return cells

"""The accuracy of a transformation, which differs from place to place."""

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

_STEPS_PER_DEGREE = 100  # EPSG gives the sides of areas of use with two decimals
_UNKNOWN_METRES = -1.0  # PROJ's value for an unknown accuracy
_NO_OPERATION = -1
# Look up this many coordinates of a path. Areas of use are larger than most features in them.
_SAMPLES = 3


@dataclass(frozen=True)
class MissingGrids:
    """
    Grid files of PROJ that are not installed.

    :param without: accuracy in metres without them, or None if PROJ does not know it.
    :param better: accuracy in metres with them.
    :param names: their file names.
    """

    without: float | None
    better: float
    names: frozenset[str]


@dataclass(frozen=True)
class Accuracy:
    """
    The accuracy of positions after a transformation.

    :param metres: how far off positions may be, or None if PROJ does not know.
    :param missing: grids that would make it better, if any.
    """

    metres: float | None
    missing: MissingGrids | None = None

    def __or__(self, other: Accuracy) -> Accuracy:
        """Return the worse of two, with the grids of both."""
        missing, others = self.missing, other.missing
        if missing is not None and others is not None:
            without, better = _worse(missing.without, others.without), max(missing.better, others.better)
            missing = MissingGrids(without, better, missing.names | others.names)
        return Accuracy(_worse(self.metres, other.metres), missing or others)


EXACT = Accuracy(0.0)


def _worse(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else max(first, second)


class AccuracyMap:
    """
    What PROJ knows about the accuracy of a transformation, by place.

    The sides of the areas of use of all operations divide the world into cells. PROJ uses the same operation
    everywhere in a cell, so one lookup a cell is enough. The order of features and the batches make no difference.

    :param transformer: from the source's system to longitude, latitude.
    :param group: all operations between the same two systems.
    :param projected: whether the source is in a projected system.
    """

    def __init__(self, transformer: Transformer, group: TransformerGroup, *, projected: bool) -> None:
        self._transformer = transformer
        available = group.transformers
        missing = [operation for operation in group.unavailable_operations if operation.accuracy >= 0]
        missing.sort(key=lambda operation: (-operation.accuracy, operation.name))
        # PROJ uses a single operation everywhere. Of several in a projected system, it compares the areas in that
        # system's coordinates, where they are larger. Smaller cells approximate that.
        several = len(available) > 1
        areas = [_area(operation) for operation in missing]
        areas += [_area(operation) for operation in available if several]
        self._x = _sides([side for area in areas for side in area[::2]], 180, degrees=several and projected)
        self._y = _sides([side for area in areas for side in area[1::2]], 90, degrees=several and projected)
        self._columns, self._rows = _cells(self._x), _cells(self._y)
        shape = len(self._y) - 1, len(self._x) - 1
        single = max((operation.accuracy for operation in available), default=_UNKNOWN_METRES)
        self._metres = np.full(shape, np.nan if several else single)  # NaN until it is looked up
        self._missing = [
            (float(operation.accuracy), frozenset(grid.short_name for grid in operation.grids if not grid.available))
            for operation in missing
        ]
        self._best_missing = np.full(shape, _NO_OPERATION)
        for index, operation in enumerate(missing):  # the best one is last and overwrites the others
            self._best_missing[self._cells_within(_area(operation))] = index

    def at(self, shapes: Shapes) -> set[Accuracy]:
        """
        Return the distinct accuracies at some geometries.

        :param shapes: geometries in longitude, latitude, within ±180 and ±90 degrees.
        """
        cells = self._metres.shape
        if cells == (1, 1) and not np.isnan(self._metres[0, 0]):
            return {self._accuracy(self._metres[0, 0], int(self._best_missing[0, 0]))}
        samples: Any = slice(None)
        if shapes.kind.min_positions:
            first, last = shapes.paths[:-1], shapes.paths[1:] - 1
            intervals = _SAMPLES - (not shapes.kind.has_rings)  # a ring ends where it begins
            samples = np.concatenate([first + (last - first) * sample // intervals for sample in range(_SAMPLES)])
        columns = self._columns[((shapes.x[samples] + 180) * _STEPS_PER_DEGREE).astype(np.int64)]
        rows = self._rows[((shapes.y[samples] + 90) * _STEPS_PER_DEGREE).astype(np.int64)]
        used = np.unravel_index(np.flatnonzero(np.bincount(rows * cells[1] + columns)), cells)
        for row, column in zip(*(index[np.isnan(self._metres[used])] for index in used), strict=True):
            middle = self._x[column : column + 2].mean(), self._y[row : row + 2].mean()
            self._metres[row, column] = self._look_up(*middle)
        distinct = set(zip(self._metres[used].tolist(), self._best_missing[used].tolist(), strict=True))
        return {self._accuracy(*each) for each in distinct}

    def _accuracy(self, metres: float, missing: int) -> Accuracy:
        known = None if metres < 0 else float(metres)
        if missing == _NO_OPERATION:
            return Accuracy(known)
        better, names = self._missing[missing]
        return Accuracy(known, MissingGrids(known, better, names) if known is None or better < known else None)

    def _cells_within(self, area: tuple[float, float, float, float]) -> Any:
        """Return an index of the cells of an area."""
        west, south, east, north = area
        x, y = (self._x[:-1] + self._x[1:]) / 2, (self._y[:-1] + self._y[1:]) / 2
        between = (x > west) & (x < east) if west <= east else (x > west) | (x < east)
        return np.ix_((y > south) & (y < north), between)

    def _look_up(self, x: float, y: float) -> float:
        """Return the accuracy in metres at a place. PROJ only tells it for the last transformation."""
        source = self._transformer.transform(x, y, 0.0, direction=TransformDirection.INVERSE)
        if not np.isfinite(self._transformer.transform(*source)).all():
            return _UNKNOWN_METRES
        try:
            return float(self._transformer.get_last_used_operation().accuracy)
        except ProjError:
            return float(self._transformer.accuracy)


def _area(operation: Any) -> tuple[float, float, float, float]:
    """Return an operation's area of use: west, south, east, north. Across ±180 degrees west is greater than east."""
    area = operation.area_of_use
    return (-180.0, -90.0, 180.0, 90.0) if area is None else (area.west, area.south, area.east, area.north)


def _sides(areas: list[float], end: int, *, degrees: bool) -> NDArray[np.float64]:
    """Return the lower sides of all cells along an axis, and the upper side of the last one."""
    return np.unique([-float(end), *areas, end, *(range(-end, end) if degrees else ())])


def _cells(sides: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the cell of each hundredth of a degree: a table lookup takes a tenth of the time of a search."""
    steps = (np.arange(round((sides[-1] - sides[0]) * _STEPS_PER_DEGREE) + 1) + 0.5) / _STEPS_PER_DEGREE + sides[0]
    cells: NDArray[np.int64] = np.minimum(np.searchsorted(sides, steps) - 1, len(sides) - 2)
    return cells

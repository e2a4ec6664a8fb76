"""
Repair, unite and round polygons with GEOS, in time linear in their parts.

GEOS takes quadratic time to unite many parts that lie apart, and for every operation that unites them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray


def united(parts: NDArray[Any]) -> Any:
    """
    Return the union of polygons. If they already lie apart, it is a multipolygon of them.

    :param parts: valid polygons, shape (n,).
    """
    union = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
    return union if shapely.is_valid(union) else shapely.disjoint_subset_union_all(parts)


def repaired(geometries: NDArray[Any]) -> NDArray[Any]:
    """
    Repair polygons and multipolygons, each part by itself first.

    :param geometries: shapely geometries, shape (n,).
    :return: valid geometries, shape (n,); empty if they have no area.
    """
    parts, owners = shapely.get_parts(geometries, return_index=True)
    invalid = ~shapely.is_valid(parts)
    parts[invalid] = shapely.make_valid(parts[invalid], method="structure", keep_collapsed=False)
    parts, repaired_parts = shapely.get_parts(parts, return_index=True)
    not_empty = ~shapely.is_empty(parts)
    parts, owners = parts[not_empty], owners[repaired_parts[not_empty]]
    result = np.full(len(geometries), shapely.MultiPolygon(), dtype=object)
    shapely.multipolygons(parts, indices=owners, out=result)
    starts = np.searchsorted(owners, np.arange(len(geometries) + 1))
    for index in np.flatnonzero(~shapely.is_valid(result)):
        result[index] = shapely.disjoint_subset_union_all(parts[starts[index] : starts[index + 1]])
    single = (np.diff(starts) == 1) & (shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON)
    result[single] = parts[starts[:-1][single]]
    return result


def on_grid(geometries: NDArray[Any], grid: float) -> NDArray[Any]:
    """
    Round polygons so that they stay valid.

    Most stay valid if each coordinate is rounded by itself. For the others GEOS rounds all edges together, which takes
    quadratic time.

    :param geometries: valid polygons of shapely, shape (n,).
    :param grid: the unit of the last decimal, in degrees.
    :return: rounded polygons, shape (n,); an empty one if GEOS fails, which counts as collapsed.
    """
    rounded = np.asarray(shapely.set_precision(geometries, grid, mode="pointwise"))
    broken = ~shapely.is_valid(rounded)
    rounded[broken] = _snapped(geometries[broken], grid)
    return rounded


def _snapped(geometries: NDArray[Any], grid: float) -> NDArray[Any]:
    try:
        return np.asarray(shapely.set_precision(geometries, grid))
    except shapely.GEOSException:
        if len(geometries) == 1:
            return np.array([shapely.Polygon()], dtype=object)
    # Do not lose the others because one fails.
    half = len(geometries) // 2
    return np.concatenate((_snapped(geometries[:half], grid), _snapped(geometries[half:], grid)))

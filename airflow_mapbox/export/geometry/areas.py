"""
Polygons repaired, joined and rounded by GEOS, in time that grows with their parts.

GEOS takes as long as parts squared to join many that lie apart, and for whatever it does by joining.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray


def united(parts: NDArray[Any]) -> Any:
    """
    Return the union of polygons; those that lie apart already are only put side by side.

    :param parts: valid polygons, shape (n,).
    """
    whole = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
    return whole if shapely.is_valid(whole) else shapely.disjoint_subset_union_all(parts)


def repaired(geometries: NDArray[Any]) -> NDArray[Any]:
    """
    Repair polygons and multi-polygons, each part by itself first.

    :param geometries: of shapely, shape (n,).
    :return: the same, valid; empty if they have no area.
    """
    parts, owners = shapely.get_parts(geometries, return_index=True)
    invalid = ~shapely.is_valid(parts)
    parts[invalid] = shapely.make_valid(parts[invalid], method="structure", keep_collapsed=False)
    parts, places = shapely.get_parts(parts, return_index=True)
    full = ~shapely.is_empty(parts)
    parts, owners = parts[full], owners[places[full]]
    result = np.full(len(geometries), shapely.MultiPolygon(), dtype=object)
    shapely.multipolygons(parts, indices=owners, out=result)
    starts = np.searchsorted(owners, np.arange(len(geometries) + 1))
    for place in np.flatnonzero(~shapely.is_valid(result)):
        result[place] = shapely.disjoint_subset_union_all(parts[starts[place] : starts[place + 1]])
    alone = (np.diff(starts) == 1) & (shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON)
    result[alone] = parts[starts[:-1][alone]]
    return result


def on_grid(geometries: NDArray[Any], grid: float) -> NDArray[Any]:
    """
    Round polygons so that they stay valid.

    Most do if each coordinate is rounded by itself. Only for the others GEOS rounds all edges together, which takes as
    long as parts squared.

    :param geometries: valid ones, shape (n,).
    :param grid: the unit of the last decimal.
    :return: the same, rounded; empty, and so counted as collapsed, if GEOS cannot.
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
    # One that fails must not take the others with it.
    half = len(geometries) // 2
    return np.concatenate((_snapped(geometries[:half], grid), _snapped(geometries[half:], grid)))

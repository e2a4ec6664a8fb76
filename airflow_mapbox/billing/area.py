"""The area of tiles in km², on a sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_mapbox.billing.runs import rows_and_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The mean radius of the Earth, as `estimate-area` of mapbox/tilesets-cli uses it.
EARTH_RADIUS_KM = 6371.0088


def tile_areas(rows: NDArray[np.int64], zoom: int) -> NDArray[np.float64]:
    """
    Return the area of one tile in each row, in km².

    :param rows: rows of tiles from the north, shape (n,).
    :param zoom: the zoom of the tiles.
    """
    edges = np.tanh(np.pi - 2 * np.pi * np.stack([rows, rows + 1]) / 2.0**zoom)  # sines of their latitudes
    areas: NDArray[np.float64] = EARTH_RADIUS_KM**2 * (2 * np.pi / 2.0**zoom) * (edges[0] - edges[1])
    return areas


def area_km2(packed: NDArray[np.uint64], zoom: int) -> float:
    """
    Return the area of a set of tiles in km².

    :param packed: the set, as packed runs: see :mod:`airflow_mapbox.billing.runs`.
    :param zoom: its zoom.
    """
    if not len(packed):
        return 0.0
    rows, counts = rows_and_counts(packed, zoom)
    # The runs are sorted, so each row is one slice.
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    tiles = np.add.reduceat(counts, starts)
    return float(tiles @ tile_areas(rows[starts], zoom))

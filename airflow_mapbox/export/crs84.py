"""Any coordinate reference system to longitude, latitude on WGS 84, and nowhere off the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import shapely
from pyproj import CRS

from airflow_mapbox.export.errors import CoordinatesError, MissingCrsError
from airflow_mapbox.preflight.formats import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

CRS84 = "OGC:CRS84"


def crs_name(crs: CRS) -> str:
    """
    Name a reference system in few words.

    :param crs: of a source.
    :return: such as ``EPSG:5070 (NAD83 / Conus Albers)``.
    """
    authority = crs.to_authority()
    return f"{':'.join(authority)} ({crs.name})" if authority else crs.name


def crs_of(frame: geopandas.GeoDataFrame, given: CRS | None) -> CRS:
    """
    Say which reference system a frame is in: its own, else the one that was given.

    :param frame: a batch.
    :param given: the caller's, or None.
    :raises MissingCrsError: where neither says; a guess would move every feature.
    """
    crs = frame.crs or given
    if crs is None:
        raise MissingCrsError(
            "The data does not say which coordinate reference system it is in. Give it with crs=…, such as "
            'crs="EPSG:4326", or set it on the frame with frame.set_crs(…).'
        )
    return crs


def to_crs84(located: geopandas.GeoSeries, crs: CRS, *, decimals: int, rows: NDArray[Any]) -> NDArray[Any]:
    """
    Give geometries in longitude, latitude, rounded, wound by the right-hand rule, and on the map.

    pyproj is told to take x first whatever the axis order of either system, as geopandas does; rounding comes before
    the range check, since the edge of EPSG:3857 gives 180.00000000000003.

    :param located: geometries, none of them null or empty.
    :param crs: what they are in.
    :param decimals: kept of each degree; seven are about a centimetre.
    :param rows: the position of each in the source, from 0, for messages.
    :return: an array of shapely geometries, in the same order.
    :raises CoordinatesError: for a coordinate that is not finite, or beyond ±180 or ±85.0511 degrees.
    """
    geometries = np.asarray(located.set_crs(crs).to_crs(CRS84))
    has_z = shapely.has_z(geometries)
    rounded = np.empty_like(geometries)
    for flag in (False, True):
        chosen = has_z == flag
        rounded[chosen] = shapely.transform(
            geometries[chosen], lambda coordinates: np.round(coordinates, decimals) + 0.0, include_z=flag
        )
    _check_range(rounded, rows)
    return np.asarray(shapely.orient_polygons(rounded, exterior_cw=False))


def _check_range(geometries: NDArray[Any], rows: NDArray[Any]) -> None:
    coordinates, owners = shapely.get_coordinates(geometries, return_index=True)
    limits = np.array([180.0, WEB_MERCATOR_LATITUDE])
    on_map = np.abs(coordinates) <= limits  # also False for NaN and infinity
    if on_map.all():
        return
    first = int(np.argmin(on_map.all(axis=1)))
    longitude, latitude = coordinates[first]
    row = int(rows[owners[first]])
    if not np.isfinite(coordinates[first]).all():
        raise CoordinatesError(
            f"Feature {row} has a coordinate that is not finite ({longitude}, {latitude}) in longitude, latitude: "
            "it is NaN in the source, or outside of where its reference system can be transformed."
        )
    raise CoordinatesError(
        f"Feature {row} has ({longitude}, {latitude}) in longitude, latitude, beyond ±180 or ±85.0511 degrees, which "
        "Mapbox refuses. Check the reference system of the source, or filter or clip such features first."
    )

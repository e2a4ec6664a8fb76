"""Any coordinate reference system to longitude, latitude on WGS 84, and nowhere off the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from airflow_mapbox.export.errors import CoordinatesError, MissingCrsError, UnknownCrsError
from airflow_mapbox.preflight.formats import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

CRS84 = "OGC:CRS84"
_COLLECTION = shapely.GeometryType.GEOMETRYCOLLECTION
_EDGE_NOISE = 1e-9  # degrees by which a transformation misses the edge of the map


def parse_crs(crs: object) -> CRS:
    """
    Read a reference system that a caller gave.

    :param crs: as pyproj takes it.
    :raises UnknownCrsError: where PROJ does not know it.
    """
    try:
        return CRS.from_user_input(crs)
    except CRSError:
        pass
    raise UnknownCrsError(f'PROJ does not know crs={crs!r}: give a code such as crs="EPSG:4326", or WKT.')


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
    :raises UnknownCrsError: where no transformation is known.
    """
    _check_source(np.asarray(located), rows)
    try:
        geometries = np.asarray(located.set_crs(crs).to_crs(CRS84))
    except ProjError:
        geometries = None
    if geometries is None:
        raise UnknownCrsError(
            f"PROJ has no transformation from {crs_name(crs)} to longitude, latitude: transform the data first."
        )
    has_z = shapely.has_z(geometries)
    rounded = np.empty_like(geometries)
    for flag in (False, True):
        chosen = has_z == flag
        rounded[chosen] = shapely.transform(
            geometries[chosen], lambda coordinates: _rounded(coordinates, decimals), include_z=flag
        )
    _check_range(rounded, rows)
    return np.asarray(shapely.orient_polygons(rounded, exterior_cw=False))


def _rounded(coordinates: NDArray[Any], decimals: int) -> NDArray[Any]:
    rounded = np.round(coordinates, decimals) + 0.0
    # The very edge of the map is 85.05112877980…: seven decimals would take it over the edge.
    latitude = coordinates[:, 1]
    over = (np.abs(rounded[:, 1]) > WEB_MERCATOR_LATITUDE) & (np.abs(latitude) <= WEB_MERCATOR_LATITUDE + _EDGE_NOISE)
    inner = np.floor(WEB_MERCATOR_LATITUDE * 10.0**decimals) / 10.0**decimals
    rounded[over, 1] = np.copysign(inner, latitude[over])
    return rounded


def _check_source(geometries: NDArray[Any], rows: NDArray[Any]) -> None:
    """Refuse what transformations and encoders turn into something else without a word: NaN and infinity."""
    coordinates, owners = shapely.get_coordinates(geometries, include_z=True, return_index=True)
    finite = np.isfinite(coordinates)
    # A height that is absent reads as NaN; in a collection, members with and without one may stand side by side.
    no_height = ~shapely.has_z(geometries) | (shapely.get_type_id(geometries) == _COLLECTION)
    finite[:, 2] |= no_height[owners] & np.isnan(coordinates[:, 2])
    if not finite.all():
        first = int(np.argmin(finite.all(axis=1)))
        position = ", ".join(map(str, coordinates[first].tolist()))
        raise CoordinatesError(
            f"Feature {int(rows[owners[first]])} has a coordinate that is not finite in the source ({position}). "
            "Repair it, or filter such features first."
        )


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
            "it is outside of where its reference system can be transformed."
        )
    raise CoordinatesError(
        f"Feature {row} has ({longitude}, {latitude}) in longitude, latitude, beyond ±180 or ±85.0511 degrees, which "
        "Mapbox refuses. Check the reference system of the source, or filter or clip such features first."
    )

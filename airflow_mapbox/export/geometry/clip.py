"""Coordinates that are finite, on the globe, and on the map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import shapely

from airflow_mapbox.export.geometry.areas import united
from airflow_mapbox.export.geometry.lines import middles, parted, with_vertices
from airflow_mapbox.export.geometry.shapes import Shapes
from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

Ordinate = TypeVar("Ordinate", float, "NDArray[np.float64]")

_NOISE = 1e-9  # degrees by which a transformation misses the edge of the globe or of the map
_HUGE = 1e290  # what is larger may be infinite in units of its last decimal


@dataclass(frozen=True)
class Problem:
    """
    What is wrong with one geometry.

    :param row: which it is.
    :param clause: a clause that follows "Feature n".
    """

    row: int
    clause: str


def not_finite(shapes: Shapes) -> Problem | None:
    """Find the first geometry of a source with NaN or infinity, which encoders turn into null without a word."""
    # A sum is finite only where everything is; the reverse fails for numbers that no map has.
    flat = np.isfinite(np.sum(shapes.x)) and np.isfinite(np.sum(shapes.y))
    if not len(shapes.x) or (flat and (shapes.z is None or _largest(shapes.z) < _HUGE)):
        return None
    finite = (np.abs(shapes.coordinates()) < _HUGE).all(axis=1)
    if finite.all():
        return None
    first = int(np.argmin(finite))
    position = shapes.coordinates()[first]
    what, otherwise = "coordinate", ""
    if (np.abs(position[:2]) < _HUGE).all():
        what, otherwise = "height", ', or leave heights out with z="drop"'
    numbers = ", ".join(map(str, position.tolist()))
    return Problem(
        _row(shapes, first),
        f"has a {what} that is not finite, or too large for one, in the source ({numbers}).\nRepair it, or filter such "
        f"features first{otherwise}.",
    )


def off_globe(shapes: Shapes) -> Problem | None:
    """Find the first geometry with a coordinate beyond ±180 or ±90 degrees."""
    if not len(shapes.x) or (_largest(shapes.x) <= 180 + _NOISE and _largest(shapes.y) <= 90 + _NOISE):
        return None
    first = int(np.argmin((np.abs(shapes.x) <= 180 + _NOISE) & (np.abs(shapes.y) <= 90 + _NOISE)))
    longitude, latitude = float(shapes.x[first]), float(shapes.y[first])
    row = _row(shapes, first)
    if not np.isfinite([longitude, latitude]).all():
        return Problem(
            row,
            f"has a coordinate that is not finite ({longitude}, {latitude}) in longitude, latitude: it is outside of "
            "where its reference system can be transformed.",
        )
    counted = " The source may count longitudes from 0 to 360: subtract 360 beyond 180."
    return Problem(
        row,
        f"has ({longitude}, {latitude}) in longitude, latitude, beyond ±180 or ±85.0511 degrees, which Mapbox refuses."
        "\nCheck the reference system of the source, or filter such features first."
        + (counted if 180 < longitude <= 360 and abs(latitude) <= 90 else ""),
    )


def off_map(shapes: Shapes) -> NDArray[np.bool_]:
    """Tell which geometries go beyond the latitudes of Web Mercator."""
    beyond = np.abs(shapes.y) > WEB_MERCATOR_LATITUDE + _NOISE
    found = np.zeros(len(shapes), dtype=bool)
    if beyond.any():
        found[shapes.owners(np.flatnonzero(beyond))] = True
    return found


def refused_latitude(shapes: Shapes) -> Problem:
    """Say of the first geometry of some that go beyond the map that they do."""
    first = int(np.argmax(np.abs(shapes.y) > WEB_MERCATOR_LATITUDE + _NOISE))
    return Problem(
        _row(shapes, first),
        f"has ({float(shapes.x[first])}, {float(shapes.y[first])}) in longitude, latitude, beyond ±85.0511 degrees, "
        'where Mapbox\'s map ends.\nHave such features cut there with beyond_mercator="clip", or filter them first.',
    )


def clip(geometries: NDArray[Any], decimals: int) -> NDArray[Any]:
    """
    Cut points and polygons at the edge of the map.

    :param geometries: of shapely, in degrees.
    :param decimals: that will be kept.
    :return: of the same dimension, or empty where they lie beyond.
    """
    edge = innermost(decimals)
    inside = shapely.intersection(geometries, shapely.box(-180, -edge, 180, edge))
    dimensions = shapely.get_dimensions(geometries)
    mixed = np.flatnonzero(shapely.get_type_id(inside) == shapely.GeometryType.GEOMETRYCOLLECTION)
    for place in mixed:
        # What only touches the edge is left as a line or a point.
        parts = shapely.get_parts(inside[place])
        inside[place] = united(parts[shapely.get_dimensions(parts) == dimensions[place]])
    inside[shapely.get_dimensions(inside) != dimensions] = shapely.Point()
    return np.asarray(inside)


def clip_lines(lines: Shapes, decimals: int) -> Shapes:
    """
    Cut lines at the edge of the map.

    :param lines: in degrees.
    :param decimals: that will be kept.
    :return: lines of several parts, in their order, without those that lie beyond.
    """
    edge = innermost(decimals)
    # What rounding brings to the edge does not cross it.
    y = np.where(np.abs(lines.y) > WEB_MERCATOR_LATITUDE + _NOISE, lines.y, np.clip(lines.y, -edge, edge))
    lines = with_vertices(replace(lines, y=y), "y", np.array([-edge, edge]))
    parts = parted(lines, np.abs(lines.y[1:] + lines.y[:-1]) <= 2 * edge)
    return parts.keep_paths(np.abs(middles(parts, parts.y)) <= edge)


def innermost(decimals: int) -> float:
    """Give the last latitude on the map: it is 85.05112877980…, which seven decimals would take over the edge."""
    return float(np.floor(WEB_MERCATOR_LATITUDE * 10.0**decimals) / 10.0**decimals)


def to_units(shapes: Shapes, decimals: int) -> Shapes:
    """
    Round to whole numbers of the last decimal kept.

    :param shapes: in degrees, on the map.
    :param decimals: kept.
    """
    scale = 10.0**decimals
    edge = np.floor(WEB_MERCATOR_LATITUDE * scale)
    x, y = np.rint(shapes.x * scale), np.rint(shapes.y * scale)
    np.clip(x, -180 * scale, 180 * scale, out=x)
    np.clip(y, -edge, edge, out=y)
    z = None if shapes.z is None else np.rint(shapes.z * scale)
    return replace(shapes, x=x, y=y, z=z)


def from_units(shapes: Shapes, decimals: int) -> Shapes:
    """Give geometries in whole numbers of the last decimal in degrees again."""
    z = None if shapes.z is None else to_degrees(shapes.z, decimals)
    return replace(shapes, x=to_degrees(shapes.x, decimals), y=to_degrees(shapes.y, decimals), z=z)


def to_degrees(ordinate: Ordinate, decimals: int) -> Ordinate:
    """Give whole numbers of the last decimal as degrees, or heights, without negative zeros."""
    return ordinate / 10.0**decimals + 0.0


def _largest(ordinates: NDArray[np.float64]) -> float:
    largest = max(float(np.max(ordinates)), -float(np.min(ordinates)))
    return float("inf") if np.isnan(largest) else largest


def _row(shapes: Shapes, coordinate: int) -> int:
    return int(shapes.rows[shapes.owners(np.array([coordinate]))[0]])

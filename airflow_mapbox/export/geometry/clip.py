"""Check that coordinates are finite and on the globe, clip them to Mapbox's map, and round them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import shapely

from airflow_mapbox.export.geometry.areas import united
from airflow_mapbox.export.geometry.lines import add_vertices, middles, split_lines
from airflow_mapbox.export.geometry.shapes import Shapes
from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Ordinate = TypeVar("_Ordinate", float, "NDArray[np.float64]")

_NOISE_DEGREES = 1e-9  # how far a transformation misses the edge of the globe or of the map
_MAX_ORDINATE = 1e290  # larger ones may be infinite in units of their last decimal


@dataclass(frozen=True)
class Problem:
    """
    The problem of one geometry.

    :param row: its row in the batch.
    :param clause: the rest of a message that begins with "Feature n".
    """

    row: int
    clause: str


def not_finite(shapes: Shapes) -> Problem | None:
    """Find the first geometry with NaN or infinity, which encoders write as null silently."""
    # The sum is not finite if any ordinate is not. It may also overflow, so look at each ordinate then.
    flat = np.isfinite(np.sum(shapes.x)) and np.isfinite(np.sum(shapes.y))
    if not len(shapes.x) or (flat and (shapes.z is None or _largest(shapes.z) < _MAX_ORDINATE)):
        return None
    finite = (np.abs(shapes.coordinates()) < _MAX_ORDINATE).all(axis=1)
    if finite.all():
        return None
    first = int(np.argmin(finite))
    position = shapes.coordinates()[first]
    what, alternative = "coordinate", ""
    if (np.abs(position[:2]) < _MAX_ORDINATE).all():
        what, alternative = "height", ', or drop heights with z="drop"'
    numbers = ", ".join(map(str, position.tolist()))
    return Problem(
        _row(shapes, first),
        f"has a {what} in the source that is not finite or too large ({numbers}).\nRepair it, or filter such features "
        f"first{alternative}.",
    )


def off_globe(shapes: Shapes) -> Problem | None:
    """Find the first geometry with a coordinate beyond ±180 or ±90 degrees."""
    if not len(shapes.x) or (_largest(shapes.x) <= 180 + _NOISE_DEGREES and _largest(shapes.y) <= 90 + _NOISE_DEGREES):
        return None
    first = int(np.argmin((np.abs(shapes.x) <= 180 + _NOISE_DEGREES) & (np.abs(shapes.y) <= 90 + _NOISE_DEGREES)))
    longitude, latitude = float(shapes.x[first]), float(shapes.y[first])
    row = _row(shapes, first)
    if not np.isfinite([longitude, latitude]).all():
        return Problem(
            row,
            f"has a coordinate that is not finite ({longitude}, {latitude}) in longitude, latitude: it is outside "
            "the area in which its reference system can be transformed.",
        )
    advice = " The source may have longitudes from 0 to 360: subtract 360 from those above 180."
    return Problem(
        row,
        f"has ({longitude}, {latitude}) in longitude, latitude, beyond ±180 or ±85.0511 degrees, which Mapbox refuses."
        "\nCheck the reference system of the source, or filter such features first."
        + (advice if 180 < longitude <= 360 and abs(latitude) <= 90 else ""),
    )


def off_map(shapes: Shapes) -> NDArray[np.bool_]:
    """Return whether each geometry goes beyond the latitudes of Web Mercator, shape (n,)."""
    beyond = np.abs(shapes.y) > WEB_MERCATOR_LATITUDE + _NOISE_DEGREES
    off = np.zeros(len(shapes), dtype=bool)
    if beyond.any():
        off[shapes.owners(np.flatnonzero(beyond))] = True
    return off


def refused_latitude(shapes: Shapes) -> Problem:
    """Describe the first geometry beyond ±85.0511°."""
    first = int(np.argmax(np.abs(shapes.y) > WEB_MERCATOR_LATITUDE + _NOISE_DEGREES))
    return Problem(
        _row(shapes, first),
        f"has ({float(shapes.x[first])}, {float(shapes.y[first])}) in longitude, latitude, beyond ±85.0511 degrees, "
        'where Mapbox\'s map ends.\nClip such features there with beyond_mercator="clip", or filter them first.',
    )


def clip(geometries: NDArray[Any], decimals: int) -> NDArray[Any]:
    """
    Clip points and polygons at the edge of the map.

    :param geometries: shapely geometries in degrees, shape (n,).
    :param decimals: decimals that will be written.
    :return: geometries of the same dimension, shape (n,); empty if they lie beyond the edge.
    """
    edge = last_latitude(decimals)
    inside = shapely.intersection(geometries, shapely.box(-180, -edge, 180, edge))
    dimensions = shapely.get_dimensions(geometries)
    mixed = np.flatnonzero(shapely.get_type_id(inside) == shapely.GeometryType.GEOMETRYCOLLECTION)
    for index in mixed:
        # Parts that only touch the edge become lines or points: drop those.
        parts = shapely.get_parts(inside[index])
        inside[index] = united(parts[shapely.get_dimensions(parts) == dimensions[index]])
    inside[shapely.get_dimensions(inside) != dimensions] = shapely.Point()
    return np.asarray(inside)


def clip_lines(lines: Shapes, decimals: int) -> Shapes:
    """
    Clip lines at the edge of the map.

    :param lines: lines in degrees.
    :param decimals: decimals that will be written.
    :return: multi-part lines in the same order, without lines that lie beyond the edge.
    """
    edge = last_latitude(decimals)
    # A latitude that rounding moves to the edge does not cross it.
    y = np.where(np.abs(lines.y) > WEB_MERCATOR_LATITUDE + _NOISE_DEGREES, lines.y, np.clip(lines.y, -edge, edge))
    lines = add_vertices(replace(lines, y=y), "y", np.array([-edge, edge]))
    parts = split_lines(lines, np.abs(lines.y[1:] + lines.y[:-1]) <= 2 * edge)
    return parts.keep_paths(np.abs(middles(parts, parts.y)) <= edge)


def last_latitude(decimals: int) -> float:
    """Return the last latitude on the map. It is 85.05112877980…, which rounding to seven decimals would exceed."""
    return float(np.floor(WEB_MERCATOR_LATITUDE * 10.0**decimals) / 10.0**decimals)


def to_units(shapes: Shapes, decimals: int) -> Shapes:
    """
    Round to integers in units of the last decimal.

    :param shapes: geometries in degrees, on the map.
    :param decimals: number of decimals.
    """
    scale = 10.0**decimals
    edge = np.floor(WEB_MERCATOR_LATITUDE * scale)
    x, y = np.rint(shapes.x * scale), np.rint(shapes.y * scale)
    np.clip(x, -180 * scale, 180 * scale, out=x)
    np.clip(y, -edge, edge, out=y)
    z = None if shapes.z is None else np.rint(shapes.z * scale)
    return replace(shapes, x=x, y=y, z=z)


def from_units(shapes: Shapes, decimals: int) -> Shapes:
    """Convert geometries from units of the last decimal to degrees."""
    z = None if shapes.z is None else to_degrees(shapes.z, decimals)
    return replace(shapes, x=to_degrees(shapes.x, decimals), y=to_degrees(shapes.y, decimals), z=z)


def to_degrees(ordinate: _Ordinate, decimals: int) -> _Ordinate:
    """Convert units of the last decimal to degrees, or to heights, without negative zeros."""
    return ordinate / 10.0**decimals + 0.0


def _largest(ordinates: NDArray[np.float64]) -> float:
    largest = max(float(np.max(ordinates)), -float(np.min(ordinates)))
    return float("inf") if np.isnan(largest) else largest


def _row(shapes: Shapes, position: int) -> int:
    return int(shapes.rows[shapes.owners(np.array([position]))[0]])

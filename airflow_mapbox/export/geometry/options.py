"""The choices that the stages of geometry depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GeometryOptions:
    """
    What to do with geometries. ``airflow_mapbox.export.options`` has the defaults and checks the values.

    :param decimals: decimals of each coordinate, 0 to 15.
    :param z: keep heights, or drop them.
    :param on_invalid: repair invalid polygons, drop them, or raise an error.
    :param beyond_mercator: clip geometries at ±85.0511 degrees of latitude, where Mapbox's map ends, or raise an error.
    :param antimeridian: cut geometries that cross ±180 degrees (RFC 7946, section 3.1.9), or keep edges of over 180
        degrees as they are.
    :param max_segment: add vertices to edges of a projected system longer than this many metres; None for never.
    """

    decimals: int
    z: Literal["keep", "drop"]
    on_invalid: Literal["fix", "drop", "error"]
    beyond_mercator: Literal["clip", "error"]
    antimeridian: Literal["cut", "keep"]
    max_segment: float | None

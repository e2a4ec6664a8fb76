"""The `crs` member of GeoJSON, which Mapbox ignores: whether it says longitude, latitude on WGS 84."""

from __future__ import annotations

import math
import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_mapbox.preflight.problems import REPROJECT, Problem

if TYPE_CHECKING:
    from pyproj import CRS

# Known without PROJ, which takes a tenth of a second to load. 4326 is written by tools that mean longitude, latitude.
_WGS84 = re.compile(
    r"""(?:
        (?:.*[^a-z0-9])?CRS:?84h?
      | (?:.*[^a-z0-9])?EPSG[^a-z0-9]+(?:[a-z0-9.]*[^a-z0-9]+)?(?:4326|4979)(?:\W.*)?
      | (?:GCS[ _])?WGS[ _-]?(?:19)?84(?:[ ]?\((?:CRS84|DD)\))?
      | World[ ]Geodetic[ ]System[ ]1984
    )\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_EPSG = re.compile(r"EPSG[^a-z0-9]+(?:[a-z0-9.]*[^a-z0-9]+)?([0-9]{4,6})(?![0-9])", re.IGNORECASE)
_LONGEST = 4000  # characters of a name that is asked for


class _System(Enum):
    WGS84 = "longitude, latitude on WGS 84"
    DEGREES = "longitude, latitude on another datum"
    OTHER = "anything else"
    UNKNOWN = "unknown to PROJ"


def check_crs(crs: object) -> Problem | None:
    """
    Return what a `crs` member says against the coordinates being longitude, latitude.

    :param crs: the member, in the form of the 2008 specification or the older one with a code.
    """
    name = _name(crs)
    if name is None:
        return None
    system = _system(name)
    shown = name if len(name) <= 120 else f"{name[:117]}…"
    if system is _System.OTHER:
        return Problem(
            f"says that its coordinates are in {shown}; Mapbox ignores that and reads longitude, latitude.", REPROJECT
        )
    if system is _System.DEGREES:
        return Problem(
            f"says that its coordinates are in {shown}; Mapbox reads them as WGS 84, some metres away from there.",
            REPROJECT,
            refused=False,
        )
    if system is _System.UNKNOWN:
        return Problem(
            f"says that its coordinates are in {shown}, which PROJ does not know; Mapbox reads longitude, latitude.",
            f"If they are something else: {REPROJECT[0].lower()}{REPROJECT[1:]}",
            refused=False,
        )
    return None


def _name(crs: object) -> str | None:
    properties = crs.get("properties") if isinstance(crs, dict) else None
    if not isinstance(crs, dict) or not isinstance(properties, dict):
        return None
    for member in ("name", "href"):
        if isinstance(properties.get(member), str) and properties[member]:
            return str(properties[member])
    code = properties.get("code")
    if isinstance(code, int | str) and not isinstance(code, bool):
        authority = crs.get("type")
        return f"{authority if isinstance(authority, str) and authority else 'EPSG'}:{code}"
    return None


@lru_cache(maxsize=64)
def _system(name: str) -> _System:
    name = name.strip()
    if _WGS84.match(name):
        return _System.WGS84
    crs = _known(name)
    if crs is None or not (crs.is_geographic or crs.is_projected or crs.is_geocentric):
        return _System.UNKNOWN
    if not crs.is_geographic or crs.is_derived:
        return _System.OTHER
    meridian = crs.prime_meridian
    # ESRI's WKT calls the unit Degree, and many writers cut its factor; heights, the third axis, do not matter.
    degree = math.radians(1)
    in_degrees = all(math.isclose(axis.unit_conversion_factor, degree, rel_tol=1e-4) for axis in crs.axis_info[:2])
    if not in_degrees or (meridian is not None and meridian.longitude != 0):
        return _System.OTHER
    return _System.WGS84 if crs.to_2d().equals(_longitude_latitude(), ignore_axis_order=True) else _System.DEGREES


def _known(name: str) -> CRS | None:
    """Return what PROJ knows by a name; a link is read for the code in it, and never followed."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    code = _EPSG.search(name)
    for asked in (name[:_LONGEST], f"EPSG:{code[1]}" if code else None):
        try:
            if asked is not None:
                return CRS.from_user_input(asked)
        except CRSError:
            continue
    return None


def _longitude_latitude() -> CRS:
    from pyproj import CRS

    return CRS.from_epsg(4326)

"""Check the `crs` member of GeoJSON. Mapbox ignores it and reads longitude, latitude on WGS 84."""

from __future__ import annotations

import math
import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_mapbox.preflight.findings import Finding, finding
from airflow_mapbox.rules import geojson as rules
from airflow_mapbox.rules.remedies import REPROJECT

if TYPE_CHECKING:
    from pyproj import CRS

# Matched without PROJ, which takes a tenth of a second to load. Tools that write 4326 mean longitude, latitude.
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
# PROJ parses at most this much of a name.
_MAX_NAME_CHARACTERS = 4000


class _System(Enum):
    WGS84 = "longitude, latitude on WGS 84"
    DEGREES = "longitude, latitude on another datum"
    OTHER = "another kind of coordinates"
    UNKNOWN = "unknown to PROJ"


def check_crs(crs: object) -> Finding | None:
    """
    Return the finding for a `crs` member, or None if it allows longitude, latitude on WGS 84.

    :param crs: the member: a name, a link, or the older form with a code.
    """
    name = _name(crs)
    if name is None:
        return None
    system = _system(name)
    shown = name if len(name) <= 120 else f"{name[:117]}…"
    declares = f"declares the reference system {shown}"
    if system is _System.OTHER:
        what = f"{declares}; Mapbox ignores that and reads longitude, latitude."
        return finding(rules.CRS, what, where="crs")
    if system is _System.DEGREES:
        what = f"{declares}; Mapbox reads WGS 84, and shows the data some metres away."
        return finding(rules.OTHER_DATUM, what, where="crs")
    if system is _System.UNKNOWN:
        what = f"{declares}, which PROJ does not know; Mapbox reads longitude, latitude."
        remedy = f"If the coordinates are in another system: {REPROJECT[0].lower()}{REPROJECT[1:]}"
        return finding(rules.OTHER_DATUM, what, where="crs", remedy=remedy)
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
    crs = _find_crs(name)
    if crs is None or not (crs.is_geographic or crs.is_projected or crs.is_geocentric):
        return _System.UNKNOWN
    if not crs.is_geographic or crs.is_derived:
        return _System.OTHER
    meridian = crs.prime_meridian
    # Compared by its size: WKT has many names for the degree, and many writers round it. Heights do not matter.
    degree = math.radians(1)
    in_degrees = all(math.isclose(axis.unit_conversion_factor, degree, rel_tol=1e-4) for axis in crs.axis_info[:2])
    if not in_degrees or (meridian is not None and meridian.longitude != 0):
        return _System.OTHER
    return _System.WGS84 if crs.to_2d().equals(_longitude_latitude(), ignore_axis_order=True) else _System.DEGREES


def _find_crs(name: str) -> CRS | None:
    """Return PROJ's reference system of a name, or None. A link is searched for a code, and never followed."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    code = _EPSG.search(name)
    for definition in (name[:_MAX_NAME_CHARACTERS], f"EPSG:{code[1]}" if code else None):
        try:
            if definition is not None:
                return CRS.from_user_input(definition)
        except CRSError:
            continue
    return None


def _longitude_latitude() -> CRS:
    from pyproj import CRS

    return CRS.from_epsg(4326)

"""Transform any coordinate reference system to longitude, latitude on WGS 84."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from pyproj.transformer import TransformerGroup

from airflow_mapbox.export.errors import MissingCrsError, UnknownCrsError
from airflow_mapbox.export.geometry.accuracy import EXACT, Accuracy, AccuracyMap
from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

CRS84 = "OGC:CRS84"
_CRS84 = CRS.from_user_input(CRS84)
_WGS84_3D = "EPSG:4979"


def parse_crs(crs: object) -> CRS:
    """
    Read the reference system that a caller names.

    :param crs: an EPSG code, a string, WKT, or anything else that pyproj reads.
    :raises UnknownCrsError: if PROJ does not know it.
    """
    try:
        return CRS.from_user_input(crs)
    except CRSError:
        pass
    raise UnknownCrsError(f'PROJ does not know crs={crs!r}.\nUse a code such as crs="EPSG:4326", or WKT.')


def crs_name(crs: CRS) -> str:
    """
    Return a short name of a reference system.

    :param crs: the system.
    :return: such as ``EPSG:5070 (NAD83 / Conus Albers)``.
    """
    authority = crs.to_authority()
    return f"{':'.join(authority)} ({crs.name})" if authority else crs.name


def _on_earth(crs: CRS | None) -> CRS | None:
    """Return None for a local system, such as that of a building site: it has no place on Earth."""
    return None if crs is None or crs.is_engineering else crs


def data_crs(declared: CRS | None, fallback: CRS | None, origin: str) -> CRS:
    """
    Return the reference system of data: the one that it declares, else the caller's.

    :param declared: the system that the data declares, or None.
    :param fallback: the caller's, or None.
    :param origin: the source's name in messages.
    :raises MissingCrsError: if there is neither. A guess would move every feature.
    """
    crs = _on_earth(declared) or fallback or declared
    if crs is None:
        raise MissingCrsError(
            f"{origin} does not declare its coordinate reference system, or declares an unknown one.\n"
            'Name it with crs=…, such as crs="EPSG:4326" (in an upload export={"crs": …}). '
            "For a frame, frame.set_crs(…) does it too."
        )
    return crs


def unused_crs_note(declared: CRS | None, fallback: CRS | None, origin: str) -> str | None:
    """
    Return a note if the data declares another reference system than the caller's, which is then not used.

    :param declared: the system that the data declares, or None.
    :param fallback: the caller's, or None.
    :param origin: the source's name in messages.
    """
    declared = _on_earth(declared)
    if declared is None or fallback is None or declared.equals(fallback, ignore_axis_order=True):
        return None
    return (
        f"crs={crs_name(fallback)} was not used: {origin} declares {crs_name(declared)}. If that is wrong, read the "
        "data with geopandas and correct it: frame.set_crs(…, allow_override=True)."
    )


@dataclass(frozen=True)
class Transformation:
    """
    A transformation to longitude, latitude. All threads share it: pyproj has a PROJ context for each thread.

    :param name: the source's system.
    :param geocentric: whether the third coordinate of the source is Z from the Earth's centre instead of a height.
    :param projected: whether straight edges of the source are curves in longitude, latitude.
    :param metres_per_unit: the length of a unit of the source's first axis.
    :param transformer: None if the source is in longitude, latitude on WGS 84 already.
    :param accuracies: the accuracy by place, or None if there is nothing to transform.
    """

    name: str
    geocentric: bool
    projected: bool
    metres_per_unit: float
    transformer: Transformer | None
    accuracies: AccuracyMap | None

    def accuracy(self, lonlat: Shapes) -> Accuracy:
        """Return the accuracy at the worst place of transformed geometries."""
        return EXACT if self.accuracies is None else reduce(or_, self.accuracies.at(lonlat), EXACT)

    def apply(self, shapes: Shapes) -> Shapes:
        """Transform geometries. Coordinates that PROJ cannot transform become infinite."""
        if self.transformer is None:
            return shapes
        if self.geocentric:
            x, y, z = self.points(shapes.x, shapes.y, shapes.z)
            return replace(shapes, x=x, y=y, z=z)
        x, y, _ = self.points(shapes.x, shapes.y)
        # Heights keep the source's reference surface: GeoJSON cannot name one, and Mapbox's maps do not show them.
        return replace(shapes, x=x, y=y)

    def points(
        self, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64] | None = None
    ) -> tuple[Any, Any, Any]:
        """Transform arrays of coordinates, shape (m,), into new arrays."""
        if self.transformer is None:
            return x, y, z
        copies = [np.array(ordinate, np.float64) for ordinate in (x, y, z) if ordinate is not None]
        transform: Any = self.transformer.transform
        transform(*copies, inplace=True)
        return (*copies, None) if z is None else tuple(copies)  # type: ignore[return-value]


# Of each cache. Frames that are made on demand may each have a new CRS object.
_MAX_CACHED = 16


class _Cache:
    """Transformations by system. PROJ takes tens of milliseconds for one, with the GIL: one thread finds it for all."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, also the state of the lock."""
        self.lock = threading.Lock()
        self.by_object: dict[int, tuple[CRS, Transformation]] = {}
        self.by_name: dict[str, Transformation] = {}


_cache = _Cache()
# After a fork while another thread held the lock, nothing would release it.
os.register_at_fork(after_in_child=_cache.clear)


def find_transformation(crs: CRS) -> Transformation:
    """
    Return the transformation from a reference system to longitude, latitude. x comes first, whatever the axis order.

    :param crs: the source's system.
    :raises UnknownCrsError: if PROJ has no transformation.
    """
    with _cache.lock:
        cached_crs, transformation = _cache.by_object.get(id(crs), (None, None))
        if transformation is None or cached_crs is not crs:
            transformation = _cache.by_name.get(crs.srs) or _store(_cache.by_name, crs.srs, _find(crs))
            _store(_cache.by_object, id(crs), (crs, transformation))
    return transformation


def _store(cache: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    cache[key] = value
    if len(cache) > _MAX_CACHED:
        del cache[next(iter(cache))]
    return value


def _find(crs: CRS) -> Transformation:
    metres_per_unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    flat = crs.to_2d() if crs.is_geographic else crs
    if flat.equals(_CRS84, ignore_axis_order=True):
        return Transformation(crs_name(crs), False, False, metres_per_unit, None, None)
    target = _WGS84_3D if crs.is_geocentric else CRS84
    try:
        transformer = Transformer.from_crs(crs, target, always_xy=True)
        group = TransformerGroup(crs, target, always_xy=True)
    except (ProjError, CRSError):
        transformer = None
    if transformer is None:
        raise UnknownCrsError(
            f"PROJ has no transformation from {crs_name(crs)} to longitude, latitude.\n"
            "Transform the data first, or name its system with crs=…"
        )
    projected = not crs.is_geographic
    accuracies = AccuracyMap(transformer, group, projected=projected)
    return Transformation(crs_name(crs), crs.is_geocentric, projected, metres_per_unit, transformer, accuracies)

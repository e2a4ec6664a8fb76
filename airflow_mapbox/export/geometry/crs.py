"""Any coordinate reference system to longitude, latitude on WGS 84, and how far off that may be."""

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
from airflow_mapbox.export.geometry.accuracy import EXACT, Uncertainties, Uncertainty
from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = TypeVar("K")
V = TypeVar("V")

CRS84 = "OGC:CRS84"
_CRS84 = CRS.from_user_input(CRS84)
_WGS84_3D = "EPSG:4979"


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
    raise UnknownCrsError(f'PROJ does not know crs={crs!r}.\nGive a code such as crs="EPSG:4326", or WKT.')


def crs_name(crs: CRS) -> str:
    """
    Name a reference system in few words.

    :param crs: of a source.
    :return: such as ``EPSG:5070 (NAD83 / Conus Albers)``.
    """
    authority = crs.to_authority()
    return f"{':'.join(authority)} ({crs.name})" if authority else crs.name


def _placed(own: CRS | None) -> CRS | None:
    """Take a local system, of a building site or a drawing, for none: it does not say where on Earth it is."""
    return None if own is None or own.is_engineering else own


def known_crs(own: CRS | None, given: CRS | None, origin: str) -> CRS:
    """
    Say which reference system data is in: its own, else the one that was given.

    :param own: what the source says.
    :param given: the caller's, or None.
    :param origin: what the source is called in messages.
    :raises MissingCrsError: where neither says; a guess would move every feature.
    """
    crs = _placed(own) or given or own
    if crs is None:
        raise MissingCrsError(
            f"{origin} does not say which coordinate reference system its data is in, or names an unknown one.\n"
            'Give it with crs=…, such as crs="EPSG:4326" (in an upload export={"crs": …}). '
            "For a frame frame.set_crs(…) does it too."
        )
    return crs


def given_in_vain(own: CRS | None, given: CRS | None, origin: str) -> str | None:
    """
    Say that the reference system which was given is not the one that data names, and so was not used.

    :param own: what the source says.
    :param given: the caller's, or None.
    :param origin: what the source is called in messages.
    """
    own = _placed(own)
    if own is None or given is None or own.equals(given, ignore_axis_order=True):
        return None
    return (
        f"crs={crs_name(given)} was not used: {origin} says that it is in {crs_name(own)}. Where that is wrong, read "
        "it with geopandas and correct it: frame.set_crs(…, allow_override=True)."
    )


@dataclass(frozen=True)
class Transformation:
    """
    The way from one reference system to longitude, latitude, for all threads: pyproj keeps what PROJ has for each.

    :param name: of the source's system.
    :param geocentric: whether its third coordinate is none of a height.
    :param projected: whether straight edges there are curves in longitude, latitude.
    :param metre: units of the source in a metre.
    :param transformer: None where the source is in longitude, latitude on WGS 84 already.
    :param uncertainties: how far off it may be, or None where there is nothing to transform.
    """

    name: str
    geocentric: bool
    projected: bool
    metre: float
    transformer: Transformer | None
    uncertainties: Uncertainties | None

    def uncertainty(self, lonlat: Shapes) -> Uncertainty:
        """Say how far off the worst of what was transformed may be."""
        return EXACT if self.uncertainties is None else reduce(or_, self.uncertainties.at(lonlat), EXACT)

    def apply(self, shapes: Shapes) -> Shapes:
        """Transform coordinates; what fails becomes infinite."""
        if self.transformer is None:
            return shapes
        if self.geocentric:
            x, y, z = self.points(shapes.x, shapes.y, shapes.z)
            return replace(shapes, x=x, y=y, z=z)
        x, y, _ = self.points(shapes.x, shapes.y)
        # Heights are above whatever the source says: GeoJSON cannot tell, and no map shows them.
        return replace(shapes, x=x, y=y)

    def points(
        self, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64] | None = None
    ) -> tuple[Any, Any, Any]:
        """Transform arrays of coordinates into new ones."""
        if self.transformer is None:
            return x, y, z
        given = [np.array(ordinate, np.float64) for ordinate in (x, y, z) if ordinate is not None]
        # In place: these are copies of our own.
        transform: Any = self.transformer.transform
        transform(*given, inplace=True)
        return (*given, None) if z is None else tuple(given)  # type: ignore[return-value]


_KEPT = 16  # of each: a source of frames may come with a new object for each of them


class _Known:
    """Transformations; PROJ takes tens of milliseconds for one, with Python's lock: one thread finds it for all."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.finding = threading.Lock()
        self.by_object: dict[int, tuple[CRS, Transformation]] = {}
        self.by_text: dict[str, Transformation] = {}


_known = _Known()
# A fork while a thread is finding one would leave the lock taken for ever.
os.register_at_fork(after_in_child=_known.forget)


def transformation(crs: CRS) -> Transformation:
    """
    Find the way from a reference system to longitude, latitude; x comes first, whatever the order of its axes.

    :param crs: of the source.
    :raises UnknownCrsError: where PROJ knows none.
    """
    with _known.finding:
        of, found = _known.by_object.get(id(crs), (None, None))
        if found is None or of is not crs:
            found = _known.by_text.get(crs.srs) or _kept(_known.by_text, crs.srs, _find(crs))
            _kept(_known.by_object, id(crs), (crs, found))
    return found


def _kept(known: dict[K, V], key: K, value: V) -> V:
    """Remember something, and no more than a few."""
    known[key] = value
    if len(known) > _KEPT:
        del known[next(iter(known))]
    return value


def _find(crs: CRS) -> Transformation:
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    flat = crs.to_2d() if crs.is_geographic else crs
    if flat.equals(_CRS84, ignore_axis_order=True):
        return Transformation(crs_name(crs), False, False, unit, None, None)
    target = _WGS84_3D if crs.is_geocentric else CRS84
    try:
        transformer = Transformer.from_crs(crs, target, always_xy=True)
        group = TransformerGroup(crs, target, always_xy=True)
    except (ProjError, CRSError):
        transformer = None
    if transformer is None:
        raise UnknownCrsError(
            f"PROJ has no transformation from {crs_name(crs)} to longitude, latitude.\n"
            "Transform the data first, or give the system that it is in with crs=…"
        )
    projected = not crs.is_geographic
    uncertainties = Uncertainties(transformer, group, projected=projected)
    return Transformation(crs_name(crs), crs.is_geocentric, projected, unit, transformer, uncertainties)

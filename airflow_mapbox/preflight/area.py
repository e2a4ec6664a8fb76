"""Estimate the area that older accounts are billed for, without an export."""

from __future__ import annotations

import math
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_mapbox.billing import zooms
from airflow_mapbox.errors import OptionError

if TYPE_CHECKING:
    from airflow_mapbox.export.readers import ExportSource

# The area zooms of the tiers that Mapbox may choose for a file, from the highest to the lowest.
_CHOSEN_BY_MAPBOX = (14, 11, 6)


def estimate_area(
    source: ExportSource, *, zoom: int | None = None, tier: str | None = None, crs: object = None, **selection: Any
) -> float:
    """
    Return the area that an older account is billed for, in km².

    It is the area of the tiles that the features touch, on a sphere, as ``estimate-area`` of mapbox/tilesets-cli
    computes it. Features are transformed to longitude, latitude. They are not clipped, cut, repaired or rounded.

    :param source: as :func:`~airflow_mapbox.export.stream_geojson` takes it.
    :param zoom: the zoom of the tiles whose area counts, 0 to 17. Set at most one of ``zoom`` and ``tier``.
    :param tier: the price tier: ``"10m"`` counts tiles of zoom 6, ``"1m"`` 11, ``"30cm"`` 14 and ``"1cm"`` 17.
        ``"free"`` costs nothing, so its area is 0. If neither is set, the tier is that of :func:`expected_maxzoom`.
    :param crs: the reference system of data that declares none. For CSV, the default is longitude, latitude.
    :param selection: ``layer``, ``where``, ``bbox``, ``x`` and ``y`` of :func:`~airflow_mapbox.export.stream_geojson`.
    :return: square kilometres; 0 if there is no feature.
    :raises OptionError: for an invalid option, and without ``zoom`` and ``tier`` if the source is not a local file.
    :raises ExportError: if the source cannot be read, or has coordinates that are not on Earth.

    Example::

        print(estimate_area("parcels.parquet", tier="1m"))
    """
    _check_selection(selection)
    if zoom is not None and tier is not None:
        raise OptionError(f"Set zoom={zoom!r} or tier={tier!r}, not both: each tier has its own zoom.")
    if zoom is not None:
        if isinstance(zoom, bool) or not isinstance(zoom, int) or not 0 <= zoom <= zooms.MAX_AREA_ZOOM:
            raise OptionError(f"zoom={zoom!r} is not an integer from 0 to {zooms.MAX_AREA_ZOOM}.")
    elif tier is not None:
        zoom = zooms.area_zoom(tier)
        if zoom is None:
            return 0.0
    else:
        return _expected_area(source, crs, selection)
    from airflow_mapbox.export.touched import touched_tiles

    cover, _ = touched_tiles(source, (zoom,), crs=_crs_of(source, crs), selection=selection)
    return cover.area_km2(zoom)


def expected_maxzoom(source: str | PathLike[str], *, crs: object = None, **selection: Any) -> int:
    """
    Return the maxzoom that Mapbox is expected to choose for a file, by its size and bounds.

    It is for GeoJSON, CSV, KML, GPX and zipped shapefiles. An MBTiles file has a maxzoom of its own in its metadata.

    :param source: a local file.
    :param crs: the reference system of data that declares none.
    :param selection: as :func:`estimate_area` takes it.
    :raises OptionError: if the source is not a local file, or has no feature.
    :raises ExportError: if the file cannot be read, or has coordinates that are not on Earth.

    Example::

        print(expected_maxzoom("parcels.geojson"))
    """
    from airflow_mapbox.export.touched import touched_tiles

    _check_selection(selection)
    size = _size(source)
    _, bounds = touched_tiles(source, (0,), crs=_crs_of(source, crs), selection=selection)
    return zooms.expected_maxzoom(size, _checked(bounds))


def _expected_area(source: ExportSource, crs: object, selection: dict[str, Any]) -> float:
    from airflow_mapbox.export.touched import touched_tiles

    size = _size(source)
    cover, bounds = touched_tiles(source, _CHOSEN_BY_MAPBOX, crs=_crs_of(source, crs), selection=selection)
    zoom = zooms.area_zoom(zooms.tier_of(zooms.expected_maxzoom(size, _checked(bounds))))
    return 0.0 if zoom is None else cover.area_km2(zoom)


def _crs_of(source: object, crs: object) -> object:
    """Return the reference system of data that declares none. Mapbox reads longitude, latitude from CSV."""
    is_csv = isinstance(source, str | PathLike) and str(source).lower().endswith(".csv")
    return "OGC:CRS84" if crs is None and is_csv else crs


def _size(source: object) -> int:
    """Return the size of a file that Mapbox may receive as it is."""
    from airflow_mapbox.sources.files import find_file

    if isinstance(source, str | PathLike):
        file = find_file(source)
        if file.path is not None and file.path.suffix.lower() in _SENT_AS_THEY_ARE:
            return file.path.stat().st_size
    raise OptionError(
        "Set zoom= or tier=. Without them, the tier follows from the size of the file that Mapbox receives, and this "
        f"source is not such a file: use a local file ({', '.join(_SENT_AS_THEY_ARE)})."
    )


# Mapbox chooses the maxzoom of these files. The size of other sources says nothing about the file that is sent.
_SELECTION = ("layer", "where", "bbox", "x", "y")
_SENT_AS_THEY_ARE = (".geojson", ".json", ".csv", ".kml", ".gpx", ".zip")


def _checked(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not all(map(math.isfinite, bounds)):
        raise OptionError("The source has no feature with coordinates, so its maxzoom is unknown. Set zoom= or tier=.")
    return bounds


def _check_selection(selection: dict[str, Any]) -> None:
    for name in selection:
        if name not in _SELECTION:
            raise OptionError(f"{name}= is unknown here. The options that select features are {', '.join(_SELECTION)}.")

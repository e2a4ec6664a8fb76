"""Find the tiles that the features of a source touch, without writing the features."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.billing.known import KnownTiles
from airflow_mapbox.export.cores import usable_cores
from airflow_mapbox.export.counts import NO_BOUNDS, Bounds
from airflow_mapbox.export.encode import cover_of, read_batch_geometries
from airflow_mapbox.export.errors import CoordinatesError
from airflow_mapbox.export.geometry import clip
from airflow_mapbox.export.geometry.crs import data_crs, find_transformation, parse_crs
from airflow_mapbox.export.geometry.rings import close_rings
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.pipeline import MAX_DEFAULT_THREADS, in_order, small_batches
from airflow_mapbox.export.readers import ExportSource, read_source
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.text.memory import keep_freed_memory

if TYPE_CHECKING:
    from pyproj import CRS


def touched_tiles(
    source: ExportSource, zooms: tuple[int, ...], *, crs: object = None, selection: Mapping[str, Any] | None = None
) -> tuple[Cover, Bounds]:
    """
    Return the tiles that the features of a source touch, and the features' bounds in degrees.

    Features are transformed to longitude, latitude. They are not clipped, cut, repaired or rounded.

    :param source: as :func:`~airflow_mapbox.export.stream_geojson` takes it.
    :param zooms: the zooms of the tiles, from the highest to the lowest.
    :param crs: the reference system of data that declares none.
    :param selection: options of :func:`~airflow_mapbox.export.stream_geojson` that select features.
    :return: the tiles, and west, south, east, north, which are infinite if there is no feature.
    :raises ExportError: if the source cannot be read, or has coordinates that are not on Earth.
    """
    keep_freed_memory()
    fallback = None if crs is None else parse_crs(crs)
    known = KnownTiles(zooms)
    total, bounds = Cover(zooms, known), NO_BOUNDS
    threads = min(usable_cores(), MAX_DEFAULT_THREADS)
    touch = partial(_touch, zooms=zooms, crs=fallback, known=known)
    with ThreadPoolExecutor(threads, thread_name_prefix="area") as pool:
        for batches in read_source(source, Selection(columns=(), **(selection or {}))):
            for cover, box in in_order(pool, threads + 1, touch, small_batches(batches, None)):
                total.update(cover)
                west, south, east, north = zip(bounds, box, strict=True)
                bounds = min(west), min(south), max(east), max(north)
    return total, bounds


def _touch(batch: Batch, zooms: tuple[int, ...], crs: CRS | None, known: KnownTiles) -> tuple[Cover, Bounds]:
    """Return the tiles that the features of a batch touch, and their bounds."""
    geometries = read_batch_geometries(batch)
    if not geometries.shapes:
        return Cover(zooms), NO_BOUNDS
    transformation = find_transformation(data_crs(batch.crs, crs, batch.origin))
    groups = []
    for shapes in geometries.shapes:
        problem = clip.not_finite(shapes)
        lonlat = shapes if problem else transformation.apply(close_rings(shapes))
        problem = problem or clip.off_globe(lonlat)
        if problem is not None:
            row = problem.row if geometries.owners is None else int(geometries.owners[problem.row])
            raise CoordinatesError(f"Feature {batch.first + row} {problem.clause}")
        groups.append(lonlat)
    bounds = (
        min(float(group.x.min()) for group in groups),
        min(float(group.y.min()) for group in groups),
        max(float(group.x.max()) for group in groups),
        max(float(group.y.max()) for group in groups),
    )
    return cover_of(groups, zooms, known=known), bounds

"""Export geodata as GeoJSON up to Mapbox's limit, and as vector tiles beyond it, reading the source once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Unpack

from airflow_mapbox.export.atomic_file import AtomicFile, atomic_file
from airflow_mapbox.export.geojson import GeoJSONStream, stream_geojson
from airflow_mapbox.export.mbtiles import Features, check_zooms, tile_features
from airflow_mapbox.export.options import GeoJSONKeywords, Tier
from airflow_mapbox.export.readers import ExportSource
from airflow_mapbox.export.report import ExportReport
from airflow_mapbox.export.tiles.space import temporary_folder
from airflow_mapbox.limits import GEOJSON_BYTES

log = logging.getLogger(__name__)


def write_auto(
    source: ExportSource,
    stem: str | PathLike[str],
    *,
    name: str | None = None,
    minzoom: int = 0,
    maxzoom: int | None = None,
    tier: Tier | None = None,
    temporary_directory: str | PathLike[str] | None = None,
    **keywords: Unpack[GeoJSONKeywords],
) -> ExportReport:
    """
    Export geodata to GeoJSON, or to MBTiles if the GeoJSON would be larger than Mapbox accepts.

    The source is read once. When the limit is reached, the GeoJSON that was written so far goes into the tiles first.

    :param source: as :func:`~airflow_mapbox.export.stream_geojson` takes it.
    :param stem: the file without its extension, which is ``.geojson`` or ``.mbtiles``.
    :param name: the name of the tileset and its layer. None takes the file's name.
    :param minzoom: as :func:`~airflow_mapbox.export.write_mbtiles` takes it. This, ``maxzoom`` and ``tier`` have no
        effect on GeoJSON, whose zooms Mapbox chooses. If one of them is set, a note of the report says so.
    :param maxzoom: as :func:`~airflow_mapbox.export.write_mbtiles` takes it.
    :param tier: as :func:`~airflow_mapbox.export.write_mbtiles` takes it.
    :param temporary_directory: as :func:`~airflow_mapbox.export.write_mbtiles` takes it.
    :param keywords: the options of :func:`~airflow_mapbox.export.stream_geojson`. Above ``limit_bytes`` (1 GiB by
        default, the limit of the Uploads API), the result is tiles.
    :return: the report, which is also logged in one line. The extension of its ``path`` tells the format.
    :raises ValueError: the same as :func:`~airflow_mapbox.export.write_mbtiles`.
    :raises ExportError: the errors of :func:`~airflow_mapbox.export.write_mbtiles`.

    Example::

        report = write_auto("parcels.parquet", "parcels", tier="1m")
        print(report.path.suffix, report.bytes)
    """
    base = Path(stem)
    title = name or base.name
    zooms = check_zooms(minzoom, maxzoom, tier)
    temporary = temporary_folder(temporary_directory)
    limit = keywords.get("limit_bytes", GEOJSON_BYTES)
    target = base.with_name(base.name + ".geojson")
    with stream_geojson(source, **(keywords | {"limit_bytes": None})) as stream, atomic_file(target) as file:
        size = 0
        for chunk in stream.views():
            size += len(chunk)
            file.write(chunk)
            if limit is not None and size > limit:
                file.discard()
                log.info("More than %s bytes of GeoJSON: writing vector tiles instead", f"{limit:,}")
                return tile_features(
                    _Continued(title, stream, file),
                    base.with_name(base.name + ".mbtiles"),
                    name=title,
                    zooms=zooms,
                    temporary=temporary,
                    source_bytes=size,
                )
    report = replace(
        stream.report, path=target, notes=(*stream.report.notes, *_ignored_options(minzoom, maxzoom, tier))
    )
    log.info("Exported %s", report)
    return report


def _ignored_options(minzoom: int, maxzoom: int | None, tier: Tier | None) -> Iterator[str]:
    """Yield a note if options are set that have no effect on GeoJSON."""
    chosen = {"minzoom=": minzoom or None, "maxzoom=": maxzoom, "tier=": tier}
    names = [name for name, value in chosen.items() if value is not None]
    if names:
        yield (
            f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} for vector tiles only: Mapbox chooses the "
            'zooms of GeoJSON, and bills them. write_mbtiles always makes tiles, and so does format="mbtiles" of an '
            "upload."
        )


class _Continued(Features):
    """The features of a stream whose beginning is already in a file."""

    def __init__(self, layer: str, stream: GeoJSONStream, beginning: AtomicFile) -> None:
        super().__init__({layer: stream})
        self._beginning = beginning

    def __iter__(self) -> Iterator[bytes]:
        for chunks in (self._beginning.read_back(), *self.layers.values()):
            for chunk in chunks:
                self.bytes += len(chunk)
                yield chunk

"""GeoJSON up to its limit, and vector tiles beyond it, from one reading of the source."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Unpack

from airflow_mapbox.export.atomic_file import AtomicFile, atomic_file
from airflow_mapbox.export.geojson import GeoJSONStream, stream_geojson
from airflow_mapbox.export.mbtiles import Features, chosen_zooms, temporary_folder, tile_features
from airflow_mapbox.export.options import GeoJSONKeywords, Tier
from airflow_mapbox.export.readers import ExportSource
from airflow_mapbox.export.report import ExportReport
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
    Write geodata as GeoJSON, or as MBTiles where it is more than GeoJSON may have.

    The source is read once: what was written of GeoJSON when the limit is reached goes into the tiles first.

    :param source: as :func:`~airflow_mapbox.export.stream_geojson` takes it.
    :param stem: the file to write, without the ending, which is ``.geojson`` or ``.mbtiles``.
    :param name: of the tileset and its layer; that of the file otherwise.
    :param minzoom: as :func:`~airflow_mapbox.export.write_mbtiles` takes it. The zooms of GeoJSON are Mapbox's choice,
        which a note of the report says where this, ``maxzoom`` or ``tier`` was given.
    :param maxzoom: as there.
    :param tier: as there.
    :param temporary_directory: as there.
    :param keywords: those of :func:`~airflow_mapbox.export.stream_geojson`; ``limit_bytes`` is where tiles begin.
    :return: what was done; its ``path`` tells which of the two it is.
    :raises ExportError: as :func:`~airflow_mapbox.export.write_mbtiles` does.
    """
    base = Path(stem)
    title = name or base.name
    zooms = chosen_zooms(minzoom, maxzoom, tier)
    temporary = temporary_folder(temporary_directory)
    limit = keywords.get("limit_bytes", GEOJSON_BYTES)
    target = base.with_name(base.name + ".geojson")
    with stream_geojson(source, **(keywords | {"limit_bytes": None})) as stream, atomic_file(target) as file:
        size = 0
        for piece in stream.views():
            size += len(piece)
            file.write(piece)
            if limit is not None and size > limit:
                file.discard()
                log.info("More than %s bytes of GeoJSON: writing vector tiles instead", f"{limit:,}")
                return tile_features(
                    _Continued(title, stream, file),
                    base.with_name(base.name + ".mbtiles"),
                    name=title,
                    zooms=zooms,
                    temporary=temporary,
                    size=size,
                )
    report = replace(stream.report, path=target, notes=(*stream.report.notes, *_unheeded(minzoom, maxzoom, tier)))
    log.info("Exported %s", report)
    return report


def _unheeded(minzoom: int, maxzoom: int | None, tier: Tier | None) -> Iterator[str]:
    """Say which choices of the caller's GeoJSON has no place for."""
    chosen = {"minzoom=": minzoom or None, "maxzoom=": maxzoom, "tier=": tier}
    names = [name for name, value in chosen.items() if value is not None]
    if names:
        yield (
            f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} for vector tiles only: Mapbox chooses the "
            "zooms of GeoJSON, and bills what it chooses. Tiles are made in any case by write_mbtiles, and by "
            'format="mbtiles" of an upload.'
        )


class _Continued(Features):
    """A stream of which the beginning is in a file already."""

    def __init__(self, layer: str, stream: GeoJSONStream, begun: AtomicFile) -> None:
        super().__init__({layer: stream})
        self._begun = begun

    def __iter__(self) -> Iterator[bytes]:
        for pieces in (self._begun.read_back(), *self.layers.values()):
            for piece in pieces:
                self.bytes += len(piece)
                yield piece

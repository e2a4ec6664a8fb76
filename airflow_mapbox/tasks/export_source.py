"""Geodata as the source of an upload: exported on the way to the staging bucket, or into temporary space first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.formats import ExportFormat, check_format
from airflow_mapbox.sources.source import (
    ByteStream,
    Fingerprint,
    IteratorStream,
    ReadablePath,
    Source,
    describe,
    open_source,
)

if TYPE_CHECKING:
    from airflow_mapbox.export import ExportReport
    from airflow_mapbox.export.readers import ExportSource

log = logging.getLogger(__name__)

# Files beside one that GDAL reads with it, by its ending.
_BESIDE = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".csv": (".csvt", ".prj"),
    ".gml": (".gfs", ".xsd"),
    ".mif": (".mid",),
    ".tab": (".dat", ".id", ".map"),
}
_DATABASES = (".gpkg", ".sqlite", ".db")

_CALLED = {"geojson": "GeoJSON", "mbtiles": "MBTiles", "auto": "GeoJSON or MBTiles"}


def exported(
    data: ExportSource | Callable[[], ExportSource],
    format: ExportFormat,
    options: Mapping[str, Any] | None = None,
    *,
    name: str,
) -> Source:
    """
    Make a source of geodata.

    As GeoJSON it is sent while it is exported, and nothing touches the disk. MBTiles, and what may become MBTiles, are
    written into temporary space first.

    :param data: as :func:`~airflow_mapbox.export.stream_geojson` takes it, or a function that gives such.
    :param format: ``"geojson"``, ``"mbtiles"``, or ``"auto"``: GeoJSON up to Mapbox's limit, and MBTiles beyond it.
    :param options: keywords of :func:`~airflow_mapbox.export.stream_geojson`, ``write_mbtiles`` or ``write_auto``.
    :param name: of the layer, where vector tiles are made and the options give no other.
    :return: a source whose ``facts`` have ``features`` and ``bounds`` once it is read.
    :raises ValueError: for a format that there is not.
    """
    check_format(format, options)
    chosen = dict(options or {})

    def streamed() -> ByteStream:
        return IteratorStream(pieces())

    def pieces() -> Iterator[memoryview]:
        from airflow_mapbox.export import stream_geojson

        with stream_geojson(given(), **chosen) as stream:
            yield from stream.views()
            log.info("Exported %s", stream.report)
            tell(stream.report)

    def written() -> ByteStream:
        from airflow_mapbox.export.atomic_file import scratch_folder
        from airflow_mapbox.export.mbtiles import temporary_folder

        with scratch_folder(temporary_folder(chosen.get("temporary_directory"))) as folder:
            report = _write(given(), folder / name, format, chosen)
            assert report.path is not None  # noqa: S101 - it was written to one
            tell(report)
            source.size = report.bytes
            # Read on without a name: whatever kills this process, no file stays.
            return report.path.open("rb")

    def given() -> ExportSource:
        found = data() if callable(data) else data
        if found is None:
            raise UnreadableSourceError(
                f"{source.description}: nothing was returned.\nReturn a GeoDataFrame, or yield some."
            )
        return found

    def tell(report: ExportReport) -> None:
        source.facts.update(features=report.features, bounds=list(report.bounds))
        told.append(report)

    told: list[ExportReport] = []
    source = Source(
        _description(data, format),
        None,
        streamed if format == "geojson" else written,
        look=lambda: _fingerprint(data, format, chosen),
        digest=lambda: told[-1].sha256,
        rereadable=not isinstance(data, Iterator),
    )
    return source


def _write(data: ExportSource, stem: Path, format: ExportFormat, options: Mapping[str, Any]) -> ExportReport:
    from airflow_mapbox.export import write_auto, write_mbtiles

    if format == "mbtiles":
        return write_mbtiles(data, stem.with_name(f"{stem.name}.mbtiles"), **options)
    return write_auto(data, stem, **options)


def _description(data: object, format: str) -> str:
    if isinstance(data, str | PathLike | ReadablePath):
        what = describe(data)
    elif callable(data):
        what = f"{getattr(data, '__name__', type(data).__name__)}()"
    else:
        what = f"the given {type(data).__name__}"
    return f"{what} as {_CALLED[format]}"


def _fingerprint(data: object, format: str, options: Mapping[str, Any]) -> Fingerprint:
    """Tell what changes with the file, and with what is made of it."""
    if not isinstance(data, str | PathLike | ReadablePath) or Path(str(data)).is_dir():
        return {}
    with open_source(data) as opened:
        found = {**opened.fingerprint, **_beside(opened.path)}
    # However many threads write, the bytes are the same.
    chosen = sorted((name, value) for name, value in options.items() if name != "threads")
    made = json.dumps([format, chosen], default=repr).encode()
    return {**found, "export": hashlib.sha256(made).hexdigest()[:16]}


def _beside(path: Path | None) -> Fingerprint:
    """Tell what changes with the files that are read along with one."""
    if path is None:
        return {}
    ending = path.suffix.lower()
    others = [
        path.with_suffix(one) for other in _BESIDE.get(ending, ()) for one in dict.fromkeys((other, other.upper()))
    ]
    if ending in _DATABASES:
        others.append(path.with_name(f"{path.name}-wal"))  # what SQLite has not moved into the database yet
    there = []
    for other in others:
        with contextlib.suppress(FileNotFoundError):
            # An empty log comes and goes with every reader.
            if (found := other.stat()).st_size:
                there.append((other.name, found.st_size, found.st_mtime_ns))
    return {"beside": hashlib.sha256(json.dumps(there).encode()).hexdigest()[:16]} if there else {}

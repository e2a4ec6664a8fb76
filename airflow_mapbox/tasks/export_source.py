"""Geodata as the source of an upload: exported while it is sent, or to temporary disk space first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import UnreadableSourceError
from airflow_mapbox.export.options import ExportFormat, check_format
from airflow_mapbox.sources.identity import describe
from airflow_mapbox.sources.resolve import REPORTED_FACTS, open_source
from airflow_mapbox.sources.source import Fingerprint, ReadablePath, Source
from airflow_mapbox.sources.streams import ByteStream, IteratorStream

if TYPE_CHECKING:
    from airflow_mapbox.export import ExportReport
    from airflow_mapbox.export.readers import ExportSource

log = logging.getLogger(__name__)

# Files that GDAL reads together with a file, by its extension.
_SIDECARS = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".csv": (".csvt", ".prj"),
    ".gml": (".gfs", ".xsd"),
    ".mif": (".mid",),
    ".tab": (".dat", ".id", ".map"),
}
_DATABASES = (".gpkg", ".sqlite", ".db")

_FORMAT_NAMES = {"geojson": "GeoJSON", "mbtiles": "MBTiles", "auto": "GeoJSON or MBTiles"}


def export_source(
    data: ExportSource | Callable[[], ExportSource],
    format: ExportFormat,
    options: Mapping[str, Any] | None = None,
    *,
    name: str,
) -> Source:
    """
    Return a source whose bytes are the export of geodata.

    GeoJSON is sent while it is exported, without a file on disk. MBTiles, and data that may become MBTiles, is written
    to temporary disk space first.

    :param data: data, as :func:`~airflow_mapbox.export.stream_geojson` takes it, or a function that returns it.
    :param format: ``"geojson"``, ``"mbtiles"``, or ``"auto"``: GeoJSON up to Mapbox's limit, MBTiles beyond it.
    :param options: options of :func:`~airflow_mapbox.export.stream_geojson`, ``write_mbtiles`` or ``write_auto``.
    :param name: name of the layer in vector tiles, unless the options have one.
    :return: a source that has ``features`` and ``bounds`` in its ``facts`` once it is read.
    :raises ValueError: for an unknown format or option.
    """
    check_format(format, options)
    export = _Export(data, format, dict(options or {}), name)
    source = Source(
        export.description,
        None,
        export.open,
        read_fingerprint=export.fingerprint,
        checksum=lambda: export.reports[-1].sha256,
        rereadable=not isinstance(data, Iterator),
    )
    export.source = source
    return source


class _Export:
    """
    One export, which runs each time that its source is opened.

    :param data: the data, or a function that returns it.
    :param format: the format.
    :param options: options of the export.
    :param name: name of the layer in vector tiles.
    """

    source: Source

    def __init__(
        self,
        data: ExportSource | Callable[[], ExportSource],
        format: ExportFormat,
        options: dict[str, Any],
        name: str,
    ) -> None:
        self._data = data
        self._format = format
        self._options = options
        self._name = name
        self.reports: list[ExportReport] = []

    @property
    def description(self) -> str:
        """The data and the format."""
        if isinstance(self._data, str | PathLike | ReadablePath):
            data = describe(self._data)
        elif callable(self._data):
            data = f"{getattr(self._data, '__name__', type(self._data).__name__)}()"
        else:
            data = f"the given {type(self._data).__name__}"
        return f"{data} as {_FORMAT_NAMES[self._format]}"

    def open(self) -> ByteStream:
        """Start the export and return its bytes."""
        return IteratorStream(self._chunks()) if self._format == "geojson" else self._open_file()

    def _chunks(self) -> Iterator[memoryview]:
        from airflow_mapbox.export import stream_geojson

        with stream_geojson(self._read_data(), **self._options) as stream:
            yield from stream.views()
            log.info("Exported %s", stream.report)
            self._add_report(stream.report)

    def _open_file(self) -> ByteStream:
        from airflow_mapbox.export.tiles.space import temporary_folder
        from airflow_mapbox.sources.temporary import scratch_folder

        with scratch_folder(temporary_folder(self._options.get("temporary_directory"))) as folder:
            report = self._write(folder / self._name)
            assert report.path is not None  # noqa: S101 - it was written to a path
            self._add_report(report)
            self.source.size = report.bytes
            # The file is deleted while it is open, so that none is left behind if this process is killed.
            return report.path.open("rb")

    def _write(self, stem: Path) -> ExportReport:
        from airflow_mapbox.export import write_auto, write_mbtiles

        if self._format == "mbtiles":
            return write_mbtiles(self._read_data(), stem.with_name(f"{stem.name}.mbtiles"), **self._options)
        return write_auto(self._read_data(), stem, **self._options)

    def _read_data(self) -> ExportSource:
        data = self._data() if callable(self._data) else self._data
        if data is None:
            raise UnreadableSourceError(
                f"{self.description}: the function returned nothing.\nReturn a GeoDataFrame, or yield several."
            )
        return data

    def _add_report(self, report: ExportReport) -> None:
        facts = report.to_json()
        self.source.facts.update({name: facts[name] for name in REPORTED_FACTS if name in facts})
        self.reports.append(report)

    def fingerprint(self) -> Fingerprint:
        """Return values that change with the file and with the options of the export."""
        if not isinstance(self._data, str | PathLike | ReadablePath) or Path(str(self._data)).is_dir():
            return {}
        with open_source(self._data) as opened:
            fingerprint = {**opened.fingerprint, **_sidecar_fingerprint(opened.path)}
        # The number of threads does not change the bytes.
        options = sorted((name, value) for name, value in self._options.items() if name != "threads")
        digest = hashlib.sha256(json.dumps([self._format, options], default=repr).encode())
        return {**fingerprint, "export": digest.hexdigest()[:16]}


def _sidecar_fingerprint(path: Path | None) -> Fingerprint:
    """Return a value that changes with the files that GDAL reads together with a file."""
    if path is None:
        return {}
    extension = path.suffix.lower()
    sidecars = [
        path.with_suffix(name)
        for suffix in _SIDECARS.get(extension, ())
        for name in dict.fromkeys((suffix, suffix.upper()))
    ]
    if extension in _DATABASES:
        sidecars.append(path.with_name(f"{path.name}-wal"))  # changes that SQLite has not moved to the database yet
    facts = []
    for sidecar in sidecars:
        with contextlib.suppress(FileNotFoundError):
            # Every reader makes and deletes an empty log.
            if (stat := sidecar.stat()).st_size:
                facts.append((sidecar.name, stat.st_size, stat.st_mtime_ns))
    return {"beside": hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]} if facts else {}

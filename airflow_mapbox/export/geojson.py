"""Export geodata as a GeoJSON FeatureCollection in longitude, latitude (CRS84): a stream of bytes, or a file."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, TypeAlias, Unpack

import pyarrow as pa

from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.export.area_zooms import NO_AREA, AreaZooms
from airflow_mapbox.export.atomic_file import atomic_file
from airflow_mapbox.export.bills import geojson_bill
from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.errors import EmptyExportError, ExportClosedError, TooLargeError
from airflow_mapbox.export.geometry.crs import CRS84, parse_crs
from airflow_mapbox.export.geometry.options import GeometryOptions
from airflow_mapbox.export.options import GeoJSONKeywords, Options, Selection, check_counts
from airflow_mapbox.export.pipeline import Encoded, encoded_features
from airflow_mapbox.export.readers import ExportSource
from airflow_mapbox.export.report import ExportReport, data_notes, export_report, transformation_warnings
from airflow_mapbox.limits import GEOJSON_BYTES, SNIFFED_CHARACTERS

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
_MAX_PENDING_DIGESTS = 4

# An attribute called "objects" or "tilejson" in the first 400 characters would make Mapbox recognise another format.
# The spaces keep all attributes out of them (docs/reference/limits.md, "How the format is recognised").
_HEAD = b'{"type":"FeatureCollection","features":[' + b" " * (SNIFFED_CHARACTERS + 112)


class _End(NamedTuple):
    """The end of an export: its report, and the tiles that its features touch."""

    report: ExportReport
    cover: Cover | None


# The chunks of an export, and its end.
_Chunks: TypeAlias = Iterator["memoryview | _End"]


class _Frame(NamedTuple):
    """The strings around features: before the first one, before each one, and after the last one."""

    head: bytes
    opening: str
    tail: bytes


_COLLECTION = _Frame(_HEAD, ',\n{"type":"Feature",', b"\n]")


class GeoJSONStream:
    """
    The bytes of a FeatureCollection: an iterator of chunks of at most a megabyte, which makes them on demand.

    The source is read in the thread that takes the chunks; other threads encode features. Nothing is read before the
    first chunk is requested. An error of the export is raised when it happens, after valid chunks, and again at each
    further request. The consumer must then discard what it already forwarded.

    :param begin: starts the export and returns its chunks. Its first argument is None for a FeatureCollection; for
        lines, it is the members that each feature gets in addition. The second one is the zooms whose tiles are
        collected.
    """

    def __init__(self, begin: Callable[[bytes | None, AreaZooms], _Chunks]) -> None:
        self._begin = begin
        self._chunks: _Chunks | None = None
        self._end: _End | None = None
        self._closed = self._failed = False

    def __iter__(self) -> GeoJSONStream:
        return self

    def __next__(self) -> bytes:
        chunk = self._next()
        if chunk is None:
            raise StopIteration
        return bytes(chunk)

    def views(self) -> Iterator[memoryview]:
        """Yield the chunks without a copy. Each view keeps the memory of its whole batch."""
        while (chunk := self._next()) is not None:
            yield chunk

    def _next(self) -> memoryview | None:
        """Return the next chunk, or None at the end."""
        if self._chunks is None and not self._closed:
            self._chunks = self._begin(None, AreaZooms.of_geojson())
        try:
            for chunk in self._chunks or ():
                if isinstance(chunk, memoryview):
                    return chunk
                self._end = chunk
        except BaseException:
            self._failed = True
            raise
        if self._end is None:
            # An iterator that merely ended would look complete.
            raise ExportClosedError(self._why_incomplete())
        return None

    def _why_incomplete(self) -> str:
        if self._failed:
            return "The export failed: discard the chunks that were sent, correct the error, and export again."
        if self._closed:
            return "The export was closed before its end."
        return "The export has not ended: its report is available after the last chunk."

    def lines(self, extra: bytes = b"", area_zooms: AreaZooms = NO_AREA) -> Iterator[bytes]:
        """
        Write one feature a line instead of a FeatureCollection, for programs that read those.

        This is RFC 8142 without its record separators.

        :param extra: members for each feature, each followed by a comma.
        :param area_zooms: the zooms whose tiles are collected for the bill.
        :return: chunks of lines.
        """
        if self._chunks is None and not self._closed:
            self._chunks = self._begin(extra, area_zooms)
        return self

    def __enter__(self) -> GeoJSONStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and close the source. It may be called at any time, also twice."""
        self._closed = True
        if self._chunks is not None:
            self._chunks.close()  # type: ignore[attr-defined]

    @property
    def report(self) -> ExportReport:
        """
        The report of the export.

        :raises ExportClosedError: before the last chunk was taken, and if the export failed.
        """
        return self._ended().report

    @property
    def cover(self) -> Cover | None:
        """
        The tiles that the features touch, or None if they were not collected.

        :raises ExportClosedError: as :attr:`report` does.
        """
        return self._ended().cover

    def _ended(self) -> _End:
        if self._end is None:
            raise ExportClosedError(self._why_incomplete())
        return self._end


def stream_geojson(
    source: ExportSource,
    *,
    crs: object = None,
    decimals: int = 7,
    z: Literal["keep", "drop"] = "keep",
    on_invalid: Literal["fix", "drop", "error"] = "fix",
    beyond_mercator: Literal["clip", "error"] = "clip",
    antimeridian: Literal["cut", "keep"] = "cut",
    max_segment: float | None = None,
    accuracy_warning: float = 5.0,
    write_bbox: bool = False,
    as_text: Collection[str] = (),
    layer: str | int | None = None,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    x: str | None = None,
    y: str | None = None,
    id_attribute: str | None = None,
    batch_rows: int | None = None,
    threads: int | None = None,
    limit_bytes: int | None = GEOJSON_BYTES,
) -> GeoJSONStream:
    """
    Export geodata as the bytes of a GeoJSON FeatureCollection in longitude, latitude on WGS 84 (RFC 7946, section 4).

    Memory is bounded by a few batches of two megabytes for each thread, whatever the size of the source. If the source
    is an iterable of frames, memory holds one frame at a time.

    :param source: a GeoDataFrame, an iterable of them, the path or URL of geodata, or a
        :class:`~airflow_mapbox.export.PostGISQuery`.
    :param crs: the reference system of data that declares none: an EPSG code, a string, WKT or a pyproj CRS.
    :param decimals: decimals of each coordinate, 0 to 15. Seven are about a centimetre (RFC 7946, section 11.2).
    :param z: ``"keep"`` heights as in the source, or ``"drop"`` them. M is always dropped.
    :param on_invalid: ``"fix"`` invalid polygons, ``"drop"`` them, or raise an ``"error"``.
    :param beyond_mercator: ``"clip"`` geometries at ±85.0511 degrees of latitude, where Mapbox's map ends, or raise an
        ``"error"``. A latitude beyond ±90 degrees is always an error.
    :param antimeridian: ``"cut"`` geometries that cross ±180 degrees of longitude (RFC 7946, section 3.1.9), or
        ``"keep"`` edges of over 180 degrees as they are.
    :param max_segment: metres; longer edges of a projected system get more vertices. None adds no vertices.
    :param accuracy_warning: metres; a transformation that may be less accurate is a warning in the log.
    :param write_bbox: write a ``bbox`` member for the collection and each feature (RFC 7946, section 5), with heights
        if it has any.
    :param as_text: columns of numbers to write as strings, such as ids beyond 2^53. If the source is an iterable
        of frames, each column must be in at least one of them.
    :param layer: the layer of a file with several layers, by name or by number from 0.
    :param where: a condition on attributes in OGR's SQL, for formats that GDAL reads.
    :param columns: names of the attributes to write; None for all.
    :param bbox: west, south, east, north in the source's own reference system, for formats that GDAL reads. Only
        features there are read.
    :param x: the column of longitudes or eastings, for CSV.
    :param y: the column of latitudes or northings, for CSV.
    :param id_attribute: the attribute that receives the ids of features, for GeoJSON. Without it, ids are not written.
    :param batch_rows: maximum features in a batch, if a batch of two megabytes is too much.
    :param threads: number of threads that encode features, beside the one that reads. None means one for each core that
        the process may use (by its affinity and its container's quota), at most 16. The bytes are the same for any
        number.
    :param limit_bytes: maximum bytes; None for no limit. The default is Mapbox's limit for GeoJSON, 1 GiB (Uploads API,
        "Restrictions and limits").
    :return: an iterator of chunks, which has the report at its end.
    :raises ValueError: if an option has an invalid value, or the source does not support it.
    :raises UnknownCrsError: if PROJ does not know ``crs``.

    The iterator raises further errors:

    :raises MissingCrsError: if neither the data nor ``crs`` names the reference system.
    :raises CoordinatesError: for coordinates that are not finite or not on the map.
    :raises InvalidGeometryError: for an invalid polygon, with ``on_invalid="error"``.
    :raises TooLargeError: when there are more than ``limit_bytes``.
    :raises EmptyExportError: if there is no feature to write.
    :raises ExportError: if a source, a column or a value cannot be written. The message names it.

    Example::

        with stream_geojson("parcels.parquet", columns=["owner"], decimals=6) as stream:
            for chunk in stream:
                send(chunk)
        print(stream.report.features)
    """
    check_counts(batch_rows=batch_rows, threads=threads, limit_bytes=limit_bytes)
    geometry = GeometryOptions(
        decimals=decimals,
        z=z,
        on_invalid=on_invalid,
        beyond_mercator=beyond_mercator,
        antimeridian=antimeridian,
        max_segment=max_segment,
    )
    options = Options(geometry, accuracy_warning=accuracy_warning, write_bbox=write_bbox, as_text=as_text)
    fallback_crs = None if crs is None else parse_crs(crs)
    selection = Selection(layer=layer, where=where, columns=columns, bbox=bbox, x=x, y=y, id_attribute=id_attribute)
    encode = partial(encoded_features, source, fallback_crs, options, selection, batch_rows, threads)
    return GeoJSONStream(partial(_chunks, encode, options, selection, limit_bytes))


def write_geojson(source: ExportSource, path: str | PathLike[str], **keywords: Unpack[GeoJSONKeywords]) -> ExportReport:
    """
    Export geodata to a GeoJSON file in longitude, latitude on WGS 84 (RFC 7946, section 4).

    The file is complete or absent: it gets its name when it is written completely.

    :param source: as :func:`stream_geojson` takes it.
    :param path: the file. Missing folders above it are made, and an existing file is replaced.
    :param keywords: the options of :func:`stream_geojson`.
    :return: the report, which is also logged in one line.
    :raises ValueError: if an option has an invalid value, or the source does not support it.
    :raises ExportError: the errors of :func:`stream_geojson`. No file is left behind.
    :raises OSError: if the file cannot be written.

    Example::

        report = write_geojson("parcels.parquet", "parcels.geojson", crs="EPSG:25832")
        print(report.features, report.bounds, report.dropped)
    """
    target = Path(path)
    with stream_geojson(source, **keywords) as stream:
        with atomic_file(target) as file:
            for chunk in stream.views():
                file.write(chunk)
        report = replace(stream.report, path=target)
    log.info("Exported %s", report)
    return report


class _Digest:
    """SHA-256, computed in its own thread. In the thread that reads, it would take half of that thread's time."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export-digest")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> _Digest:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def update(self, chunk: memoryview) -> None:
        """Add bytes that do not change any more."""
        if len(self._pending) >= _MAX_PENDING_DIGESTS:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._sha256.update, chunk))

    def hexdigest(self) -> str:
        while self._pending:
            self._pending.popleft().result()
        return self._sha256.hexdigest()


def _chunks(
    encode: Callable[..., Iterator[Encoded]],
    options: Options,
    selection: Selection,
    limit_bytes: int | None,
    extra: bytes | None,
    area_zooms: AreaZooms,
) -> _Chunks:
    """
    Yield the chunks of an export, and then its report.

    :param encode: encodes the source's features; its argument is the string at the start of each feature.
    :param extra: None for a FeatureCollection; for lines, members for each feature.
    :param area_zooms: the zooms whose tiles are collected.
    """
    frame = _COLLECTION if extra is None else _Frame(b"", "\n" + '{"type":"Feature",' + extra.decode(), b"\n")
    counts, size = Counts(), 0

    def counted(chunk: bytes | memoryview) -> memoryview:
        nonlocal size
        size += len(chunk)
        if limit_bytes is not None and size > limit_bytes:
            raise TooLargeError(_too_large(counts, limit_bytes))
        view = memoryview(chunk)
        digest.update(view)
        return view

    features = encode(frame.opening, area_zooms=area_zooms)
    with closing(features), _Digest() as digest:  # type: ignore[type-var]
        if frame.head:
            yield counted(frame.head)
        for strings, batch_counts in features:
            # Before the first feature there is no comma, or no line break.
            data = string_bytes(strings)[0 if counts.written or not batch_counts.written else 1 :]
            counts.add(batch_counts)
            for start in range(0, len(data), CHUNK_BYTES):
                yield counted(data[start : start + CHUNK_BYTES])
        if not counts.written:
            raise EmptyExportError(_nothing_to_write(counts, selection))
        yield counted(frame.tail + (_end_of_collection(counts, options) if frame.head else b""))
        for warning in transformation_warnings(counts, options):
            log.warning("%s", warning)
        # The features of a tileset have no bill of their own: it is that of the tiles.
        bill = geojson_bill(counts, size) if frame.head else Bill(None)
        report = export_report(counts, options, size=size, sha256=digest.hexdigest(), crs_to=CRS84, bill=bill)
        yield _End(report, counts.cover)


def _too_large(counts: Counts, limit_bytes: int) -> str:
    whose = "Mapbox's limit" if limit_bytes == GEOJSON_BYTES else "the limit of limit_bytes="
    return (
        f"The GeoJSON is over {limit_bytes:,} bytes, {whose}, after {counts.written:,} features of {counts.read:,} "
        'read.\nMake vector tiles of the data (airflow_mapbox.export.write_mbtiles, or format="mbtiles" of an '
        "upload), or write fewer features, attributes or decimals."
    )


def _nothing_to_write(counts: Counts, selection: Selection) -> str:
    dropped = ", ".join(f"{count} ({reason})" for reason, count in counts.dropped.items())
    lines = [
        f"There is no feature to write: {counts.read} were read{f'. Dropped: {dropped}' if dropped else ''}.",
        *data_notes(counts),
        f"Mapbox refuses an empty file: check {selection.filter_text() or 'the query or filter of the data'}.",
    ]
    return "\n".join(lines)


def string_bytes(strings: pa.Array) -> memoryview:
    """
    Return the bytes of strings, which are contiguous in Arrow's memory, without a copy.

    :param strings: an array of strings.
    """
    _, offsets, data = strings.buffers()
    if data is None:
        return memoryview(b"")
    starts = memoryview(offsets).cast("i")
    return memoryview(data).cast("B")[starts[strings.offset] : starts[strings.offset + len(strings)]]


def _end_of_collection(counts: Counts, options: Options) -> bytes:
    if not options.write_bbox:
        return b"}\n"
    west, south, east, north = counts.bounds
    lowest, highest = counts.heights
    box = (west, south, east, north) if lowest > highest else (west, south, lowest, east, north, highest)
    return b',"bbox":[%s]}\n' % ",".join(map(repr, box)).encode()

"""A FeatureCollection in CRS84, as a stream of bytes or as a file."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Unpack

import pyarrow as pa

from airflow_mapbox.errors import OptionError
from airflow_mapbox.export.atomic_file import atomic_file
from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.errors import EmptyExportError, ExportClosedError, TooLargeError
from airflow_mapbox.export.formats import GeoJSONKeywords
from airflow_mapbox.export.geometry.crs import CRS84, parse_crs
from airflow_mapbox.export.options import DEFAULT_DECIMALS, Options, is_whole
from airflow_mapbox.export.pipeline import Encoded, encoded_features
from airflow_mapbox.export.readers import ExportSource
from airflow_mapbox.export.report import ExportReport, data_notes, report_of, transformation_warnings
from airflow_mapbox.export.selection import Selection
from airflow_mapbox.limits import GEOJSON_BYTES, SNIFFED_CHARACTERS

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
_UNDIGESTED = 4  # pieces that wait for their digest

# Mapbox sniffs the format from about the first 400 characters, and an attribute called "objects" or "tilejson" would
# mislead it: the spaces keep every attribute out of them (docs/reference/mapbox-uploads-api.md).
_HEAD = b'{"type":"FeatureCollection","features":[' + b" " * (SNIFFED_CHARACTERS + 112)


class _Frame(NamedTuple):
    """What stands around features: before the first, before each, and after the last."""

    head: bytes
    opening: str
    tail: bytes


_COLLECTION = _Frame(_HEAD, ',\n{"type":"Feature",', b"\n]")


class GeoJSONStream:
    """
    The bytes of a FeatureCollection, made as they are taken: an iterator of pieces of at most a megabyte.

    The source is read in the thread that takes the pieces; others write. Nothing is read before the first piece is
    asked for. An error of the export is raised where it happens, after pieces that are sound, and then each time that
    another one is asked for: who sends them on has to take back what was sent.
    """

    def __init__(self, pieces: Callable[[bytes | None], Iterator[memoryview | ExportReport]]) -> None:
        self._begin = pieces
        self._pieces: Iterator[memoryview | ExportReport] | None = None
        self._report: ExportReport | None = None
        self._closed = self._failed = False

    def __iter__(self) -> GeoJSONStream:
        return self

    def __next__(self) -> bytes:
        piece = self._next()
        if piece is None:
            raise StopIteration
        return bytes(piece)

    def views(self) -> Iterator[memoryview]:
        """Give the pieces as they stand in memory, to be written on without a copy; each keeps its slice there."""
        while (piece := self._next()) is not None:
            yield piece

    def _next(self) -> memoryview | None:
        """Give the next piece, or None at the end."""
        if self._pieces is None and not self._closed:
            self._pieces = self._begin(None)
        try:
            for piece in self._pieces or ():
                if isinstance(piece, memoryview):
                    return piece
                self._report = piece
        except BaseException:
            self._failed = True
            raise
        if self._report is None:
            # An iterator at its end would look as if all had been given.
            raise ExportClosedError(self._why_not())
        return None

    def _why_not(self) -> str:
        if self._failed:
            return "The export failed before its end: take back what was sent of it, mend the error, and export again."
        if self._closed:
            return "The export was closed before its end, so there is no more of it."
        return "The export is not at its end: its report is there when every piece was taken."

    def lines(self, extra: bytes = b"") -> Iterator[bytes]:
        """
        Give the features one a line instead (RFC 8142 without its separators), for programs that read such.

        :param extra: members for each feature, with a comma after each.
        """
        if self._pieces is None and not self._closed:
            self._pieces = self._begin(extra)
        return self

    def __enter__(self) -> GeoJSONStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and let go of the source; harmless at the end, and twice."""
        self._closed = True
        if self._pieces is not None:
            self._pieces.close()  # type: ignore[attr-defined]

    @property
    def report(self) -> ExportReport:
        """
        What was done.

        :raises ExportClosedError: before the last piece was taken, and where the export failed.
        """
        if self._report is None:
            raise ExportClosedError(self._why_not())
        return self._report


def stream_geojson(
    source: ExportSource,
    *,
    crs: object = None,
    decimals: int = DEFAULT_DECIMALS,
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
    Give geodata as the bytes of a GeoJSON FeatureCollection in longitude, latitude on WGS 84 (RFC 7946, section 4).

    Memory is bounded by a few slices of two megabytes a thread, whatever the size of the source; of frames, one is held
    at a time.

    :param source: a GeoDataFrame, an iterable of them, or the path or URL of geodata.
    :param crs: the reference system of data that does not name its own, as pyproj takes it.
    :param decimals: kept of each coordinate; seven of a degree are about a centimetre (RFC 7946, section 11.2).
    :param z: whether heights are kept, as they are in the source, or dropped. M is always dropped.
    :param on_invalid: whether invalid polygons are repaired, left out and counted, or an error.
    :param beyond_mercator: whether what lies beyond ±85.0511 degrees of latitude, where Mapbox's map ends, is cut off,
        counted and noted, or an error. Beyond ±90 it is an error in any case.
    :param antimeridian: whether what crosses ±180 degrees of longitude is cut there (RFC 7946, section 3.1.9).
    :param max_segment: metres; longer edges in a projected system get vertices between.
    :param accuracy_warning: metres; a transformation that may be further off is warned of.
    :param write_bbox: whether features and the collection get a ``bbox`` (RFC 7946, section 5), which has heights too
        where a feature has any, and in the collection's where any feature has.
    :param as_text: columns of numbers to write as text, such as ids longer than 2^53; of an iterable of frames, each in
        one of them at least.
    :param layer: of a file that has several, by name or number.
    :param where: a condition on attributes, in OGR's SQL.
    :param columns: attributes to write, by name.
    :param bbox: west, south, east, north in the source's own system, to read features from.
    :param x: the column of longitudes or eastings, for CSV.
    :param y: the column of latitudes or northings, for CSV.
    :param id_attribute: the attribute to write the ids of GeoJSON's features to, which are not written otherwise.
    :param batch_rows: features in a slice, at most, where a megabyte of them is too many.
    :param threads: that write features, beside the one that reads; None for as many as the process may use cores, by
        its affinity and its container's quota, up to 16. The bytes are the same for any number.
    :param limit_bytes: the most that Mapbox takes as GeoJSON (docs/reference/mapbox-uploads-api.md); None for no limit.
    :return: an iterator of pieces, with the report at its end.
    :raises ValueError: for a choice that there is not.
    :raises UnknownCrsError: where PROJ does not know ``crs``.

    While pieces are taken:

    :raises MissingCrsError: where nobody says which reference system the data is in.
    :raises CoordinatesError: for coordinates that are not finite or that no map shows.
    :raises InvalidGeometryError: with ``on_invalid="error"``.
    :raises TooLargeError: when there is more than ``limit_bytes``.
    :raises EmptyExportError: where there is no feature to write.
    :raises ExportError: for a source, column or value that cannot be written; the message names it.
    """
    if batch_rows is not None and not (is_whole(batch_rows) and batch_rows >= 1):
        raise OptionError(f"batch_rows={batch_rows!r}: a slice has at least one row.")
    if threads is not None and not (is_whole(threads) and threads >= 1):
        raise OptionError(f"threads={threads!r}: it is a number of threads from 1 on, or None for one for each core.")
    if limit_bytes is not None and not (is_whole(limit_bytes) and limit_bytes >= 1):
        raise OptionError(f"limit_bytes={limit_bytes!r}: it is a number of bytes, or None for no limit.")
    options = Options(
        decimals=decimals,
        z=z,
        on_invalid=on_invalid,
        beyond_mercator=beyond_mercator,
        antimeridian=antimeridian,
        max_segment=max_segment,
        accuracy_warning=accuracy_warning,
        write_bbox=write_bbox,
        as_text=as_text,
    )
    given = None if crs is None else parse_crs(crs)
    selection = Selection(layer, where, columns, bbox, x, y, id_attribute)

    def pieces(extra: bytes | None) -> Iterator[memoryview | ExportReport]:
        frame = _COLLECTION if extra is None else _Frame(b"", "\n" + '{"type":"Feature",' + extra.decode(), b"\n")
        features = encoded_features(
            source,
            crs=given,
            options=options,
            selection=selection,
            batch_rows=batch_rows,
            threads=threads,
            opening=frame.opening,
        )
        return _pieces(features, frame, options, selection, limit_bytes)

    return GeoJSONStream(pieces)


def write_geojson(source: ExportSource, path: str | PathLike[str], **keywords: Unpack[GeoJSONKeywords]) -> ExportReport:
    """
    Write geodata as a GeoJSON file in longitude, latitude on WGS 84 (RFC 7946, section 4).

    The file appears under its name when it is whole, or not at all.

    :param source: as :func:`stream_geojson` takes it.
    :param path: the file to write; folders above it are made, and a file of that name is replaced.
    :param keywords: those of :func:`stream_geojson`.
    :return: what was done, also logged in one line.
    :raises ExportError: as :func:`stream_geojson` does.
    """
    target = Path(path)
    with stream_geojson(source, **keywords) as stream:
        with atomic_file(target) as file:
            for piece in stream.views():
                file.write(piece)
        report = replace(stream.report, path=target)
    log.info("Exported %s", report)
    return report


class _Digest:
    """SHA-256 in a thread of its own: computed by the thread that reads, it would take half of that one's time."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export-digest")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> _Digest:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def update(self, piece: memoryview) -> None:
        """Add bytes that do not change any more."""
        if len(self._pending) >= _UNDIGESTED:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._sha256.update, piece))

    def hexdigest(self) -> str:
        while self._pending:
            self._pending.popleft().result()
        return self._sha256.hexdigest()


def _pieces(
    features: Iterator[Encoded], frame: _Frame, options: Options, selection: Selection, limit: int | None
) -> Iterator[memoryview | ExportReport]:
    counts, size = Counts(), 0

    def counted(piece: bytes | memoryview) -> memoryview:
        nonlocal size
        size += len(piece)
        if limit is not None and size > limit:
            whose = "the most that Mapbox takes" if limit == GEOJSON_BYTES else "the limit given"
            raise TooLargeError(
                f"The GeoJSON is over {limit:,} bytes, {whose}, after {counts.written:,} features of {counts.read:,} "
                'read.\nMake vector tiles of the data (airflow_mapbox.export.write_mbtiles, or format="mbtiles" of an '
                "upload), or write fewer features, attributes or decimals."
            )
        view = memoryview(piece)
        digest.update(view)
        return view

    with closing(features), _Digest() as digest:  # type: ignore[type-var]
        if frame.head:
            yield counted(frame.head)
        for texts, added in features:
            text = text_bytes(texts)[0 if counts.written or not added.written else 1 :]
            counts.add(added)
            for start in range(0, len(text), CHUNK_BYTES):
                yield counted(text[start : start + CHUNK_BYTES])
        if not counts.written:
            raise EmptyExportError(_nothing_left(counts, selection))
        yield counted(frame.tail + (_closing(counts, options) if frame.head else b""))
        for warning in transformation_warnings(counts, options):
            log.warning("%s", warning)
        yield report_of(counts, options, size=size, sha256=digest.hexdigest(), crs_to=CRS84)


def _nothing_left(counts: Counts, selection: Selection) -> str:
    dropped = ", ".join(f"{count} ({reason})" for reason, count in counts.dropped.items())
    lines = [
        f"There is no feature to write: {counts.read} were read"
        f"{f', of which were dropped: {dropped}' if dropped else ''}.",
        *data_notes(counts),
        f"Mapbox refuses an empty file: check {selection.condition() or 'the query or filter that chose the data'}.",
    ]
    return "\n".join(lines)


def text_bytes(texts: pa.Array) -> memoryview:
    """
    Give the bytes of texts, which stand one after another in memory.

    :param texts: an array of strings.
    """
    _, offsets, data = texts.buffers()
    if data is None:
        return memoryview(b"")
    places = memoryview(offsets).cast("i")
    return memoryview(data).cast("B")[places[texts.offset] : places[texts.offset + len(texts)]]


def _closing(counts: Counts, options: Options) -> bytes:
    if not options.write_bbox:
        return b"}\n"
    west, south, east, north = counts.bounds
    lowest, highest = counts.heights
    box = (west, south, east, north) if lowest > highest else (west, south, lowest, east, north, highest)
    return b',"bbox":[%s]}\n' % ",".join(map(repr, box)).encode()

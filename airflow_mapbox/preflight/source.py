"""Check one file: its format, its size, and as much of its content as is cheap to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight import formats, geojson, shapefile, sniff, table, truncation
from airflow_mapbox.preflight.foreign import foreign_format
from airflow_mapbox.preflight.mbtiles import check_mbtiles
from airflow_mapbox.preflight.problems import EXPORT, WRITER, Problem
from airflow_mapbox.preflight.text import check_text, without_cut_character
from airflow_mapbox.sources.resolve import SourceLike, open_source
from airflow_mapbox.sources.source import Source

# Read from the beginning, and from the end of a local file.
_PART_BYTES = 64 * 1024
# Parsing takes 13 to 25 times the file's size in memory, which is 400 MB for 16 MiB.
_MAX_WHOLE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class SourceReport:
    """
    The result of a check.

    :param description: the file or URL.
    :param format: the format that Mapbox would recognise, or None.
    :param bytes: the size in bytes, or None if it is unknown before the source is read.
    :param problems: each reason for Mapbox to refuse the file, the most useful first. Each has two lines: the file's
        name with the problem, and the remedy. Empty if Mapbox should accept the file.
    :param limit: Mapbox's limit for this format in bytes, or None.
    :param warnings: probable mistakes that Mapbox is not known to refuse, in the same form.
    """

    description: str
    format: str | None
    bytes: int | None
    problems: tuple[str, ...]
    limit: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the file has no problems. It may have warnings."""
        return not self.problems

    def raise_for_problems(self) -> None:
        """
        Raise an error if the file has problems.

        :raises SourceError: with all problems, each on its own line and followed by its remedy.
        """
        if self.problems:
            raise SourceError("\n".join((f"{self.description} was not sent.", *self.problems)))


def check_source(source: SourceLike | Source) -> SourceReport:
    """
    Check a source for what Mapbox would refuse.

    Files of at most 64 KiB, and local GeoJSON files of at most 16 MiB, are read completely. Of other files, the first
    64 KiB are read. Of local files, the last 64 KiB are read, too. In local files, the schema of a database and the
    checksums in a zip are checked.

    :param source: a local path, an ``https://`` URL, an ``ObjectStoragePath``, or an open source.
    :raises SourceError: if the source does not exist or cannot be read.
    """
    if not isinstance(source, Source):
        with open_source(source) as opened:
            return check_source(opened)
    head = source.head(_PART_BYTES)
    source_format = sniff.sniff(head)
    if source_format is None and sniff.mistaken_for(head):
        source_format = formats.GEOJSON  # its check explains the mistake
    problems = tuple(_problems(source, head, source_format))
    name = source.description.rsplit("/", 1)[-1] or source.description
    return SourceReport(
        source.description,
        source_format.name if source_format else None,
        source.size,
        tuple(problem.text(name) for problem in problems if problem.refused),
        source_format.limit if source_format else None,
        tuple(problem.text(name) for problem in problems if not problem.refused),
    )


def _problems(source: Source, head: bytes, source_format: formats.Format | None) -> Iterator[Problem]:
    if not head:
        yield Problem("is empty (0 bytes).", WRITER)
        return
    if problem := foreign_format(head):
        yield problem
        return
    if len(head) < sniff.MIN_BYTES:
        yield Problem(f"has {len(head)} bytes, too few for any format.", WRITER)
        return
    is_whole = len(head) < _PART_BYTES and source.size in (None, len(head))
    if source_format in formats.TEXTS and (problem := check_text(head, is_whole=is_whole)):
        yield problem
        return
    format_of_name = formats.format_of_suffix(source.suffix)
    if source_format is None:
        yield _unknown_format(head, format_of_name)
        return
    if format_of_name not in (None, source_format):
        yield Problem(
            f"{_should_be(format_of_name)}begins with {_start(head)}: Mapbox reads it as {source_format.name}.",
            f"If its content really is {source_format.name}, rename the file. {WRITER}",
        )
    yield from _check_content(source, head, source_format, is_whole=is_whole)
    if source.size is not None and source.size > source_format.limit:
        yield Problem(
            f"has {source.size:,} bytes. Mapbox's limit for {source_format.name} is {source_format.limit:,}.",
            f"Send fewer features or attributes, or make vector tiles (MBTiles). {EXPORT}",
        )


def _unknown_format(head: bytes, format_of_name: formats.Format | None) -> Problem:
    if sniff.is_json(head):
        return geojson.describe_unknown(head)
    accepted = ", ".join(accepted.name for accepted in formats.FORMATS)
    return Problem(
        f"{_should_be(format_of_name)}begins with {_start(head)}, which is not a format that Mapbox accepts "
        f"({accepted}).",
        _REMEDIES.get(format_of_name, f"{WRITER} Other geodata: {EXPORT[0].lower()}{EXPORT[1:]}"),
    )


def _should_be(format_of_name: formats.Format | None) -> str:
    return "" if format_of_name is None else f"should be {format_of_name.name} by its name, but "


_REMEDIES: dict[formats.Format | None, str] = {
    formats.CSV: (
        "Name columns lon and lat (or x and y, or …longitude… and …latitude…), or name a column exactly wkt, geom, "
        "geometry or geojson, within the first 512 bytes. Write no byte order mark (encoding='utf-8', not 'utf-8-sig') "
        "and names without spaces around them."
    ),
    formats.KML: "Begin the file with <?xml, and have <kml in the first 100 characters.",
    formats.GPX: "Begin the file with <?xml, and have <gpx in the first 100 characters.",
}


def _check_content(source: Source, head: bytes, source_format: formats.Format, *, is_whole: bool) -> Iterator[Problem]:
    path, size = source.path, source.size
    if source_format is formats.GEOJSON:
        yield from _check_geojson(source, head, is_whole=is_whole)
    elif source_format is formats.CSV:
        yield from table.check_rows(head, is_whole=is_whole)
        if path is not None and not is_whole and (problem := check_text(_tail_text(path), is_whole=True)):
            yield problem
    elif source_format is formats.TIFF:
        yield from truncation.check_tiff(head, size)
    elif source_format in (formats.KML, formats.GPX) and (path is not None or is_whole):
        yield from truncation.check_closed(_tail(path) if path is not None else head, source_format)
    elif source_format is formats.SHAPEFILE and path is not None:
        yield from shapefile.check_archive(path)
    elif source_format is formats.MBTILES and path is not None and size is not None:
        yield from check_mbtiles(path, head, size)


def _check_geojson(source: Source, head: bytes, *, is_whole: bool) -> Iterator[Problem]:
    path = source.path
    if is_whole:
        yield from geojson.check_whole(head)
    elif path is not None and source.size is not None and source.size <= _MAX_WHOLE_BYTES:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{source.description} can no longer be read: {error.strerror}.") from None
        yield from geojson.check_whole(data)
    else:
        problems = list(geojson.check_beginning(head))
        if path is not None:
            tail = _tail_text(path)
            text_problem = check_text(tail, is_whole=True)
            problems += [text_problem] if text_problem else geojson.check_end(tail)
        # Both checks may report the same reference system.
        yield from dict.fromkeys(problems)


def _tail_text(path: Path) -> bytes:
    return without_cut_character(_tail(path))


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _PART_BYTES))
            return stream.read(_PART_BYTES)
    except OSError as error:
        raise SourceError(f"{path} can no longer be read: {error.strerror}.") from None


def _start(head: bytes) -> str:
    return repr(head[:40].decode("utf-8", "replace"))

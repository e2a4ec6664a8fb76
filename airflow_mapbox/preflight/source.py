"""Checks one file: that it is of a format that Mapbox takes, not too large, and sound as far as it is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight import endings, formats, geojson, shapefile, sniff, table
from airflow_mapbox.preflight.foreign import foreign_format
from airflow_mapbox.preflight.mbtiles import check_mbtiles
from airflow_mapbox.preflight.problems import EXPORT, WRITER, Problem
from airflow_mapbox.preflight.text import check_text, trimmed
from airflow_mapbox.sources.source import Source, SourceLike, open_source

_PART = 64 * 1024  # bytes of the head, and of the tail of a local file
# Decoding takes 13 to 25 times the bytes in memory, so 16 MiB keep it at 400 MB.
_READ_WHOLE = 16 * 2**20


@dataclass(frozen=True)
class SourceReport:
    """
    What was found out about a source.

    :param description: the file or URL.
    :param format: what Mapbox would recognise it as, or None.
    :param bytes: its size, or None where that is not known before reading.
    :param problems: what Mapbox would refuse: the file's name and what is wrong on one line, what to do on the next;
        the most useful first. Empty where Mapbox is expected to take it.
    :param limit: the most bytes that Mapbox takes of this format, or None.
    :param warnings: in the same form, what Mapbox is not known to refuse and is probably a mistake.
    """

    description: str
    format: str | None
    bytes: int | None
    problems: tuple[str, ...]
    limit: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that Mapbox would refuse."""
        return not self.problems

    def raise_for_problems(self) -> None:
        """
        Raise if there is a problem.

        :raises SourceError: with all problems, each on a line of its own and its remedy below.
        """
        if self.problems:
            raise SourceError("\n".join((f"Nothing was sent of {self.description}.", *self.problems)))


def check_source(source: SourceLike | Source) -> SourceReport:
    """
    Check a source for what Mapbox would refuse.

    A file of at most 64 KiB, and a local GeoJSON file of at most 16 MiB, is read whole. Of anything else the first 64
    KiB are looked at; of a local file also the last 64 KiB, a database's schema, and the checksums in a zip.

    :param source: a local path, an ``https://`` URL, an ``ObjectStoragePath``, or an opened source.
    :raises SourceError: where it does not exist or cannot be read.
    """
    if not isinstance(source, Source):
        with open_source(source) as opened:
            return check_source(opened)
    head = source.head(_PART)
    found = sniff.sniff(head)
    if found is None and sniff.mistaken_for(head):
        found = formats.GEOJSON  # which it was meant to be
    problems = tuple(_problems(source, head, found))
    name = source.description.rsplit("/", 1)[-1] or source.description
    return SourceReport(
        source.description,
        found.name if found else None,
        source.size,
        tuple(problem.text(name) for problem in problems if problem.refused),
        found.limit if found else None,
        tuple(problem.text(name) for problem in problems if not problem.refused),
    )


def _problems(source: Source, head: bytes, found: formats.Format | None) -> Iterator[Problem]:
    if not head:
        yield Problem("is empty (0 bytes).", WRITER)
        return
    if foreign := foreign_format(head):
        yield foreign
        return
    if len(head) < sniff.LEAST_BYTES:
        yield Problem(f"has {len(head)} bytes, too few for any format.", WRITER)
        return
    is_whole = len(head) < _PART and source.size in (None, len(head))
    is_text = found is None or found in formats.TEXTS
    if found is not None and is_text and (broken := check_text(head, is_whole=is_whole)):
        yield broken
        return
    promised = formats.format_of_suffix(source.suffix)
    if found is None:
        yield _unknown(head, promised)
        return
    if promised is not None and promised is not found:
        yield Problem(
            f"should be {promised.name} by its name, but begins with {_start(head)}: Mapbox reads it as {found.name}.",
            f"Rename it if that is what it is. {WRITER}",
        )
    yield from _content(source, head, found, is_whole=is_whole)
    if source.size is not None and source.size > found.limit:
        yield Problem(
            f"has {source.size:,} bytes; Mapbox takes {found.name} of at most {found.limit:,}.",
            f"Send fewer features or attributes, or make vector tiles of it (MBTiles). {EXPORT}",
        )


def _unknown(head: bytes, promised: formats.Format | None) -> Problem:
    if sniff.is_json(head):
        return geojson.describe_unknown(head)
    should = f"should be {promised.name} by its name, but " if promised is not None else ""
    known = ", ".join(known.name for known in formats.FORMATS)
    return Problem(
        f"{should}begins with {_start(head)}, and so is of no format that Mapbox takes ({known}).",
        _REMEDIES.get(promised, f"{WRITER} Other geodata: {EXPORT[0].lower()}{EXPORT[1:]}"),
    )


_REMEDIES: dict[formats.Format | None, str] = {
    formats.CSV: (
        "Mapbox looks for the columns lon and lat (x and y, or …longitude… and …latitude…), or one called exactly wkt, "
        "geom, geometry or geojson, in the first 512 bytes: without a byte order mark (encoding='utf-8', not "
        "'utf-8-sig') and without spaces around names."
    ),
    formats.KML: "Mapbox looks for <?xml at the very beginning and for <kml in the first 100 characters.",
    formats.GPX: "Mapbox looks for <?xml at the very beginning and for <gpx in the first 100 characters.",
}


def _content(source: Source, head: bytes, found: formats.Format, *, is_whole: bool) -> Iterator[Problem]:
    """Check what is in a file of a known format."""
    path, size = source.path, source.size
    if found is formats.GEOJSON:
        yield from _geojson(source, head, is_whole=is_whole)
    elif found is formats.CSV:
        yield from table.check_rows(head, is_whole=is_whole)
        if path is not None and not is_whole and (broken := check_text(trimmed(_tail(path)), is_whole=True)):
            yield broken
    elif found is formats.TIFF:
        yield from endings.check_tiff(head, size)
    elif found in (formats.KML, formats.GPX) and (path is not None or is_whole):
        yield from endings.check_closed(_tail(path) if path is not None else head, found)
    elif found is formats.SHAPEFILE and path is not None:
        yield from shapefile.check_archive(path)
    elif found is formats.MBTILES and path is not None and size is not None:
        yield from check_mbtiles(path, head, size)


def _geojson(source: Source, head: bytes, *, is_whole: bool) -> Iterator[Problem]:
    path = source.path
    if is_whole:
        yield from geojson.check_whole(head)
    elif path is not None and source.size is not None and source.size <= _READ_WHOLE:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{source.description} can no longer be read: {error.strerror}.") from None
        yield from geojson.check_whole(data)
    else:
        found = list(geojson.check_beginning(head))
        if path is not None:
            tail = trimmed(_tail(path))
            broken = check_text(tail, is_whole=True)
            found += [broken] if broken else geojson.check_end(tail)
        # The beginning and the end say the same of a reference system.
        yield from dict.fromkeys(found)


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _PART))
            return stream.read(_PART)
    except OSError as error:
        raise SourceError(f"{path} can no longer be read: {error.strerror}.") from None


def _start(head: bytes) -> str:
    return repr(head[:40].decode("utf-8", "replace"))

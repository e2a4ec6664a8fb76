"""Checks one file as a whole: that it is there, of a format that Mapbox takes, not too large, and sound inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_mapbox.preflight import formats, geojson, shapefile
from airflow_mapbox.uploads.errors import SourceError
from airflow_mapbox.uploads.sources import Source, SourceLike, open_source

_HEAD = 64 * 1024
# Decoding takes 13 to 25 times the bytes in memory, so 16 MiB keep it at 400 MB. Larger files and streams are judged by
# their head.
_READ_WHOLE = 16 * 2**20


@dataclass(frozen=True)
class SourceReport:
    """
    What was found out about a source.

    :param description: the file or URL.
    :param format: what it was recognised as, or None.
    :param bytes: its size, or None where that is not known before reading.
    :param problems: whole sentences, each naming the file and what to do; empty where Mapbox is expected to take it.
    :param limit: the most bytes that Mapbox takes of this format, or None.
    """

    description: str
    format: str | None
    bytes: int | None
    problems: tuple[str, ...]
    limit: int | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was found that Mapbox would refuse."""
        return not self.problems

    def raise_for_problems(self) -> None:
        """
        Stop where there is a problem.

        :raises SourceError: with all problems in one message.
        """
        if self.problems:
            raise SourceError("Nothing was sent. " + " ".join(self.problems))


def check_source(source: SourceLike | Source) -> SourceReport:
    """
    Say what Mapbox would refuse in a source.

    A local GeoJSON file of at most 16 MiB is read whole; of anything else the first 64 KiB are looked at.

    :param source: a local path, an ``https://`` URL, an ``ObjectStoragePath``, or an opened source.
    :raises SourceError: where it does not exist or cannot be read.
    """
    if not isinstance(source, Source):
        with open_source(source) as opened:
            return check_source(opened)
    opened = source
    head = opened.head(_HEAD)
    found = formats.format_of_content(head)
    problems = tuple(f"{opened.description} {problem}" for problem in _problems(opened, head, found))
    if found is None:
        return SourceReport(opened.description, None, opened.size, problems)
    return SourceReport(opened.description, found.name, opened.size, problems, found.limit)


def _problems(source: Source, head: bytes, found: formats.Format | None) -> Iterator[str]:
    if not head:
        yield "is empty (0 bytes): look at the task that wrote it."
        return
    if head.startswith(b"\x1f\x8b"):
        yield "is compressed with gzip, which Mapbox refuses: send it unpacked."
        return
    if head[68:72] == b"GPKG":
        yield (
            'is a GeoPackage, which Mapbox does not take: upload it with format="auto" (on the command line --format '
            "auto), or write its features with airflow_mapbox.export.write_geojson."
        )
        return
    if source.suffix == ".shp":
        yield "is one file of a shapefile: send one .zip that holds its .shp, .dbf, .shx and .prj."
        return
    promised = formats.format_of_suffix(source.suffix)
    if promised is not None and found is not promised:
        start = head[:40].decode("utf-8", "replace")
        yield f"should be {promised.name} by its name, but starts with {start!r}: look at the task that wrote it."
        if found is None:
            return
    if found is None:
        known = ", ".join(known.name for known in formats.FORMATS)
        yield f"is of no format that Mapbox takes ({known})."
        return
    if source.size is not None and source.size > found.limit:
        yield (
            f"has {source.size:,} bytes; Mapbox takes {found.name} of at most {found.limit:,}. Send fewer features or "
            "attributes, or make vector tiles of it (MBTiles)."
        )
    if found is formats.GEOJSON:
        yield from _geojson_problems(source, head)
    if found is formats.SHAPEFILE and source.path is not None:
        yield from shapefile.check_archive(source.path)


def _geojson_problems(source: Source, head: bytes) -> Iterator[str]:
    if source.path is None or source.size is None or source.size > _READ_WHOLE:
        yield from geojson.check_head(head)
        return
    try:
        data = source.path.read_bytes()
    except OSError as error:
        raise SourceError(f"{source.description} can no longer be read: {error.strerror}.") from None
    # The document names its `crs` wherever it stands, so the head's own look at it would only say it twice.
    document = tuple(geojson.check_document(data))
    yield from (problem for problem in geojson.check_head(head) if problem not in document)
    yield from document

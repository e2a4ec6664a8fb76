"""Check one source: its format, its size, and its content."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.errors import InvalidTilesetError, SourceUnavailableError
from airflow_mapbox.limits import DISPLAY_NAME_CHARACTERS
from airflow_mapbox.names import check_display_name, check_tileset_part
from airflow_mapbox.preflight import formats, geojson, sniff
from airflow_mapbox.preflight.bill import bill_of
from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.preflight.foreign import foreign_format
from airflow_mapbox.preflight.mbtiles import check_mbtiles, check_mbtiles_header
from airflow_mapbox.preflight.passing import CheckedStream, PassingCheck, passing_check
from airflow_mapbox.preflight.report import SourceReport
from airflow_mapbox.preflight.savings import sampled_savings
from airflow_mapbox.preflight.shapefile import check_archive
from airflow_mapbox.preflight.text import check_text, without_cut_character
from airflow_mapbox.preflight.tiff import check_tiff
from airflow_mapbox.preflight.units import pretty_bytes
from airflow_mapbox.preflight.xmlfeatures import NOT_OPENED
from airflow_mapbox.rules import csv as csv_rules
from airflow_mapbox.rules import files as rules
from airflow_mapbox.rules import xml as xml_rules
from airflow_mapbox.rules.remedies import WRITER
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.sources.identity import is_dataset_url
from airflow_mapbox.sources.ranges import HeadRanges
from airflow_mapbox.sources.resolve import SourceLike, open_source
from airflow_mapbox.sources.source import Source
from airflow_mapbox.sources.streams import ByteStream

# Read from the beginning of every source, and from the end of a remote text.
_PART_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_CLOSING = {formats.KML: re.compile(rb"</(?:\w+:)?kml\s*>"), formats.GPX: re.compile(rb"</(?:\w+:)?gpx\s*>")}


def check_source(
    source: SourceLike | Source,
    *,
    tileset: str | None = None,
    name: str | None = None,
    all_tiles: bool = False,
    area: bool = False,
) -> SourceReport:
    """
    Check a source for what Mapbox would refuse.

    A local file is read completely, except for the pixels of a TIFF and most of the tiles of MBTiles. Only the parts of
    a remote file that the rules need are read, by ranges. Only the beginning of a stream is read.

    :param source: a local path, an ``https://`` URL, an ``ObjectStoragePath``, an open source, or
        ``mapbox://datasets/{user}/{id}``.
    :param tileset: ``name`` or ``account.name``, to check by Mapbox's rules for names.
    :param name: the display name, to check by the same rules.
    :param all_tiles: check every tile of MBTiles, instead of a sample.
    :param area: also measure the area for the bill of older accounts. This reads a local file a second time.
    :return: the report, with all problems and warnings. docs/reference/refusals.md lists the rules with their sources.
    :raises SourceError: if the source does not exist or cannot be read.

    Example::

        report = check_source("parcels.geojson", tileset="parcels")
        for problem in report.problems:
            print(problem.name, problem.where, problem)
        report.raise_for_problems()
    """
    if isinstance(source, str) and source.startswith("mapbox://"):
        refuse_secrets(source)
        report = SourceReport(source, "dataset", None, None, None, (), (), (), Bill(None), tileset=tileset, name=name)
        return _with_findings(report, [*_check_names(tileset, name), *_check_dataset_url(source)])
    if not isinstance(source, Source):
        with open_source(source) as opened:
            return check_source(opened, tileset=tileset, name=name, all_tiles=all_tiles, area=area)
    head = source.head(_PART_BYTES)
    source_format = _recognise(head)
    content = Content()
    found = [*_check_names(tileset, name), *_check_head(source, head, source_format)]
    is_complete = False
    if source_format is not None and not any(one.refused for one in found if one.rule is not rules.NAME):
        of_content, is_complete = _check_content(source, head, source_format, content, all_tiles=all_tiles)
        found += of_content
    if source_format is not None and source_format is not formats.SHAPEFILE:
        found += _check_size(source, source_format)
    report = SourceReport(
        description=source.description,
        format=source_format.name if source_format else None,
        bytes=source.size,
        limit=source_format.limit if source_format else None,
        counted_bytes=source.size if content.counted_bytes is None else content.counted_bytes,
        problems=(),
        warnings=(),
        notes=tuple(content.notes),
        layers=content.layers,
        features=content.features,
        bounds=content.bounds,
        minzoom=content.minzoom,
        maxzoom=content.maxzoom,
        bill=bill_of(source_format, source.size, content, source.path, area=area),
        tileset=tileset,
        name=name,
        is_complete=is_complete and not content.notes,
    )
    return _with_findings(report, found)


def check_while_sent(source: Source, report: SourceReport, tell: Callable[[SourceReport], None]) -> bool:
    """
    Have a source checked while it is sent, if the report could not check all of it.

    :param source: the source. The stream that it opens next raises SourceError at its end if Mapbox would refuse it.
    :param report: the report of :func:`check_source`.
    :param tell: called with the report of the whole source, before an error is raised.
    :return: whether it will be checked. Its facts then have what was learnt.
    """
    source_format = next((one for one in formats.TEXTS if one.name == report.format), None)
    # An export has checked its own features, and a local file was read.
    if source_format is None or report.is_complete or source.path is not None or source.checksum is not None:
        return False

    content = Content(savings=report.bill.savings)

    def checked(stream: ByteStream) -> ByteStream:
        check = passing_check(source_format, content)
        return stream if check is None else CheckedStream(stream, check, refuse)

    def refuse(found: list[Finding], size: int) -> None:
        bill = bill_of(source_format, size, content, None, area=False)
        notes = tuple(content.notes)
        whole = replace(report, bytes=size, features=content.features, bounds=content.bounds, bill=bill, notes=notes)
        whole = _with_findings(replace(whole, is_complete=not notes), found)
        tell(whole)
        whole.raise_for_problems()
        known = source.facts.get("bill") or {}
        source.facts.update(whole.source_facts())
        if known.get("area_km2") is not None:
            source.facts["bill"] = known  # of the export that wrote the file

    source.wrap_stream(checked)
    return True


def _with_findings(report: SourceReport, found: list[Finding]) -> SourceReport:
    file = report.description.rsplit("/", 1)[-1] or report.description
    named = [replace(one, file=file) for one in dict.fromkeys(found)]
    problems, warnings = (tuple(one for one in named if one.refused is refused) for refused in (True, False))
    return replace(report, problems=problems, warnings=warnings)


def _recognise(head: bytes) -> formats.Format | None:
    """Return the format whose check explains the file best: JSON that Mapbox does not recognise is GeoJSON here."""
    foreign = foreign_format(head)
    if foreign is not None and foreign.rule is rules.UNKNOWN_FORMAT:
        # A GeoPackage begins as MBTiles do.
        return None
    recognised = sniff.sniff(head)
    return formats.GEOJSON if recognised is None and sniff.is_json(head) else recognised


# --- Names ---


def _check_names(tileset: str | None, name: str | None) -> Iterator[Finding]:
    checks: list[tuple[str, Callable[[], None]]] = []
    if tileset is not None:
        account, dot, own = tileset.rpartition(".")
        checks.append(("tileset", lambda: check_tileset_part(own, "name")))
        if dot:
            checks.append(("tileset", lambda: check_tileset_part(account, "account")))
    checks.append(("name", lambda: check_display_name(name)))
    for where, check in checks:
        try:
            check()
        except InvalidTilesetError as error:
            what, _, remedy = str(error).partition("\n")
            yield finding(rules.NAME, f"cannot be uploaded under this name: {what}", where=where, remedy=remedy)
    units = 0 if name is None else len(name.encode("utf-16-le", "surrogatepass")) // 2
    if name is not None and len(name) <= DISPLAY_NAME_CHARACTERS < units:
        what = f"has the display name {name!r}, which has {units} UTF-16 code units."
        yield finding(rules.NAME_LENGTH, what, where="name")


def _check_dataset_url(url: str) -> Iterator[Finding]:
    if not is_dataset_url(url):
        yield finding(rules.DATASET_URL, "is not the URL of a dataset.", where="source")


# --- The beginning, and the size ---


def _check_head(source: Source, head: bytes, source_format: formats.Format | None) -> Iterator[Finding]:
    if not head:
        yield finding(rules.EMPTY, "is empty (0 bytes).")
        return
    if found := foreign_format(head):
        yield found
        return
    if len(head) < sniff.MIN_BYTES:
        yield finding(rules.TOO_SMALL, f"has {len(head)} bytes, too few for any format.")
        return
    format_of_name = formats.format_of_suffix(source.suffix)
    is_whole = len(head) < _PART_BYTES and source.size in (None, len(head))
    if source_format in formats.TEXTS and (found := check_text(head, is_whole=is_whole)):
        yield found
    elif source_format is None:
        yield _unknown_format(head, format_of_name)
    elif format_of_name not in (None, source_format) and not _is_other_json(source_format, head):
        yield finding(
            rules.OTHER_FORMAT,
            f"{_should_be(format_of_name)}begins with {_start(head)}: Mapbox reads it as {source_format.name}.",
            remedy=f"If its content really is {source_format.name}, rename the file. {WRITER}",
        )


def _is_other_json(source_format: formats.Format, head: bytes) -> bool:
    """Return whether JSON is probably no GeoJSON at all, so that its name does not matter."""
    return source_format is formats.GEOJSON and sniff.sniff(head) is None and sniff.mistaken_for(head) is None


def _unknown_format(head: bytes, format_of_name: formats.Format | None) -> Finding:
    accepted = ", ".join(accepted.name for accepted in formats.FORMATS)
    what = f"begins with {_start(head)}, which is not a format that Mapbox accepts ({accepted})."
    what = f"{_should_be(format_of_name)}{what}"
    if format_of_name is formats.CSV:
        advice = "Write no byte order mark (encoding='utf-8', not 'utf-8-sig') and names without spaces around them."
        return finding(rules.UNKNOWN_FORMAT, what, remedy=f"{csv_rules.COLUMNS.remedy} {advice}")
    if format_of_name in (formats.KML, formats.GPX):
        tag = format_of_name.name.lower()
        remedy = f"Begin the file with <?xml, and have <{tag} in the first 100 characters."
        return finding(rules.UNKNOWN_FORMAT, what, remedy=remedy)
    return finding(rules.UNKNOWN_FORMAT, what)


def _should_be(format_of_name: formats.Format | None) -> str:
    return "" if format_of_name is None else f"should be {format_of_name.name} by its name, but "


def _start(head: bytes) -> str:
    try:
        return repr(head[:40].decode())
    except UnicodeDecodeError:
        return repr(head[:8])


def _check_size(source: Source, source_format: formats.Format) -> Iterator[Finding]:
    if source.size is not None and source.size > source_format.limit:
        what = f"has {source.size:,} bytes. Mapbox's limit for {source_format.name} is {source_format.limit:,}."
        yield finding(rules.TOO_LARGE, what, limit=pretty_bytes(source_format.limit))


# --- The content ---


def _check_content(
    source: Source, head: bytes, source_format: formats.Format, content: Content, *, all_tiles: bool
) -> tuple[list[Finding], bool]:
    """Return the findings, and whether the whole file was checked."""
    if source_format is formats.GEOJSON:
        content.savings = sampled_savings(head, source.size)
    check = passing_check(source_format, content)
    if check is not None:
        return _check_text_format(source, head, source_format, check)
    if source_format is formats.MBTILES:
        if source.path is None:
            return list(check_mbtiles_header(head, source.size)), False
        found = list(check_mbtiles(source.path, content, all_tiles=all_tiles))
        if not all_tiles:
            content.notes.append(
                "The inside of a sample of the tiles was checked. all_tiles=True or --all-tiles checks all."
            )
        return found, True
    ranges = source.ranges() or HeadRanges(head, source.size)
    with ranges:
        if source_format is formats.TIFF:
            return list(check_tiff(ranges, content)), not isinstance(ranges, HeadRanges)
        is_local = source.path is not None
        if isinstance(ranges, HeadRanges) and not ranges.is_whole:
            return [], False  # the directory of a zip is at its end
        return list(check_archive(ranges, content, whole=is_local)), is_local


def _check_text_format(
    source: Source, head: bytes, source_format: formats.Format, check: PassingCheck
) -> tuple[list[Finding], bool]:
    is_whole = len(head) < _PART_BYTES and source.size in (None, len(head))
    if source.path is not None and not is_whole:
        _feed_file(source.path, check)
        return check.close(), True
    check.feed(head)
    found = check.close(is_whole=is_whole)
    if not is_whole and not any(one.refused for one in found) and (ranges := source.ranges()) is not None:
        with ranges:
            start = max(0, ranges.size - _PART_BYTES)
            found += _check_end(ranges.read(start, _PART_BYTES), source_format)
    return found, is_whole


def _feed_file(path: Path, check: PassingCheck) -> None:
    try:
        with path.open("rb", buffering=0) as stream:
            while data := stream.read(_READ_BYTES):
                check.feed(data)
    except OSError as error:
        problem = error.strerror
    else:
        return
    raise SourceUnavailableError(f"{path} can no longer be read ({problem}).\nCheck the disk, then run the task again.")


def _check_end(tail: bytes, source_format: formats.Format) -> list[Finding]:
    """Check the last bytes of a remote text."""
    closing = _CLOSING.get(source_format)
    if closing is not None:
        if closing.search(tail):
            return []
        what = f"does not end with </{source_format.name.lower()}>: it is cut off."
        return [finding(xml_rules.NOT_XML, what, where="its end", message=NOT_OPENED[source_format])]
    tail = without_cut_character(tail)
    found = check_text(tail, is_whole=True)
    if found is not None:
        return [replace(found, where="its end")]
    return geojson.check_end(tail) if source_format is formats.GEOJSON else []

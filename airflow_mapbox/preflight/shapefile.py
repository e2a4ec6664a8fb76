"""Check a zipped shapefile: the archive, the headers and the reference system of its files, and the checksums."""

from __future__ import annotations

import math
import re
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

from airflow_mapbox.errors import SourceError
from airflow_mapbox.limits import SHAPEFILE_BYTES
from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.preflight.units import pretty_bytes
from airflow_mapbox.rules import shapefile as rules
from airflow_mapbox.sources.ranges import CachedRanges, Ranges, RangesFile

if TYPE_CHECKING:
    from pyproj import CRS

_SUFFIXES = (".shp", ".dbf", ".shx", ".prj")
# The files that Mapbox's size limit counts (docs/reference/limits.md, "Sizes").
_COUNTED_SUFFIXES = (".shp", ".dbf")
_BLOCK_BYTES = 1 << 20
_MAX_PROJECTION_BYTES = 1 << 16
_MAX_MEMBERS = 10_000
_MAX_DIRECTORY_BYTES = 1 << 20
_MAX_SHAPEFILES = 50
_MAX_NAMED = 5
# Unzipping 270 MB takes a second. An archive that takes longer than this has many shapefiles, or is a bomb.
_MAX_UNZIP_SECONDS = 4.0
# What zipfile raises for a broken archive, of its own and of what it calls.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)

# APPNOTE.TXT, 4.3.14 to 4.3.16: the records at the end of an archive.
_END, _END_MAGIC = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_END64, _END64_MAGIC = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06"
_LOCATOR_BYTES, _LOCATOR_MAGIC = 20, b"PK\x06\x07"
_MAX_COMMENT_BYTES = 65_535

# ESRI Shapefile Technical Description, "The Main File Header"
_HEADER_BYTES = 100
_FILE_CODE, _VERSION = 9994, 1000
_SHAPE_TYPES = frozenset({0, 1, 3, 5, 8, 11, 13, 15, 18, 21, 23, 25, 28, 31})
_INDEX_RECORD_BYTES = 8
# dBASE III: the number of records, and the lengths of the header and of a record.
_DBF_HEAD = struct.Struct("<4xIHH")
_DBF_HEADER_BYTES = 32

# Names that are absolute, on a drive, or in the folder above, and a NUL, which ends a name for some programs.
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(?:^|[/\\])\.\.(?:[/\\]|$)|\0")
# GDAL also reads this format, which is older than WKT: "Projection GEOGRAPHIC", one setting a line.
_OLD_PROJECTION = re.compile(r"\s*Projection\s+\w+", re.IGNORECASE)
_OLD_DEGREES = re.compile(r"\s*Projection\s+GEOGRAPHIC\b", re.IGNORECASE)
_Box = tuple[float, float, float, float]
_EDGE_SAMPLES = 21
# Reprojection rounds ±180 and ±90 to a little more.
_ROUNDED_DEGREES = 1e-6


def check_archive(
    file: Ranges, content: Content, *, whole: bool, clock: Callable[[], float] = time.monotonic
) -> Iterator[Finding]:
    """
    Check the shapefiles in an archive.

    :param file: the archive.
    :param content: receives layers, features, bounds and the bytes that Mapbox counts.
    :param whole: whether to unzip the files and compare their checksums. If not, only their heads are read.
    :param clock: seconds; unzipping ends after some of them.
    """
    cached = CachedRanges(file)
    end = _end_record(cached)
    if end is None:
        yield finding(rules.BROKEN_ZIP, "cannot be read as a zip archive: it is cut off, or not a zip archive.")
        return
    members, directory_bytes = end
    # ZipFile takes a kilobyte of memory for each member, and reads as many as the directory's size allows.
    if members > _MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        yield finding(
            rules.TOO_MANY_MEMBERS,
            f"has {members:,} members in a directory of {directory_bytes:,} bytes; at most {_MAX_MEMBERS:,} in "
            f"{_MAX_DIRECTORY_BYTES:,} bytes are checked.",
            where="directory",
        )
        return
    try:
        archive = zipfile.ZipFile(RangesFile(file if whole else cached))
    except SourceError:
        raise
    except (*_BROKEN, NotImplementedError):
        yield finding(rules.BROKEN_ZIP, "cannot be read as a zip archive: its directory is broken.", where="directory")
        return
    with archive:
        yield from _check_names(archive.infolist())
        shapefiles = _shapefiles(archive.infolist())
        yield from _check_layout(shapefiles)
        reader = _Reader(archive, whole, clock() + _MAX_UNZIP_SECONDS, clock)
        layers: list[_Layer] = []
        for shapefile in shapefiles[:_MAX_SHAPEFILES]:
            layer = yield from _check_shapefile(reader, shapefile)
            layers.append(layer)
    if len(shapefiles) > _MAX_SHAPEFILES:
        content.notes.append(f"Only the first {_MAX_SHAPEFILES} of {len(shapefiles):,} shapefiles were checked.")
    _describe(layers, content, reader)


def _end_record(file: Ranges) -> tuple[int, int] | None:
    """Return the number of members and the directory's size, from the same record that ``zipfile`` uses; or None."""
    start = max(0, file.size - _END.size)
    tail = file.read(start, _END.size)
    if len(tail) < _END.size or not tail.startswith(_END_MAGIC) or tail[-2:] != b"\0\0":
        start = max(0, file.size - _END.size - _MAX_COMMENT_BYTES)
        tail = file.read(start, _END.size + _MAX_COMMENT_BYTES)
        at = tail.rfind(_END_MAGIC)
        if at < 0 or len(tail) < at + _END.size:
            return None
        start, tail = start + at, tail[at : at + _END.size]
    *_, members, directory_bytes, _, _ = _END.unpack(tail)
    locator = start - _LOCATOR_BYTES
    if locator >= _END64.size and file.read(locator, 4) == _LOCATOR_MAGIC:
        record = file.read(locator - _END64.size, _END64.size)
        if record.startswith(_END64_MAGIC):
            *_, members64, directory_bytes64, _ = _END64.unpack(record)
            members, directory_bytes = max(members, members64), max(directory_bytes, directory_bytes64)
            # The small record has these values where the large one counts.
            members = members64 if members == 0xFFFF else members
            directory_bytes = directory_bytes64 if directory_bytes == 0xFFFFFFFF else directory_bytes
    return members, directory_bytes


def _check_names(members: list[zipfile.ZipInfo]) -> Iterator[Finding]:
    outside = [info.orig_filename for info in members if _OUTSIDE.search(info.orig_filename)]
    outside += [info.orig_filename for info in members if stat.S_ISLNK(info.external_attr >> 16)]
    if outside:
        yield finding(
            rules.UNSAFE_NAMES,
            f"has {_listed(outside)}, which would be unpacked outside of its folder.",
            where=_shown(outside[0]),
        )
    counts = Counter(info.filename for info in members if not _is_folder(info))
    if twice := [name for name, count in counts.items() if count > 1]:
        yield finding(
            rules.DUPLICATE_NAMES, f"has several members with the name {_listed(twice)}.", where=_shown(twice[0])
        )


def _listed(names: list[str]) -> str:
    listed = ", ".join(map(_shown, names[:_MAX_NAMED]))
    return listed if len(names) <= _MAX_NAMED else f"{listed} and {len(names) - _MAX_NAMED:,} others"


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/")  # ZipInfo's own method fails for an empty name


def _shown(name: str) -> str:
    """Return a member's name without control characters, which a terminal would obey."""
    name = "".join(character if character.isprintable() else "�" for character in name)
    return name if len(name) <= 100 else f"{name[:99]}…"


@dataclass(frozen=True)
class _Shapefile:
    """The members of one shapefile, by their suffix in lower case."""

    name: str
    parts: dict[str, zipfile.ZipInfo]

    @property
    def counted_bytes(self) -> int:
        return sum(self.parts[suffix].file_size for suffix in _COUNTED_SUFFIXES if suffix in self.parts)

    def where(self, suffix: str) -> str:
        return _shown(self.parts[suffix].filename)


def _shapefiles(members: list[zipfile.ZipInfo]) -> list[_Shapefile]:
    parts: dict[PurePosixPath, dict[str, zipfile.ZipInfo]] = {}
    for info in members:
        member = PurePosixPath(info.filename)
        # macOS adds a folder and hidden files with the attributes of each file.
        if not _is_folder(info) and not member.name.startswith(".") and "__MACOSX" not in member.parts:
            parts.setdefault(member.parent / member.stem, {})[member.suffix.lower()] = info
    return [_Shapefile(path.name, found) for path, found in parts.items() if ".shp" in found]


def _check_layout(shapefiles: list[_Shapefile]) -> Iterator[Finding]:
    if not shapefiles:
        yield finding(rules.MISSING, "contains no shapefile.")
    if len(shapefiles) > 1:
        names = _listed([shapefile.name for shapefile in shapefiles])
        yield finding(rules.SEVERAL, f"contains {len(shapefiles):,} shapefiles ({names}).")


class _Reader:
    """
    Reads the members of an archive.

    :param archive: the archive.
    :param whole: whether members are read to their end, where ``zipfile`` compares the checksum.
    :param deadline: when unzipping ends, as ``clock`` gives it.
    :param clock: seconds.
    """

    def __init__(self, archive: zipfile.ZipFile, whole: bool, deadline: float, clock: Callable[[], float]) -> None:
        self._archive = archive
        self.whole = whole
        self._deadline = deadline
        self._clock = clock
        self.unchecked: list[str] = []

    def head(self, info: zipfile.ZipInfo, size: int) -> bytes:
        """
        Return the first bytes of a member, after its checksum was compared.

        :param info: the member.
        :param size: number of bytes.
        :raises zipfile.BadZipFile: and others of ``_BROKEN``, if the member is broken.
        """
        with self._archive.open(info) as stream:
            data = stream.read(size)
            if not self.whole or info.file_size > SHAPEFILE_BYTES:
                return data
            self._read_to_end(stream, info)
        return data

    def _read_to_end(self, stream: IO[bytes], info: zipfile.ZipInfo) -> None:
        unzipped = stream.tell()
        while block := stream.read(_BLOCK_BYTES):
            unzipped += len(block)
            if self._clock() > self._deadline:
                self.unchecked.append(info.filename)
                return
        # zipfile compares the checksum only if the data has its declared size.
        if unzipped < info.file_size:
            raise EOFError


@dataclass
class _Layer:
    """Facts about one shapefile."""

    name: str
    counted_bytes: int
    records: int | None = None
    bounds: _Box | None = None


@dataclass(frozen=True)
class _Header:
    """The header of a .shp or .shx."""

    type: int
    bytes: int
    box: _Box


def _check_shapefile(reader: _Reader, shapefile: _Shapefile) -> Generator[Finding, None, _Layer]:
    """Yield the findings of one shapefile, and return its facts."""
    layer = _Layer(shapefile.name, shapefile.counted_bytes)
    heads: dict[str, bytes] = {}
    for suffix in _SUFFIXES:
        if suffix in shapefile.parts:
            problem = _read_part(reader, shapefile, suffix, heads)
            if problem is not None:
                yield problem
    headers: dict[str, _Header] = {}
    if ".shp" in heads:
        yield from _check_header(shapefile, ".shp", heads[".shp"], headers)
    yield from _check_parts(shapefile)
    if ".shx" in heads:
        yield from _check_header(shapefile, ".shx", heads[".shx"], headers)
    table = _table(heads.get(".dbf"))
    if ".dbf" in heads:
        yield from _check_table(shapefile, table)
    records = _records(headers, table)
    yield from _check_agreement(shapefile, headers, table)
    layer.records = records
    crs: CRS | None = None
    is_degrees = False
    if ".prj" in heads:
        text = heads[".prj"].decode("utf-8-sig", "replace").strip("\x00 \t\r\n")
        crs = _crs(text)
        is_degrees = bool(_OLD_DEGREES.match(text)) or _is_degrees(crs)
        if crs is None and not _OLD_PROJECTION.match(text):
            yield _bad_projection(shapefile.where(".prj"), text)
    if ".shp" in headers and records:
        yield from _check_box(shapefile, headers[".shp"].box, crs, is_degrees, layer)
    elif records == 0:
        yield finding(rules.EMPTY, f"has {shapefile.where('.shp')} without any record.", where=shapefile.where(".shp"))
    return layer


def _read_part(reader: _Reader, shapefile: _Shapefile, suffix: str, heads: dict[str, bytes]) -> Finding | None:
    info, where = shapefile.parts[suffix], shapefile.where(suffix)
    if info.flag_bits & 1:
        return finding(rules.UNSUPPORTED, f"has {where} encrypted with a password.", where=where)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return finding(rules.UNSUPPORTED, f"has {where} compressed with a rare method, not with Deflate.", where=where)
    try:
        heads[suffix] = reader.head(info, _MAX_PROJECTION_BYTES if suffix == ".prj" else _HEADER_BYTES)
    except SourceError:
        raise
    except NotImplementedError:  # zipfile's error for strong encryption and patched data
        return finding(rules.UNSUPPORTED, f"has {where} packed in a way that is not supported.", where=where)
    except _BROKEN:
        return finding(rules.BROKEN_ZIP, f"has {where} with a wrong checksum or broken compression.", where=where)
    # A valid index or projection is smaller than its shapefile. A larger one would take long to unzip.
    if suffix not in _COUNTED_SUFFIXES and info.file_size > SHAPEFILE_BYTES:
        return finding(
            rules.TOO_LARGE,
            f"has {where} with {info.file_size:,} bytes unzipped; Mapbox's limit is {SHAPEFILE_BYTES:,}.",
            where=where,
            limit=pretty_bytes(SHAPEFILE_BYTES),
        )
    return None


def _check_header(shapefile: _Shapefile, suffix: str, head: bytes, headers: dict[str, _Header]) -> Iterator[Finding]:
    where, size = shapefile.where(suffix), shapefile.parts[suffix].file_size
    code, words = (int.from_bytes(head[at : at + 4], "big") for at in (0, 24))
    version, kind = (int.from_bytes(head[at : at + 4], "little") for at in (28, 32))
    if len(head) < _HEADER_BYTES or code != _FILE_CODE or version != _VERSION or kind not in _SHAPE_TYPES:
        rule = rules.NOT_SHAPEFILE if suffix == ".shp" else rules.HEADER
        yield finding(rule, f"has {where}, which does not begin like a shapefile.", where=where)
        return
    header = _Header(kind, 2 * words, struct.unpack("<4d", head[36:68]))
    headers[suffix] = header
    if header.bytes > size or header.bytes < _HEADER_BYTES:
        yield finding(
            rules.CUT_OFF, f"has {where} with {size:,} of the {header.bytes:,} bytes in its header.", where=where
        )


def _check_parts(shapefile: _Shapefile) -> Iterator[Finding]:
    missing = [suffix for suffix in _SUFFIXES if suffix not in shapefile.parts]
    where = shapefile.where(".shp")
    if parts := ", ".join(suffix for suffix in missing if suffix != ".prj"):
        yield finding(rules.PARTS, f"lacks {parts} beside {where}.", where=where)
    if ".prj" in missing:
        yield finding(rules.NO_PROJECTION, f"lacks .prj beside {where}.", where=where)
    if shapefile.counted_bytes > SHAPEFILE_BYTES:
        yield finding(
            rules.TOO_LARGE,
            f"has {shapefile.counted_bytes:,} bytes of {where} and its .dbf unzipped; Mapbox's limit is "
            f"{SHAPEFILE_BYTES:,}.",
            where=where,
            limit=pretty_bytes(SHAPEFILE_BYTES),
        )


@dataclass(frozen=True)
class _Table:
    """The header of a .dbf."""

    records: int
    header_bytes: int
    record_bytes: int


def _table(head: bytes | None) -> _Table | None:
    return _Table(*_DBF_HEAD.unpack(head[: _DBF_HEAD.size])) if head and len(head) >= _DBF_HEADER_BYTES else None


def _check_table(shapefile: _Shapefile, table: _Table | None) -> Iterator[Finding]:
    where, size = shapefile.where(".dbf"), shapefile.parts[".dbf"].file_size
    if table is None or table.header_bytes <= _DBF_HEADER_BYTES or table.record_bytes < 1:
        yield finding(rules.HEADER, f"has {where}, which does not begin like a dBASE table.", where=where)
        return
    needed = table.header_bytes + table.records * table.record_bytes
    if needed > size:
        yield finding(rules.CUT_OFF, f"has {where} with {size:,} of the {needed:,} bytes in its header.", where=where)


def _records(headers: dict[str, _Header], table: _Table | None) -> int | None:
    if ".shx" in headers:
        return max(0, headers[".shx"].bytes - _HEADER_BYTES) // _INDEX_RECORD_BYTES
    if table is not None:
        return table.records
    return 0 if ".shp" in headers and headers[".shp"].bytes == _HEADER_BYTES else None


def _check_agreement(shapefile: _Shapefile, headers: dict[str, _Header], table: _Table | None) -> Iterator[Finding]:
    where = shapefile.where(".shp")
    if len(headers) == 2 and headers[".shp"].type != headers[".shx"].type:
        yield finding(
            rules.MISMATCH,
            f"has {where} with shapes of type {headers['.shp'].type}, and its .shx says {headers['.shx'].type}.",
            where=where,
        )
    if ".shx" in headers and table is not None:
        indexed = max(0, headers[".shx"].bytes - _HEADER_BYTES) // _INDEX_RECORD_BYTES
        if indexed != table.records:
            yield finding(
                rules.MISMATCH,
                f"has {indexed:,} records in {shapefile.where('.shx')} and {table.records:,} in "
                f"{shapefile.where('.dbf')}.",
                where=where,
            )


def _bad_projection(where: str, text: str) -> Finding:
    if not text:
        return finding(
            rules.PROJECTION, f"has {where}, which is empty: the data's reference system is unknown.", where=where
        )
    return finding(
        rules.PROJECTION, f"has {where}, which is not WKT of a reference system ({text[:40]!r}).", where=where
    )


def _crs(text: str) -> CRS | None:
    """Return the reference system of WKT, or None."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_wkt(text) if text else None
    except (CRSError, ValueError):
        return None


def _is_degrees(crs: CRS | None) -> bool:
    if crs is None or not crs.is_geographic:
        return False
    degree = math.radians(1)
    return all(math.isclose(axis.unit_conversion_factor, degree, rel_tol=1e-4) for axis in crs.axis_info[:2])


def _check_box(shapefile: _Shapefile, box: _Box, crs: CRS | None, is_degrees: bool, layer: _Layer) -> Iterator[Finding]:
    west, south, east, north = box
    where = shapefile.where(".shp")
    if not all(map(math.isfinite, box)) or west > east or south > north:
        yield finding(
            rules.EMPTY,
            f"has {where} with the box {west:g}, {south:g}, {east:g}, {north:g}, which has no area to map.",
            where=where,
        )
        return
    if not is_degrees:
        layer.bounds = _reprojected(box, crs)
        return
    outside = max(-180 - west, east - 180, -90 - south, north - 90)
    if outside > _ROUNDED_DEGREES:
        far = max(-360 - west, east - 360, -95 - south, north - 95) > 0
        yield finding(
            rules.RANGE if far else rules.SOME_OUT_OF_RANGE,
            f"has {where} from {west:g}, {south:g} to {east:g}, {north:g}, and its .prj says degrees.",
            where=where,
        )
        if far:
            return
    layer.bounds = box


def _reprojected(box: _Box, crs: CRS | None) -> _Box | None:
    """Return a box in degrees; None if that fails or gives no numbers."""
    if crs is None:
        return None
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        west, south, east, north = to_degrees.transform_bounds(*box, densify_pts=_EDGE_SAMPLES)
    except ProjError:
        return None
    bounds = (west, south, east, north) if west <= east else (west, south, east + 360, north)
    return bounds if all(map(math.isfinite, bounds)) else None


def _describe(layers: list[_Layer], content: Content, reader: _Reader) -> None:
    content.layers = tuple(layer.name for layer in layers)
    content.counted_bytes = max((layer.counted_bytes for layer in layers), default=None)
    counts = [layer.records for layer in layers if layer.records is not None]
    content.features = sum(counts) if layers and len(counts) == len(layers) else None
    boxes = [layer.bounds for layer in layers if layer.bounds is not None]
    if boxes and len(boxes) == len(layers):
        wests, souths, easts, norths = zip(*boxes, strict=True)
        content.bounds = min(wests), min(souths), max(easts), max(norths)
    if not reader.whole and layers:
        content.notes.append("The checksums in the archive were not compared: that takes the whole file.")
    if reader.unchecked:
        content.notes.append(
            f"Unzipping took more than {_MAX_UNZIP_SECONDS:g} seconds, so the checksums of "
            f"{_shown(reader.unchecked[0])} and {len(reader.unchecked) - 1} others were not compared."
        )

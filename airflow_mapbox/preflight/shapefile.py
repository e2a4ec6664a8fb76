"""What Mapbox would refuse in a zipped shapefile."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from airflow_mapbox.limits import SHAPEFILE_BYTES
from airflow_mapbox.preflight.problems import EXPORT, WRITER, Problem

# What one .zip has to hold (docs/reference/mapbox-uploads-api.md, "Names and limits").
_PARTS = (".shp", ".dbf", ".shx", ".prj")
_COUNTED = (".shp", ".dbf")
_BLOCK = 1 << 20
_PROJECTION_BYTES = 1 << 20
_HEADER = 100  # ESRI Shapefile Technical Description, "The Main File Header"
_FILE_CODE, _VERSION = 9994, 1000

_ZIP_AGAIN = "Send one .zip that holds the .shp, .dbf, .shx and .prj of one shapefile."
_WRITE_PRJ = f"Write the shapefile with its reference system, such as with frame.set_crs(…).to_file(…). {EXPORT}"
# Absolute, on a drive, or in the folder above.
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(?:^|[/\\])\.\.(?:[/\\]|$)")
# Older than WKT, and read by GDAL: "Projection GEOGRAPHIC", one setting a line.
_OLD_PROJECTION = re.compile(r"\s*Projection\s+\w+", re.IGNORECASE)


def check_archive(path: Path) -> Iterator[Problem]:
    """
    Check what an archive holds, and that its bytes are those that were packed.

    :param path: a local .zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _check_members(archive)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        yield Problem("is no zip archive that can be read: it is cut off, or something else.", WRITER)


def _check_members(archive: zipfile.ZipFile) -> Iterator[Problem]:
    parts_of: dict[PurePosixPath, dict[str, zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        member = PurePosixPath(info.filename)
        if not info.filename.endswith("/") and not member.name.startswith("."):
            parts_of.setdefault(member.parent / member.stem, {})[member.suffix.lower()] = info
        if _OUTSIDE.search(info.filename):
            yield Problem(f"holds {info.filename}, which would be unpacked outside of its folder.", "Zip it again.")
            return
    shapefiles = [parts for parts in parts_of.values() if ".shp" in parts]
    if not shapefiles:
        yield Problem("holds no shapefile.", _ZIP_AGAIN)
    for parts in shapefiles:
        shapefile = parts[".shp"].filename
        missing = [part for part in _PARTS if part not in parts]
        if missing:
            yield Problem(f"lacks {', '.join(missing)} beside {shapefile}.", "Add what the shapefile was written with.")
        unzipped = sum(parts[part].file_size for part in _COUNTED if part in parts)
        # An index and a projection are smaller than what they belong to; others take long to unpack.
        if max(unzipped, *(info.file_size for info in parts.values())) > SHAPEFILE_BYTES:
            yield Problem(
                f"holds more than {SHAPEFILE_BYTES:,} bytes of {shapefile} unzipped, Mapbox's limit.",
                f"Split it. {EXPORT}",
            )
            continue
        for part in _PARTS:
            if part in parts:
                yield from _check_part(archive, parts[part], part)


def _check_part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, part: str) -> Iterator[Problem]:
    name = PurePosixPath(info.filename).name
    if info.flag_bits & 1:
        yield Problem(f"holds {name} behind a password.", "Zip it without one.")
        return
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield Problem(f"holds {name} packed in a way that few programs read.", "Zip it with Deflate, the usual way.")
        return
    try:
        # Without a look at all bytes no checksum is compared, and it alone finds a bit that fell over.
        with archive.open(info) as stream:
            content = _check_content(stream, info, part, name)
            while stream.read(_BLOCK):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError):
        yield Problem(f"holds {name} with a broken checksum or packing.", f"Zip it again. {WRITER}")
        return
    if content is not None:
        yield content


def _check_content(stream: IO[bytes], info: zipfile.ZipInfo, part: str, name: str) -> Problem | None:
    if part == ".shp":
        return _check_header(stream.read(_HEADER), info.file_size, name)
    return _check_projection(stream.read(_PROJECTION_BYTES), name) if part == ".prj" else None


def _check_header(header: bytes, size: int, name: str) -> Problem | None:
    code, version = int.from_bytes(header[:4], "big"), int.from_bytes(header[28:32], "little")
    if len(header) < _HEADER or code != _FILE_CODE or version != _VERSION:
        return Problem(f"holds {name}, which is not of a shapefile by its first bytes.", f"{_ZIP_AGAIN} {WRITER}")
    length = 2 * int.from_bytes(header[24:28], "big")  # in words of 16 bits
    if length > size:
        return Problem(f"holds {name} with {size:,} of the {length:,} bytes that its header promises.", WRITER)
    return None


def _check_projection(content: bytes, name: str) -> Problem | None:
    text = content.decode("utf-8-sig", "replace").strip("\x00 \t\r\n")
    if not text:
        return Problem(f"holds {name}, which is empty: nothing says which reference system the data is in.", _WRITE_PRJ)
    if _OLD_PROJECTION.match(text) or _is_known(text):
        return None
    return Problem(f"holds {name}, which is not WKT of a reference system ({text[:40]!r}).", _WRITE_PRJ)


def _is_known(text: str) -> bool:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_wkt(text)
    except CRSError:
        return False
    return True

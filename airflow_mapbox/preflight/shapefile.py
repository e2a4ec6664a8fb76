"""Check a zipped shapefile for what Mapbox would refuse."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from airflow_mapbox.limits import SHAPEFILE_BYTES
from airflow_mapbox.preflight.problems import EXPORT, WRITER, Problem

# The required files in a .zip, and those that Mapbox's size limit counts (docs/reference/mapbox-uploads-api.md, "Names
# and limits").
_SUFFIXES = (".shp", ".dbf", ".shx", ".prj")
_COUNTED_SUFFIXES = (".shp", ".dbf")
_BLOCK_BYTES = 1 << 20
_MAX_PROJECTION_BYTES = 1 << 20
# ESRI Shapefile Technical Description, "The Main File Header"
_HEADER_BYTES = 100
_FILE_CODE, _VERSION = 9994, 1000

_ZIP_AGAIN = "Send one .zip with the .shp, .dbf, .shx and .prj of one shapefile."
_WRITE_PRJ = f"Write the shapefile with its reference system, for example frame.set_crs(…).to_file(…). {EXPORT}"
# Names that are absolute, on a drive, or in the folder above.
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(?:^|[/\\])\.\.(?:[/\\]|$)")
# GDAL also reads this format, which is older than WKT: "Projection GEOGRAPHIC", one setting a line.
_OLD_PROJECTION = re.compile(r"\s*Projection\s+\w+", re.IGNORECASE)


def check_archive(path: Path) -> Iterator[Problem]:
    """
    Check the files in an archive: names, sizes, headers and checksums.

    :param path: a local .zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _check_members(archive)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        yield Problem("cannot be read as a zip archive: it is cut off, or not a zip archive.", WRITER)


def _check_members(archive: zipfile.ZipFile) -> Iterator[Problem]:
    parts_of: dict[PurePosixPath, dict[str, zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        member = PurePosixPath(info.filename)
        if not info.filename.endswith("/") and not member.name.startswith("."):
            parts_of.setdefault(member.parent / member.stem, {})[member.suffix.lower()] = info
        if _OUTSIDE.search(info.filename):
            yield Problem(f"has {info.filename}, which would be unpacked outside of its folder.", "Zip it again.")
            return
    shapefiles = [parts for parts in parts_of.values() if ".shp" in parts]
    if not shapefiles:
        yield Problem("contains no shapefile.", _ZIP_AGAIN)
    for parts in shapefiles:
        shapefile = parts[".shp"].filename
        missing = [suffix for suffix in _SUFFIXES if suffix not in parts]
        if missing:
            yield Problem(f"lacks {', '.join(missing)} beside {shapefile}.", "Add all files of the shapefile.")
        unzipped_bytes = sum(parts[suffix].file_size for suffix in _COUNTED_SUFFIXES if suffix in parts)
        # A valid index or projection is smaller than its shapefile. A larger file would take long to unpack.
        if max(unzipped_bytes, *(info.file_size for info in parts.values())) > SHAPEFILE_BYTES:
            yield Problem(
                f"has more than {SHAPEFILE_BYTES:,} bytes of {shapefile} unzipped, which is Mapbox's limit.",
                f"Split it. {EXPORT}",
            )
            continue
        for suffix in _SUFFIXES:
            if suffix in parts:
                yield from _check_part(archive, parts[suffix], suffix)


def _check_part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, suffix: str) -> Iterator[Problem]:
    name = PurePosixPath(info.filename).name
    if info.flag_bits & 1:
        yield Problem(f"has {name} encrypted with a password.", "Zip it without a password.")
        return
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield Problem(f"has {name} compressed with a rare method.", "Zip it with Deflate, the usual method.")
        return
    try:
        with archive.open(info) as stream:
            problem = _check_content(stream, info, suffix, name)
            # The checksum, which alone detects a flipped bit, is compared at the end of the file.
            while stream.read(_BLOCK_BYTES):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError):
        yield Problem(f"has {name} with a wrong checksum or broken compression.", f"Zip it again. {WRITER}")
        return
    if problem is not None:
        yield problem


def _check_content(stream: IO[bytes], info: zipfile.ZipInfo, suffix: str, name: str) -> Problem | None:
    if suffix == ".shp":
        return _check_header(stream.read(_HEADER_BYTES), info.file_size, name)
    return _check_projection(stream.read(_MAX_PROJECTION_BYTES), name) if suffix == ".prj" else None


def _check_header(header: bytes, size: int, name: str) -> Problem | None:
    code, version = int.from_bytes(header[:4], "big"), int.from_bytes(header[28:32], "little")
    if len(header) < _HEADER_BYTES or code != _FILE_CODE or version != _VERSION:
        return Problem(f"has {name}, which does not begin like a shapefile.", f"{_ZIP_AGAIN} {WRITER}")
    header_size = 2 * int.from_bytes(header[24:28], "big")  # the header counts in words of 16 bits
    if header_size > size:
        return Problem(f"has {name} with {size:,} of the {header_size:,} bytes in its header.", WRITER)
    return None


def _check_projection(content: bytes, name: str) -> Problem | None:
    text = content.decode("utf-8-sig", "replace").strip("\x00 \t\r\n")
    if not text:
        return Problem(f"has {name}, which is empty, so the reference system of the data is unknown.", _WRITE_PRJ)
    if _OLD_PROJECTION.match(text) or _is_wkt(text):
        return None
    return Problem(f"has {name}, which is not WKT of a reference system ({text[:40]!r}).", _WRITE_PRJ)


def _is_wkt(text: str) -> bool:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_wkt(text)
    except CRSError:
        return False
    return True

"""Find the path of a file for GDAL: a local path, or a path in an archive for GDAL's virtual file systems."""

from __future__ import annotations

import gzip
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pyogrio.util import vsi_path

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.sources.files import SourceFile

# Extensions of geodata in an archive. Those of tables are also used for metadata next to geodata, so they come second.
_GEODATA = (
    ".shp", ".geojson", ".geojsonl", ".geojsons", ".ndjson", ".topojson", ".gpkg", ".fgb", ".kml", ".kmz", ".gml",
    ".gpx", ".tab", ".mif", ".sqlite", ".db", ".dxf", ".gdb", ".osm", ".pbf", ".parquet", ".geoparquet",
)  # fmt: skip
_TABLES = (".json", ".csv", ".tsv")
_PARQUET = (".parquet", ".geoparquet", ".pq")
# Formats that are zip archives, which GDAL's drivers open themselves.
_ZIPPED_FORMATS = (".xlsx", ".xlsm", ".ods", ".kmz")
_ZIP, _EMPTY_ZIP, _GZIP = b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b"
_ENCRYPTED = 1  # a flag of a file in a zip archive
_MAX_FILES_LISTED = 10  # in a message


@dataclass(frozen=True)
class GdalPath:
    """
    The path of a file for GDAL.

    :param path: the path.
    :param suffix: the extension of the uncompressed file: lower case, with the dot.
    :param size: bytes of the uncompressed file, or None if unknown.
    :param open: opens the uncompressed bytes; None for a folder.
    :param from_archive: whether ``layer=`` has chosen the file in an archive, and so not a layer in the file.
    """

    path: str
    suffix: str
    size: int | None
    open: Callable[[], IO[bytes]] | None
    from_archive: bool = False


@contextmanager
def gdal_path(file: SourceFile, layer: str | int | None) -> Iterator[GdalPath]:
    """
    Return the path of a file for GDAL.

    :param file: the file. A remote one is copied to temporary space first, because GDAL seeks in it.
    :param layer: a file of an archive with several files: its name with or without extension, or its number from 0.
    :raises UnreadableSourceError: if an archive has no geodata, or has several files and ``layer`` names none of them.
    """
    with file.local() as local, _plain_name(local.absolute()) as path:
        yield _find(file.name, path, local.name, layer)


@contextmanager
def _plain_name(path: Path) -> Iterator[Path]:
    """Link a file under another name if pyogrio would misread it: it takes ``!`` and ``;`` for parts of a URL."""
    if not path.is_absolute() or vsi_path(f"{path}.x") == f"{path}.x":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        for sibling in [path, *_siblings(path)]:
            (Path(folder) / _safe_name(sibling.name)).symlink_to(sibling)
        yield Path(folder) / _safe_name(path.name)


def _siblings(path: Path) -> list[Path]:
    """Return the files that GDAL reads with a file: the same name with another extension."""
    return [other for other in path.parent.iterdir() if other.stem == path.stem and other != path]


def _safe_name(name: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in "!;" else "_" for letter in name)


def _find(name: str, path: Path, file_name: str, layer: str | int | None) -> GdalPath:
    if not path.is_file():
        return GdalPath(str(path), path.suffix.lower(), None, None)
    with path.open("rb") as stream:
        head = stream.read(4)
    lower = file_name.lower()
    if head in (_ZIP, _EMPTY_ZIP) and not lower.endswith(_ZIPPED_FORMATS):
        return _in_zip(name, path, layer)
    if lower.endswith((".tar", ".tar.gz", ".tgz")):
        # GDAL's file system for tar archives lost features of a FlatGeobuf.
        raise UnreadableSourceError(
            f"{name} is a tar archive, which cannot be read in place.\nUnpack it, or make a zip of it."
        )
    if head[:2] == _GZIP:
        suffix = _inner_suffix(name, file_name)
        return GdalPath(f"/vsigzip/{path}", suffix, None, lambda: cast("IO[bytes]", gzip.open(path)))
    return GdalPath(str(path), path.suffix.lower(), path.stat().st_size, lambda: path.open("rb"))


def _inner_suffix(name: str, file_name: str) -> str:
    uncompressed = file_name[:-3] if file_name.lower().endswith(".gz") else file_name
    suffix = PurePosixPath(uncompressed).suffix.lower()
    if suffix in _PARQUET:
        raise UnreadableSourceError(_packed_parquet(name))
    return suffix


def _in_zip(name: str, path: Path, layer: str | int | None) -> GdalPath:
    problem, files = None, []
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError) as error:
        problem = str(error)
    if any(info.flag_bits & _ENCRYPTED for info in files):
        problem = "it has a password"
    if problem is not None:
        raise UnreadableSourceError(
            f"{name} cannot be read as a zip archive: {problem}.\nCheck the task that wrote it."
        )
    sizes = {info.filename: info.file_size for info in files}
    member, chosen = _choose(name, sizes, layer)

    def opener() -> IO[bytes]:
        return zipfile.ZipFile(path).open(member)

    return _member(f"/vsizip/{{{path}}}", member, sizes.get(member), opener, chosen=chosen)


def _member(archive: str, member: str, size: int | None, opener: Callable[[], IO[bytes]], *, chosen: bool) -> GdalPath:
    suffix = PurePosixPath(member).suffix.lower()
    return GdalPath(f"{archive}/{member}".rstrip("/"), suffix, size, None if size is None else opener, chosen)


def _choose(name: str, sizes: Iterable[str], layer: str | int | None) -> tuple[str, bool]:
    """Return a file of an archive, or a folder of shapefiles, and whether ``layer=`` has chosen it."""
    files = _geodata(sizes)
    if not files and any(file.lower().endswith(".gdbtable") for file in sizes):
        return "", False  # the files of a file geodatabase without its folder
    if not files:
        contents = sorted(sizes)[:_MAX_FILES_LISTED]
        raise UnreadableSourceError(
            f"{name} has no file of geodata that GDAL reads: {', '.join(contents) or 'it is empty'}.\n"
            "Check the task that wrote it."
        )
    folders = {str(PurePosixPath(file).parent) for file in files}
    if len(files) > 1 and len(folders) == 1 and all(file.lower().endswith(".shp") for file in files):
        return folders.pop().removeprefix("."), False
    chosen = files
    if len(files) > 1:
        chosen = [file for index, file in enumerate(files) if layer in (index, file, *_names(file))]
    if len(chosen) != 1:
        raise UnreadableSourceError(
            f"{name} has several files of geodata: {', '.join(files[:_MAX_FILES_LISTED])}.\n"
            f"Name the one to export with layer=…, such as layer={PurePosixPath(files[0]).name!r}."
        )
    if chosen[0].lower().endswith(_PARQUET):
        raise UnreadableSourceError(_packed_parquet(name))
    return chosen[0], len(files) > 1


def _names(file: str) -> tuple[str, str]:
    path = PurePosixPath(file)
    return path.name, path.stem


def _geodata(names: Iterable[str]) -> list[str]:
    visible = [name for name in names if "__MACOSX" not in name and not PurePosixPath(name).name.startswith(".")]
    # A file geodatabase is a folder.
    candidates = dict.fromkeys(_geodatabase(name) or name for name in visible)
    for suffixes in (_GEODATA, _TABLES):
        if files := sorted(name for name in candidates if name.lower().endswith(suffixes)):
            return files
    return []


def _geodatabase(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    end = next((index for index, part in enumerate(parts) if part.lower().endswith(".gdb")), None)
    return None if end is None else "/".join(parts[: end + 1])


def _packed_parquet(name: str) -> str:
    return f"{name} has GeoParquet in an archive, which cannot be read in place.\nUnpack it first."

"""The smallest valid file of each binary format, and functions that build others like it."""

from __future__ import annotations

import gzip
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from airflow_mapbox.errors import SourceUnavailableError
from tests.conftest import ROOT
from tests.unit.preflight.support import WGS84, database

FIXTURES = ROOT / "tests" / "fixtures" / "mapbox-upload-validate"

_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 12: "d", 16: "Q"}
TIFF_TAGS: dict[int, tuple[int, list[Any]] | None] = {
    256: (3, [2]),  # width
    257: (3, [2]),  # height
    258: (3, [8, 8, 8]),  # bits per sample
    259: (3, [1]),  # compression: none
    262: (3, [2]),  # RGB
    273: (4, [8]),  # offset of the only strip
    277: (3, [3]),  # samples per pixel
    278: (3, [2]),  # rows per strip
    279: (4, [12]),  # bytes of the strip
    33550: (12, [0.5, 0.5, 0.0]),
    33922: (12, [0.0, 0.0, 0.0, 7.0, 50.0, 0.0]),
    34735: (3, [1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326]),
}
MATRIX = [0.5, 0.0, 0.0, 7.0, 0.0, -0.5, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


class Memory:
    """
    Parts of bytes in memory, which counts how often they are read.

    :param data: the bytes.
    :param size: the size that it claims; by default that of the data.
    """

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.requests = 0
        self.bytes_read = 0

    def read(self, start: int, length: int) -> bytes:
        part = self.data[start : start + length]
        self.requests += 1
        self.bytes_read += len(part)
        return part

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Failing(Memory):
    """
    Parts of bytes whose source fails.

    :param data: the bytes.
    :param reads: number of the read that fails.
    """

    def __init__(self, data: bytes, reads: int = 1) -> None:
        super().__init__(data)
        self.reads = reads

    def read(self, start: int, length: int) -> bytes:
        if self.requests + 1 == self.reads:
            raise SourceUnavailableError("The source a.bin can no longer be read.")
        return super().read(start, length)


def tiff(
    changes: Mapping[int, tuple[int, list[Any]] | None] = {},
    *,
    order: str = "<",
    big: bool = False,
    following: int = 0,
) -> bytes:
    """
    Return a TIFF of two by two pixels whose directory is behind the pixels.

    :param changes: type and values of tags; None leaves a tag out.
    :param order: ``"<"`` or ``">"``.
    :param big: whether it is a BigTIFF.
    :param following: the offset of the next directory.
    """
    tags = {code: tag for code, tag in sorted((TIFF_TAGS | dict(changes)).items()) if tag is not None}
    number, width = ("Q", 8) if big else ("I", 4)
    head = b"II" if order == "<" else b"MM"
    start = 32
    head += struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(f"{order}HI", 42, start)
    entry_bytes = 4 + 2 * width
    values_at = start + (8 if big else 2) + len(tags) * entry_bytes + width
    entries, values = b"", b""
    for code, (kind, content) in tags.items():
        packed = struct.pack(f"{order}{len(content)}{_CODES[kind]}", *content)
        field = packed.ljust(width, b"\0")
        if len(packed) > width:
            field = struct.pack(f"{order}{number}", values_at + len(values))
            values += packed
        entries += struct.pack(f"{order}HH{number}", code, kind, len(content)) + field
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    return head.ljust(start, b"\7") + count + entries + struct.pack(f"{order}{number}", following) + values


def shapefile(
    *,
    records: int = 1,
    kind: int = 1,
    index_kind: int | None = None,
    indexed: int | None = None,
    rows: int | None = None,
    box: tuple[float, float, float, float] = (7.0, 50.0, 8.0, 51.0),
    prj: str | bytes = WGS84,
) -> dict[str, Any]:
    """
    Return the files of a shapefile of points, by name.

    :param records: number of points.
    :param kind: type of the shapes in the .shp.
    :param index_kind: type of the shapes in the .shx; by default the same.
    :param indexed: number of records in the .shx; by default the same.
    :param rows: number of rows in the .dbf; by default the same.
    :param box: west, south, east, north.
    :param prj: the .prj.
    """
    indexed, rows = (records if number is None else number for number in (indexed, rows))
    points = b"".join(_point(number, box) for number in range(records))
    index = b"".join(struct.pack(">2i", 50 + 14 * number, 10) for number in range(indexed))
    field = b"n".ljust(11, b"\0") + b"N" + bytes(4) + bytes([8, 0]) + bytes(14)
    table = struct.pack("<B3xIHH20x", 3, rows, 32 + 32 + 1, 9) + field + b"\r" + b" %8d" % 1 * rows
    return {
        "roads.shp": _header(kind, 100 + len(points), box) + points,
        "roads.shx": _header(kind if index_kind is None else index_kind, 100 + len(index), box) + index,
        "roads.dbf": table,
        "roads.prj": prj,
    }


def _header(kind: int, size: int, box: tuple[float, float, float, float]) -> bytes:
    return struct.pack(">i20xi", 9994, size // 2) + struct.pack("<2i8d", 1000, kind, *box, 0, 0, 0, 0)


def _point(number: int, box: tuple[float, float, float, float]) -> bytes:
    return struct.pack(">2i", number + 1, 10) + struct.pack("<i2d", 1, *box[:2])


def zip_of(members: Iterable[tuple[str, Any]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip with a member for each pair of name and content, also for a name that is there already."""
    packed = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def field(number: int, content: bytes | int) -> bytes:
    """Return a field of a protobuf message: bytes, or an integer."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


# One point at 1, 1: MoveTo(1), and its zigzag coordinates.
POINT_FEATURE = field(2, bytes([0, 0])) + field(3, 1) + field(4, bytes([9, 2, 2]))


def layer(
    *features: bytes, name: bytes | None = b"roads", version: int = 2, keys: tuple[bytes, ...] = (b"n",)
) -> bytes:
    """Return a layer of a vector tile, with one value."""
    content = b"" if name is None else field(1, name)
    content += b"".join(field(2, feature) for feature in features)
    content += b"".join(field(3, key) for key in keys) + field(4, field(4, 5))
    return field(3, content + field(5, 4096) + field(15, version))


TILE = gzip.compress(layer(POINT_FEATURE), mtime=0)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
METADATA: dict[str, Any] = {
    "name": "roads",
    "format": "pbf",
    "minzoom": "0",
    "maxzoom": "1",
    "bounds": "-180,-85,180,85",
    "center": "0,0,1",
    "json": json.dumps({"vector_layers": [{"id": "roads", "fields": {}}]}),
}
TILES_TABLE = "CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)"
GRIDS_TABLE = "CREATE TABLE grids (zoom_level integer, tile_column integer, tile_row integer, grid blob)"
METADATA_TABLE = "CREATE TABLE metadata (name text, value)"


def mbtiles(
    changes: Mapping[str, Any] = {},
    *,
    tiles: Iterable[tuple[Any, ...]] = ((0, 0, 0, TILE), (1, 0, 0, TILE)),
    more: Iterable[str | tuple[str, tuple[Any, ...]]] = (),
) -> bytes:
    """
    Return MBTiles of vector tiles.

    :param changes: rows of the metadata; None leaves a row out.
    :param tiles: zoom, column, row and data.
    :param more: further statements.
    """
    rows = {name: value for name, value in (METADATA | dict(changes)).items() if value is not None}
    statements: list[Any] = [METADATA_TABLE, TILES_TABLE]
    statements += [("INSERT INTO metadata VALUES (?, ?)", row) for row in rows.items()]
    statements += [("INSERT INTO tiles VALUES (?, ?, ?, ?)", tile) for tile in tiles]
    return database(*statements, *more)


def unpacked(name: str, folder: Path) -> Path:
    """Return the path of one of Mapbox's files, uncompressed."""
    path = FIXTURES / name
    if path.is_file():
        return path
    copy = folder / name
    copy.write_bytes(gzip.decompress((FIXTURES / f"{name}.gz").read_bytes()))
    return copy


def zipped(name: str) -> bytes:
    """Return a zip of one of Mapbox's folders."""
    return zip_of((path.name, path.read_bytes()) for path in sorted((FIXTURES / name).iterdir()))

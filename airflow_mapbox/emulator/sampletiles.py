"""Write a tileset of one small tile, for tilesets that are added without an upload."""

from __future__ import annotations

import gzip
import json
import sqlite3
import struct
import zlib
from contextlib import closing
from pathlib import Path

LAYER = "sample"


def write_sample(file: Path, *, is_raster: bool) -> None:
    """Write an MBTiles file with one tile at zoom 0.

    :param file: the file; it must not exist.
    :param is_raster: write an image instead of a vector tile.
    """
    layers = [] if is_raster else [{"id": LAYER, "description": "", "minzoom": 0, "maxzoom": 0, "fields": {}}]
    metadata = {
        "name": LAYER,
        "format": "png" if is_raster else "pbf",
        "bounds": "-180,-85.051129,180,85.051129",
        "center": "0,0,0",
        "json": json.dumps({"vector_layers": layers}),
    }
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        db.execute("CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)")
        db.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
        db.execute("INSERT INTO tiles VALUES (0, 0, 0, ?)", (_png() if is_raster else _vector_tile(),))


def _vector_tile() -> bytes:
    """Return a compressed vector tile with a point in its middle, in the encoding of the specification's version 2."""
    feature = _field(3, 1) + _field(4, bytes([9, *_varint(2 * 2048), *_varint(2 * 2048)]))
    layer = _field(15, 2) + _field(1, LAYER.encode()) + _field(2, feature) + _field(5, 4096)
    return gzip.compress(_field(3, layer), mtime=0)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return bytes([*_varint(number << 3), *_varint(value)])
    return bytes([*_varint(number << 3 | 2), *_varint(len(value))]) + value


def _varint(value: int) -> list[int]:
    return [value] if value < 0x80 else [value & 0x7F | 0x80, *_varint(value >> 7)]


def _png() -> bytes:
    """Return a grey PNG of 256 by 256 pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress((b"\0" + b"\x80" * 256) * 256)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )

"""Small files of each format that Mapbox accepts."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

POINT = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [13.4, 52.5]}, "properties": {"n": 1}}
CSV = b"lon,lat,name\n13.4,52.5,Berlin\n"
KML = (
    b'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark><Point>'
    b"<coordinates>13.4,52.5</coordinates></Point></Placemark></Document></kml>"
)
GPX = b'<?xml version="1.0"?><gpx version="1.1"><wpt lat="52.5" lon="13.4"/></gpx>'
TIFF = b"II*\x00" + (8).to_bytes(4, "little") + bytes(8)
WGS84 = (
    'GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137.0,298.257223563]],'
    'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]]'
)
_BOX = (7.0, 50.0, 7.0, 50.0)


def _shp(size: int) -> bytes:
    return struct.pack(">i20xi", 9994, size // 2) + struct.pack("<2i8d", 1000, 1, *_BOX, 0, 0, 0, 0)


# One point, its entry in the index, and its row of one attribute.
SHP = _shp(128) + struct.pack(">2i", 1, 10) + struct.pack("<i2d", 1, 7.0, 50.0)
_SHX = _shp(108) + struct.pack(">2i", 50, 10)
_DBF = struct.pack("<B3xIHH20x", 3, 1, 65, 3) + b"n".ljust(11, b"\0") + b"N" + bytes(4) + b"\2" + bytes(15) + b"\r 42"
ROADS = {"roads.shp": SHP, "roads.dbf": _DBF, "roads.shx": _SHX, "roads.prj": WGS84}

Write = Callable[..., Path]


def archive(members: dict[str, Any]) -> bytes:
    """Return a zip with a file for each name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return packed.getvalue()


ZIP = archive(ROADS)


def database(*statements: str | tuple[str, tuple[Any, ...]]) -> bytes:
    """Return an SQLite database after the statements, some of them with parameters."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements:
            db.execute(*((statement,) if isinstance(statement, str) else statement))
        db.commit()
        return db.serialize()


# One tile: a GIF, the shortest that Mapbox recognises.
MBTILES = database(
    "CREATE TABLE metadata (name text, value text)",
    "CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)",
    "INSERT INTO tiles VALUES (0, 0, 0, CAST('GIF89a' AS blob))",
)


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": list(features)}


def with_geometry(**geometry: Any) -> dict[str, Any]:
    return POINT | {"geometry": geometry}


def as_bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


class _Forward(io.BytesIO):
    def seekable(self) -> bool:
        return False


class Stream:
    """
    An object in a store that cannot seek, so that preflight reads only its start.

    :param data: its bytes.
    :param name: its URL.
    :param size: the size that it claims; by default that of the data.
    :param failure: the error of each read.
    """

    def __init__(self, data: bytes, name: str, size: int | None = None, failure: Exception | None = None) -> None:
        self.data, self.name, self.size, self.failure = data, name, size, failure

    def __str__(self) -> str:
        return self.name

    def stat(self) -> Any:
        return SimpleNamespace(st_size=len(self.data) if self.size is None else self.size)

    def open(self, mode: str = "r") -> IO[bytes]:
        if self.failure is None:
            return _Forward(self.data)

        class Broken(io.BytesIO):
            def read(stream, size: int | None = -1) -> bytes:  # noqa: N805
                raise self.failure  # type: ignore[misc]

        return Broken()

"""
Write hostile files, which would exhaust the memory or the time of a reader. Writing one is cheap.

A name is a key of ``FILES``. ``python -m tests.unit.preflight.hostile PATH`` checks a file in a process of its own.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.memory import peak_memory

MIB = 2**20
_KML = b'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
_COLLECTION = b'{"type":"FeatureCollection","features":['


def main() -> None:
    """Check a file, and print the verdict with the time and memory that it took."""
    # A check that takes all memory must not end the machine's other processes.
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    from airflow_mapbox.preflight import check_source

    began, used = time.perf_counter(), time.process_time()
    report = check_source(sys.argv[1])
    figures = {"seconds": time.perf_counter() - began, "processor": time.process_time() - used}
    figures["memory"] = peak_memory("self")
    problems = [problem.name for problem in report.problems]
    text = str(report)
    print(json.dumps(figures | {"problems": problems, "notes": list(report.notes), "characters": len(text)}))


def _chunks(path: Path, *parts: bytes | tuple[bytes, int]) -> None:
    """Write parts, some of them so often that they fill a number of bytes."""
    with path.open("wb") as file:
        for part in parts:
            content, size = part if isinstance(part, tuple) else (part, len(part))
            block = content * max(1, MIB // len(content))
            for _ in range(size // len(block)):
                file.write(block)
            rest = size % len(block)
            file.write(block[: rest - rest % len(content)])


def _parts(*parts: bytes | tuple[bytes, int]) -> Callable[[Path], None]:
    return lambda path: _chunks(path, *parts)


# --- Zip ---


def _zip_of(*members: tuple[str, bytes, int]) -> Callable[[Path], None]:
    """Return a function that writes members whose content is repeated up to a size."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, content, size in members:
                with archive.open(name, "w", force_zip64=True) as stream:
                    block = content * max(1, MIB // len(content))
                    for _ in range(max(1, size // len(block))):
                        stream.write(block[: size or len(content)])

    return write


def _shapefile_members(size: int) -> tuple[tuple[str, bytes, int], ...]:
    return tuple((f"a{suffix}", b"\0", size) for suffix in (".shp", ".shx", ".dbf", ".prj"))


def _entry(name: bytes, packed: int, size: int, crc: int, offset: int) -> bytes:
    return (
        struct.pack(
            "<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, 0, 8, 0, 0, crc, packed, size, len(name), 0, 0, 0, 0, 0, offset
        )
        + name
    )


def _local(name: bytes, packed: int, size: int, crc: int) -> bytes:
    return struct.pack("<4s2B4HL2L2H", b"PK\3\4", 20, 0, 0, 8, 0, 0, crc, packed, size, len(name), 0) + name


def _end(members: int, size: int, offset: int) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, min(members, 0xFFFF), min(members, 0xFFFF), size, offset, 0)


def _overlapping(path: Path) -> None:
    """Write thousands of members that all unpack the same data."""
    content = bytes(200 * MIB)
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(content) + packer.flush()
    names = [f"{number}{suffix}".encode() for number in range(2_000) for suffix in (".shp", ".shx", ".dbf", ".prj")]
    crc = zlib.crc32(content)
    local = _local(names[0], len(packed), len(content), crc)
    directory = b"".join(_entry(name, len(packed), len(content), crc, 0) for name in names)
    path.write_bytes(local + packed + directory + _end(len(names), len(directory), len(local) + len(packed)))


def _more_than_declared(path: Path) -> None:
    """Write a member that declares 128 bytes and unpacks to a gigabyte."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(MIB)) for _ in range(1024)) + packer.flush()
    body, directory = b"", b""
    for suffix in (b".shp", b".shx", b".dbf", b".prj"):
        directory += _entry(b"a" + suffix, len(packed), 128, 0, len(body))
        body += _local(b"a" + suffix, len(packed), 128, 0) + packed
    path.write_bytes(body + directory + _end(4, len(directory), len(body)))


def _members(path: Path) -> None:
    directory = b"".join(_entry(b"%06d.shp" % number, 0, 0, 0, 0) for number in range(300_000))
    path.write_bytes(_local(b"a.shp", 0, 0, 0) + directory + _end(300_000, len(directory), 35))


def _few_members_declared(path: Path) -> None:
    """Write a directory of 300,000 members whose end record counts three."""
    directory = b"".join(_entry(b"%06d.shp" % number, 0, 0, 0, 0) for number in range(300_000))
    path.write_bytes(_local(b"a.shp", 0, 0, 0) + directory + _end(3, len(directory), 35))


def _nested(path: Path) -> None:
    inner = path.with_name("inner.zip")
    _zip_of(*_shapefile_members(100 * MIB))(inner)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(16):
            archive.writestr(f"{number}.zip", inner.read_bytes())
    inner.unlink()


# --- XML ---

_LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "&a%d;&a%d;">' % (number, number - 1, number - 1) for number in range(1, 31))
    + b"]><kml><Document><name>&a30;</name></Document></kml>"
)
_EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a SYSTEM "file:///etc/passwd">]><kml><name>&a;</name></kml>'
_POINT = b"<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"


# --- SQLite ---


def _database(*statements: str, more: Callable[[sqlite3.Connection], None] | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("BEGIN")
            for statement in statements:
                db.execute(statement)
            if more is not None:
                more(db)
            db.execute("COMMIT")

    return write


_METADATA = "CREATE TABLE metadata (name text, value text)"
_TILES = "CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)"
_ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT i AS zoom_level, i AS tile_column, "
    "i AS tile_row, CAST('GIF89a' AS blob) AS tile_data FROM n"
)


def _views_of_views(count: int, times: int) -> list[str]:
    first = "CREATE VIEW v0 AS SELECT 1 AS zoom_level, 1 AS tile_column, 1 AS tile_row, x'00' AS tile_data"
    views = [
        f"CREATE VIEW v{number} AS " + " UNION ALL ".join([f"SELECT * FROM v{number - 1}"] * times)
        for number in range(1, count)
    ]
    return [first, *views, f"CREATE VIEW tiles AS SELECT * FROM v{count - 1}"]


def _cross_joins(path: Path) -> None:
    rows = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n"
    joins = ", ".join(f"numbers AS n{number}" for number in range(6))
    columns = "n0.i AS zoom_level, n1.i AS tile_column, n2.i AS tile_row, x'00' AS tile_data"
    view = f"CREATE VIEW tiles AS SELECT {columns} FROM {joins} WHERE n0.i + n1.i + n2.i + n3.i + n4.i + n5.i < 0"
    _database(_METADATA, "CREATE TABLE numbers (i integer)", f"INSERT INTO numbers {rows}", view)(path)


def _fill(table: str, rows: int, *, value: str) -> str:
    return (
        f"INSERT INTO {table} SELECT {value} FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < {rows}) SELECT i FROM n)"
    )


def _with_log(path: Path) -> None:
    _database(_METADATA, _TILES)(path)
    path.with_name(f"{path.name}-wal").write_bytes(bytes(1000))


def _garbage_database(path: Path) -> None:
    _database(_METADATA, _TILES, _fill("tiles", 1000, value="0, i, i, zeroblob(3000)"))(path)
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(byte * 37 % 251 for byte in range(256)) * ((len(content) - 4096) // 256)
    path.write_bytes(content)


_GIF = "CAST('GIF89a' AS blob)"


# --- TIFF ---


def _tiff(directory_at: int, *, count: int = 1, tag: bytes = bytes(20), size: int = 1 << 33) -> Callable[[Path], None]:
    """Return a function that writes a sparse BigTIFF whose directory has one kind of tag."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, directory_at))
            file.seek(16)
            file.write(struct.pack("<Q", count) + tag * min(count, 4096))
            file.truncate(size)

    return write


def _cyclic(path: Path) -> None:
    from tests.unit.preflight.binaries import tiff

    path.write_bytes(tiff(following=32))


def _tag(code: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHQQ", code, kind, count, value)


# --- JSON and CSV ---


def _keys(path: Path, *, count: int, where: str) -> None:
    """Write an object with many different members."""
    with path.open("wb") as file:
        file.write(_COLLECTION + b'{"type":"Feature","geometry":null,"properties":{' if where == "feature" else b"{")
        for start in range(0, count, 10_000):
            file.write(b",".join(b'"%d":0' % number for number in range(start, start + 10_000)) + b",")
        file.write(b'"end":0}}]}' if where == "feature" else b'"type":"FeatureCollection","features":[]}')


FILES: dict[str, Callable[[Path], Any]] = {
    "a bomb of four large members.zip": _zip_of(*_shapefile_members(1024 * MIB)),
    "members within the limit that add up.zip": _zip_of(
        *((f"{n}{suffix}", b"\0", 200 * MIB) for n in range(5) for suffix in (".shp", ".shx", ".dbf", ".prj"))
    ),
    "zips in a zip.zip": _nested,
    "members that overlap.zip": _overlapping,
    "more than declared.zip": _more_than_declared,
    "300,000 members.zip": _members,
    "300,000 members and three declared.zip": _few_members_declared,
    "a path above.zip": _zip_of(("../../etc/a.shp", b"\0", 0), ("/a.dbf", b"\0", 0), ("C:\\a.shx", b"\0", 0)),
    "entities that multiply.kml": _parts(_LAUGHS),
    "an external entity.kml": _parts(_EXTERNAL),
    "folders 2,000,000 deep.kml": _parts(_KML, (b"<Folder>", 16_000_000)),
    "a tag of 200 MB.kml": _parts(_KML, b"<Placemark a='", (b"a", 200_000_000), b"'/>"),
    "a name of 250 MB.kml": _parts(_KML, b"<name>", (b"a", 250_000_000), b"</name>", _POINT, b"</Document></kml>"),
    "a tag name of 200 MB.gpx": _parts(b'<?xml version="1.0"?><gpx><', (b"a", 200_000_000), b"/>"),
    "a comment of 250 MB.kml": _parts(_KML, b"<!--", (b"a", 250_000_000), b"-->", _POINT, b"</Document></kml>"),
    "coordinates of 250 MB.kml": _parts(
        _KML, b"<Placemark><coordinates>", (b"1,2 ", 250_000_000), b"</coordinates></Placemark></Document></kml>"
    ),
    "coordinates of 250 MB without a space.kml": _parts(
        _KML, b"<Placemark><coordinates>", (b"1,", 250_000_000), b"</coordinates></Placemark></Document></kml>"
    ),
    "a track position of 250 MB.kml": _parts(
        _KML, b"<Placemark><coord>", (b"1 ", 250_000_000), b"</coord></Placemark></Document></kml>"
    ),
    "a line of 250 MB.kml": _parts(_KML, (_POINT, 250_000_000), b"</Document></kml>"),
    "attributes without end.gpx": _parts(b'<?xml version="1.0"?><gpx><wpt ', (b'lat="1" ', 40_000_000), b"/></gpx>"),
    "ten million places.gpx": _parts(b'<?xml version="1.0"?><gpx>', (b"<wpt/>", 60_000_000), b"</gpx>"),
    "an endless view.mbtiles": _database(_METADATA, f"CREATE VIEW tiles AS {_ENDLESS}"),
    "endless metadata.mbtiles": _database(
        _TILES,
        f"INSERT INTO tiles VALUES (0, 0, 0, {_GIF})",
        f"CREATE VIEW metadata AS SELECT zoom_level AS name, tile_data AS value FROM ({_ENDLESS})",
    ),
    "an endless view without rows.mbtiles": _database(
        _METADATA, f"CREATE VIEW tiles AS SELECT * FROM ({_ENDLESS}) WHERE zoom_level < 0"
    ),
    "views of views.mbtiles": _database(_METADATA, *_views_of_views(40, 2)),
    "few views of many views.mbtiles": _database(_METADATA, *_views_of_views(8, 20)),
    "a join of everything.mbtiles": _cross_joins,
    "text.mbtiles": _parts(b"SQLite format 3\0", (b"a", MIB)),
    "garbage behind the header.mbtiles": _garbage_database,
    "changes in a log.mbtiles": _with_log,
    "values of 500 MB.mbtiles": _database(
        _METADATA,
        _TILES,
        f"INSERT INTO tiles VALUES (0, 0, 0, {_GIF})",
        "INSERT INTO metadata VALUES ('json', CAST(zeroblob(500000000) AS text))",
    ),
    "tiles of 500 MB.mbtiles": _database(_METADATA, _TILES, "INSERT INTO tiles VALUES (0, 0, 0, zeroblob(500000000))"),
    "many values of 4 MB.mbtiles": _database(
        _METADATA,
        _TILES,
        f"INSERT INTO tiles VALUES (0, 0, 0, {_GIF})",
        _fill("metadata", 200, value="'name' || i, CAST(replace(hex(zeroblob(2000000)), '00', 'ab') AS text)"),
    ),
    "10,000,000 rows of metadata.mbtiles": _database(
        _METADATA,
        _TILES,
        f"INSERT INTO tiles VALUES (0, 0, 0, {_GIF})",
        _fill("metadata", 10_000_000, value="'a', 'b'"),
    ),
    "generated columns.mbtiles": _database(
        _METADATA,
        "CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob AS "
        "(zeroblob(900000000)) VIRTUAL)",
        "INSERT INTO tiles VALUES (0, 0, 0)",
    ),
    "triggers.mbtiles": _database(
        _METADATA,
        _TILES,
        f"INSERT INTO tiles VALUES (0, 0, 0, {_GIF})",
        "CREATE TRIGGER t AFTER INSERT ON tiles BEGIN DELETE FROM tiles; END",
    ),
    "a virtual table.mbtiles": _database(
        _METADATA, "CREATE VIRTUAL TABLE tiles USING fts5(zoom_level, tile_column, tile_row, tile_data)"
    ),
    "10,000,000 brackets.geojson": _parts(_COLLECTION, (b"[", 10_000_000)),
    "10,000,000 brackets at the top.geojson": _parts(b'{"type":"FeatureCollection","a":', (b"[", 10_000_000)),
    "10,000,000 objects.geojson": _parts(_COLLECTION, (b'{"a":', 50_000_000)),
    "10,000,000 brackets in properties.geojson": _parts(
        _COLLECTION, b'{"type":"Feature","geometry":null,"properties":{"a":', (b"[", 10_000_000)
    ),
    "brackets behind the features.geojson": _parts(_COLLECTION, b'],"a":', (b"[", 10_000_000)),
    "a string of 1 GB.geojson": _parts(
        _COLLECTION, b'{"type":"Feature","geometry":null,"properties":{"a":"', (b"a", 1_000_000_000), b'"}}]}'
    ),
    "a string of 1 GB at the top.geojson": _parts(b'{"type":"FeatureCollection","a":"', (b"a", 1_000_000_000)),
    "a string of 1 GB behind the features.geojson": _parts(_COLLECTION, b'],"a":"', (b"a", 1_000_000_000), b'"}'),
    "spaces of 1 GB behind the features.geojson": _parts(_COLLECTION, b"]", (b" ", 1_000_000_000), b"}"),
    "spaces of 1 GB between features.geojson": _parts(_COLLECTION, (b" ", 1_000_000_000), b"]}"),
    "one feature of 500 MB.geojson": _parts(
        _COLLECTION,
        b'{"type":"Feature","properties":null,"geometry":{"type":"MultiPoint","coordinates":[',
        (b"[1,2],", 500_000_000),
        b"[1,2]]}}]}",
    ),
    "a number of 100 MB.geojson": _parts(
        _COLLECTION, b'{"type":"Feature","geometry":{"type":"Point","coordinates":[', (b"1", 100_000_000), b",2]}}]}"
    ),
    "a number of 7 MB.geojson": _parts(
        _COLLECTION, b'{"type":"Feature","geometry":{"type":"Point","coordinates":[', (b"1", 7_000_000), b",2]}}]}"
    ),
    "a number of 7 MB at the top.geojson": _parts(
        b'{"type":"FeatureCollection","a":', (b"1", 7_000_000), b',"features":[]}'
    ),
    "10,000,000 keys.geojson": lambda path: _keys(path, count=10_000_000, where="feature"),
    "10,000,000 keys at the top.geojson": lambda path: _keys(path, count=10_000_000, where="top"),
    "empty arrays of 8 MB.geojson": _parts(
        _COLLECTION, b'{"type":"Feature","geometry":null,"properties":{"a":[', (b"[],", 7_500_000), b"[]]}}]}"
    ),
    "elements that are not features.geojson": _parts(_COLLECTION, (b"[],", 50_000_000), b"[]]}"),
    "a long unfinished word.geojson": _parts(_COLLECTION, b'{"a":', (b"tru", 50_000_000)),
    "backslashes.geojson": _parts(_COLLECTION, b'{"a":"', (b"\\\\", 100_000_000), b'"}]}'),
    "halves of characters.geojson": _parts(
        _COLLECTION, (b'{"type":"Feature","geometry":null,"properties":{"a":"\\ud83d"}},', 30_000_000), b"null]}"
    ),
    "a cell of 1 GB.csv": _parts(b'lon,lat,a\n1,2,"', (b"a", 1_000_000_000), b'"\n'),
    "a bare cell of 1 GB.csv": _parts(b"lon,lat,a\n1,2,", (b"a", 1_000_000_000), b"\n"),
    "a header of 1 GB.csv": _parts(b"lon,lat,", (b"a", 1_000_000_000), b"\n1,2\n"),
    "cells of 1 GB.csv": _parts(b"lon,lat\n", (b"1,", 1_000_000_000), b"\n"),
    "lines in quotes.csv": _parts(b'lon,lat,a\n1,2,"', (b'\n""', 100_000_000), b'"\n'),
    "empty lines.csv": _parts(b"lon,lat\n", (b"\n", 100_000_000)),
    "carriage returns.csv": _parts(b"lon,lat\n", (b"\r", 100_000_000)),
    "a geometry of 15 MB.csv": _parts(b'wkt\n"LINESTRING (', (b"1 2,", 15_000_000), b'1 2)"\n'),
    "brackets in a geometry.csv": _parts(b'wkt\n"', (b"GEOMETRYCOLLECTION(", 7_000_000), b'"\n'),
    "brackets in a GeoJSON cell.csv": _parts(b'geojson\n"{""a"":', (b"[", 7_000_000), b'"\n'),
    "a number of 15 MB.csv": _parts(b"lon,lat\n", (b"1", 15_000_000), b",2\n"),
    "two to the 32 tags.tif": _tiff(16, count=2**32),
    "4,096 tags of no type.tif": _tiff(16, count=4096, tag=_tag(256, 99, 2**63, 2**63)),
    "a cycle of directories.tif": _cyclic,
    "a directory beyond the end.tif": _tiff(2**63),
    "a directory in the last byte.tif": _tiff((1 << 33) - 8),
    "values beyond the end.tif": _tiff(16, count=2, tag=_tag(256, 4, 2**60, 2**60)),
    "values without end.tif": _tiff(16, count=4, tag=_tag(258, 3, 2**32, 100)),
}


if __name__ == "__main__":
    main()

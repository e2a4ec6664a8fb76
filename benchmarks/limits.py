"""Make files that are as large as Mapbox allows, one for each format and each kind of content."""

from __future__ import annotations

import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.csv

from airflow_mapbox.limits import CSV_BYTES, GEOJSON_BYTES, GPX_BYTES, KML_BYTES, MBTILES_BYTES, TIFF_BYTES
from benchmarks.data import points, polygons
from tests.unit.preflight.binaries import TILE
from tests.unit.preflight.support import WGS84

# Of the layers in benchmarks.data, so many features are nearly 1 GiB of GeoJSON.
_POINTS, _POLYGONS = 5_550_000, 1_070_000
_UNZIPPED_BYTES = 250_000_000
_TILES = 2_000_000
_PAGE_BYTES = 4096


def _geojson(path: Path, layer: Callable[[int], geopandas.GeoDataFrame], count: int, *, is_sorted: bool) -> None:
    from airflow_mapbox.export import write_geojson

    frame = layer(6).iloc[:count]
    if is_sorted:
        frame = frame.iloc[np.argsort(frame.geometry.bounds["minx"].to_numpy())]
    write_geojson(frame, path, limit_bytes=GEOJSON_BYTES)


def _csv(path: Path, *, quoting: str) -> None:
    rng, count = np.random.default_rng(5), 1_000_000
    name = "place {}" if quoting == "none" else "place {}, «north»"
    names = np.array([name.format(number) for number in range(5000)])
    options = pa.csv.WriteOptions(quoting_style=quoting, include_header=False)
    with path.open("wb") as file:
        file.write(b"id,name,lon,lat,value\n")
        while file.tell() < CSV_BYTES - 80 * count:
            columns = {
                "id": np.arange(count),
                "name": names[rng.integers(0, 5000, count)],
                "lon": rng.uniform(-179, 179, count).round(6),
                "lat": rng.uniform(-80, 80, count).round(6),
                "value": rng.normal(size=count).round(4),
            }
            pa.csv.write_csv(pa.table(columns), file, options)


def _kml(path: Path) -> None:
    rng = np.random.default_rng(6)
    placemarks = []
    for number in range(20_000):
        x, y = rng.uniform(-170, 170), rng.uniform(-80, 80)
        ring = " ".join(f"{x + dx:.6f},{y + dy:.6f},0" for dx, dy in rng.uniform(-1, 1, (30, 2)))
        placemarks.append(
            f"<Placemark><name>parcel {number}</name><ExtendedData><SchemaData><SimpleData name='kind'>field"
            f"</SimpleData></SchemaData></ExtendedData><Polygon><outerBoundaryIs><LinearRing><coordinates>{ring}"
            f"</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>\n"
        )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
    _repeat(path, head, "".join(placemarks), "</Document></kml>\n", KML_BYTES)


def _gpx(path: Path) -> None:
    rng = np.random.default_rng(7)
    track = "".join(
        f'<trkpt lat="{y:.6f}" lon="{x:.6f}"><ele>{height:.1f}</ele><time>2026-01-01T00:00:00Z</time></trkpt>\n'
        for x, y, height in rng.uniform((-170, -80, 0), (170, 80, 3000), (100_000, 3))
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">\n'
    _repeat(path, head, f"<trk><trkseg>{track}</trkseg></trk>", "</gpx>\n", GPX_BYTES)


def _repeat(path: Path, head: str, content: str, tail: str, limit: int) -> None:
    times = (limit - len(head) - len(tail)) // len(content.encode())
    with path.open("w") as file:
        file.write(head)
        for _ in range(times):
            file.write(content)
        file.write(tail)


def _shapefile(path: Path) -> None:
    rng, row_bytes = np.random.default_rng(8), 64
    count = _UNZIPPED_BYTES // (28 + row_bytes)
    places = rng.uniform((-179, -80), (179, 80), (count, 2)).round(6)
    records = np.zeros(count, np.dtype([("number", ">i4"), ("words", ">i4"), ("type", "<i4"), ("xy", "<f8", 2)]))
    records["number"], records["words"], records["type"], records["xy"] = np.arange(count) + 1, 10, 1, places
    index = np.zeros(count, np.dtype([("offset", ">i4"), ("words", ">i4")]))
    index["offset"], index["words"] = 50 + 14 * np.arange(count), 10
    box = (*places.min(axis=0), *places.max(axis=0))
    rows = np.full((count, row_bytes), ord(" "), np.uint8)
    rows[:, 1:40] = rng.integers(ord("a"), ord("z"), (count, 39))
    column = b"name".ljust(11, b"\0") + b"C" + bytes(4) + bytes([row_bytes - 1, 0]) + bytes(14)
    table = struct.pack("<B3xIHH20x", 3, count, 32 + 32 + 1, row_bytes) + column + b"\r"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, head, body in (
            ("points.shp", _shape_head(100 + records.nbytes, box), records.tobytes()),
            ("points.shx", _shape_head(100 + index.nbytes, box), index.tobytes()),
            ("points.dbf", table, rows.tobytes()),
            ("points.prj", b"", WGS84.encode()),
        ):
            archive.writestr(name, head + body, compresslevel=1)


def _shape_head(size: int, box: tuple[float, ...]) -> bytes:
    return struct.pack(">i20xi", 9994, size // 2) + struct.pack("<2i8d", 1000, 1, *box, 0, 0, 0, 0)


def _mbtiles(path: Path) -> None:
    """Write tiles and their index, and make the file as large as it may be with a hole that belongs to no table."""
    zoom, side = 11, 1415
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        db.execute("CREATE TABLE metadata (name text, value text)")
        db.execute("CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)")
        layers = '{"vector_layers":[{"id":"roads","fields":{}}]}'
        facts = {"name": "roads", "format": "pbf", "minzoom": zoom, "maxzoom": zoom, "json": layers}
        db.executemany("INSERT INTO metadata VALUES (?, ?)", [(name, str(value)) for name, value in facts.items()])
        db.executemany(
            "INSERT INTO tiles VALUES (?, ?, ?, ?)",
            ((zoom, number // side, number % side, TILE) for number in range(_TILES)),
        )
        db.execute("CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)")
        db.execute("COMMIT")
    pages = MBTILES_BYTES // _PAGE_BYTES
    with path.open("r+b") as file:
        file.seek(28)
        file.write(pages.to_bytes(4, "big"))
        file.truncate(pages * _PAGE_BYTES)


def _tiff(path: Path) -> None:
    """Write a BigTIFF of RGB tiles whose directory is at its beginning and whose pixels are a hole."""
    side, across = 512, 111
    tiles = across * across
    size = 3 * side * side
    values_at = 4096
    offsets_at, sizes_at = values_at + 4096, values_at + 4096 + 8 * tiles
    data_at = sizes_at + 8 * tiles
    keys = (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326)  # geographic, WGS 84
    scale, tiepoint = (1e-5, 1e-5, 0.0), (0.0, 0.0, 0.0, 7.0, 50.0, 0.0)
    values = struct.pack("<3d6d12H", *scale, *tiepoint, *keys)
    tags = [
        (256, 4, 1, side * across),
        (257, 4, 1, side * across),
        (258, 3, 3, 8 | 8 << 16 | 8 << 32),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (284, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 16, tiles, offsets_at),
        (325, 16, tiles, sizes_at),
        (33550, 12, 3, values_at),
        (33922, 12, 6, values_at + 24),
        (34735, 3, len(keys), values_at + 72),
    ]
    directory = struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags) + bytes(8)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory)
        file.seek(values_at)
        file.write(values)
        file.seek(offsets_at)
        file.write((data_at + size * np.arange(tiles, dtype="<u8")).tobytes())
        file.write(np.full(tiles, size, "<u8").tobytes())
        file.truncate(data_at + size * tiles)
    if path.stat().st_size > TIFF_BYTES:
        raise ValueError("The TIFF is larger than Mapbox allows.")


FILES: dict[str, Callable[[Path], None]] = {
    "points.geojson": lambda path: _geojson(path, points, _POINTS, is_sorted=False),
    "points-sorted.geojson": lambda path: _geojson(path, points, _POINTS, is_sorted=True),
    "polygons.geojson": lambda path: _geojson(path, polygons, _POLYGONS, is_sorted=False),
    "polygons-sorted.geojson": lambda path: _geojson(path, polygons, _POLYGONS, is_sorted=True),
    "plain.csv": lambda path: _csv(path, quoting="none"),
    "quoted.csv": lambda path: _csv(path, quoting="all_valid"),
    "polygons.kml": _kml,
    "tracks.gpx": _gpx,
    "points.zip": _shapefile,
    "tiles.mbtiles": _mbtiles,
    "pixels.tif": _tiff,
}


def make(name: str, folder: Path) -> Path:
    """
    Return a file, which is made first if it is missing.

    :param name: a key of ``FILES``.
    :param folder: where the files are.
    """
    path = folder / name
    if not path.is_file():
        unfinished = folder / f"unfinished-{name}"
        unfinished.unlink(missing_ok=True)
        FILES[name](unfinished)
        unfinished.rename(path)
    return path

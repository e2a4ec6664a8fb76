"""All files over which preflight and emulator are compared, and what Mapbox's own tests expect of them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.conftest import ROOT
from tests.unit.preflight import support
from tests.unit.preflight.binaries import FIXTURES, mbtiles, shapefile, tiff

# Mapbox has no test of the file.
UNTESTED: Final = "untested"


@dataclass(frozen=True)
class Case:
    """
    A file.

    :param name: its origin and its name.
    :param content: returns its bytes. The function gets an empty folder.
    :param mapbox: the start of the message that Mapbox's own tests expect; None if they expect no message.
    """

    name: str
    content: Callable[[Path], bytes]
    mapbox: str | None = UNTESTED

    @property
    def origin(self) -> str:
        """The origin, which begins the name."""
        return self.name.partition("/")[0]


# Mapbox's test/fixtures/index.js and test/expected/index.js. A file that it does not name is UNTESTED.
_IN = "In mbtiles file, metadata."
_EXPECTED = {
    "fail-more-than-15-layers.kml": "22 layers found. Maximum of 15 layers allowed.",
    "invalid.kml-duplicate-layers.kml": "Duplicate layer names: foo layer (3) bar layer (2)",
    "invalid.kml-fail.kml": "Error opening dataset",
    "invalid.mbtiles-corrupt.mbtiles": "SQLITE_CORRUPT",
    "invalid.mbtiles-duplicate-layers.mbtiles": 'Vector source "vector_layers" contains duplicate ID: apples',
    "invalid.mbtiles-empty.mbtiles": "Tileset is empty.",
    "invalid.mbtiles-limits.mbtiles": "Tileset exceeds processing limit.",
    "invalid.mbtiles-notadb.mbtiles": "Unknown filetype",
    "invalid.mbtiles-notiledata.mbtiles": "SQLITE_ERROR: no such column: tile_data",
    "invalid.mbtiles-oldcarmen.mbtiles": "Carmen 0.1.x tilesets are no longer supported.",
    "invalid.mbtiles-prepare.mbtiles": "Source cannot contain prepare key",
    "invalid.mbtiles-template.mbtiles": "Use TileMill 0.7 or later to export MBTiles with a valid template.",
    "invalid.mbtiles-vector.mbtiles": 'Vector source must include "vector_layers" key',
    "invalid.omnivore.bad-projection": "Error creating Mapnik Datasource: could not create file mapping for",
    "invalid.omnivore.geojson-bounds.json": "bounds east value must be between -360 and 360",
    "invalid.omnivore.scrambled-files": "Unknown filetype",
    "invalid.omnivore.tif": "Unknown filetype",
    "invalid.omnivore.toomanylayers.kml": "16 layers found. Maximum of 15 layers allowed.",
    "invalid.unsupported.txt": "Unknown filetype",
    "invalid.vector-metadata-fillzoom-below-tiles.mbtiles": f"{_IN}fillzoom (0) is lower than actual tiles minzoom (1)",
    "invalid.vector-metadata-fillzoom-beyond-tiles.mbtiles": (
        f"{_IN}fillzoom (3) is higher than actual tiles maxzoom (2)"
    ),
    "invalid.vector-metadata-maxzoom-below-tiles.mbtiles": f"{_IN}maxzoom (0) is lower than actual tiles minzoom (1)",
    "invalid.vector-metadata-maxzoom-beyond-tiles.mbtiles": (
        f"{_IN}maxzoom (4) is higher than actual tiles maxzoom (2)"
    ),
    "ok-layers-folders-emptygeometries.kml": None,
    "valid-carmen2.mbtiles": None,
    "valid-onlygrids.mbtiles": None,
    "valid-onlytiles.mbtiles": None,
    "valid-tilesgrid.mbtiles": None,
    "valid-tilestats-metadata.mbtiles": None,
    "valid-update1.mbtiles": None,
    "valid-update2.mbtiles": None,
    "valid-vectorgzip.mbtiles": None,
    "valid-webp.mbtiles": None,
    "valid.shapefile.zip": None,
    "valid.vector-metadata-maxzoom-beyond-tiles-but-fillzoom.mbtiles": None,
}


def all_cases() -> list[Case]:
    """Return every file that needs no network."""
    return [*_fixtures(), *_of_packages(), *_written(), *_drawn(), *_made()]


def zipped(files: list[Path]) -> bytes:
    """Return a zip of files, without their folders."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files):
            archive.write(file, file.name)
    return packed.getvalue()


def files_of(folder: Path, origin: str, expected: dict[str, str | None] | None = None) -> Iterator[Case]:
    """
    Yield the files of a folder in the formats of Uploads, each shapefile as a zip.

    :param folder: the folder, which is searched to any depth.
    :param origin: the start of the names.
    :param expected: what Mapbox's tests expect, by the name.
    """
    suffixes = {".geojson", ".json", ".csv", ".kml", ".gpx", ".zip", ".mbtiles", ".tif", ".tiff"}
    ignored = {"package.json", "package-lock.json", "component.json"}
    for file in sorted(folder.rglob("*")):
        name, expect = file.relative_to(folder).as_posix(), (expected or {}).get(file.name, UNTESTED)
        if file.suffix == ".shp":
            parts = list(file.parent.glob(f"{file.stem}.*"))
            shown = f"{origin}/{name.removesuffix('.shp')} (zipped here).zip"
            yield Case(shown, lambda _, parts=parts: zipped(parts), expect)  # type: ignore[misc]
        elif file.is_file() and file.suffix in suffixes and file.name not in ignored:
            yield Case(f"{origin}/{name}", lambda _, file=file: file.read_bytes(), expect)  # type: ignore[misc]


def _fixtures() -> Iterator[Case]:
    for path in sorted(FIXTURES.iterdir()):
        name = path.name.removesuffix(".gz")
        if path.suffix == ".gz":
            content = lambda _, path=path: gzip.decompress(path.read_bytes())  # noqa: E731
        elif path.is_dir():
            content = lambda _, path=path: zipped(list(path.iterdir()))  # noqa: E731
        else:
            content = lambda _, path=path: path.read_bytes()  # noqa: E731
        if path.name not in ("LICENSE", "README.md"):
            yield Case(f"mapbox/{name}", content, _EXPECTED.get(name, UNTESTED))


def _of_packages() -> Iterator[Case]:
    import geopandas
    import pyogrio

    for package in (pyogrio, geopandas):
        yield from files_of(Path(str(package.__file__)).parent / "tests", package.__name__)
    yield from files_of(ROOT / "dags" / "data", "examples")


# --- What this provider and GDAL write ---


def _written() -> Iterator[Case]:
    """Yield what the exports make of each benchmark layer."""
    from benchmarks.data import SYNTHETIC

    for layer, make in SYNTHETIC.items():
        for kind in ("geojson", "mbtiles"):
            yield Case(f"export/{layer}.{kind}", lambda folder, make=make, kind=kind: _export(make, kind, folder))  # type: ignore[misc]


def _export(make: Callable[[float], Any], kind: str, folder: Path) -> bytes:
    from airflow_mapbox.export import write_geojson, write_mbtiles

    path = folder / f"layer.{kind}"
    if kind == "geojson":
        write_geojson(make(0.005), path)
    else:
        write_mbtiles(make(0.005), path, maxzoom=5)
    return path.read_bytes()


def _drawn() -> Iterator[Case]:
    """Yield what GDAL writes in each vector format, for each type of geometry."""
    import shapely

    shapes = {
        "points": [shapely.Point(7, 50), shapely.Point(8, 51)],
        "multipoints": [shapely.MultiPoint([(7, 50), (8, 51)])],
        "lines": [shapely.LineString([(7, 50), (8, 51), (8, 52)])],
        "multilines": [shapely.MultiLineString([[(7, 50), (8, 51)], [(9, 52), (9, 53)]])],
        "polygons": [shapely.box(7, 50, 8, 51).difference(shapely.box(7.2, 50.2, 7.4, 50.4))],
        "multipolygons": [shapely.MultiPolygon([shapely.box(7, 50, 8, 51), shapely.box(9, 50, 10, 51)])],
        "heights": [shapely.Point(7, 50, 100), shapely.Point(8, 51, 200)],
        "empty": [shapely.Point(7, 50), None],
    }
    options: dict[str, dict[str, Any]] = {
        "GeoJSON": {"suffix": ".geojson"},
        "GeoJSON of RFC 7946": {"suffix": ".geojson", "driver": "GeoJSON", "RFC7946": "YES"},
        "GeoJSON with bbox": {"suffix": ".geojson", "driver": "GeoJSON", "WRITE_BBOX": "YES"},
        "KML": {"suffix": ".kml"},
        "LIBKML": {"suffix": ".kml"},
        "CSV": {"suffix": ".csv", "GEOMETRY": "AS_WKT"},
        "ESRI Shapefile": {"suffix": ".shp"},
        "GPX": {"suffix": ".gpx", "GPX_USE_EXTENSIONS": "YES"},
        "MBTiles": {"suffix": ".mbtiles"},
    }
    for name, option in options.items():
        for kind, geometries in shapes.items():
            if (name == "GPX" and kind not in ("points", "lines", "multilines", "heights")) or (
                name == "MBTiles" and kind == "empty"
            ):
                continue
            yield Case(
                f"gdal/{name}, {kind}",
                lambda folder, geometries=geometries, name=name, option=option: _draw(  # type: ignore[misc]
                    geometries, folder, **{"driver": name, **option}
                ),
            )
    for layout, option in _LAYOUTS.items():
        yield Case(f"gdal/GTiff, {layout}", lambda folder, option=option: _paint(folder, **option))  # type: ignore[misc]


def _draw(geometries: list[Any], folder: Path, *, driver: str, suffix: str, **options: str) -> bytes:
    import geopandas

    frame = geopandas.GeoDataFrame(
        {"name": [f"place {number}" for number in range(len(geometries))], "number": range(len(geometries))},
        geometry=geometries,
        crs="EPSG:4326",
    )
    path = folder / f"drawn{suffix}"
    frame.to_file(path, driver=driver, engine="pyogrio", **options)
    return zipped(list(folder.glob("drawn.*"))) if suffix == ".shp" else path.read_bytes()


_LAYOUTS: dict[str, dict[str, Any]] = {
    "EPSG 4326": {},
    "EPSG 3857": {"crs": "EPSG:3857", "box": (800_000, 6_400_000, 900_000, 6_500_000)},
    "EPSG 32632": {"crs": "EPSG:32632", "box": (400_000, 5_500_000, 500_000, 5_600_000)},
    "EPSG 5070": {"crs": "EPSG:5070", "box": (0, 1_500_000, 100_000, 1_600_000)},
    "one band": {"bands": 1},
    "alpha": {"bands": 4},
    "no-data value": {"nodata": 255},
    "tiled": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "Deflate": {"compress": "deflate"},
    "LZW with a predictor": {"compress": "lzw", "predictor": 2},
    "JPEG": {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "planes": {"interleave": "band"},
    "BigTIFF": {"BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG"},
    "big-endian BigTIFF": {"ENDIANNESS": "BIG", "BIGTIFF": "YES"},
    "COG": {"driver": "COG"},
    "the whole Earth": {"box": (-180, -90, 180, 90)},
    "16 bits": {"dtype": "uint16"},
    "1 bit": {"bands": 1, "nbits": 1},
    "floats": {"dtype": "float32"},
    "signed": {"dtype": "int8"},
    "no CRS": {"crs": None},
    "no position": {"crs": None, "box": None},
    "a position of zeros and ones": {"crs": None, "box": (0, 128, 128, 0)},
    "wide pixels": {"box": (7, 50, 8, 50.4)},
    "pixels twice as wide as high": {"box": (7, 50, 8, 50.5)},
    "upside down": {"box": (7, 51, 8, 50)},
}


def _paint(
    folder: Path,
    *,
    crs: str | None = "EPSG:4326",
    box: tuple[float, float, float, float] | None = (7, 50, 8, 51),
    bands: int = 3,
    dtype: str = "uint8",
    driver: str = "GTiff",
    **options: Any,
) -> bytes:
    import warnings

    import numpy as np
    import rasterio
    from rasterio.transform import from_bounds

    path, side = folder / "painted.tif", 128
    profile: dict[str, Any] = {
        "driver": driver,
        "width": side,
        "height": side,
        "count": bands,
        "dtype": dtype,
        "crs": crs,
    }
    if box is not None:
        profile["transform"] = from_bounds(*box, side, side)
    pixels = np.arange(bands * side * side).reshape(bands, side, side) % 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file without a position
        with rasterio.open(path, "w", **profile, **options) as image:
            image.write(pixels.astype(dtype))
    return path.read_bytes()


# --- Small files that are made by hand ---


def _made() -> Iterator[Case]:
    for name, content in {**_texts(), **_binaries()}.items():
        data = content.encode() if isinstance(content, str) else support.as_bytes(content)
        yield Case(f"made/{name}", lambda _, data=data: data)  # type: ignore[misc]


def _texts() -> dict[str, Any]:
    """Return small texts in each format, valid and invalid."""
    point, collection = support.POINT, support.collection
    place = "<Placemark><Point><coordinates>7,50</coordinates></Point></Placemark>"
    folders = "".join(f"<Folder><name>{number}</name>{place}</Folder>" for number in range(15))
    start = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2">'
    gpx = '<?xml version="1.0"?><gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1">'
    return {
        "empty.geojson": b"",
        "two bytes.geojson": b"{}",
        "collection.geojson": collection(point),
        "feature.geojson": point,
        "geometry.geojson": point["geometry"],
        "byte order mark.geojson": b"\xef\xbb\xbf" + json.dumps(collection(point)).encode(),
        "long crs first.geojson": collection(point, crs={"a": "x" * 500}),
        "long name first.geojson": {"name": "x" * 500, **collection(point)},
        "no features.geojson": collection(),
        "null geometries.geojson": collection(point | {"geometry": None}),
        "one null geometry.geojson": collection(point, point | {"geometry": None}),
        "empty geometry.geojson": collection(point, support.with_geometry(type="MultiPoint", coordinates=[])),
        "GeometryCollection.geojson": collection(
            support.with_geometry(type="GeometryCollection", geometries=[point["geometry"]])
        ),
        "open ring.geojson": collection(
            support.with_geometry(type="Polygon", coordinates=[[[0, 0], [1, 0], [1, 1], [0, 1]]])
        ),
        "unknown geometry.geojson": collection(support.with_geometry(type="Circle", coordinates=[0, 0])),
        "a string as a position.geojson": collection(support.with_geometry(type="Point", coordinates="7,50")),
        "metres.geojson": collection(support.with_geometry(type="Point", coordinates=[500_000, 5_500_000])),
        "Antarctica.geojson": collection(support.with_geometry(type="Point", coordinates=[0, -90])),
        "TopoJSON.json": {"type": "Topology", "arcs": [], "objects": {}},
        "TileJSON.json": {"tilejson": "2.2.0", "tiles": []},
        "attribute named objects.geojson": collection(point | {"properties": {"objects": 1}}),
        "answer of a server.json": {"message": "Not Found"},
        "cut off.geojson": json.dumps(collection(point)).encode()[:-4],
        "not JSON in a feature.geojson": b'{"type": "FeatureCollection", "features": [{"type": nope}]}',
        "one document a line.geojson": b"\n".join([json.dumps(point).encode()] * 3),
        "Latin-1.geojson": json.dumps(collection(point | {"properties": {"a": "?"}})).encode().replace(b"?", b"\xe9"),
        "UTF-16.geojson": json.dumps(collection(point)).encode("utf-16"),
        "comma.csv": "lon,lat,n\n7,50,1\n",
        "semicolon.csv": "lon;lat;n\n7;50;1\n",
        "tab.csv": "lon\tlat\tn\n7\t50\t1\n",
        "pipe.csv": "lon|lat|n\n7|50|1\n",
        "quoted.csv": '"Longitude","Latitude","n"\n"7","50","a ""b"" c"\n',
        "end_longitude.csv": "start_longitude,start_latitude\n7,50\n",
        "line break in a cell.csv": 'lon,lat,n\n7,50,"a\nb"\n',
        "line breaks of Windows.csv": b"lon,lat\r\n7,50\r\n",
        "line breaks of old Macs.csv": b"lon,lat\r7,50\r",
        "wkt.csv": 'wkt,n\n"POLYGON ((0 0, 1 0, 1 1, 0 0))",1\n',
        "geojson.csv": 'geojson,n\n"{""type"": ""Point"", ""coordinates"": [7, 50]}",1\n',
        "byte order mark.csv": b"\xef\xbb\xbflon,lat\n7,50\n",
        "byte order mark, name first.csv": b"\xef\xbb\xbfn,lon,lat\n1,7,50\n",
        "space in the header.csv": "lon, lat\n7,50\n",
        "the_geom.csv": "id,the_geom\n1,POINT (7 50)\n",
        "columns after 512 bytes.csv": "column," * 80 + "lon,lat\n" + "1," * 80 + "7,50\n",
        "no columns of coordinates.csv": "a,b\n1,2\n",
        "no rows.csv": "lon,lat\n",
        "no row that can be read.csv": "lon,lat\nx,y\n",
        "some rows that can be read.csv": "lon,lat\nx,y\n7,50\n,\n",
        "decimal commas.csv": "lon;lat\n7,5;50,1\n",
        "metres.csv": "x,y\n500000,5500000\n",
        "document.kml": f"{start}<Document>{place}</Document></kml>",
        "placemark beside the document.kml": f"{start}{place}</kml>",
        "15 folders.kml": f"{start}<Document>{folders}</Document></kml>",
        "15 folders and an empty one.kml": f"{start}<Document>{folders}<Folder><Placemark/></Folder></Document></kml>",
        "16 folders.kml": f"{start}<Document>{folders}{place}</Document></kml>",
        "folder twice.kml": f"{start}<Document>{folders[: len(folders) // 15] * 2}</Document></kml>",
        "empty.kml": f"{start}</kml>",
        "empty document.kml": f"{start}<Document></Document></kml>",
        "empty folder.kml": f"{start}<Folder></Folder></kml>",
        "no geometries.kml": f"{start}<Document><Placemark><name>a</name></Placemark></Document></kml>",
        "no declaration.kml": f"<kml><Document>{place}</Document></kml>",
        "long comment first.kml": f'<?xml version="1.0"?><!--{"x" * 100}--><kml><Document>{place}</Document></kml>',
        "prefix.kml": f'<?xml version="1.0"?><k:kml xmlns:k="x"><k:Document>{place}</k:Document></k:kml>',
        "cut off.kml": f"{start}<Document>{place}",
        "waypoint.gpx": f'{gpx}<wpt lat="50" lon="7"/></gpx>',
        "track.gpx": f'{gpx}<trk><trkseg><trkpt lat="50" lon="7"/><trkpt lat="51" lon="8"/></trkseg></trk></gpx>',
        "track of one point.gpx": f'{gpx}<trk><trkseg><trkpt lat="50" lon="7"/></trkseg></trk></gpx>',
        "route.gpx": f'{gpx}<rte><rtept lat="50" lon="7"/><rtept lat="51" lon="8"/></rte></gpx>',
        "empty track.gpx": f"{gpx}<trk><name>a</name></trk></gpx>",
        "empty.gpx": f"{gpx}</gpx>",
        "no declaration.gpx": '<gpx version="1.1"><wpt lat="50" lon="7"/></gpx>',
        "cut off.gpx": f'{gpx}<wpt lat="50" lon="7">',
        "web page.html": "<!DOCTYPE html><html><body>Not found</body></html>",
        "virtual dataset.vrt": "<OGRVRTDataSource/>",
        "words.txt": "just words",
    }


def _binaries() -> dict[str, bytes]:
    """Return small binary files, valid and invalid."""
    roads = support.ROADS
    return {
        "compressed.geojson.gz": gzip.compress(json.dumps(support.collection(support.POINT)).encode(), mtime=0),
        "shapefile.zip": support.ZIP,
        "folder.zip": support.archive({f"a folder/{name}": content for name, content in roads.items()}),
        "capitals.zip": support.archive({name.upper(): content for name, content in roads.items()}),
        "macOS.zip": support.archive({**roads, "__MACOSX/._roads.shp": b"x", "__MACOSX/._roads.dbf": b"x"}),
        "no shx.zip": support.archive({name: roads[name] for name in roads if not name.endswith("shx")}),
        "no dbf.zip": support.archive({name: roads[name] for name in roads if not name.endswith("dbf")}),
        "no prj.zip": support.archive({name: roads[name] for name in roads if not name.endswith("prj")}),
        "no shp.zip": support.archive({name: roads[name] for name in roads if not name.endswith("shp")}),
        "broken prj.zip": support.archive({**roads, "roads.prj": "nonsense"}),
        "empty prj.zip": support.archive({**roads, "roads.prj": ""}),
        "shp of another kind.zip": support.archive({**roads, "roads.shp": b"x" * 200}),
        "GeoJSON in a zip.zip": support.archive({"a.geojson": json.dumps(support.collection(support.POINT))}),
        "no zip.zip": b"PK\x03\x04 and no more",
        "poles.zip": support.archive(shapefile(box=(-180.0, -90.0, 180.0, 90.0))),
        "metres without a projection.zip": support.archive(shapefile(box=(400_000.0, 5e6, 500_000.0, 6e6))),
        "tiles.mbtiles": mbtiles(),
        "GIF.mbtiles": support.MBTILES,
        "header only.mbtiles": mbtiles()[:100],
        "GeoTIFF.tif": tiff(),
        "GeoTIFF, only the kind of CRS.tif": tiff({34735: (3, [1, 1, 0, 1, 1024, 0, 1, 2])}),
        "GeoTIFF, kind of CRS missing.tif": tiff({34735: (3, [1, 1, 0, 1, 2048, 0, 1, 4326])}),
        "header only.tif": tiff()[:8],
    }

"""The export beside geopandas and GDAL, on random frames and on files of every driver that GDAL can write here."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from shapely.geometry import mapping, shape

from airflow_mapbox.export import write_geojson
from airflow_mapbox.export.errors import EmptyExportError

SEED = int(os.environ.get("DIFFERENTIAL_SEED") or random.SystemRandom().randrange(10**9))
ROUNDS = int(os.environ.get("DIFFERENTIAL_ROUNDS", "60"))

NAMES = (
    *("name", "ID", "id", "fid", "geometry_", "wkb_geometry", "ogc_fid", "type", "properties", "bbox", ""),
    *("two words", "0", "a.b", "%s"),
    *('quo"te', "back\\slash", "ünïcödé", "日本", "new\nline", "a" * 300, "__index_level_0__", "null"),
)
Column = Callable[[random.Random, int], Any]


def _some(values: list[Any]) -> Callable[[random.Random, int], list[Any]]:
    return lambda rng, count: [rng.choice(values) for _ in range(count)]


TEXTS = ["", "a", "ü", 'quo"te', "back\\slash", "tab\t", "\x01", "😀", " line sep", "2020-01-01", "NaN", "null", None]
COLUMNS: dict[str, Column] = {
    "object text": lambda rng, n: pd.Series(_some(TEXTS)(rng, n), dtype=object),
    "str": lambda rng, n: pd.Series(_some(TEXTS)(rng, n), dtype="str"),
    "string": lambda rng, n: pd.Series(_some(TEXTS)(rng, n), dtype="string"),
    "category": lambda rng, n: pd.Series(_some(TEXTS[:6])(rng, n), dtype="category"),
    "category of numbers": lambda rng, n: pd.Series(_some([1, 2, None])(rng, n)).astype("category"),
    "int8": lambda rng, n: pd.Series(_some([-128, 0, 127])(rng, n), dtype="int8"),
    "uint64": lambda rng, n: pd.Series(_some([0, 1, 2**53])(rng, n), dtype="uint64"),
    "int64": lambda rng, n: pd.Series(_some([-(2**53), -1, 0, 2**40])(rng, n), dtype="int64"),
    "Int32": lambda rng, n: pd.Series(_some([-1, 5, None])(rng, n), dtype="Int32"),
    "float32": lambda rng, n: pd.Series(_some([0.1, -0.0, 1e30, math.nan])(rng, n), dtype="float32"),
    "float64": lambda rng, n: pd.Series(_some([0.1, 1e-300, 1e300, math.nan, math.inf, 3.0])(rng, n), dtype="float64"),
    "Float64": lambda rng, n: pd.Series(_some([0.5, None])(rng, n), dtype="Float64"),
    "bool": lambda rng, n: pd.Series(_some([True, False])(rng, n), dtype="bool"),
    "boolean": lambda rng, n: pd.Series(_some([True, False, None])(rng, n), dtype="boolean"),
    "mixed": lambda rng, n: pd.Series(_some([1, 1.5, "x", True, None])(rng, n), dtype=object),
    "lists": lambda rng, n: pd.Series(_some([[1, 2], ["a"], [], None])(rng, n), dtype=object),
    "mappings": lambda rng, n: pd.Series(_some([{"a": 1}, {"b": [None]}, None])(rng, n), dtype=object),
    "datetime": lambda rng, n: pd.Series(
        pd.to_datetime(_some(["2020-01-01", "1969-12-31 23:59:59.123", None])(rng, n), format="ISO8601")
    ),
    "datetime with zone": lambda rng, n: pd.Series(
        pd.to_datetime(_some(["2020-01-01T12:00:00Z", None])(rng, n), format="ISO8601", utc=True)
    ),
}
POINT = (7.123456789, 50.7)
GEOMETRIES: tuple[Any, ...] = (
    shapely.Point(POINT),
    shapely.Point(*POINT, 12.5),
    shapely.Point(),
    None,
    shapely.MultiPoint([(0, 0), POINT]),
    shapely.LineString([(0, 0), (1, 1), (1, 1), (2, 0)]),
    shapely.MultiLineString([[(0, 0), (1, 1)], [(5, 5), (6, 6)]]),
    shapely.Polygon([(0, 0), (0, 1), (1, 1), (1, 0)], [[(0.2, 0.2), (0.4, 0.2), (0.4, 0.4)]]),
    shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)]),
    shapely.GeometryCollection([shapely.Point(1, 1), shapely.box(0, 0, 1, 1)]),
)


def _frame(rng: random.Random) -> geopandas.GeoDataFrame:
    count = rng.choice((1, 2, 7, 40))
    names = rng.sample(NAMES, rng.randrange(1, 7))
    columns = {name: COLUMNS[rng.choice(list(COLUMNS))](rng, count) for name in names}
    kinds = GEOMETRIES if rng.random() < 0.7 else rng.sample(GEOMETRIES, 1)
    geometry = [rng.choice(kinds) for _ in range(count)]
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=4326)


def _value(value: Any) -> Any:
    """A value as JSON may say it: what has no form there is missing, moments are compared as moments."""
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))  # a tileset's attributes have no parts
    if isinstance(value, pd.Timestamp):
        value = None if value is pd.NaT else value.isoformat()
    if isinstance(value, Decimal | np.generic):
        value = value.item() if isinstance(value, np.generic) else float(value)
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str) and len(value) >= 19 and value[4:5] == "-":
        return pd.Timestamp(value).isoformat().replace("+00:00", "Z")
    return value


def _same_value(ours: Any, theirs: Any) -> bool:
    ours, theirs = _value(ours), _value(theirs)
    if isinstance(theirs, float) and isinstance(ours, float | int) and not isinstance(ours, bool):
        return math.isclose(ours, theirs, rel_tol=1e-6)  # float32 has its shortest form
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours.removesuffix("Z") == theirs.removesuffix("Z")
    return bool(ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool))


def _same_geometry(ours: Any, theirs: Any) -> bool:
    if theirs is None or theirs.is_empty:
        return ours is None
    return ours is not None and shapely.hausdorff_distance(shape(ours), shape(mapping(theirs))) < 1e-6


def _differences(path: Path, frame: geopandas.GeoDataFrame) -> list[str]:
    """What the exported file has otherwise than the frame."""
    features = json.loads(path.read_text("utf-8"))["features"]
    if len(features) != len(frame):
        return [f"{len(features)} features for {len(frame)}"]
    found = []
    for number, (feature, (_, row)) in enumerate(zip(features, frame.iterrows(), strict=True)):
        if not _same_geometry(feature["geometry"], row[frame.geometry.name]):
            found.append(f"{number}: {feature['geometry']} for {row[frame.geometry.name]}")
        expected = {str(name): value for name, value in row.items() if name != frame.geometry.name}
        given = feature["properties"]
        if given.keys() - expected.keys():
            found.append(f"{number}: properties {given.keys() - expected.keys()}")
        found += [
            f"{number}: {name!r} is {given.get(name)!r} for {value!r}"
            for name, value in expected.items()
            if not _same_value(given.get(name), value)
        ]
    return found


@pytest.mark.slow
def test_random_frames_have_the_features_that_went_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: Counter[str] = Counter()
    for number in range(ROUNDS):
        rng = random.Random(f"{SEED}-{number}")
        frame = _frame(rng)
        # Features without a geometry are left out of the file, and counted; that is another test's.
        placed = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
        path = tmp_path / "frame.geojson"
        path.unlink(missing_ok=True)
        if placed.empty:
            with pytest.raises(EmptyExportError):
                write_geojson(frame, path)
            outcomes["refused, since nothing has a geometry"] += 1
            continue
        report = write_geojson(frame, path)
        assert report.features == len(placed)
        differences = _differences(path, placed)
        assert not differences, f"DIFFERENTIAL_SEED={SEED}, frame {number}: " + "; ".join(differences[:5])
        outcomes["agree"] += 1
    with capsys.disabled():
        print(f"\n{ROUNDS} frames from seed {SEED}: {dict(outcomes)}")


# What GDAL can write points to, without a server, an option or a schema of its own. Not DGN, where a point is a line of
# no length, which the export drops and counts.
DRIVERS = {
    "GeoJSON": "x.geojson",
    "GeoJSONSeq": "x.geojsonl",
    "GPKG": "x.gpkg",
    "FlatGeobuf": "x.fgb",
    "ESRI Shapefile": "x.shp",
    "GML": "x.gml",
    "KML": "x.kml",
    "GPX": "x.gpx",
    "MapInfo File": "x.tab",
    "OpenFileGDB": "x.gdb",
    "SQLite": "x.sqlite",
    "DXF": "x.dxf",
    "JML": "x.jml",
    "MapML": "x.mapml",
    "GeoRSS": "x.xml",
    "OGR_GMT": "x.gmt",
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_files_of_a_driver_have_the_features_that_gdal_reads(driver: str, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED}-{driver}")
    count = 50
    frame = geopandas.GeoDataFrame(
        {
            "name": _some(["a", "ü", "long " * 20, "2020-02-30", None])(rng, count),
            "number": [rng.randrange(-(2**31), 2**31) for _ in range(count)],
            "share": [rng.uniform(-1e6, 1e6) for _ in range(count)],
        },
        geometry=[shapely.Point(rng.uniform(-179, 179), rng.uniform(-84, 84)) for _ in range(count)],
        crs=4326,
    )
    for columns in (["name", "number", "share"], ["name"], []):  # some formats take no attributes, or their own
        path = tmp_path / f"{len(columns)}{DRIVERS[driver]}"
        with contextlib.suppress(Exception):
            pyogrio.write_dataframe(frame[[*columns, "geometry"]], path, driver=driver)
            break
    read = pyogrio.read_dataframe(path)
    assert read.geometry.notna().all()

    report = write_geojson(path, tmp_path / "out.geojson", **({} if read.crs else {"crs": 4326}))

    differences = _differences(tmp_path / "out.geojson", read.set_crs(4326) if read.crs is None else read.to_crs(4326))
    assert report.features == count
    assert not differences, f"DIFFERENTIAL_SEED={SEED}: " + "; ".join(differences[:5])

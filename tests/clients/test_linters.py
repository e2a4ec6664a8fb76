"""What the export writes, judged by linters that were not written here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geojson_validator
import geopandas
import numpy as np
import pytest
import shapely
from shapely.geometry import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from airflow_mapbox.export import write_geojson
from tests.clients.conftest import beside_package, run
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)

LINTER = Path(__file__).with_name("lint_geojson.mjs")
PACKAGES = ("@mapbox/geojsonhint@3.0.0", "@placemarkio/check-geojson@0.1.14")


def hard_cases() -> geopandas.GeoDataFrame:
    """What other writers get wrong."""
    rng = np.random.default_rng(7)
    clockwise = Polygon([(0, 0), (0, 9), (9, 9), (9, 0)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
    tiny = [Polygon(rng.uniform(10, 11, 2) + rng.uniform(-5e-6, 5e-6, (6, 2))) for _ in range(300)]
    shapes = [
        clockwise,
        MultiPolygon([clockwise, box(20, 0, 21, 1)]),
        Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]),
        Polygon([(170, -10), (-170, -10), (-170, 10), (170, 10)]),
        LineString([(170, 0), (-170, 20), (170, 40)]),
        box(-180, -80, 180, 89),
        Polygon([(longitude, -70) for longitude in range(-175, 180, 10)]),
        LineString([(0, 0), (1e-9, 0), (1, 1), (1, 1)]),
        MultiPoint([(1, 2), (3, 4)]),
        GeometryCollection([Point(1, 2), GeometryCollection([clockwise])]),
        Point(1 / 3, 2 / 3),
        None,
        Polygon(),
        *tiny,
    ]
    names = ['a "name"\n\x00\u2028', "tilejson", *[None] * (len(shapes) - 2)]
    return geopandas.GeoDataFrame(
        {"objects": names, "arcs": np.arange(len(shapes)) / 3}, geometry=np.array(shapes, dtype=object), crs=4326
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("written")
    counties = geopandas.read_file(ROOT / "dags" / "data" / "virginia-counties-utm17n.zip")
    quakes = ROOT / "dags" / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"
    polar = geopandas.GeoDataFrame(geometry=[shapely.Point(1e5, 0).buffer(1.5e6)], crs=3413)
    paths = []
    for name, source in {"hard": hard_cases(), "counties": counties, "quakes": quakes, "polar": polar}.items():
        for boxes in (False, True):
            paths.append(folder / f"{name}-{boxes}.geojson")
            write_geojson(source, paths[-1], beyond_mercator="clip", write_bbox=boxes)
    return paths


@pytest.mark.skipif(shutil.which("npm") is None, reason="the linters are installed by npm, which is not here")
def test_mapboxs_and_placemarks_linters_find_nothing(written: list[Path], tmp_path: Path) -> None:
    script = beside_package(LINTER, *PACKAGES, folder=tmp_path)
    broken = tmp_path / "broken.geojson"
    broken.write_text('{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],[0,0]]]}')

    said = json.loads(run("node", script, *written, broken, cwd=tmp_path))

    assert said.pop(str(broken)), "a linter that says nothing of a ring wound the wrong way shows nothing"
    assert said == {str(path): [] for path in written}


def test_geojson_validator_finds_nothing(written: list[Path]) -> None:
    # Holes, heights and many vertices are no faults, and it wants six decimals where RFC 7946 has no limit.
    faults = ("inner_and_exterior_ring_intersect", "self_intersection", "duplicate_nodes", "outside_lat_lon_boundaries")
    for path in written:
        document = json.loads(path.read_bytes())
        features = [feature for feature in document["features"] if feature["geometry"]["type"] != "GeometryCollection"]
        # An edge that ends at 180 is one across to it, which is how RFC 7946 wants what crosses to be cut.
        inland = [feature for feature in features if not _touches_the_seam(feature["geometry"])]
        assert geojson_validator.validate_structure(document, check_crs=True) == {}, path
        for chosen, criteria in ((features, faults), (inland, ("crosses_antimeridian",))):
            if not chosen:
                continue
            collection = {"type": "FeatureCollection", "features": chosen}
            found = geojson_validator.validate_geometries(collection, criteria_problematic=criteria)
            assert (found["invalid"], found["problematic"]) == ({}, {}), path


def _touches_the_seam(geometry: dict[str, object]) -> bool:
    west, _, east, _ = shapely.from_geojson(json.dumps(geometry)).bounds
    return bool(west == -180 or east == 180)

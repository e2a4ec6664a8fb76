"""Preflight and emulator agree about the data in packages of npm and PyPI, Mapbox's own test data among them."""

from __future__ import annotations

import sys
import tarfile
import warnings
from pathlib import Path

import geopandas
import pytest

from airflow_mapbox.export import write_geojson, write_mbtiles
from tests.clients.conftest import run
from tests.unit.preflight.corpus import Case, files_of
from tests.unit.preflight.verdicts import table_of, verdict_of

pytestmark = pytest.mark.timeout(900)

NPM = (
    "mapnik-test-data@2.2.0",
    "geojson-fixtures@1.0.0",
    "world-atlas@2.0.2",
    "us-atlas@3.0.1",
    "@geo-maps/countries-land-10km@0.6.0",
    "@osm_borders/maritime_10000m@1.1.0",
    "@surbowl/world-geo-json-zh@2.1.5",
)
# Their source archives contain test data: GPX, shapefiles and KML.
PYPI = ("gpxpy==1.6.2", "pyshp==3.1.6", "kml2geojson==6.0.0")
# What Mapbox's mapbox-upload-validate (test/fixtures/index.js) uses of mapnik-test-data as valid files.
VALID = dict.fromkeys(
    ("bbl_current_csv.csv", "DC_polygon.geo.json", "fells_loop.gpx", "1week_earthquake.kml", "sample.tif")
)
# By the name: how the verdicts differ, and why.
DIFFERENCES: dict[str, tuple[str, str]] = {}


def test_both_agree_about_the_data_in_packages(tmp_path: Path) -> None:
    cases = [*_npm(tmp_path), *_pypi(tmp_path)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GDAL warns of unusual files
        verdicts = [verdict_of(case, tiles=False) for case in cases]

    print(f"\n{table_of(verdicts)}")
    found = {verdict.case.name: verdict.difference for verdict in verdicts if verdict.difference}
    assert found == {name: difference for name, (difference, _) in DIFFERENCES.items()}
    assert len(cases) > 80


def _npm(folder: Path) -> list[Case]:
    (folder / "package.json").write_text('{"private": true}')
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *NPM, cwd=folder)
    modules = folder / "node_modules"
    cases = []
    for package in NPM:
        name = package.rpartition("@")[0]
        cases += files_of(modules / name, name, VALID)
    frame = geopandas.read_file(modules / "us-atlas" / "counties-10m.json", layer="counties")
    frame = frame.set_crs("EPSG:4326", allow_override=True)
    write_geojson(frame, folder / "export" / "counties.geojson")
    write_mbtiles(frame, folder / "export" / "counties.mbtiles", maxzoom=5)
    return [*cases, *files_of(folder / "export", "export")]


def _pypi(folder: Path) -> list[Case]:
    cases = []
    for package in PYPI:
        into = folder / "pypi" / package
        into.mkdir(parents=True)
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", package),
            cwd=into,
        )
        (archive,) = into.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(into, filter="data")
        cases += files_of(into, package.partition("==")[0])
    return cases

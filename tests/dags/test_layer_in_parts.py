"""The example of a layer in parts, run as it stands: mapped tasks tile, one joins, and the tileset has every county."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.export import write_geojson
from tests.conftest import ROOT

COUNTIES = ROOT / "dags" / "data" / "virginia-counties-utm17n.zip"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


@pytest.fixture(scope="module")
def dag(database: Path) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags" / "layer_in_parts.py")
    assert bag.import_errors == {}
    return bag.dags["layer_in_parts"]


def uploads(emulator: Emulator) -> int:
    """Return how many uploads the tileset of the parts has."""
    listed = requests.get(
        f"{emulator.url}/uploads/v1/{emulator.account}",
        params={"access_token": emulator.token, "limit": 100},
        timeout=10,
    ).json()
    return sum(item["tileset"] == f"{emulator.account}.virginia-counties-in-parts" for item in listed)


@pytest.mark.usefixtures("mapbox_connection")
def test_the_joined_tileset_has_every_county_once_and_is_uploaded_once(
    dag: Any, emulator: Emulator, tmp_path: Path
) -> None:
    from demo.check import check_tileset

    before = uploads(emulator)

    outcome = dag.test()

    assert outcome.state == "success"
    write_geojson(COUNTIES, tmp_path / "counties.geojson")
    address = f"{emulator.url}/v4/{emulator.account}.virginia-counties-in-parts.json"
    # Every tile is decoded: a county that is twice in a tile, missing or of another shape is an error.
    check = check_tileset(address, tmp_path / "counties.geojson", key="FIPS", token=emulator.token)
    assert check.features == 136
    assert set(check.tiles) == set(range(5, 11))
    assert uploads(emulator) == before + 1


@pytest.mark.usefixtures("mapbox_connection")
def test_each_part_is_a_mapped_task_named_by_its_file(dag: Any, database: Path) -> None:
    outcome = dag.test()

    tiles = [instance for instance in outcome.get_task_instances() if instance.task_id == "tile"]
    with contextlib.closing(sqlite3.connect(database)) as db:
        names = db.execute(
            "SELECT rendered_map_index FROM task_instance WHERE run_id = ? AND task_id = 'tile'", [outcome.run_id]
        ).fetchall()
    assert len(tiles) == 4
    assert sorted(name for (name,) in names) == [f"part-{number}.parquet" for number in range(1, 5)]


@pytest.mark.usefixtures("mapbox_connection")
def test_a_folder_without_geoparquet_fails_at_once_with_advice(
    dag: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = dag.test(run_conf={"data_set": str(tmp_path)})

    assert outcome.state == "failed"
    assert "has no .parquet file. Set the parameter data_set" in capfd.readouterr().out

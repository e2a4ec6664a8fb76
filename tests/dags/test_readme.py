"""The DAG in README.md, as a reader copies it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")


@pytest.fixture
def text() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


def loaded(folder: Path, text: str) -> Any:
    """Save the DAG's file as a reader would, and let Airflow load it."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    folder.mkdir()
    (folder / "parcels.py").write_text(text)
    bag = DagBag(folder)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.dags["parcels"]


def test_the_readmes_dag_loads_unchanged(tmp_path: Path, text: str) -> None:
    dag = loaded(tmp_path / "dags", text)

    assert list(dag.task_dict) == ["export", "upload", "wait"]
    assert dag.start_date is not None


def test_the_readmes_dag_uploads_one_days_file(tmp_path: Path, text: str, emulator: Emulator) -> None:
    import geopandas
    import requests

    points = geopandas.points_from_xy([500000, 501000], [5600000, 5600000])
    geopandas.GeoDataFrame({"owner": ["A", "B"]}, geometry=points, crs=32632).to_file(
        tmp_path / "parcels-20260201.gpkg"
    )
    moved = text.replace('"/data/', f'"{tmp_path}/').replace('"/shared/', f'"{tmp_path}/')
    assert moved != text

    outcome = loaded(tmp_path / "dags", moved).test(logical_date=datetime(2026, 2, 2, tzinfo=UTC))

    assert outcome.state == "success"
    tileset = requests.get(f"{emulator.url}/tilesets/{emulator.account}.parcels-20260201.json", timeout=10).json()
    assert tileset["vector_layers"][0]["fields"] == {"owner": "String"}

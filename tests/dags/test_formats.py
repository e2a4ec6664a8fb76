"""``format=``: geodata that the upload task exports itself, as GeoJSON, as vector tiles, or as whichever fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pytest
import requests
import shapely
from airflow.sdk import task

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.uploads.errors import SourceError
from tests.dags.conftest import Outcome

pytestmark = [pytest.mark.usefixtures("database", "mapbox_connection")]

RunDag = Callable[..., Outcome]
# So little that it is reached by a few features.
LIMITED = {"limit_bytes": 900, "maxzoom": 5}


def frame(count: int) -> geopandas.GeoDataFrame:
    points = [shapely.Point(500_000 + 1000 * number, 5_600_000) for number in range(count)]
    return geopandas.GeoDataFrame({"n": range(count)}, geometry=points, crs=32632)


def layers_of(emulator: Emulator, tileset: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{emulator.url}/tilesets/{emulator.account}.{tileset}.json", timeout=10)
    found: list[dict[str, Any]] = answer.json()["vector_layers"]
    return found


@pytest.mark.parametrize(("count", "called"), [(2, "GeoJSON"), (200, "MBTiles")])
def test_auto_chooses_the_format_by_size(
    run_dag: RunDag, emulator: Emulator, tmp_path: Path, count: int, called: str
) -> None:
    path = tmp_path / "points.parquet"
    frame(count).to_parquet(path)
    tileset = f"auto-{count}"

    def make() -> None:
        upload = StageAndCreateUploadOperator(
            task_id="upload", source=str(path), tileset=tileset, format="auto", export=LIMITED
        )
        UploadCompleteSensor(task_id="wait", upload_id=upload.output["id"])

    outcome = run_dag(make)

    assert outcome.states == {"upload": "success", "wait": "success"}
    assert f"as GeoJSON or MBTiles: {called}," in outcome.written
    (layer,) = layers_of(emulator, tileset)
    assert (layer["id"], set(layer["fields"])) == (tileset, {"n"})


@pytest.mark.slow
def test_a_functions_frames_can_become_tiles(run_dag: RunDag, emulator: Emulator) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="tiled", format="mbtiles", export={"tier": "free"})
        def frames() -> Any:
            return frame(10)

        UploadCompleteSensor(task_id="wait", upload_id=frames()["id"])

    outcome = run_dag(make)

    assert outcome.states == {"frames": "success", "wait": "success"}
    assert [layer["id"] for layer in layers_of(emulator, "tiled")] == ["tiled"]


def test_a_retry_does_not_export_again(run_dag: RunDag, tmp_path: Path) -> None:
    path = tmp_path / "once.parquet"
    frame(3).to_parquet(path)

    class FailsOnce(StageAndCreateUploadOperator):
        def execute(self, context: Any) -> Any:
            made = super().execute(context)
            if path.exists():
                path.unlink()
                raise RuntimeError("died after the upload was created")
            return made

    def make() -> None:
        FailsOnce(
            task_id="upload", source=str(path), tileset="exported-once", format="geojson", retries=1, retry_delay=0
        )

    outcome = run_dag(make)

    assert outcome.states == {"upload": "success"}
    assert outcome.written.count("Exported 3 features") == 1
    assert sum(upload.tileset.endswith(".exported-once") for upload in MapboxUploadsHook().list_uploads()) == 1


def test_a_hook_takes_a_frame(emulator: Emulator) -> None:
    made = MapboxUploadsHook().upload(frame(4), "framed", format="geojson", export={"decimals": 5})

    assert MapboxUploadsHook().wait(made.id, poll_interval=0.1).is_successful


def test_an_impossible_choice_breaks_the_import_of_the_dag() -> None:
    with pytest.raises(ValueError, match="format must be one of"):
        StageAndCreateUploadOperator(task_id="upload", source="a.parquet", tileset="a", format="tiff")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no effect without format="):
        StageAndCreateUploadOperator(task_id="upload", source="a.parquet", tileset="a", export={"crs": 4326})


def test_a_dataset_is_not_exported() -> None:
    with pytest.raises(SourceError, match="leave out the format"):
        MapboxUploadsHook().upload("mapbox://datasets/demo/cabc", "a", format="auto")


def test_data_that_cannot_be_written_is_not_retried(run_dag: RunDag, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.parquet"
    frame(3).set_crs(None, allow_override=True).to_parquet(path)

    def make() -> None:
        StageAndCreateUploadOperator(
            task_id="upload", source=str(path), tileset="nowhere", format="geojson", retries=3, retry_delay=0
        )

    outcome = run_dag(make)

    assert (outcome.states, outcome.tries) == ({"upload": "failed"}, {"upload": 1})
    assert "crs=" in outcome.written

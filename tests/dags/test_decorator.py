"""``@task.mapbox_upload``: frames that a function gives become a tileset, with no file in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from tests.dags.conftest import Outcome

pytestmark = [pytest.mark.usefixtures("database", "mapbox_connection")]

RunDag = Callable[..., Outcome]


def frame(*numbers: int, crs: int | None = 4326) -> Any:
    import geopandas
    import shapely

    return geopandas.GeoDataFrame({"n": list(numbers)}, geometry=[shapely.Point(n, 2 * n) for n in numbers], crs=crs)


def uploads_of(emulator: Emulator, prefix: str) -> dict[str, dict[str, Any]]:
    from airflow_mapbox.hooks.uploads import MapboxUploadsHook

    found = [upload for upload in MapboxUploadsHook().list_uploads() if prefix in upload.tileset]
    assert len({upload.tileset for upload in found}) == len(found), "one upload a tileset"
    return {upload.tileset.partition(".")[2]: upload.to_json() for upload in found}


def test_a_generators_frames_become_one_tileset(run_dag: RunDag, emulator: Emulator) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="yielded-{{ ds_nodash }}", name="Of {{ ds }}")
        def frames(count: int) -> Iterator[Any]:
            for number in range(count):
                yield frame(number)

        UploadCompleteSensor(task_id="wait", upload_id=frames(3)["id"])

    outcome = run_dag(make)

    assert outcome.states == {"frames": "success", "wait": "success"}
    made = uploads_of(emulator, "yielded")
    assert made["yielded-20180201"]["name"] == "Of 2018-02-01"
    assert "3 features read, 3 written" in outcome.written


def test_each_mapped_call_has_a_tileset_of_its_own(run_dag: RunDag, emulator: Emulator) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="numbered-{{ task_instance.map_index }}")
        def frames(number: int) -> Any:
            return frame(number)

        UploadCompleteSensor.partial(task_id="wait").expand(upload_id=frames.expand(number=[1, 2, 3]))

    outcome = run_dag(make)

    assert set(outcome.states.values()) == {"success"}
    made = uploads_of(emulator, "numbered-")
    assert sorted(made) == ["numbered-0", "numbered-1", "numbered-2"]


def test_export_options_can_be_passed(run_dag: RunDag) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="told", export={"crs": 32632, "decimals": 5})
        def frames() -> Any:
            import geopandas
            import shapely

            return geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(500_000, 5_600_000)])

        frames()

    outcome = run_dag(make)

    assert outcome.states == {"frames": "success"}
    assert "EPSG:32632" in outcome.written


def test_data_that_cannot_be_exported_fails_at_once_with_nothing_created(run_dag: RunDag, emulator: Emulator) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="no-crs", retries=3)
        def frames() -> Any:
            return frame(1, crs=None)

        frames()

    outcome = run_dag(make)

    assert (outcome.states, outcome.tries) == ({"frames": "failed"}, {"frames": 1})
    assert "MissingCrsError" not in outcome.written
    assert "crs" in outcome.written
    assert uploads_of(emulator, "no-crs") == {}


def test_exceptions_of_the_function_keep_their_meaning(run_dag: RunDag, emulator: Emulator) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="skipped")
        def frames() -> Iterator[Any]:
            yield frame(1)
            raise AirflowSkipException("nothing new today")

        frames()

    outcome = run_dag(make)

    assert outcome.states == {"frames": "skipped"}
    assert "nothing new today" in outcome.written
    assert uploads_of(emulator, "skipped") == {}


@pytest.mark.slow
def test_a_retry_does_not_call_the_function_again_once_its_frames_are_staged(
    run_dag: RunDag, emulator: Emulator, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    emulator.faults.add("status", method="POST", path=r"/uploads/v1/[^/]*$", status=503, times=5)

    def make() -> None:
        @task.mapbox_upload(tileset="retried", retries=2, retry_delay=0)
        def frames() -> Any:
            with calls.open("a") as told:
                told.write("called\n")
            return frame(1)

        frames()

    outcome = run_dag(make)

    assert (outcome.states, outcome.tries) == ({"frames": "success"}, {"frames": 2})
    assert calls.read_text() == "called\n"
    assert list(uploads_of(emulator, "retried")) == ["retried"]


def test_arguments_that_look_like_secrets_are_not_refused(run_dag: RunDag, emulator: Emulator) -> None:
    def make() -> None:
        @task.mapbox_upload(tileset="arguments", export={"columns": ["n"]})
        def frames(url: str, wkb: str) -> Any:
            assert url.endswith("sig=c4nary")
            assert len(wkb) == 128_058
            return frame(1)

        frames("https://store.example/x?sig=c4nary", "0f" * 64_029)

    assert run_dag(make).states == {"frames": "success"}

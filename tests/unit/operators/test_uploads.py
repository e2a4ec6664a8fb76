"""The operator: what it hands on, what it refuses, and how its errors reach Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError, MapboxUploadFailedError, airflow_errors
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.uploads import errors
from airflow_mapbox.uploads.models import Upload
from tests.connections import connection


@pytest.fixture(scope="module")
def emulator(
    tmp_path_factory: pytest.TempPathFactory, make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator"), settings=make_settings()) as running:
        yield running


@pytest.fixture(autouse=True)
def connected(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))


def operator(source: Any, tileset: Any = "points", **options: Any) -> StageAndCreateUploadOperator:
    return StageAndCreateUploadOperator(task_id="upload", source=source, tileset=tileset, **options)


def test_the_result_is_the_upload_object_as_multiple_outputs(tmp_path: Path, emulator: Emulator) -> None:
    path = tmp_path / "points.geojson"
    path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
    task = operator(str(path), name="Points")

    upload = task.execute({})  # type: ignore[typeddict-item]

    assert task.multiple_outputs is True
    assert list(upload) == [
        "id", "tileset", "complete", "error", "progress", "name", "owner", "created", "modified"
    ]  # fmt: skip
    assert (upload["tileset"], upload["name"], upload["error"]) == (f"{emulator.account}.points", "Points", None)
    assert json.loads(json.dumps(upload)) == upload


def test_all_of_its_parameters_are_templated() -> None:
    task = operator("/data/{{ day }}.geojson", "quakes-{{ day }}", name="Of {{ day }}", mapbox_conn_id="map_{{ day }}")

    task.render_template_fields({"day": "20180131"})  # type: ignore[typeddict-unknown-key]

    rendered = (task.source, task.tileset, task.name, task.mapbox_conn_id)
    assert rendered == ("/data/20180131.geojson", "quakes-20180131", "Of 20180131", "map_20180131")


def test_an_object_storage_path_stays_one_when_it_is_rendered() -> None:
    from airflow.sdk import ObjectStoragePath

    task = operator(ObjectStoragePath("file:///data/{{ day }}.geojson"))

    task.render_template_fields({"day": "20180131"})  # type: ignore[typeddict-unknown-key]

    assert isinstance(task.source, ObjectStoragePath)
    assert str(task.source) == "file:///data/20180131.geojson"


def test_a_secret_that_comes_with_rendering_is_refused_while_rendering() -> None:
    task = operator("{{ url }}")
    url = "https://files.example/x.geojson?X-Amz-Signature=c4n4ry"

    with pytest.raises(MapboxFailError) as refusal:
        task.render_template_fields({"url": url})  # type: ignore[typeddict-unknown-key]

    assert "c4n4ry" not in str(refusal.value)
    assert task.source == "{{ url }}"


def test_a_source_that_names_a_connection_is_no_secret() -> None:
    operator("s3://my_conn@bucket/points.geojson")


UPLOAD = Upload("abc", "acme.points", False, "Tileset is empty.", 0.5)
REFUSED = {"status": 404, "message": "Not Found"}


@pytest.mark.parametrize(
    ("error", "expected", "retried"),
    [
        (errors.ConfigurationError("x"), MapboxFailError, False),
        (errors.InvalidTilesetError("x"), MapboxFailError, False),
        (errors.SourceError("x"), MapboxFailError, False),
        (errors.NotFoundError("x", **REFUSED), MapboxFailError, False),  # type: ignore[arg-type]
        (errors.UploadFailedError(UPLOAD), MapboxUploadFailedError, False),
        (errors.StagingError("x"), MapboxTaskError, True),
        (errors.NoAnswerError("x"), MapboxTaskError, True),
        (errors.ServerError("x", **REFUSED), MapboxTaskError, True),  # type: ignore[arg-type]
        (errors.WaitTimeoutError("x"), MapboxTaskError, True),
    ],
)
def test_errors_tell_airflow_whether_a_retry_may_help(
    error: errors.MapboxError, expected: type[AirflowException], retried: bool
) -> None:
    with pytest.raises(AirflowException) as translated, airflow_errors():
        raise error

    assert type(translated.value) is expected
    assert isinstance(translated.value, AirflowFailException) is not retried
    assert str(translated.value) == str(error)

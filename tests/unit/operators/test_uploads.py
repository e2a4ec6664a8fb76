"""The operator: what it hands on, what it refuses, and how its errors reach Airflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.exceptions import (
    MapboxFailError,
    MapboxTaskError,
    MapboxUploadFailedError,
    MapboxUploadGoneError,
    MapboxUploadStalledError,
    MapboxUploadTimeoutError,
    airflow_errors,
)
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.http.retry import RetryPolicy
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
        "id", "tileset", "complete", "error", "progress", "name", "owner", "created", "modified",
        "tileset_url", "source",
    ]  # fmt: skip
    assert (upload["tileset"], upload["name"], upload["error"]) == (f"{emulator.account}.points", "Points", None)
    assert upload["source"]["bytes"] == path.stat().st_size
    assert upload["source"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(json.dumps(upload)) == upload


def test_the_report_of_an_export_is_its_file_and_tells_counts_and_bounds(tmp_path: Path) -> None:
    path = tmp_path / "points.geojson"
    path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
    report = {"path": str(path), "features": 1, "bounds": [7.1, 50.7, 7.1, 50.7], "notes": ["of no concern"]}

    upload = operator(report, "reported").execute({})  # type: ignore[typeddict-item]

    told = upload["source"]
    assert (told["features"], told["bounds"], told["bytes"]) == (1, report["bounds"], path.stat().st_size)
    assert "notes" not in told


@pytest.mark.parametrize(
    ("report", "options", "message"),
    [
        ({"features": 1}, {}, "has no path"),
        ({"path": None}, {}, "has no path"),
        ({"path": "/nowhere/x.geojson"}, {}, "does not exist"),
        ({"path": "x.geojson"}, {"format": "geojson"}, "leave out the format"),
        ({"path": "https://user:c4n4ry@files.example/x.geojson"}, {}, "contains a password"),
    ],
)
def test_a_report_that_cannot_be_uploaded_says_why(report: Any, options: Any, message: str) -> None:
    with pytest.raises(MapboxFailError, match=message) as refusal:
        operator(report, **options).execute({})  # type: ignore[typeddict-item]

    assert "c4n4ry" not in str(refusal.value)


def test_the_interface_shows_the_exports_options_as_json() -> None:
    from airflow_mapbox.decorators.uploads import _MapboxUploadOperator

    for kind in (StageAndCreateUploadOperator, _MapboxUploadOperator):
        assert kind.template_fields_renderers["export"] == "json"
        assert "export" in kind.template_fields
    assert _MapboxUploadOperator.template_fields_renderers["op_kwargs"] == "py"


def test_the_parameters_that_it_names_are_templated() -> None:
    task = operator(
        "/data/{{ day }}.geojson",
        "quakes-{{ day }}",
        name="Of {{ day }}",
        mapbox_conn_id="map_{{ day }}",
        format="{{ kind }}",
        export={"where": "day = '{{ day }}'"},
        if_active="{{ active }}",
        wait_for_completion=True,
        outlets=[Asset("mapbox://tilesets/acme.quakes")],
        partition="{{ day }}",
    )

    task.render_template_fields({"day": "20180131", "kind": "geojson", "active": "fail"})  # type: ignore[typeddict-unknown-key]

    assert {name: getattr(task, name) for name in task.template_fields} == {
        "source": "/data/20180131.geojson",
        "tileset": "quakes-20180131",
        "name": "Of 20180131",
        "mapbox_conn_id": "map_20180131",
        "format": "geojson",
        "export": {"where": "day = '20180131'"},
        "if_active": "fail",
        "partition": "20180131",
    }
    documented = (StageAndCreateUploadOperator.__doc__ or "").partition("parameters are templated")[2].partition(".")[0]
    assert all(f"``{name}``" in documented for name in task.template_fields)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("format", "shapefile", "format must be one of"),
        ("if_active", "explode", "if_active must be one of"),
        ("export", {"colums": ["a"]}, "did you mean 'columns'"),
        ("tileset", "not a name", "cannot be a tileset's name"),
    ],
)
def test_rendered_values_are_checked_before_anything_is_read(name: str, wrong: Any, message: str) -> None:
    task = operator("/nowhere.gpkg", **{"format": "geojson"} | ({} if name == "tileset" else {name: "{{ it }}"}))
    setattr(task, name, wrong)

    with pytest.raises(MapboxFailError, match=message):
        task.execute({})  # type: ignore[typeddict-item]


def test_a_template_that_renders_an_export_to_text_says_how_to_keep_a_mapping() -> None:
    task = operator("/nowhere.gpkg", format="geojson", export="{{ chosen }}")  # type: ignore[arg-type]
    task.render_template_fields({"chosen": {"columns": ["a"]}})  # type: ignore[typeddict-unknown-key]

    with pytest.raises(MapboxFailError, match=r"export must be a mapping.*render_template_as_native_obj=True"):
        task.execute({})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("format", ["geojson", "{{ format }}", None])
def test_a_constant_text_as_export_is_refused_while_the_dag_is_parsed(format: Any) -> None:
    with pytest.raises(ValueError, match="export must be a mapping"):
        operator("/x.gpkg", format=format, export="columns=a")


@pytest.mark.parametrize(
    "name",
    [
        *("skip_unchanged", "active_timeout", "part_size", "parts_in_flight", "wait_for_completion", "deferrable"),
        *("wait_timeout", "stall_timeout"),
    ],
)
@pytest.mark.parametrize("value", ["{{ params.it }}", "True", "10"])
def test_a_parameter_that_cannot_be_templated_is_refused_while_the_dag_is_parsed(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*cannot be templated"):
        operator("/x.geojson", **{"wait_for_completion": True} | {name: value})


@pytest.mark.parametrize("options", [{"deferrable": True}, {"wait_timeout": 60}, {"stall_timeout": 60}])
class TestParametersOfAWait:
    def test_wait_parameters_are_refused_without_a_wait(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=rf"{next(iter(options))} has no effect without wait_for_completion=True"):
            operator("/x.geojson", **options)

    def test_wait_parameters_from_default_args_are_ignored_without_a_wait(self, options: dict[str, Any]) -> None:
        with DAG("defaults", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None, default_args=options):
            assert operator("/x.geojson").wait_for_completion is False

    def test_wait_parameters_are_used_if_the_operator_waits(self, options: dict[str, Any]) -> None:
        task = operator("/x.geojson", wait_for_completion=True, **options)

        assert getattr(task, next(iter(options))) == next(iter(options.values()))


def test_nothing_but_the_source_is_searched_for_secrets() -> None:
    task = operator(
        "/x.gpkg",
        name="{{ text }}",
        format="geojson",
        export={"where": "url LIKE '%&key=%'", "columns": ["{{ text }}"]},
    )

    task.render_template_fields({"text": "https://user:pw@h/?api_key=a1b2c3d4"})  # type: ignore[typeddict-unknown-key]

    assert task.name == "https://user:pw@h/?api_key=a1b2c3d4"


@pytest.mark.parametrize(
    ("map_index", "given", "shown"), [(2, None, "points"), (2, "{{ ds }}", None), (-1, None, None)]
)
def test_a_mapped_task_is_called_by_its_tileset(
    tmp_path: Path, map_index: int, given: str | None, shown: str | None
) -> None:
    context: Any = {"ti": SimpleNamespace(map_index=map_index, max_tries=0), "map_index_template": given}

    with pytest.raises(MapboxFailError):
        operator(str(tmp_path / "missing.geojson")).execute(context)

    template = context["map_index_template"]
    assert template == (given if shown is None else "{{ mapbox_tileset }}")
    assert context.get("mapbox_tileset") == shown


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


def test_a_source_that_names_a_connection_is_not_a_secret() -> None:
    operator("s3://my_conn@bucket/points.geojson")


UPLOAD = Upload("abc", "acme.points", False, "Tileset is empty.", 0.5)
REFUSED = {"status": 404, "message": "Not Found"}


@pytest.mark.parametrize(
    ("error", "expected", "retried"),
    [
        (errors.ConfigurationError("x"), MapboxFailError, False),
        (errors.ConnectionNotFoundError("x"), MapboxTaskError, True),
        (errors.UnclaimedUploadError("x", "acme.points", [UPLOAD]), MapboxFailError, False),
        (errors.InvalidTilesetError("x"), MapboxFailError, False),
        (errors.SourceError("x"), MapboxFailError, False),
        (errors.NotFoundError("x", **REFUSED), MapboxFailError, False),  # type: ignore[arg-type]
        (errors.UploadFailedError(UPLOAD), MapboxUploadFailedError, False),
        (errors.StagingError("x"), MapboxTaskError, True),
        (errors.NoAnswerError("x"), MapboxTaskError, True),
        (errors.ServerError("x", **REFUSED), MapboxTaskError, True),  # type: ignore[arg-type]
        (errors.WaitTimeoutError("x"), MapboxUploadTimeoutError, True),
        (errors.UploadStalledError("x"), MapboxUploadStalledError, False),
        (errors.UploadGoneError("x"), MapboxUploadGoneError, False),
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


class Store:
    """A task state store as one task of one run has it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


def context(store: Store, max_tries: int = 0) -> Any:
    return {"task_state_store": store, "ti": SimpleNamespace(max_tries=max_tries)}


@pytest.fixture
def points(tmp_path: Path) -> str:
    path = tmp_path / "points.geojson"
    path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
    return str(path)


def test_the_state_has_what_a_retry_needs_and_no_secret(points: str, emulator: Emulator) -> None:
    store = Store()

    upload = operator(points, "state").execute(context(store))

    entry = store.values["mapbox_upload"]
    assert entry["upload"] == {name: value for name, value in upload.items() if name not in ("source", "tileset_url")}
    assert (entry["tileset"], entry["source"], entry["max_tries"]) == (f"{emulator.account}.state", points, 0)
    assert entry["url"].startswith("https://")
    assert emulator.token not in json.dumps(store.values)


@pytest.mark.slow
def test_a_retry_gives_the_upload_that_there_is(points: str, emulator: Emulator) -> None:
    store = Store()
    first = operator(points, "again").execute(context(store))

    assert operator(points, "again").execute(context(store))["id"] == first["id"]


@pytest.mark.slow
def test_a_cleared_task_uploads_anew(points: str) -> None:
    store = Store()
    first = operator(points, "cleared").execute(context(store, max_tries=0))
    MapboxUploadsHook().wait(first["id"], timeout=60, poll_interval=0.1)

    assert operator(points, "cleared").execute(context(store, max_tries=1))["id"] != first["id"]


def test_a_refused_note_stops_the_task_before_anything_is_created(points: str, emulator: Emulator) -> None:
    class Refusing(Store):
        def set(self, key: str, value: Any) -> None:
            raise RuntimeError("Task instance not found")

    before = len(emulator.requests)
    with pytest.raises(MapboxTaskError, match="could not be written"):
        operator(points, "refused").execute(context(Refusing()))

    assert [request.path.rpartition("/")[2] for request in emulator.requests[before:]] == ["credentials"]


@pytest.mark.parametrize("long", [61.0, 3600.0])
def test_a_long_rate_limit_gives_the_slot_back_until_its_reset(
    points: str, monkeypatch: pytest.MonkeyPatch, long: float
) -> None:
    def spent(*arguments: Any, **options: Any) -> None:
        raise errors.ThrottledError("spent", status=429, message="no", retry_after=long)

    monkeypatch.setattr(MapboxUploadsHook, "upload", spent)

    with pytest.raises(AirflowRescheduleException) as caught:
        operator(points).execute(context(Store()))

    left = (caught.value.reschedule_date - datetime.now(UTC)).total_seconds()
    assert long - 5 < left <= long


def test_a_short_rate_limit_is_waited_out_in_the_slot(points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policies: list[RetryPolicy | None] = []
    make = MapboxUploadsHook.__init__

    def remember(self: MapboxUploadsHook, *arguments: Any, **options: Any) -> None:
        policies.append(options.get("retry"))
        make(self, *arguments, **options)

    monkeypatch.setattr(MapboxUploadsHook, "__init__", remember)

    operator(points, "short").execute(context(Store()))

    assert [policy.max_throttle_wait for policy in policies if policy] == [60.0]


class TestABusyTileset:
    """`An upload is already active`, as the operator takes it."""

    @pytest.fixture
    def execute(self, points: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        def execute(*, since: float, in_doubt: bool = False, **options: Any) -> Any:
            def busy(hook: MapboxUploadsHook, *arguments: Any, **_: Any) -> None:
                error = errors.UploadActiveError("busy", status=422, message="An upload is already active")
                error.since = hook.get_conn().server_now() - since
                error.in_doubt = in_doubt
                raise error

            monkeypatch.setattr(MapboxUploadsHook, "upload", busy)
            return operator(points, **options).execute(context(Store()))

        return execute

    @pytest.mark.parametrize(("since", "pause"), [(0, 15), (120, 30), (4000, 120)])
    def test_a_busy_tileset_is_waited_for_with_growing_pauses(
        self, execute: Callable[..., Any], since: float, pause: float
    ) -> None:
        with pytest.raises(AirflowRescheduleException) as caught:
            execute(since=since)

        left = (caught.value.reschedule_date - datetime.now(UTC)).total_seconds()
        assert pause - 3 < left <= pause + 1

    def test_a_busy_tileset_is_an_error_after_the_deadline(self, execute: Callable[..., Any]) -> None:
        with pytest.raises(MapboxTaskError, match="busy"):
            execute(since=100, active_timeout=timedelta(seconds=99))

    def test_a_busy_tileset_fails_the_task_with_if_active_fail(self, execute: Callable[..., Any]) -> None:
        with pytest.raises(MapboxTaskError, match="busy"):
            execute(since=0, if_active="fail")

    def test_a_busy_tileset_skips_the_task_with_if_active_skip(self, execute: Callable[..., Any]) -> None:
        with pytest.raises(AirflowSkipException, match="busy"):
            execute(since=0, if_active="skip")

    @pytest.mark.parametrize("if_active", ["wait", "fail", "skip"])
    def test_a_busy_tileset_that_may_be_busy_with_the_own_upload_is_waited_for_in_any_case(
        self, execute: Callable[..., Any], if_active: str
    ) -> None:
        with pytest.raises(AirflowRescheduleException):
            execute(since=0, in_doubt=True, if_active=if_active)

    def test_a_busy_tileset_is_no_reason_to_wait_for_ever(self, execute: Callable[..., Any]) -> None:
        with pytest.raises(MapboxTaskError, match="busy"):
            execute(since=3 * 3600, in_doubt=True, if_active="skip")

    def test_a_busy_tileset_is_dealt_with_in_one_of_three_ways(self, points: str) -> None:
        with pytest.raises(ValueError, match="wait, fail, skip"):
            operator(points, if_active="explode")


@pytest.mark.slow
def test_a_kill_aborts_the_staging(points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[MapboxUploadsHook] = []
    monkeypatch.setattr(MapboxUploadsHook, "cancel", lambda self: cancelled.append(self))
    task = operator(points, "killed")
    task.on_kill()
    assert cancelled == []

    task.execute(context(Store()))
    task.on_kill()

    assert len(cancelled) == 1

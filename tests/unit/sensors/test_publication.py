"""After the upload: the task verifies the tileset, makes it public, and notes what it costs."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas
import pytest
import shapely
from airflow.sdk import timezone
from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.faults import RequestFault
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError, MapboxTilesetDiffersError
from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.tasks.events import to_event
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.once.ledger import MemoryLedger
from tests.connections import connection
from tests.support.clock import Clock
from tests.unit.support import FakeStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def emulator(
    tmp_path: Path, clock: Clock, settings: dict[str, Any], make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Emulator]:
    made = make_settings(**{"processing_seconds": 0, "rate_limit": 0, **settings})
    with Emulator(tmp_path / "emulator", settings=made, clock=clock) as running:
        yield running


@pytest.fixture(autouse=True)
def connected(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))


Publish = Callable[..., dict[str, Any]]


@pytest.fixture
def publish(clock: Clock, tmp_path: Path) -> Publish:
    """Make a tileset of points, and return the result of the task that created its upload."""

    def make(tileset: str = "quakes", x: float = 7.0, **columns: Any) -> dict[str, Any]:
        columns = columns or {"mag": [4.2, 5.1]}
        points = shapely.points([[x, 50.0], [x + 0.5, 50.5]])
        file = tmp_path / f"{tileset}.parquet"
        geopandas.GeoDataFrame(columns, geometry=points, crs=4326).to_parquet(file)
        ledger = MemoryLedger()
        hook = MapboxUploadsHook()
        created = hook.upload(file, tileset, format="geojson", ledger=ledger)
        done = hook.wait(created.id, poll_interval=0.05)
        assert ledger.entry is not None
        return done.to_json() | {"complete": False, "source": ledger.entry.source_to_json()}

    return make


def task_context(store: FakeStore, try_number: int = 1) -> Any:
    return {"ti": SimpleNamespace(max_tries=1, try_number=try_number, map_index=-1), "task_state_store": store}


def poke(upload: Any, store: FakeStore | None = None, try_number: int = 1, **options: Any) -> tuple[Any, float | None]:
    """Poll once, in a process of its own. Return the result, or the seconds until the next poll."""
    waiting = UploadCompleteSensor(task_id="wait", upload_id=upload, **options)
    value = waiting.poke(task_context(store or FakeStore(), try_number))
    if value.is_done:
        return value.xcom_value, None
    return None, waiting._get_next_poke_interval(datetime.now(UTC), lambda: 0, 1)


class TestVerify:
    def test_a_new_tileset_is_verified_at_once(
        self, publish: Publish, make_settings: Callable[..., EmulatorSettings]
    ) -> None:
        result, _ = poke(publish(), verify=True)

        assert result["verification"]["ok"] is True
        assert result["verification"]["layers"][0]["fields"] == ["mag"]
        assert result["filesize"] > 0
        assert ("cu" in result) == make_settings().tileset_costs
        assert datetime.fromisoformat(result["visible_by"]) > datetime.fromisoformat(result["modified"])

    def test_without_it_there_is_one_request_only(self, publish: Publish, emulator: Emulator) -> None:
        upload = publish()
        before = len(emulator.requests)

        result, _ = poke(upload)

        assert len(emulator.requests) == before + 1
        assert "verification" not in result

    @pytest.mark.slow
    def test_a_replaced_tileset_is_verified_when_the_cdn_shows_it(self, publish: Publish, clock: Clock) -> None:
        publish()
        MapboxTilesetsHook().get_tilejson("quakes")  # now the CDN has it
        clock.now += 60
        second = publish(depth=[10.0, 20.0])
        clock.now += 1

        result, delay = poke(second, verify=True)
        assert result is None
        assert delay == pytest.approx(299, abs=10)  # the upload ended a moment ago

        clock.now += delay or 0
        result, _ = poke(second, verify=True)
        assert result["verification"]["layers"][0]["fields"] == ["depth"]

    @pytest.mark.slow
    def test_a_tileset_that_was_not_replaced_is_found(self, publish: Publish, clock: Clock, emulator: Emulator) -> None:
        publish()
        clock.now += 86_400
        second = publish()
        # Mapbox says that the upload is done, and still has yesterday's tileset.
        emulator.add_tileset(f"{emulator.account}.quakes", created=clock.now - 86_400)
        store = FakeStore()
        assert poke(second, store, verify=True)[1] == pytest.approx(300, abs=1)
        clock.now += 1190
        assert poke(second, store, verify=True)[1] == 60
        clock.now += 20

        with pytest.raises(MapboxTilesetDiffersError) as caught:
            poke(second, store, verify=True)

        assert "last change" in str(caught.value)
        assert f"Upload {second['id']} is done and billed" in str(caught.value)

    def test_a_lost_attribute_is_found(self, publish: Publish, clock: Clock) -> None:
        expected = publish(mag=[4.2, 5.1], place=["Bonn", "Rome"])
        clock.now += 400
        changed = publish(mag=[4.2, 5.1]) | {"source": expected["source"]}

        with pytest.raises(MapboxTilesetDiffersError, match=r"fields +place +missing; there are mag"):
            poke(changed, verify=True)

    def test_a_swapped_layer_is_found(self, publish: Publish) -> None:
        here, there = publish("here"), publish("there", x=100.0)

        with pytest.raises(MapboxTilesetDiffersError, match=r"bounds +7, 50, 7.5, 50.5 of the source +100, 50"):
            poke(there | {"source": here["source"]}, verify=True)
        with pytest.raises(MapboxTilesetDiffersError, match=r"layers +rivers"):
            poke(here, verify={"layers": ["rivers"]})

    @pytest.mark.slow
    def test_a_sample_is_read_when_the_cdn_has_its_tiles(self, publish: Publish, clock: Clock) -> None:
        publish()
        clock.now += 400
        MapboxTilesetsHook().get_tile("quakes", 0, 0, 0)  # a map shows the old tile
        clock.now += 60
        second, store = publish(depth=[10.0, 20.0]), FakeStore()

        result, delay = poke(second, store, verify={"sample": 500, "fields": ["depth"]})
        assert result is None
        assert delay == pytest.approx(300, abs=1)

        clock.now += (delay or 0) + 2
        result, _ = poke(second, store, verify={"sample": 500, "fields": ["depth"]})
        assert result["verification"]["ok"] is True
        assert result["verification"]["sample"]["features"] >= 2
        with pytest.raises(MapboxTilesetDiffersError, match=r"features +at least 500"):
            poke(second, store, verify={"sample": 500, "min_features": 500})

    @pytest.mark.slow
    def test_an_upload_a_moment_after_another_one_is_not_taken_for_it(self, publish: Publish, clock: Clock) -> None:
        publish()
        MapboxTilesetsHook().get_tilejson("quakes")
        clock.now += 3
        second, store = publish(depth=[10.0, 20.0]), FakeStore()

        result, delay = poke(second, store, verify=True)

        assert result is None
        clock.now += (delay or 0) + 2
        assert poke(second, store, verify=True)[0]["verification"]["layers"][0]["fields"] == ["depth"]

    @pytest.mark.slow
    def test_a_late_task_has_time_for_a_fault_too_and_each_try_its_own(
        self, publish: Publish, emulator: Emulator, clock: Clock
    ) -> None:
        upload, store = publish(), FakeStore()
        clock.now += 3600
        for status in (429, 503):
            emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=status)
            assert poke(upload, store, verify=True)[1] is not None
        clock.now += 1300
        emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=429)
        assert poke(upload, store, verify=True)[1] is not None, "a rate limit slows, and never fails"
        emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=503)
        with pytest.raises(MapboxTaskError, match="503"):
            poke(upload, store, verify=True)
        emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=503)
        assert poke(upload, store, try_number=2, verify=True)[1] is not None

    def test_a_single_refusal_is_not_final(self, publish: Publish, emulator: Emulator) -> None:
        upload, store = publish(), FakeStore()
        emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=401)
        assert poke(upload, store, verify=True)[1] is not None
        emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=401)

        with pytest.raises(MapboxFailError, match="401"):
            poke(upload, store, verify=True)

    def test_a_token_that_may_not_read_tilesets_fails_or_warns(
        self, publish: Publish, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        upload = publish()
        token = emulator.create_token(scopes=["uploads:read"])
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

        with pytest.raises(MapboxFailError, match="tilesets:read"):
            poke(upload, verify=True)
        result, _ = poke(upload, verify=True, on_difference="warn")

        assert "verification" not in result
        assert "was not verified" in caplog.text

    @pytest.mark.slow
    def test_a_difference_can_be_a_warning(self, publish: Publish, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            result, _ = poke(publish(), verify={"layers": ["rivers"]}, on_difference="warn")

        assert result["verification"]["ok"] is False
        assert "has 1 difference" in caplog.text

    def test_a_rate_limit_and_a_fault_only_delay_it(self, publish: Publish, emulator: Emulator) -> None:
        upload = publish()
        for status, least in ((429, 1), (500, 30)):
            emulator.faults.add(RequestFault.STATUS, path="^/v4/", status=status)

            result, delay = poke(upload, verify=True)

            assert result is None
            assert delay is not None
            assert delay >= least
        assert poke(upload, verify=True)[0]["verification"]["ok"]

    @pytest.mark.slow
    def test_a_token_without_the_scope_for_lists_still_verifies(
        self, publish: Publish, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = publish()
        token = emulator.create_token(scopes=["uploads:read", "tilesets:read"])
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

        result, _ = poke(upload, verify=True)

        assert result["verification"]["ok"]
        assert "filesize" not in result


class TestVisibility:
    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"update_refused_status": None}

    def test_a_tileset_is_made_public(self, publish: Publish) -> None:
        result, _ = poke(publish(), visibility="public", verify=True)

        assert result["visibility"] == "public"
        assert MapboxTilesetsHook().get_tileset("quakes").visibility == "public"

    @pytest.mark.slow
    def test_a_tileset_that_differs_stays_as_it_is(self, publish: Publish) -> None:
        with pytest.raises(MapboxTilesetDiffersError):
            poke(publish(), visibility="public", verify={"maxzoom": 22})

        assert MapboxTilesetsHook().get_tileset("quakes").visibility == "private"


class TestVisibilityRefused:
    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"update_refused_status": 400}

    @pytest.mark.parametrize("status", [400, 404, 409, 422])
    def test_any_refusal_can_be_a_warning(self, publish: Publish, emulator: Emulator, status: int) -> None:
        emulator.faults.add(RequestFault.STATUS, method="PATCH", path="^/tilesets/", status=status, message="No.")

        result, _ = poke(publish(), visibility="public", if_visibility_refused="warn")

        assert "visibility" not in result

    def test_it_fails_and_says_what_to_do(self, publish: Publish) -> None:
        with pytest.raises(MapboxFailError, match="was not created with the /tilesets/v1 endpoint") as caught:
            poke(publish(), visibility="public")
        assert "if_visibility_refused" in str(caught.value)

    def test_it_can_be_a_warning(self, publish: Publish, caplog: pytest.LogCaptureFixture) -> None:
        result, _ = poke(publish(), visibility="public", if_visibility_refused="warn", verify=True)

        assert result["visibility"] == "private"
        assert "does not let such a tileset be changed" in caplog.text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"verify": "{{ params.verify }}"}, "cannot be templated"),
        ({"verify": {"layer": "x"}}, "'layer', which is unknown"),
        ({"verify": True, "on_difference": "ignore"}, 'on_difference must be "fail" or "warn"'),
        ({"visibility": "secret"}, 'visibility must be "public" or "private"'),
        ({"visibility": "public", "if_visibility_refused": "no"}, "if_visibility_refused must be"),
    ],
)
@pytest.mark.parametrize("kind", ["sensor", "operator"])
def test_a_mistake_breaks_the_import_of_the_dag(options: dict[str, Any], problem: str, kind: str) -> None:
    required = {"upload_id": "x"} if kind == "sensor" else {"source": "x", "tileset": "x", "wait_for_completion": True}
    task_class: Any = UploadCompleteSensor if kind == "sensor" else StageAndCreateUploadOperator

    with pytest.raises(ValueError, match=re.escape(problem)):
        task_class(task_id="task", **required, **options)


def test_without_a_wait_they_have_no_effect() -> None:
    with pytest.raises(ValueError, match="verify, visibility has no effect without wait_for_completion=True"):
        StageAndCreateUploadOperator(task_id="publish", source="x", tileset="x", verify=True, visibility="public")


@contextmanager
def deferral() -> Iterator[list[TaskDeferred]]:
    caught: list[TaskDeferred] = []
    try:
        yield caught
    except TaskDeferred as deferred:
        caught.append(deferred)


@pytest.mark.slow
class TestDeferred:
    def test_the_triggerer_waits_for_the_cdn(self, publish: Publish, clock: Clock) -> None:
        publish()
        MapboxTilesetsHook().get_tilejson("quakes")
        clock.now += 60
        upload = publish(depth=[1.0, 2.0])
        event = to_event(Upload.from_json(upload | {"complete": True}), None)
        sensor = UploadCompleteSensor(task_id="wait", upload_id=upload, verify=True, deferrable=True)

        with deferral() as deferred:
            sensor.execute_complete({}, event)  # type: ignore[typeddict-item]

        (first,) = deferred
        seconds = (first.trigger.moment - timezone.utcnow()).total_seconds()  # type: ignore[attr-defined]
        assert seconds == pytest.approx(300, abs=10)
        clock.now += seconds + 1
        again = UploadCompleteSensor(task_id="wait", upload_id=upload, verify=True, deferrable=True)
        kwargs = {**(first.kwargs or {}), "event": "2026-12-01T00:00:00+00:00"}  # the timer's event
        result = again.resume_execution(first.method_name, kwargs, {})  # type: ignore[typeddict-item]
        assert result["verification"]["layers"][0]["fields"] == ["depth"]


@pytest.mark.slow
class TestOperator:
    def run(self, file: Path, store: FakeStore, reschedules: int, **options: Any) -> Any:
        operator = StageAndCreateUploadOperator(
            task_id="publish", source=str(file), tileset="quakes", format="geojson", wait_for_completion=True, **options
        )
        context: Any = {
            "ti": SimpleNamespace(max_tries=1),
            "task_state_store": store,
            "task_reschedule_count": reschedules,
        }
        return operator.execute(context)

    def test_it_gives_its_slot_back_until_the_cdn_shows_the_tileset(
        self, publish: Publish, clock: Clock, tmp_path: Path, emulator: Emulator
    ) -> None:
        publish()
        MapboxTilesetsHook().get_tilejson("quakes")
        clock.now += 60
        file = tmp_path / "quakes.parquet"
        store, reschedules, result = FakeStore(), 0, None
        while result is None and reschedules < 20:
            try:
                result = self.run(file, store, reschedules, verify=True, deferrable=False)
            except AirflowRescheduleException as again:
                reschedules += 1
                clock.now += (again.reschedule_date - timezone.utcnow()).total_seconds() + 1
                until_processed(emulator)

        assert result is not None
        assert result["verification"]["ok"] is True
        assert len(list(MapboxUploadsHook().list_uploads())) == 2


def until_processed(emulator: Emulator) -> None:
    """Wait for the emulator's threads."""
    end = time.monotonic() + 20
    while not all(upload.is_terminal for upload in MapboxUploadsHook().list_uploads()):
        assert time.monotonic() < end
        time.sleep(0.02)

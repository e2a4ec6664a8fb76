"""The sensor that waits for a change of a tileset, against the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.faults import RequestFault
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError
from airflow_mapbox.sensors.tilesets import TilesetUpdatedSensor
from airflow_mapbox.tilesets.models import Tileset
from airflow_mapbox.triggers.tilesets import TilesetUpdatedTrigger, to_event
from tests.connections import connection
from tests.support.clock import ANOTHER_TIME as START
from tests.support.clock import Clock
from tests.unit.support import FakeStore


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def emulator(tmp_path: Path, clock: Clock, make_settings: Callable[..., EmulatorSettings]) -> Iterator[Emulator]:
    with Emulator(tmp_path / "emulator", settings=make_settings(), clock=clock) as running:
        yield running


@pytest.fixture(autouse=True)
def connected(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))


@pytest.fixture
def context() -> Any:
    return {"ti": SimpleNamespace(max_tries=1), "task_state_store": FakeStore()}


def sensor(**options: Any) -> TilesetUpdatedSensor:
    return TilesetUpdatedSensor(task_id="edited", tileset="parcels", **options)


def time_at(unix_time: float) -> datetime:
    return datetime.fromtimestamp(unix_time, UTC)


def test_it_waits_for_a_change_after_its_first_poke(emulator: Emulator, clock: Clock, context: Any) -> None:
    emulator.add_tileset(f"{emulator.account}.parcels", modified=clock.now - 5)
    assert not sensor().poke(context)
    clock.now += 100
    assert not sensor().poke(context), "each poke may be in another process"
    emulator.add_tileset(f"{emulator.account}.parcels", modified=clock.now)
    clock.now += 100

    found = sensor().poke(context)

    assert found.is_done
    assert Tileset.from_json(json.loads(json.dumps(found.xcom_value))).modified_at == time_at(clock.now - 100)


@pytest.mark.parametrize("to_parameter", [lambda time: time, datetime.isoformat, str])
def test_it_counts_changes_since_a_time(
    emulator: Emulator, clock: Clock, context: Any, to_parameter: Callable[[datetime], Any]
) -> None:
    emulator.add_tileset(f"{emulator.account}.parcels", modified=clock.now - 50)
    clock.now += 1000

    assert sensor(since=to_parameter(time_at(START - 60))).poke(context).is_done
    assert not sensor(since=to_parameter(time_at(START - 50))).poke(context).is_done


def test_a_poke_is_one_request_however_many_tilesets_there_are(emulator: Emulator, clock: Clock, context: Any) -> None:
    for number in range(1200):
        emulator.add_tileset(f"{emulator.account}.t{number}", modified=clock.now - 10_000 - number)
    before = len(emulator.requests)

    assert not sensor(since=time_at(START)).poke(context)

    assert len(emulator.requests) == before + 1


@pytest.mark.parametrize("status", [429, 500])
def test_a_rate_limit_and_a_fault_delay_the_next_poke(emulator: Emulator, context: Any, status: int) -> None:
    emulator.faults.add(RequestFault.STATUS, path="^/tilesets/", status=status)
    waiting = sensor(since=time_at(START), poke_interval=10)

    assert not waiting.poke(context)

    assert waiting._get_next_poke_interval(datetime.now(UTC), lambda: 0, 1) >= 10
    assert not waiting.poke(context)


def test_a_missing_scope_fails_and_names_it(emulator: Emulator, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = emulator.create_token(scopes=["uploads:list"])
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

    with pytest.raises(MapboxFailError, match="tilesets:list"):
        sensor().poke(context)


@pytest.mark.parametrize("since", ["yesterday", "2026-11-29T00:00:00", datetime(2026, 11, 29), 3])
def test_a_time_that_is_none_breaks_the_import_of_the_dag(since: Any) -> None:
    with pytest.raises(ValueError, match="since must be a time with a time zone"):
        sensor(since=since)


def test_a_template_is_checked_when_it_is_rendered(context: Any) -> None:
    waiting = sensor(since="{{ data_interval_start }}")
    waiting.since = "None"

    with pytest.raises(MapboxFailError, match="since must be a time with a time zone"):
        waiting.poke(context)


def test_a_tileset_of_another_account_fails(context: Any) -> None:
    waiting = TilesetUpdatedSensor(task_id="edited", tileset="other.parcels")

    with pytest.raises(MapboxFailError, match="belongs to account 'other'"):
        waiting.poke(context)


def test_a_single_refusal_is_not_final(emulator: Emulator, context: Any) -> None:
    emulator.faults.add(RequestFault.STATUS, path="^/tilesets/", status=401)
    assert not sensor(since=time_at(START)).poke(context)
    assert not sensor(since=time_at(START)).poke(context)
    emulator.faults.add(RequestFault.STATUS, path="^/tilesets/", status=401)

    with pytest.raises(MapboxFailError, match="401"):
        sensor(since=time_at(START)).poke(context)


class TestDeferred:
    def test_a_missing_scope_fails_before_it_defers(
        self, emulator: Emulator, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = emulator.create_token(scopes=["uploads:list"])
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

        with pytest.raises(MapboxFailError, match="tilesets:list"):
            sensor(deferrable=True, since=time_at(START)).poke(context)

    def test_a_change_that_is_there_already_needs_no_triggerer(self, emulator: Emulator, context: Any) -> None:
        emulator.add_tileset(f"{emulator.account}.parcels", modified=START)

        assert sensor(deferrable=True, since=time_at(START - 1)).poke(context).is_done

    def test_the_triggerer_waits_from_the_same_time_on(self, clock: Clock, context: Any) -> None:
        waiting = sensor(deferrable=True, timeout=500)

        with pytest.raises(TaskDeferred) as first:
            waiting.poke(context)
        clock.now += 100
        with pytest.raises(TaskDeferred) as retried:
            sensor(deferrable=True).poke(context)

        trigger = first.value.trigger
        assert isinstance(trigger, TilesetUpdatedTrigger)
        assert trigger.since is not None
        assert datetime.fromisoformat(trigger.since).timestamp() == pytest.approx(START, abs=1)
        assert trigger.once
        assert first.value.timeout == timedelta(seconds=500)
        assert retried.value.trigger.since == trigger.since  # type: ignore[attr-defined]

    def test_its_event_is_the_result(self, context: Any) -> None:
        event = to_event(Tileset("acme.parcels", modified="2026-11-29T00:00:00+00:00"))

        assert sensor().execute_complete(context, event)["id"] == "acme.parcels"

    @pytest.mark.parametrize("event", [None, "2026", {}, {"tileset": None}, {"tileset": {"id": 3}}])
    def test_another_event_fails(self, context: Any, event: Any) -> None:
        with pytest.raises(MapboxTaskError):
            sensor().execute_complete(context, event)

"""The trigger that fires when a tileset was changed, against the emulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.faults import RequestFault
from airflow_mapbox.tilesets.changes import Changes
from airflow_mapbox.triggers import tilesets as module
from airflow_mapbox.triggers.tilesets import TilesetUpdatedTrigger, _time_of
from tests.connections import connection
from tests.support.clock import ANOTHER_TIME as START
from tests.support.clock import Clock


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
    monkeypatch.setattr(module, "_FIRST_DELAY_AFTER_FAULT", 0.01)


class Account:
    """The emulator's account, whose tilesets change when the test says so."""

    def __init__(self, emulator: Emulator, clock: Clock) -> None:
        self._emulator = emulator
        self._clock = clock

    def change(self, name: str, seconds: float = 100.0) -> float:
        self._clock.now += seconds
        self._emulator.add_tileset(f"{self._emulator.account}.{name}", modified=self._clock.now)
        return self._clock.now

    @property
    def lists(self) -> int:
        return sum(request.path.startswith("/tilesets/v1/") for request in self._emulator.requests)


@pytest.fixture
def account(emulator: Emulator, clock: Clock) -> Account:
    return Account(emulator, clock)


class State:
    """The state of an asset."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.failures = 0

    async def aget(self, key: str) -> Any:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the API server restarts")
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value


class Group:
    """Triggers that share a stream, which gives them a snapshot when the test says so."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[Changes]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.events: dict[str, list[float]] = {}

    def subscribe(self, trigger: TilesetUpdatedTrigger) -> None:
        queue: asyncio.Queue[Changes] = asyncio.Queue()
        self._queues.append(queue)
        events = self.events.setdefault(trigger.tileset, [])

        async def stream() -> AsyncIterator[Changes]:
            while True:
                yield await queue.get()
                queue.task_done()

        async def collect() -> None:
            async for event in trigger.filter_shared_stream(stream()):
                events.append(datetime.fromisoformat(event.payload["tileset"]["modified"]).timestamp())

        self._tasks.append(asyncio.create_task(collect()))

    async def deliver(self, changes: Changes) -> None:
        for queue in self._queues:
            queue.put_nowait(changes)
        for queue, task in zip(self._queues, self._tasks, strict=True):
            waiting = asyncio.create_task(queue.join())
            await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def shared(trigger: TilesetUpdatedTrigger) -> AsyncIterator[Changes]:
    return TilesetUpdatedTrigger.open_shared_stream({**trigger.serialize()[1], "poll_interval": 0.0})


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_one_request_serves_all_tilesets_of_the_account(account: Account) -> None:
    triggers = [TilesetUpdatedTrigger(f"t{number}", since=at(START)) for number in range(30)]
    assert len({trigger.shared_stream_key() for trigger in triggers}) == 1

    async def scenario() -> None:
        group, stream = Group(), shared(triggers[0])
        for trigger in triggers:
            group.subscribe(trigger)
        await group.deliver(await anext(stream))
        first = account.change("t3")
        second = account.change("t7")
        before = account.lists
        await group.deliver(await anext(stream))
        third = account.change("t3")
        await group.deliver(await anext(stream))
        await group.deliver(await anext(stream))

        assert account.lists == before + 3
        assert {name: events for name, events in group.events.items() if events} == {
            "t3": [first, third],
            "t7": [second],
        }
        await group.close()

    run(scenario())


def test_changes_count_from_its_start_unless_it_knows_a_time(account: Account) -> None:
    old = account.change("old")

    async def scenario() -> None:
        group = Group()
        group.subscribe(TilesetUpdatedTrigger("old"))
        group.subscribe(TilesetUpdatedTrigger("new"))  # does not exist yet
        stream = shared(TilesetUpdatedTrigger("old"))
        await group.deliver(await anext(stream))
        assert group.events == {"old": [], "new": []}

        later, created = account.change("old"), account.change("new")
        await group.deliver(await anext(stream))
        assert group.events == {"old": [later], "new": [created]}
        await group.close()

    run(scenario())
    assert old < account.change("old")


def watching(*states: State) -> TilesetUpdatedTrigger:
    """A trigger as the triggerer makes it for assets."""
    trigger = TilesetUpdatedTrigger("parcels")
    by_name = {f"asset {number}": state for number, state in enumerate(states)}
    trigger.asset_state_store = SimpleNamespace(_by_name=by_name, _by_uri={})  # type: ignore[assignment]
    return trigger


def one_life(*states: State, polls: int = 2) -> list[float]:
    """The changes that a triggerer sees between its start and its end."""

    async def live() -> list[float]:
        group = Group()
        group.subscribe(watching(*states))
        stream = shared(watching(*states))
        for _ in range(polls):
            await group.deliver(await anext(stream))
        await group.close()
        return group.events["parcels"]

    return asyncio.run(asyncio.wait_for(live(), 30))


class TestRestart:
    @pytest.mark.parametrize("assets", [1, 2])
    def test_a_change_meanwhile_is_seen_once(self, account: Account, assets: int) -> None:
        states = [State() for _ in range(assets)]
        account.change("parcels")
        assert one_life(*states) == []
        missed = account.change("parcels")  # while no triggerer runs

        assert one_life(*states) == [missed]
        assert one_life(*states) == []

    def test_a_change_whose_event_may_be_lost_is_reported_again(self, account: Account) -> None:
        state = State()
        account.change("parcels")
        assert one_life(state) == []
        missed = account.change("parcels")

        assert one_life(state, polls=1) == [missed]  # the triggerer dies before the next poll
        assert one_life(state) == [missed]
        assert one_life(state) == []

    def test_a_state_that_cannot_be_read_at_first_is_read_again(self, account: Account) -> None:
        state = State()
        account.change("parcels")
        assert one_life(state) == []
        missed = account.change("parcels")
        state.failures = 3

        assert one_life(state) == [missed]


def test_a_change_that_the_shared_request_does_not_reach_is_looked_up_once(account: Account) -> None:
    """A trigger joins later than the others, and waits for a change since a time before that."""
    changed = account.change("parcels")

    async def scenario() -> None:
        stream = shared(TilesetUpdatedTrigger("other"))
        await anext(stream)
        for _ in range(3):
            account.change("other", seconds=5000)
            await anext(stream)
        group = Group()
        group.subscribe(TilesetUpdatedTrigger("parcels", since=at(changed - 1)))
        group.subscribe(TilesetUpdatedTrigger("missing", since=at(changed - 1)))
        account.change("other", seconds=5000)
        before = account.lists
        for _ in range(3):
            await group.deliver(await anext(stream))

        assert group.events == {"parcels": [changed], "missing": []}
        assert account.lists == before + 3 + 2  # one look-up for each
        await group.close()

    run(scenario())


class TestProcessing:
    @pytest.fixture
    def emulator(
        self, tmp_path: Path, clock: Clock, make_settings: Callable[..., EmulatorSettings]
    ) -> Iterator[Emulator]:
        settings = make_settings(tilesets_show_pending=True)
        with Emulator(tmp_path / "emulator", settings=settings, clock=clock) as running:
            yield running

    def test_a_tileset_in_processing_is_no_change(self, account: Account, emulator: Emulator, clock: Clock) -> None:
        async def scenario() -> None:
            group, stream = Group(), shared(TilesetUpdatedTrigger("parcels"))
            group.subscribe(TilesetUpdatedTrigger("parcels"))
            for seconds in (0, 100, 100):
                clock.now += seconds
                emulator.add_tileset(f"{emulator.account}.parcels", modified=clock.now, status="pending")
                await group.deliver(await anext(stream))
            assert group.events == {"parcels": []}

            done = account.change("parcels")
            await group.deliver(await anext(stream))
            assert group.events == {"parcels": [done]}
            await group.close()

        run(scenario())


def test_a_tileset_of_another_account_is_an_error_in_the_log(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        group, stream = Group(), shared(TilesetUpdatedTrigger("parcels"))
        group.subscribe(TilesetUpdatedTrigger("other.parcels"))
        await group.deliver(await anext(stream))
        await group.close()

    run(scenario())
    assert "Tileset other.parcels belongs to another account" in caplog.text
    assert account.lists == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({"tileset": "a b"}, "a b"), ({"tileset": "x", "since": "2026-11-29"}, "a time with a time zone")],
)
def test_a_mistake_breaks_the_import_of_the_dag(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TilesetUpdatedTrigger(**arguments)


def test_an_error_does_not_end_it(
    account: Account, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account.change("parcels")
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password="sk.wrong.token"))
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))
            emulator.faults.add(RequestFault.STATUS, path="^/tilesets/", status=500, times=1)
            emulator.faults.add(RequestFault.STATUS, path="^/tilesets/", status=429, times=1)
        await asyncio.sleep(0)

    replace_sleep(monkeypatch, sleep)

    async def scenario() -> None:
        changes = await anext(shared(TilesetUpdatedTrigger("parcels")))
        assert changes.find("parcels") is not None

    run(scenario())
    assert sleeps[:3] == [pytest.approx(0.01 * 2**number) for number in range(3)]
    assert len(sleeps) == 5
    assert "Asking for the tilesets again" in caplog.text
    assert "sk.wrong" not in caplog.text


def test_it_fires_once_and_not_before_the_task_has_ended(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = account.change("parcels")
    trigger = TilesetUpdatedTrigger(
        "parcels", since=at(START), poll_interval=0.0, once=True, not_before=time.time() + 7
    )
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        await asyncio.sleep(0)

    replace_sleep(monkeypatch, sleep)

    async def scenario() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(scenario())
    assert datetime.fromisoformat(event["tileset"]["modified"]).timestamp() == changed
    assert sleeps == [pytest.approx(7, abs=1)]


def replace_sleep(monkeypatch: pytest.MonkeyPatch, sleep: Any) -> None:
    """Replace the sleep of the trigger, and not that of the emulator's server."""
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop))


def test_its_arguments_make_the_same_trigger() -> None:
    trigger = TilesetUpdatedTrigger("acme.x", "conn", since=at(1), poll_interval=5, once=True, not_before=3.0)

    path, arguments = trigger.serialize()

    assert path == "airflow_mapbox.triggers.tilesets.TilesetUpdatedTrigger"
    assert TilesetUpdatedTrigger(**arguments).serialize() == (path, arguments)


def at(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).isoformat()


@pytest.mark.parametrize("stored", ["yesterday", "2026-01-01T00:00:00", 7, None])
def test_a_stored_time_that_cannot_be_read_does_not_count(stored: object) -> None:
    assert _time_of(stored) is None

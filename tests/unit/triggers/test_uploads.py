"""The trigger and the poller behind it, against the emulator, whose requests are counted."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.util.connection

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.http.retry import ONE_TRY
from airflow_mapbox.triggers import connector
from airflow_mapbox.triggers import uploads as module
from airflow_mapbox.triggers.uploads import UploadCompleteTrigger
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.waiting import poller as poller_module
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState
from airflow_mapbox.uploads.waiting.poller import Poller
from tests.connections import connection

INTERVAL = 0.2
# Seconds of the processor that one callback of the event loop may take.
SLOW = 0.1


class Account:
    """The emulator's account, with uploads that get on when the test says so."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._store = emulator._started.store
        self._made: dict[str, Any] = {}

    def create(self, number: int = 1) -> list[str]:
        made = [
            self._store.create_upload(
                owner=self.emulator.account,
                tileset=f"{self.emulator.account}.t{len(self._made) + index}",
                name=None,
                url="mapbox://datasets/demo/d",
                key=None,
            )
            for index in range(number)
        ]
        self._made |= {upload.id: upload for upload in made}
        return [upload.id for upload in made]

    def progress(self, upload_id: str, progress: float) -> None:
        self._store.set_progress(upload_id, progress)

    def finish(self, *upload_ids: str) -> None:
        for upload_id in upload_ids:
            tiles = self.emulator.folder / f"{upload_id}.mbtiles"
            tiles.touch()
            self._store.publish(self._made[upload_id], tiles, name="n", layer=None)

    def fail(self, upload_id: str, message: str) -> None:
        self._store.fail_upload(self._made[upload_id], message)

    @property
    def asked(self) -> Counter[str]:
        """Requests so far: for the list, and for single uploads."""
        return Counter(
            "list" if request.path.endswith(self.emulator.account) else "single" for request in self.emulator.requests
        )


@pytest.fixture
def account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Account]:
    with Emulator(tmp_path / "emulator", settings=make_settings()) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        yield Account(running)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pollers that do not wait for company, nor for the account's other users."""
    patient = partial(Poller, gather=0.05, seconds_per_request=0.01, after_crash=0.1, last_poll=0.1)
    monkeypatch.setattr(module, "Poller", patient)


def trigger(upload_id: str, **options: Any) -> UploadCompleteTrigger:
    return UploadCompleteTrigger(upload_id, **{"poll_interval": INTERVAL, "max_wait": INTERVAL, **options})


async def event_of(one: UploadCompleteTrigger) -> Any:
    (event,) = [event.payload async for event in one.run()]
    return event


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def begun(account: Account, *ids: str, **options: Any) -> list[asyncio.Task[Any]]:
    """Start triggers and let their first look pass."""
    before = account.asked.total()
    tasks = [asyncio.create_task(event_of(trigger(upload_id, **options))) for upload_id in ids]
    await until(lambda: account.asked.total() > before)
    return tasks


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]
    for shared in module._by_loop.values():
        assert not shared.pollers, "a poller is kept that nobody needs"
        assert not shared._connectors, "a client is kept that nobody needs"


@pytest.mark.parametrize("left", [-60.0, 0.5])
def test_the_trigger_fires_no_sooner_than_it_may(account: Account, left: float) -> None:
    """A task that is queued again before the scheduler has read of its exit is marked failed."""
    (done,) = account.create(1)
    account.finish(done)

    async def story() -> None:
        may = time.time() + left
        assert (await event_of(trigger(done, not_before=may)))["upload"]["complete"]
        assert time.time() >= may

    run(story())


def test_each_trigger_gets_the_event_of_its_own_upload(account: Account) -> None:
    done, failed, open_ = account.create(3)

    async def story() -> None:
        tasks = await begun(account, done, failed, open_)
        account.finish(done)
        account.fail(failed, "Tileset is empty.")
        first, second = await asyncio.gather(*tasks[:2])
        assert (first["upload"]["id"], first["upload"]["complete"]) == (done, True)
        assert (second["upload"]["id"], second["upload"]["error"]) == (failed, "Tileset is empty.")
        assert not tasks[2].done()
        account.finish(open_)
        assert (await tasks[2])["upload"]["id"] == open_

    run(story())


@pytest.mark.slow
def test_five_hundred_waits_take_five_requests_an_interval_and_one_for_each_that_fell_off_the_list(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = account.create(3)
    account.create(200)  # somebody else's
    ids = old + account.create(497)
    rounds: list[Counter[str]] = []
    threads: set[str] = set()
    connections: list[Any] = []
    connect = urllib3.util.connection.create_connection
    monkeypatch.setattr(
        urllib3.util.connection,
        "create_connection",
        lambda *args, **options: connections.append(args) or connect(*args, **options),
    )
    whole_round = Poller._round

    async def counted(self: Poller) -> None:
        before, joined = account.asked, len(self._waits)
        await whole_round(self)
        # On a busy machine the first rounds begin before all of the waits have come.
        if joined == len(ids):
            rounds.append(account.asked - before)
        threads.update(thread.name for thread in threading.enumerate())

    monkeypatch.setattr(Poller, "_round", counted)

    async def story() -> None:
        tasks = [asyncio.create_task(event_of(trigger(upload_id))) for upload_id in ids]
        await until(lambda: len(rounds) >= 4)
        await asyncio.to_thread(account.finish, *ids)
        events = await asyncio.gather(*tasks)
        assert [event["upload"]["id"] for event in events] == ids
        assert {event["upload"]["complete"] for event in events} == {True}

    run(story())
    assert max(asked.total() for asked in rounds) <= 5 + len(old)
    assert max(asked["list"] for asked in rounds) <= 5
    assert account.asked["single"] >= len(old)
    assert 1 <= len({name for name in threads if name.startswith("mapbox-triggers")}) <= 2, threads
    assert 1 <= len(connections) <= 2


@pytest.mark.slow
def test_five_hundred_waits_do_not_hold_up_the_loop(
    account: Account, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Each callback takes little of the processor, and no request is made on the thread of the loop."""
    slow: list[str] = []
    run_callback = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        described = repr(handle)
        began = time.thread_time()
        run_callback(handle)
        # Starting and gathering five hundred tasks at once is the test's own doing.
        if (taken := time.thread_time() - began) > SLOW and "coro=<test_" not in described:
            slow.append(f"{taken:.3f} s: {described}")

    send, senders = requests.Session.send, set[threading.Thread]()

    def sent(*args: Any, **options: Any) -> Any:
        senders.add(threading.current_thread())
        return send(*args, **options)

    async def story(ids: list[str]) -> None:
        before = account.asked["list"]
        tasks = [asyncio.create_task(event_of(trigger(upload_id))) for upload_id in ids]
        await until(lambda: account.asked["list"] >= before + 10)
        await asyncio.to_thread(account.finish, *ids)
        await asyncio.gather(*tasks)

    # A full collection goes through all that pytest and Airflow have loaded, in a tenth of a second or two, wherever it
    # happens to begin: what is there already is left out of it.
    gc.collect()
    gc.freeze()
    request.addfinalizer(gc.unfreeze)
    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    monkeypatch.setattr(requests.Session, "send", sent)

    asyncio.run(story(account.create(500)))

    assert slow == []
    assert senders
    assert threading.current_thread() not in senders


def test_waits_that_other_uploads_stand_between_are_found_without_a_request_for_each(account: Account) -> None:
    ids = [account.create(2)[0] for _ in range(150)]

    async def story() -> None:
        tasks = await begun(account, *ids)
        # A round is three pages; the few that one in the middle of the uploads' end leaves are asked for by themselves.
        await until(lambda: account.asked["list"] > 3)
        assert account.asked["single"] == 0
        account.finish(*ids)
        await asyncio.gather(*tasks)

    run(story())


def test_one_wait_asks_for_its_upload_and_not_for_the_list(account: Account) -> None:
    (upload,) = account.create()

    async def story() -> None:
        tasks = await begun(account, upload)
        account.finish(upload)
        await asyncio.gather(*tasks)

    run(story())
    assert account.asked["list"] == 0


def test_two_waits_for_one_upload_both_hear_of_it(account: Account) -> None:
    (upload,) = account.create()

    async def story() -> None:
        tasks = await begun(account, upload, upload)
        account.finish(upload)
        assert [event["upload"]["id"] for event in await asyncio.gather(*tasks)] == [upload, upload]

    run(story())


def test_a_cancelled_trigger_leaves_the_others_alone(account: Account) -> None:
    gone, stays = account.create(2)

    async def story() -> None:
        first, second = await begun(account, gone, stays)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        account.finish(stays)
        assert (await second)["upload"]["id"] == stays

    run(story())


@pytest.mark.parametrize("how", ["an error", "a cancellation"])
def test_a_crashed_poller_is_started_again(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    one, other = account.create(2)
    token = account.emulator.token
    whole_round = Poller._round
    crashes = 2

    async def crashing(self: Poller) -> None:
        nonlocal crashes
        if crashes:
            crashes -= 1
            if how == "an error":
                raise RuntimeError(f"https://api.mapbox.com/?access_token={token}")
            raise asyncio.CancelledError
        await whole_round(self)

    monkeypatch.setattr(Poller, "_round", crashing)

    async def story() -> None:
        tasks = await begun(account, one, other)
        account.finish(one, other)
        assert [event["upload"]["id"] for event in await asyncio.gather(*tasks)] == [one, other]

    run(story())
    stops = [record.getMessage() for record in caplog.records if "stopped" in record.getMessage()]
    assert len(stops) == 2
    assert "during 2 waits" in stops[0]
    assert token not in caplog.text


def test_a_deadline_ends_the_wait_even_if_the_poller_hangs(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    (upload,) = account.create()

    async def hanging(self: Poller) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(Poller, "_round", hanging)

    async def story() -> None:
        event = await event_of(trigger(upload, deadline=time.time() + 0.3))
        assert event["error"] == "WaitTimeoutError"
        assert upload in event["message"]

    run(story())


@pytest.mark.slow
def test_stalled_progress_ends_the_wait(account: Account) -> None:
    stands, moves = account.create(2)
    account.progress(stands, 0.4)

    async def story() -> None:
        tasks = await begun(account, stands, moves, stall_timeout=0.8)
        for step in range(1, 15):
            account.progress(moves, step / 20)
            await asyncio.sleep(0.1)
        event = await tasks[0]
        assert event["error"] == "UploadStalledError"
        assert "stayed at 40% since" in event["message"]
        assert not tasks[1].done()
        account.finish(moves)
        assert "upload" in await tasks[1]

    run(story())


@pytest.mark.parametrize("shown", [{}, {"progress": 0.4, "tileset": "demo.t0"}], ids=["nothing", "progress"])
def test_a_stall_continues_in_another_triggerer(account: Account, shown: dict[str, Any]) -> None:
    (upload,) = account.create()
    account.progress(upload, shown.get("progress", 0))
    began = time.time() - 1000
    state = {"upload_id": upload, "started": began, **({**shown, "progress_since": began} if shown else {})}
    arguments = trigger(upload, stall_timeout=900, state=state).serialize()[1]

    async def story() -> None:
        event = await event_of(UploadCompleteTrigger(**json.loads(json.dumps(arguments))))
        assert event["error"] == "UploadStalledError"

    run(story())


def test_an_unknown_upload_is_tolerated_for_a_minute(account: Account) -> None:
    (known,) = account.create()

    async def story() -> None:
        fresh = asyncio.create_task(event_of(trigger("cfresh")))
        began = time.time() - 61
        late = trigger("clate", state={"upload_id": "clate", "started": began, "refused_since": began})
        tasks = await begun(account, known)
        event = await event_of(late)
        assert (event["error"], event["retryable"]) == ("UploadGoneError", False)
        assert not fresh.done()
        fresh.cancel()
        account.finish(known)
        await tasks[0]

    run(story())


class TestFaults:
    @pytest.mark.slow
    def test_a_rate_limit_is_waited_out_without_blocking_the_loop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
    ) -> None:
        with Emulator(tmp_path / "limited", settings=make_settings(rate_limit=1, rate_window=2)) as limited:
            monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(limited))
            account = Account(limited)
            ids = account.create(3)

            async def story() -> None:
                tasks = await begun(account, *ids)
                await until(lambda: limited.requests[-1].status == 429)
                ticks = 0
                account.finish(*ids)
                waiting = asyncio.gather(*tasks)
                while not waiting.done():
                    ticks += 1
                    await asyncio.sleep(0.02)
                assert ticks > 20  # the loop was free meanwhile
                assert {event["upload"]["complete"] for event in waiting.result()} == {True}

            run(story())
            assert sum(request.status == 429 for request in limited.requests) <= 2

    @pytest.mark.parametrize("kind", ["status", "drop_before", "garbage", "html"])
    def test_a_fault_that_passes_is_waited_out(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.setattr("airflow_mapbox.uploads.waiting.decide._SECONDS_AFTER_FAULT", 0.1)
        ids = account.create(3)
        account.emulator.faults.add(kind, times=3, status=503)

        async def story() -> None:
            tasks = await begun(account, *ids, max_wait=0.3)
            account.finish(*ids)
            assert {event["upload"]["complete"] for event in await asyncio.gather(*tasks)} == {True}

        run(story())

    def test_a_token_that_mapbox_refuses_ends_every_wait_with_advice_and_shows_no_token(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = account.create(3)
        account.emulator.faults.add("status", status=401, message=f"Bad {account.emulator.token}", times=0)
        monkeypatch.setattr("airflow_mapbox.uploads.waiting.decide.REFUSAL_SECONDS", 0.5)

        async def story() -> None:
            for event in await asyncio.gather(*(event_of(trigger(upload_id)) for upload_id in ids)):
                assert event["error"] == "TokenRejectedError"
                assert event["retryable"] is False
                assert "Check the token" in event["message"]
                assert account.emulator.token not in json.dumps(event)

        run(story())

    def test_without_the_scope_for_the_list_each_upload_is_asked_for_by_itself(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = account.emulator.create_token(scopes=("uploads:read",))
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(account.emulator, password=token))
        ids = account.create(3)

        async def story() -> None:
            tasks = await begun(account, *ids)
            account.finish(*ids)
            assert {event["upload"]["complete"] for event in await asyncio.gather(*tasks)} == {True}

        run(story())
        assert sum("without the scope uploads:list" in record.getMessage() for record in caplog.records) == 1

    def test_connections_of_one_account_share_a_poller(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_TOO", connection(account.emulator))
        ids = account.create(4)

        async def story() -> None:
            names = ("mapbox_default", "mapbox_too")
            waits = [trigger(one, mapbox_conn_id=names[number % 2]) for number, one in enumerate(ids)]
            tasks = [asyncio.create_task(event_of(wait)) for wait in waits]
            await until(lambda: account.asked["list"] >= 2)
            (poller,) = module._shared().pollers.values()
            assert len(poller._waits) == len(ids)
            assert account.asked["single"] == 0
            account.finish(*ids)
            assert [event["upload"]["id"] for event in await asyncio.gather(*tasks)] == ids

        run(story())

    def test_triggers_that_begin_together_make_one_client(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Any] = []
        make = connector.client_of
        monkeypatch.setattr(
            connector, "client_of", lambda *args, **options: made.append(args) or make(*args, **options)
        )
        ids = account.create(50)
        account.finish(*ids)

        async def story() -> None:
            await asyncio.gather(*(event_of(trigger(upload_id)) for upload_id in ids))

        run(story())
        assert len(made) == 1

    def test_a_connection_that_leads_to_another_account_is_followed(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_settings: Callable[..., Any]
    ) -> None:
        with Emulator(tmp_path / "other", settings=make_settings()) as elsewhere:
            other = Account(elsewhere)
            (upload,) = other.create()
            (stays,) = account.create()

            async def story() -> None:
                tasks = await begun(account, stays)
                state = {"upload_id": upload, "started": time.time()}
                monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_MOVES", connection(account.emulator))
                moving = asyncio.create_task(event_of(trigger(upload, mapbox_conn_id="mapbox_moves", state=state)))
                await until(lambda: any(upload in request.path for request in account.emulator.requests))
                monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_MOVES", connection(elsewhere))
                other.finish(upload)
                assert (await moving)["upload"]["id"] == upload
                account.finish(stays)
                await asyncio.gather(*tasks)

            run(story())

    def test_airflow_being_away_for_a_moment_is_waited_out(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "_SECONDS_AFTER_FAULT", 0.01)
        (upload,) = account.create()
        account.finish(upload)
        sound = module.Connector.client
        failures = 3

        async def client(self: Any) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise ConnectionError(f"http://airflow/?token={account.emulator.token}")
            return await sound(self)

        monkeypatch.setattr(module.Connector, "client", client)

        async def story() -> None:
            assert (await event_of(trigger(upload)))["upload"]["id"] == upload

        run(story())
        assert "Connection mapbox_default: " in caplog.text
        assert account.emulator.token not in caplog.text

    def test_a_connection_that_is_missing_to_the_deadline_is_named(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.1)

        async def story() -> None:
            event = await event_of(trigger("cany", mapbox_conn_id="mapbox_nowhere", deadline=time.time() + 0.5))
            assert event["error"] == "WaitTimeoutError"
            assert "Airflow finds no connection 'mapbox_nowhere'" in event["message"]

        run(story())

    def test_a_missing_connection_is_asked_for_again(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_mapbox.triggers.uploads._SECONDS_AFTER_FAULT", 0.1)
        (upload,) = account.create()
        account.finish(upload)

        async def story() -> None:
            task = asyncio.create_task(event_of(trigger(upload, mapbox_conn_id="mapbox_late")))
            await asyncio.sleep(0.3)
            monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_LATE", connection(account.emulator))
            assert (await task)["upload"]["id"] == upload

        run(story())

    def test_a_wait_continues_with_its_client_while_its_connection_is_missing(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (upload,) = account.create()

        async def story() -> None:
            (task,) = await begun(account, upload)
            monkeypatch.delenv("AIRFLOW_CONN_MAPBOX_DEFAULT")
            account.finish(upload)
            assert (await task)["upload"]["id"] == upload

        run(story())

    def test_an_upload_that_is_done_is_done_also_for_a_triggerer_that_starts_after_the_deadline(
        self, account: Account
    ) -> None:
        (upload,) = account.create()
        account.finish(upload)

        async def story() -> None:
            event = await event_of(trigger(upload, deadline=time.time() - 5))
            assert event["upload"]["id"] == upload

        run(story())

    def test_a_deadline_holds_while_airflow_does_not_answer_for_the_connection(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def never(*_: Any) -> Any:
            await asyncio.sleep(1000)

        monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.1)
        monkeypatch.setattr("airflow.sdk.BaseHook.aget_connection", never)

        async def story() -> None:
            event = await event_of(trigger("cany", deadline=time.time() + 0.2))
            assert event["error"] == "WaitTimeoutError"

        run(story())

    def test_a_connection_that_changes_is_followed(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_mapbox.uploads.waiting.decide._SECONDS_AFTER_FAULT", 0.1)
        (upload,) = account.create()
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(account.emulator, host="http://127.0.0.1:9"))

        async def story() -> None:
            task = asyncio.create_task(event_of(trigger(upload)))
            await asyncio.sleep(0.3)
            monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(account.emulator))
            account.finish(upload)
            assert (await task)["upload"]["id"] == upload

        run(story())

    def test_an_error_of_any_kind_becomes_an_event_that_shows_no_secret(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(self: Poller, *_: Any) -> Any:
            raise KeyError(f"access_token={account.emulator.token}")

        monkeypatch.setattr(Poller, "wait", broken)

        async def story() -> None:
            event = await event_of(trigger("cany"))
            assert (event["error"], event["retryable"]) == ("KeyError", True)
            assert account.emulator.token not in json.dumps(event)

        run(story())


def test_the_poller_has_its_own_context(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger_id: contextvars.ContextVar[str] = contextvars.ContextVar("trigger_id", default="none")
    found: list[str] = []
    whole_round = Poller._round

    async def noted(self: Poller) -> None:
        found.append(trigger_id.get())
        await whole_round(self)

    monkeypatch.setattr(Poller, "_round", noted)
    (upload,) = account.create()
    account.finish(upload)

    async def story() -> None:
        trigger_id.set("the first one's")
        await event_of(trigger(upload))

    run(story())
    assert found == ["none"]


def test_a_wait_that_has_ended_takes_no_further_round(account: Account) -> None:
    (upload,) = account.create()
    account.finish(upload)
    client = UploadsClient(
        account.emulator.token, account.emulator.account, base_url=account.emulator.url, retry=ONE_TRY
    )
    rounds: list[float] = []

    async def connect() -> UploadsClient:
        rounds.append(time.time())
        return client

    async def story() -> None:
        poller = Poller(poller_module.Account.of(client), module.EXECUTOR, gather=0, seconds_per_request=0)
        await poller.wait(WaitState(upload, started=time.time()), WaitPolicy(0), connect)

    asyncio.run(story())
    assert len(rounds) == 1
    client.close()


def test_arguments_hold_no_secret_and_times_are_absolute(account: Account) -> None:
    before = time.time()
    path, arguments = trigger("cany", stall_timeout=5, deadline=1_700_000_000.0).serialize()

    assert path == "airflow_mapbox.triggers.uploads.UploadCompleteTrigger"
    assert account.emulator.token not in json.dumps(arguments)
    assert arguments["deadline"] == 1_700_000_000.0
    assert before <= arguments["state"]["started"] <= time.time()
    assert UploadCompleteTrigger(**arguments).serialize() == (path, arguments)

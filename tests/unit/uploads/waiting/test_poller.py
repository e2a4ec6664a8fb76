"""The poller in virtual time, against an account that is made up here: fairness, pace and faults over hours."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mapbox.uploads.client import ListPage
from airflow_mapbox.uploads.errors import (
    ConfigurationError,
    MapboxError,
    NotFoundError,
    ServerError,
    ThrottledError,
    TokenRejectedError,
    UploadGoneError,
    WaitTimeoutError,
)
from airflow_mapbox.uploads.models import TokenState, Upload
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState
from airflow_mapbox.uploads.waiting.poller import SECONDS_PER_REQUEST, Account, AccountChangedError, Poller
from tests.support import virtual_time
from tests.unit.support import upload_json

START = 1_700_000_000.0
POLICY = WaitPolicy(10)


class FakeClient:
    """An account's uploads, newest first, under a limit that others use too."""

    base_url, username = "https://api.example", "demo"

    def __init__(self, *, page: int = 100, limit: int = 0, lists: bool = True, spent_after: float = math.inf) -> None:
        self.clock = virtual_time.clock(START)
        self.uploads: dict[str, dict[str, Any]] = {}
        self.page, self.limit, self.lists, self.spent_after = page, limit, lists, spent_after
        self.asked: list[tuple[float, str]] = []
        self.refused = 0
        self.token = "TokenValid"
        self.faults: list[MapboxError | None] = []
        self._opened, self._count = -math.inf, 0
        self.seconds_per_request: float | None = None

    def create(self, *upload_ids: str, **facts: Any) -> None:
        created = datetime.fromtimestamp(self.clock(), UTC).isoformat()
        for upload_id in upload_ids:
            document = upload_json(id=upload_id, tileset=f"demo.{upload_id}", progress=0.5, created=created)
            self.uploads = {upload_id: {**document, **facts}} | {
                known: upload for known, upload in self.uploads.items() if known != upload_id
            }

    def finish(self, *upload_ids: str) -> None:
        for upload_id in upload_ids:
            self.uploads[upload_id] |= {"complete": True, "progress": 1}

    async def connect(self) -> Any:
        return self

    def server_now(self) -> float:
        return self.clock()

    def list_page(self, url: str | None = None) -> ListPage:
        self._count_request(f"list {url or 0}")
        if not self.lists:
            raise NotFoundError("Not Found.", status=404, message="Not Found")
        start = int(url or 0)
        more = start + self.page < len(self.uploads)
        items = [*self.uploads.values()][start : start + self.page]
        return ListPage(items, str(start + self.page) if more else None)

    def get_upload(self, upload_id: str) -> Upload:
        self._count_request(upload_id)
        if upload_id not in self.uploads:
            raise NotFoundError("Not Found.", status=404, message="Not Found")
        return Upload.from_json(self.uploads[upload_id])

    def check_token(self) -> TokenState:
        self._count_request("token")
        return TokenState(self.token)

    def _count_request(self, what: str) -> None:
        now = self.clock()
        if now >= self._opened + 60:
            self._opened, self._count = now, 0
        if self.limit and (self._count >= self.limit or now - self._opened >= self.spent_after):
            self.refused += 1
            raise ThrottledError("429.", status=429, message="", retry_after=self._opened + 60 - now)
        self._count += 1
        self.asked.append((now - START, what))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    @property
    def what(self) -> list[str]:
        return [what for _, what in self.asked]

    def most_in_a_minute(self) -> int:
        times = [time for time, _ in self.asked]
        return max(sum(begin <= time < begin + 60 for time in times) for begin in times)


class Story:
    """Waits of one poller."""

    def __init__(self, client: FakeClient) -> None:
        self.client = client
        self.poller = Poller(Account.of(client), virtual_time.AtOnce(), clock=client.clock)  # type: ignore[arg-type]

    def wait(
        self, upload_id: str, policy: WaitPolicy = POLICY, client: FakeClient | None = None
    ) -> asyncio.Task[Upload]:
        state = WaitState(upload_id, started=self.client.clock())
        return asyncio.create_task(self.poller.wait(state, policy, (client or self.client).connect))

    def waits(self, upload_ids: Iterable[str]) -> list[asyncio.Task[Upload]]:
        return [self.wait(upload_id) for upload_id in upload_ids]


def named(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


async def end(tasks: Iterable[asyncio.Task[Upload]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("limit", [30, 4])
def test_no_wait_falls_behind_if_the_limit_is_spent(limit: int) -> None:
    ids = named(40)

    async def story() -> None:
        client = FakeClient(limit=limit, lists=False)
        client.create(*ids)
        waits = Story(client).waits(ids)
        await asyncio.sleep(60 * (3 * len(ids) / min(limit, 10) + 3))  # twice what each one's turn takes, and some
        looked = [client.what.count(upload_id) for upload_id in ids]
        assert min(looked) >= 2, looked
        assert max(looked) - min(looked) <= 1, looked
        await end(waits)

    virtual_time.run(story())


@pytest.mark.slow
def test_rounds_become_rarer_while_others_spend_the_limit() -> None:
    async def story() -> None:
        client = FakeClient(limit=30, spent_after=40)
        story = Story(client)
        waits: list[asyncio.Task[Upload]] = []

        async def pass_hour(name: str) -> tuple[int, int]:
            asked, refused = len(client.asked), client.refused
            for number in range(30):
                ids = [f"{name}{number}-{index}" for index in range(2)]
                client.create(*ids)
                waits.extend(story.waits(ids))
                await asyncio.sleep(120)
            return len(client.asked) - asked, client.refused - refused

        # With rounds every ten seconds it is 3.8 requests a window, and a refusal in each.
        spent = await pass_hour("spent")
        assert spent[0] <= 3.5 * 60
        assert spent[1] <= 0.75 * 60
        client.spent_after = math.inf
        free = await pass_hour("free")
        assert free[0] >= 1.5 * spent[0]
        await end(waits)

    virtual_time.run(story())


def test_a_rate_limit_on_a_page_leaves_what_pages_before_have_shown_and_continues_there() -> None:
    ids = named(300)

    async def story() -> None:
        client = FakeClient(limit=2)
        client.create(*ids)
        client.finish(*ids)
        waits = Story(client).waits(ids)
        await asyncio.sleep(20)
        assert sum(wait.done() for wait in waits) == 200
        await asyncio.gather(*waits)
        assert client.what == ["list 0", "list 100", "list 200"]
        assert client.refused == 1

    virtual_time.run(story())


@pytest.mark.parametrize(("limit", "most"), [(6, 2), (30, 10), (60, 20), (None, 10)])
def test_a_third_of_the_limit_that_replies_name_is_used_and_of_30_a_minute_if_none_does(
    limit: int | None, most: int
) -> None:
    ids = named(40)

    async def story() -> None:
        client = FakeClient(lists=False)
        client.seconds_per_request = None if limit is None else 60 / limit
        client.create(*ids)
        waits = Story(client).waits(ids)
        await asyncio.sleep(3600)
        assert most / 2 < client.most_in_a_minute() <= most
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    virtual_time.run(story())


@pytest.mark.parametrize(("count", "page"), [(1, 100), (2, 100), (250, 100), (500, 10), (60, 3)])
def test_never_more_than_a_third_of_the_accounts_limit_is_used(count: int, page: int) -> None:
    ids = named(count)

    async def story() -> None:
        client = FakeClient(page=page)
        client.create(*ids)
        client.create(*(f"other{number}" for number in range(300)))  # somebody else's stand before
        waits = Story(client).waits(ids)
        await asyncio.sleep(3600)
        assert client.most_in_a_minute() <= 60 / SECONDS_PER_REQUEST
        assert set(ids) <= set(client.what) or "list 0" in client.what
        await end(waits)

    virtual_time.run(story())


@pytest.mark.parametrize("page", [100, 40, 7])
@pytest.mark.parametrize("old", [0, 3, 9])
def test_a_round_is_a_request_for_each_hundred_and_one_for_each_that_these_do_not_show(page: int, old: int) -> None:
    ids = named(500)

    async def story() -> None:
        client = FakeClient(page=page)
        client.create(*ids[:old])
        client.create(*(f"other{number}" for number in range(200)))
        client.create(*ids[old:])
        waits = Story(client).waits(ids)
        while client.what.count("list 0") < 5:
            await asyncio.sleep(60)
        rounds = "|".join(client.what).split("list 0|")[1:-1]
        missed = 500 - min(5 * page, 500 - old)
        for one in rounds:
            assert 1 + len(one.strip("|").split("|")) <= 5 + missed
        await end(waits)

    virtual_time.run(story())


def test_uploads_off_the_list_do_not_make_the_others_wait_for_long() -> None:
    old = [f"old{number}" for number in range(60)]
    ids = named(50)

    async def story() -> None:
        client = FakeClient(page=100)
        client.create(*old)
        client.create(*(f"other{number}" for number in range(300)))
        client.create(*ids)
        waits = Story(client).waits([*old, *ids])
        await asyncio.sleep(3600)
        lists = [time for time, what in client.asked if what == "list 0"]
        assert max(b - a for a, b in itertools.pairwise(lists)) <= 12 * SECONDS_PER_REQUEST
        looked = [client.what.count(upload_id) for upload_id in old]
        assert min(looked) >= 5, looked
        await end(waits)

    virtual_time.run(story())


def test_an_upload_that_was_there_and_is_not_is_gone() -> None:
    async def story() -> None:
        client = FakeClient()
        client.create("c0", "c1")
        waits = Story(client).waits(["c0", "c1"])
        await asyncio.sleep(5)
        del client.uploads["c0"]
        with pytest.raises(UploadGoneError, match="was at 50% and is missing now"):
            await waits[0]
        assert not waits[1].done()
        await end(waits)

    virtual_time.run(story())


def test_an_upload_that_is_missing_for_a_moment_is_waited_for() -> None:
    async def story() -> None:
        client = FakeClient()
        client.create("c0")
        (wait,) = Story(client).waits(["c0"])
        await asyncio.sleep(5)
        upload = client.uploads.pop("c0")
        await asyncio.sleep(30)
        client.uploads["c0"] = upload
        await asyncio.sleep(300)
        client.uploads.pop("c0")
        await asyncio.sleep(30)
        client.uploads["c0"] = upload
        client.finish("c0")
        assert (await wait).is_successful
        assert "token" not in client.what

    virtual_time.run(story())


def test_a_deadline_holds_while_a_rate_limit_lasts() -> None:
    async def story() -> None:
        client = FakeClient(limit=1, spent_after=0.0)
        client.create("c0")
        with pytest.raises(WaitTimeoutError):
            await Story(client).wait("c0", WaitPolicy(10, deadline=START + 3))
        assert client.clock() <= START + 4

    virtual_time.run(story())


def test_a_revoked_token_is_named_in_place_of_the_upload() -> None:
    async def story() -> None:
        client = FakeClient()
        client.token = "TokenRevoked"
        waits = Story(client).waits(named(20))
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(one, TokenRejectedError) and "TokenRevoked" in str(one) for one in outcomes)
        assert client.what.count("token") < 20, "asked once a round, not once a wait"

    virtual_time.run(story())


class TestOfSomebodyElse:
    @pytest.mark.parametrize("odd", [None, 7, "text", {"id": "other"}, {"id": "other", "tileset": 3}, {"id": 5}, []])
    def test_invalid_items_of_the_list_stop_no_wait(self, odd: Any) -> None:
        ids = named(3)

        async def story() -> None:
            client = FakeClient()
            client.create(*ids)
            client.uploads = {"odd": odd} | client.uploads
            client.finish(*ids)
            done = await asyncio.gather(*Story(client).waits(ids))
            assert [upload.id for upload in done] == ids
            assert client.what == ["list 0"]

        virtual_time.run(story())

    def test_an_invalid_item_of_an_awaited_upload_is_asked_for_again(self) -> None:
        async def story() -> None:
            client = FakeClient()
            client.create("c0", "c1")
            client.finish("c1")
            sound = client.uploads["c0"]
            client.uploads["c0"] = {"id": "c0", "progress": "much"}
            waits = Story(client).waits(["c0", "c1"])
            assert (await waits[1]).id == "c1"
            await asyncio.sleep(40)
            assert not waits[0].done()
            client.uploads["c0"] = sound
            client.finish("c0")
            assert (await waits[0]).id == "c0"

        virtual_time.run(story())


class TestFaults:
    def test_after_a_fault_of_the_servers_it_asks_again_in_half_a_minute(self) -> None:
        async def story() -> None:
            client = FakeClient()
            client.create("c0", "c1")
            client.faults = [ServerError("503.", status=503, message="")]
            waits = Story(client).waits(["c0", "c1"])
            await asyncio.sleep(80)
            assert client.what[:2] == ["list 0", "list 0"]
            assert 20 <= client.asked[1][0] - client.asked[0][0] <= 40
            await end(waits)

        virtual_time.run(story())

    def test_a_fault_on_a_later_page_does_not_undo_the_first_page(self) -> None:
        ids = named(150)

        async def story() -> None:
            client = FakeClient()
            client.create(*ids)
            client.finish(*ids)
            client.faults = [None, ConfigurationError("The token is not for this server.")]
            waits = Story(client).waits(ids)
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert sum(isinstance(outcome, Upload) for outcome in outcomes) == 100
            assert sum(isinstance(outcome, ConfigurationError) for outcome in outcomes) == 50

        virtual_time.run(story())


class TestDeadline:
    @pytest.mark.parametrize("deadline", [-600, 0, 5, 30])
    def test_an_upload_that_is_done_is_done_however_late(self, deadline: float) -> None:
        async def story() -> None:
            client = FakeClient()
            client.create("c0")
            wait = Story(client).wait("c0", WaitPolicy(10, deadline=START + deadline))
            await asyncio.sleep(max(0, deadline - 0.1))
            client.finish("c0")
            assert (await wait).id == "c0"

        virtual_time.run(story())

    @pytest.mark.parametrize("deadline", [-600, 5, 300])
    def test_a_timeout_reports_the_last_poll(self, deadline: float) -> None:
        async def story() -> None:
            client = FakeClient()
            client.create("c0")
            wait = Story(client).wait("c0", WaitPolicy(10, deadline=START + deadline))
            await asyncio.sleep(max(0, deadline - 0.1))
            client.create("c0", progress=0.7)
            with pytest.raises(WaitTimeoutError, match="was at 70%"):
                await wait
            assert client.asked[-1][0] == pytest.approx(max(deadline, 0), abs=10)

        virtual_time.run(story())

    def test_a_deadline_ends_the_wait_also_without_an_answer(self) -> None:
        async def story() -> None:
            client = FakeClient(limit=1)
            client.create("c0")
            client._opened, client._count = START + 1e6, 1  # a limit that is never reset
            with pytest.raises(WaitTimeoutError, match="was not seen within"):
                await Story(client).wait("c0", WaitPolicy(10, deadline=START + 300))
            assert client.clock() <= START + 300 + 120

        virtual_time.run(story())


class TestConnectionsOfOneAccount:
    def test_connections_of_one_account_share_the_list(self) -> None:
        async def story() -> None:
            client, other = FakeClient(), FakeClient()
            client.create("c0", "c1")
            other.uploads = client.uploads
            together = Story(client)
            waits = [together.wait("c0"), together.wait("c1", client=other)]
            await asyncio.sleep(5)
            client.finish("c0", "c1")
            await asyncio.gather(*waits)
            assert set(client.what) == {"list 0"}
            assert other.asked == []

        virtual_time.run(story())

    def test_a_token_that_is_refused_ends_the_waits_of_its_connection_alone(self) -> None:
        async def story() -> None:
            client, other = FakeClient(), FakeClient()
            client.create("c0", "c1")
            other.uploads = client.uploads
            client.faults = [TokenRejectedError("401.", status=401, message="")] * 100
            together = Story(client)
            waits = [together.wait("c0"), together.wait("c1", client=other)]
            with pytest.raises(TokenRejectedError):
                await waits[0]
            client.finish("c0", "c1")
            assert (await waits[1]).id == "c1"

        virtual_time.run(story())

    @pytest.mark.parametrize("fault", ["raises", "hangs", "hangs and comes back"])
    def test_an_unavailable_connection_fails_the_poll_of_its_own_waits_only(self, fault: str) -> None:
        async def story() -> None:
            client, other = FakeClient(), FakeClient()
            client.create("c0", "c1")
            other.uploads = client.uploads
            together = Story(client)
            waits = [together.wait("c0"), together.wait("c1", WaitPolicy(10, deadline=START + 1000), other)]
            await asyncio.sleep(5)

            async def broken() -> Any:
                if fault == "raises":
                    raise RuntimeError("the supervisor sent something else")
                await asyncio.sleep(1e6 if fault == "hangs" else 100)
                return other

            for one in together.poller._waits:
                if one.state.upload_id == "c1":
                    one.connect = broken
            client.finish("c0", "c1")
            assert (await waits[0]).id == "c0"
            assert client.clock() < START + 60
            if fault == "hangs and comes back":
                assert (await waits[1]).id == "c1"
            else:
                with pytest.raises(WaitTimeoutError):
                    await waits[1]
                assert client.clock() <= START + 1000 + 15

        virtual_time.run(story())

    def test_an_error_that_is_not_a_mapbox_error_is_a_failed_poll(self) -> None:
        async def story() -> None:
            client = FakeClient()
            client.create("c0", "c1")
            client.faults = [None, RuntimeError("a bug"), None]  # type: ignore[list-item]
            waits = Story(client).waits(["c0", "c1"])
            await asyncio.sleep(60)
            client.finish("c0", "c1")
            assert {upload.id for upload in await asyncio.gather(*waits)} == {"c0", "c1"}

        virtual_time.run(story())

    def test_a_changed_connection_moves_its_waits_with_their_state(self) -> None:
        async def story() -> None:
            client = FakeClient()
            client.create("c0", "c1")
            together = Story(client)
            waits = together.waits(["c0"])
            moving = together.wait("c1")
            await asyncio.sleep(5)
            other = FakeClient()
            other.username = "acme"

            async def elsewhere() -> Any:
                return other

            moved = [one for one in together.poller._waits if one.state.upload_id == "c1"]
            moved[0].connect = elsewhere
            with pytest.raises(AccountChangedError) as changed:
                await moving
            assert changed.value.state.progress == 0.5
            assert not waits[0].done()
            await end(waits)

        virtual_time.run(story())

"""The filters of the list of uploads, and how many pages they read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from airflow_mapbox.errors import InvalidTilesetError, OptionError
from airflow_mapbox.uploads.client import UploadsClient
from tests.unit.conftest import MakeClient
from tests.unit.support import ACCOUNT, Reply, ScriptedServer, upload_json

START = datetime(2026, 3, 1, tzinfo=UTC)
LIST = f"/uploads/v1/{ACCOUNT}"


def upload(day: float | None, **changed: Any) -> dict[str, Any]:
    """Give an upload of some day, which is its id too."""
    created = None if day is None else (START + timedelta(days=day)).isoformat()
    return upload_json(**({"id": f"day-{day}".replace(".", "-"), "created": created} | changed))


def pages(server: ScriptedServer, *pages: list[dict[str, Any]], now: datetime | None = None) -> None:
    """Script pages, each of which links to a next one, also the last."""
    date = {} if now is None else {"Date": format_datetime(now, usegmt=True)}
    for number, items in enumerate(pages):
        link = f'<{server.url}{LIST}?start={number}&limit=100>; rel="next"'
        server.script(Reply(json=items, headers={"Link": link} | date))


class TestPeriod:
    def test_since_ends_the_reading_of_a_list_that_goes_on(self, server: ScriptedServer, client: UploadsClient) -> None:
        pages(server, [upload(9), upload(8)], [upload(7), upload(6)])

        assert [found.id for found in client.list_uploads(since=START + timedelta(days=7))] == [
            "day-9",
            "day-8",
            "day-7",
        ]
        assert len(server.requests) == 2

    def test_since_reads_one_page_if_that_ends_before(self, server: ScriptedServer, client: UploadsClient) -> None:
        pages(server, [upload(9), upload(3)])

        assert client.count_uploads(since=START + timedelta(days=7)) == 1
        assert len(server.requests) == 1

    def test_until_leaves_out_the_newest_and_itself(self, server: ScriptedServer, client: UploadsClient) -> None:
        pages(server, [upload(9), upload(8), upload(7), upload(6), upload(5)])

        found = client.list_uploads(since=START + timedelta(days=6), until=START + timedelta(days=8))

        assert [one.id for one in found] == ["day-7", "day-6"]

    def test_reverse_is_ended_by_until(self, server: ScriptedServer, client: UploadsClient) -> None:
        pages(server, [upload(1), upload(2)], [upload(3), upload(5)])

        found = client.list_uploads(since=START + timedelta(days=2), until=START + timedelta(days=4), reverse=True)

        assert [one.id for one in found] == ["day-2", "day-3"]
        assert [request.query.get("reverse") for request in server.requests] == ["true", None]

    def test_a_limit_ends_the_reading_too(self, server: ScriptedServer, client: UploadsClient) -> None:
        pages(server, [upload(9), upload(8), upload(7)])

        found = client.list_uploads(since=START, tileset="harbours", limit=2)

        assert [one.id for one in found] == ["day-9", "day-8"]
        assert len(server.requests) == 1

    def test_neighbours_in_the_wrong_order_by_seconds_do_not_end_the_reading(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        seconds = 1 / 86400
        pages(server, [upload(8), upload(7 - 20 * seconds, id="late"), upload(7 + seconds, id="early"), upload(3)])

        found = client.list_uploads(since=START + timedelta(days=7))

        assert [one.id for one in found] == ["day-8", "early"]

    @pytest.mark.parametrize("created", [None, "", "yesterday", "9999-99-99T00:00:00Z"])
    def test_an_upload_without_a_readable_time_is_left_out_and_does_not_end_the_reading(
        self, server: ScriptedServer, client: UploadsClient, caplog: pytest.LogCaptureFixture, created: str | None
    ) -> None:
        pages(server, [upload(9), upload(None, id="undated", created=created), upload(8), upload(3)])

        with caplog.at_level("WARNING", logger="airflow_mapbox"):
            found = [one.id for one in client.list_uploads(since=START + timedelta(days=7))]

        assert found == ["day-9", "day-8"]
        assert "Leaving out upload undated" in caplog.text

    def test_an_age_is_by_the_servers_clock(self, server: ScriptedServer, make_client: MakeClient) -> None:
        # This machine's clock is in 2023.
        pages(server, [upload(9), upload(8), upload(3)], now=START + timedelta(days=10))

        found = make_client().list_uploads(since=timedelta(days=2), until=timedelta(days=1, hours=12))

        assert [one.id for one in found] == ["day-8"]

    def test_a_time_in_another_zone_and_in_iso_8601_is_the_same(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        moment = (START + timedelta(days=7)).astimezone(timezone(timedelta(hours=9)))
        for since in (moment, moment.isoformat(), "2026-03-08T00:00:00Z"):
            pages(server, [upload(8), upload(7), upload(6)])
            assert client.count_uploads(since=since) == 2

    def test_an_age_before_all_time_is_everything(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json=[upload(8)]))
        assert client.count_uploads(since=timedelta.max) == 1


class TestOtherFilters:
    def test_state_and_tileset_are_filtered_here(self, server: ScriptedServer, client: UploadsClient) -> None:
        items = [
            upload(9, progress=0.5),
            upload(8, complete=True, progress=1, tileset=f"{ACCOUNT}.Harbours"),
            upload(7, complete=True, progress=1, tileset=f"{ACCOUNT}.other"),
            upload(6, error="Tileset is empty."),
            upload(5, error="Tileset is empty.", complete=True),
        ]
        for wanted, found in {
            ("processing", None): ["day-9"],
            ("done", None): ["day-8", "day-7"],
            ("done", "harbours"): ["day-8"],
            ("failed", None): ["day-6", "day-5"],
            (None, f"{ACCOUNT}.other"): ["day-7"],
        }.items():
            server.script(Reply(json=items))
            state, tileset = wanted
            assert [one.id for one in client.list_uploads(state=state, tileset=tileset)] == found  # type: ignore[arg-type]

    def test_an_unreadable_item_is_skipped(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json=[{"id": 3}, upload(9)]))
        assert client.count_uploads(state="processing") == 1

    def test_count_without_a_filter_counts_all(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json=[upload(day) for day in range(7)]))
        assert client.count_uploads() == 7

    @pytest.mark.parametrize("limit", [0, -3])
    def test_a_limit_of_nothing_sends_nothing(self, server: ScriptedServer, client: UploadsClient, limit: int) -> None:
        assert list(client.list_uploads(limit=limit, state="done")) == []
        assert server.requests == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"since": datetime(2026, 3, 1)}, "no time zone.*\nFor UTC give 2026-03-01T00:00:00\\+00:00"),
        ({"since": "2026-03-01"}, "For UTC give 2026-03-01T00:00:00\\+00:00"),
        ({"until": "last week"}, "`until` is 'last week', which is not a time"),
        ({"until": 1_700_000_000}, "which is not a time"),
        ({"since": timedelta(seconds=-1)}, "an age must be 0 or greater"),
        ({"since": START, "until": START}, "The period is empty"),
        ({"since": timedelta(days=1), "until": timedelta(days=2)}, "The period is empty"),
        ({"state": "complete"}, '`state` must be "processing", "done" or "failed"'),
    ],
    ids=str,
)
def test_an_invalid_filter_is_refused_at_once_and_sends_nothing(
    server: ScriptedServer, client: UploadsClient, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        client.list_uploads(**options)
    assert server.requests == []


def test_a_tileset_of_another_account_is_refused(server: ScriptedServer, client: UploadsClient) -> None:
    with pytest.raises(InvalidTilesetError):
        client.list_uploads(tileset="vega.harbours")
    assert server.requests == []

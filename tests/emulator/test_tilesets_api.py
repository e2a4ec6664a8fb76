"""The tilesets endpoints: list with filters and pages, delete, update, and their refusals, limits and faults."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.emulator.conftest import TOWNS, Account, Clock

DAY = 86_400.0
ENDPOINTS = [
    ("GET", "acme", "tilesets:list"),
    ("DELETE", "acme.kept", "tilesets:write"),
    ("PATCH", "acme.kept", "tilesets:write"),
]
FIELDS = ["type", "center", "created", "description", "filesize", "id", "modified", "name", "visibility", "status"]
COSTS = ["tileset_precisions", "created_by_client", "cu"]

Start = Callable[..., Account]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, settings: EmulatorSettings, clock: Clock) -> Iterator[Start]:
    """Start an emulator with other settings, on a clock that stands still."""
    running: list[Emulator] = []

    def start(**changes: Any) -> Account:
        values = {**vars(settings), **changes}
        running.append(Emulator(tmp_path / "emulator", settings=EmulatorSettings(**values), clock=clock).start())
        return Account(running[-1])

    yield start
    for emulator in running:
        emulator.stop()


def call(account: Account, method: str, target: str = "acme", *, token: str | None = "", **more: Any) -> Any:
    params = dict(more.pop("params", {}))
    if token is not None:
        params["access_token"] = token or account.emulator.token
    url = f"{account.emulator.url}/tilesets/v1/{target}"
    return account.session.request(method, url, params=params, timeout=30, allow_redirects=False, **more)


def refusal(response: requests.Response) -> tuple[int, str]:
    assert list(response.json()) == ["message"]
    return response.status_code, response.json()["message"]


def listed(account: Account, **params: Any) -> list[str]:
    """Return the names of all tilesets of a list, from the first to the last page."""
    names, link = [], f"{account.emulator.url}/tilesets/v1/acme"
    while link:
        response = account.session.get(link, params={**params, "access_token": account.emulator.token}, timeout=30)
        assert response.status_code == 200, response.text
        names += [tileset["id"].removeprefix("acme.") for tileset in response.json()]
        link, params = response.links.get("next", {}).get("url", ""), {}
    return names


class TestTokens:
    @pytest.mark.parametrize(("method", "target", "scope"), ENDPOINTS)
    def test_endpoint_needs_a_valid_token_with_its_scope(
        self, shared: Account, method: str, target: str, scope: str
    ) -> None:
        others = {"tilesets:list", "tilesets:write", "tilesets:read", "uploads:write"} - {scope}
        invalid = (401, "Not Authorized - Invalid Token")

        def refused(token: str | None) -> tuple[int, str]:
            return refusal(call(shared, method, target, token=token))

        assert refused(None) == (401, "Not Authorized - No Token")
        assert refused("nonsense") == invalid
        assert refused(shared.emulator.token + "x") == invalid
        for state in ("TokenExpired", "TokenRevoked"):
            assert refused(shared.emulator.create_token(state=state)) == invalid
        assert refused(shared.emulator.create_token(scopes=others)) == (
            403,
            f"This endpoint requires a token with {scope} scope",
        )

    def test_token_of_another_account_lists_public_tilesets_and_changes_none(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.open", visibility="public")
        acme.emulator.add_tileset("acme.closed")
        foreign = acme.emulator.create_token(account="other")

        assert [tileset["id"] for tileset in call(acme, "GET", token=foreign).json()] == ["acme.open"]
        assert call(acme, "GET", token=foreign, params={"visibility": "private"}).json() == []
        for method in ("DELETE", "PATCH"):
            response = call(acme, method, "acme.open", token=foreign, json={"private": True})
            assert refusal(response) == (404, "Not Found")
        assert listed(acme, visibility="public") == ["open"]

    def test_account_that_does_not_exist_is_404(self, shared: Account) -> None:
        assert refusal(call(shared, "GET", "other")) == (404, "Not Found")
        # Mapbox has no endpoint for a single tileset.
        assert refusal(call(shared, "GET", "acme.places")) == (404, "Not Found")


class TestList:
    def test_uploaded_tileset_is_listed_with_its_size_and_place(self, start: Start, clock: Clock) -> None:
        acme = start()
        assert acme.upload(TOWNS, name="Three towns")["error"] is None

        [tileset] = call(acme, "GET").json()

        assert list(tileset) == FIELDS + COSTS
        assert tileset["filesize"] == (acme.emulator.folder / "tilesets" / "acme.places.mbtiles").stat().st_size
        assert tileset["center"] == call_tilejson(acme)["center"]
        assert (tileset["id"], tileset["name"], tileset["description"]) == ("acme.places", "Three towns", "")
        assert (tileset["type"], tileset["visibility"], tileset["status"]) == ("vector", "private", "available")
        assert tileset["created"] == tileset["modified"] == "2023-11-14T22:13:20.000Z"
        assert tileset["created_by_client"] is None
        assert tileset["cu"] > 0
        assert list(tileset["tileset_precisions"]) in (["free"], ["10m"], ["1m"], ["30cm"], ["1cm"])

    def test_replaced_tileset_keeps_when_it_was_created(self, start: Start, clock: Clock) -> None:
        acme = start()
        acme.upload(TOWNS)
        call(acme, "PATCH", "acme.places", json={"private": False, "description": "Towns"})
        clock.now += DAY

        acme.upload({**TOWNS, "features": TOWNS["features"] * 2})

        [tileset] = call(acme, "GET").json()
        assert (tileset["created"], tileset["modified"]) == ("2023-11-14T22:13:20.000Z", "2023-11-15T22:13:20.000Z")
        assert (tileset["visibility"], tileset["description"]) == ("public", "Towns")

    def test_made_up_figures_can_be_left_out(self, start: Start) -> None:
        acme = start(tileset_costs=False)
        acme.emulator.add_tileset("acme.x")

        assert list(call(acme, "GET").json()[0]) == FIELDS

    def test_filters_and_orders(self, start: Start, clock: Clock) -> None:
        acme = start()
        add = acme.emulator.add_tileset
        add("acme.old", created=clock.now - 3 * DAY, modified=clock.now)
        add("acme.image", created=clock.now - 2 * DAY, type="raster")
        add("acme.open", created=clock.now - DAY, visibility="public")

        assert listed(acme) == listed(acme, sortby="created") == ["open", "image", "old"]
        assert listed(acme, sortby="modified") == ["old", "open", "image"]
        assert listed(acme, type="raster") == ["image"]
        assert listed(acme, type="vector") == ["open", "old"]
        assert listed(acme, type="rasterarray") == []
        assert listed(acme, visibility="public") == ["open"]
        assert listed(acme, visibility="private", type="vector") == ["old"]

    def test_default_order_can_be_by_modification(self, start: Start, clock: Clock) -> None:
        acme = start(tilesets_default_sort="modified")
        acme.emulator.add_tileset("acme.old", created=clock.now - DAY, modified=clock.now)
        acme.emulator.add_tileset("acme.new", created=clock.now - 1)

        assert listed(acme) == ["old", "new"]

    @pytest.mark.parametrize(
        "params",
        [
            {"limit": "0"},
            {"limit": "501"},
            {"limit": "-1"},
            {"limit": "x"},
            {"limit": ""},
            {"limit": "1.5"},
            {"limit": "٣"},
            {"type": "vectors"},
            {"type": ""},
            {"visibility": "Public"},
            {"sortby": "name"},
        ],
    )
    def test_invalid_parameter_is_refused_by_its_name(self, shared: Account, params: dict[str, str]) -> None:
        response = call(shared, "GET", params=params)

        [name] = params
        assert refusal(response) == (
            422,
            f'The requested url\'s querystring "{name}" property contains in invalid value.',
        )

    def test_unknown_start_is_refused(self, shared: Account) -> None:
        assert refusal(call(shared, "GET", params={"start": "acme.never"})) == (422, "Invalid start key")

    def test_page_has_at_most_the_limit_and_links_to_the_next(self, start: Start, clock: Clock) -> None:
        acme = start()
        for number in range(601):
            acme.emulator.add_tileset(f"acme.t{number}", created=clock.now - number)

        assert len(call(acme, "GET").json()) == 100
        first = call(acme, "GET", params={"limit": 500, "type": "vector"})
        assert len(first.json()) == 500
        assert "access_token" not in first.headers["Link"]
        link = re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])
        assert link is not None
        assert "type=vector" in link[1]
        assert listed(acme, limit=500) == listed(acme, limit=7) == [f"t{number}" for number in range(601)]
        assert "Link" not in call(acme, "GET", params={"limit": 500, "start": "acme.t100"}).headers

    def test_pages_are_short_if_their_json_is_long(self, start: Start) -> None:
        acme = start(page_bytes=900)
        names = [f"t{number}" for number in range(5)]
        for name in names:
            acme.emulator.add_tileset(f"acme.{name}")

        response = call(acme, "GET", params={"limit": 4})

        assert 1 < len(response.json()) < 4
        assert "Link" in response.headers
        assert sorted(listed(acme, limit=4)) == names

    def test_random_pages_hold_every_tileset_once_in_order(self, start: Start, clock: Clock) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        choose = random.Random(seed)
        acme = start(page_bytes=choose.choice([500, 2000, 10**6]))
        moments = {f"t{number}": clock.now - choose.randrange(20) for number in range(60)}
        for name, moment in moments.items():
            acme.emulator.add_tileset(f"acme.{name}", created=moment)

        names = listed(acme, limit=choose.randint(1, 40))

        assert sorted(names) == sorted(moments)
        assert [moments[name] for name in names] == sorted(moments.values(), reverse=True)

    @pytest.mark.parametrize("keeps_deleted", [True, False])
    def test_page_after_a_deleted_tileset(self, start: Start, clock: Clock, keeps_deleted: bool) -> None:
        acme = start(start_keeps_deleted=keeps_deleted)
        for number in range(4):
            acme.emulator.add_tileset(f"acme.t{number}", created=clock.now - number)
        link = call(acme, "GET", params={"limit": 2}).links["next"]["url"]
        call(acme, "DELETE", "acme.t1")

        response = acme.session.get(link, params={"access_token": acme.emulator.token}, timeout=30)

        if keeps_deleted:
            assert [tileset["id"] for tileset in response.json()] == ["acme.t2", "acme.t3"]
        else:
            assert refusal(response) == (422, "Invalid start key")

    def test_tileset_in_processing_can_be_listed_as_pending(self, start: Start) -> None:
        acme = start(tilesets_show_pending=True)
        acme.emulator.add_tileset("acme.replaced")
        acme.emulator.faults.add("stall", where="processing", times=0)
        for name in ("new", "replaced"):
            assert acme.create(acme.stage(TOWNS)["url"], name).status_code == 201

        content = {tileset["id"]: tileset for tileset in call(acme, "GET").json()}

        assert {name: tileset["status"] for name, tileset in content.items()} == {
            "acme.new": "pending",
            "acme.replaced": "pending",
        }
        assert list(content["acme.new"]) == FIELDS + COSTS
        assert sorted(listed(acme, limit=1)) == ["new", "replaced"]
        assert refusal(call(acme, "DELETE", "acme.new")) == (404, "Not Found")

    def test_tileset_in_processing_is_not_listed_by_default(self, start: Start) -> None:
        acme = start()
        acme.emulator.faults.add("stall", where="processing")
        acme.create(acme.stage(TOWNS)["url"])

        assert listed(acme) == []


def call_tilejson(acme: Account) -> dict[str, Any]:
    url = f"{acme.emulator.url}/v4/acme.places.json"
    return dict(requests.get(url, params={"access_token": acme.emulator.token}, timeout=30).json())


class TestDelete:
    @pytest.mark.parametrize("status", [200, 204])
    def test_deleted_tileset_is_gone_with_its_tiles(self, start: Start, status: int) -> None:
        acme = start(tileset_delete_status=status, cache_seconds=0)
        acme.upload(TOWNS)
        acme.emulator.add_tileset("acme.other")

        response = call(acme, "DELETE", "acme.places")

        assert (response.status_code, response.content) == (status, b"")
        assert listed(acme) == ["other"]
        assert not list((acme.emulator.folder / "tilesets").glob("acme.*"))
        assert acme.tileset().status_code == 404
        assert call_tilejson(acme) == {"message": "Tileset does not exist"}
        assert refusal(call(acme, "DELETE", "acme.places")) == (404, "Not Found")

    def test_deleted_tileset_can_be_uploaded_again(self, start: Start, clock: Clock) -> None:
        acme = start()
        acme.upload(TOWNS)
        call(acme, "PATCH", "acme.places", json={"private": False})
        call(acme, "DELETE", "acme.places")
        clock.now += DAY

        acme.upload(TOWNS)

        [tileset] = call(acme, "GET").json()
        assert (tileset["created"], tileset["visibility"]) == ("2023-11-15T22:13:20.000Z", "private")

    def test_of_many_deletions_at_once_one_takes_effect(self, acme: Account) -> None:
        for number in range(5):
            target = f"acme.t{number}"
            acme.emulator.add_tileset(target)

            with ThreadPoolExecutor(8) as threads:
                tasks = [threads.submit(call, Account(acme.emulator), "DELETE", target) for _ in range(8)]

            assert sorted(task.result().status_code for task in tasks) == [200, *[404] * 7]
        assert listed(acme) == []

    def test_deletion_stays_after_a_restart(self, start: Start) -> None:
        acme = start()
        acme.emulator.add_tileset("acme.kept", visibility="public", filesize=77)
        acme.upload(TOWNS)
        call(acme, "DELETE", "acme.places")
        acme.emulator.stop()

        [tileset] = call(start(), "GET").json()

        assert (tileset["id"], tileset["visibility"], tileset["filesize"]) == ("acme.kept", "public", 77)

    @pytest.mark.parametrize("status", [409, 400])
    def test_deletion_can_be_refused_during_an_upload(self, start: Start, status: int) -> None:
        acme = start(active_delete_status=status)
        acme.upload(TOWNS)
        fault = acme.emulator.faults.add("stall", where="processing")
        upload = acme.create(acme.stage(TOWNS)["url"]).json()

        response = call(acme, "DELETE", "acme.places")

        assert refusal(response) == (status, "Resource is locked and cannot be modified")
        acme.emulator.faults.clear(fault.id)
        acme.wait(upload["id"])
        assert call(acme, "DELETE", "acme.places").status_code == 200

    def test_deletion_during_an_upload_is_allowed_and_the_upload_makes_the_tileset_again(self, start: Start) -> None:
        acme = start()
        acme.upload(TOWNS)
        fault = acme.emulator.faults.add("stall", where="processing")
        upload = acme.create(acme.stage(TOWNS)["url"]).json()

        assert call(acme, "DELETE", "acme.places").status_code == 200

        assert listed(acme) == []
        acme.emulator.faults.clear(fault.id)
        assert acme.wait(upload["id"])["complete"]
        assert listed(acme) == ["places"]

    def test_message_of_a_missing_tileset_can_be_the_other_documented_one(self, start: Start) -> None:
        acme = start(missing_tileset_message="Cannot find tileset")

        for method in ("DELETE", "PATCH"):
            assert refusal(call(acme, method, "acme.x", json={})) == (404, "Cannot find tileset")

    @pytest.mark.parametrize("target", ["acme", "other.x", "acme.", ".x", "acme.x.y", "acme.%2e%2e%2fx", "acme.x%0a"])
    def test_path_that_is_no_tileset_of_the_account_is_404(self, shared: Account, target: str) -> None:
        for method in ("DELETE", "PATCH"):
            assert call(shared, method, target, json={}).status_code == 404

    def test_tileset_of_the_tiling_service_loses_its_mark(self, start: Start) -> None:
        acme = start()
        acme.emulator.add_tileset("acme.served")
        acme.emulator.mark_tiling_service("acme.served")

        assert call(acme, "DELETE", "acme.served").status_code == 200

        assert acme.upload(TOWNS, "served")["complete"]


class TestUpdate:
    def test_properties_change_in_the_list_and_in_tilejson(self, start: Start, clock: Clock) -> None:
        acme = start(cache_seconds=0)
        acme.upload(TOWNS)
        clock.now += 60
        changes = {
            "name": "Towns of Europe",
            "description": "x" * 500,
            "private": False,
            "attribution": [{"text": "© A & B", "link": 'https://a.example/"'}, {"text": "C", "link": ""}],
        }

        response = call(acme, "PATCH", "acme.places", json=changes)

        assert (response.status_code, response.content) == (204, b"")
        [tileset] = call(acme, "GET").json()
        assert (tileset["name"], tileset["description"]) == ("Towns of Europe", "x" * 500)
        assert (tileset["visibility"], tileset["modified"]) == ("public", "2023-11-14T22:14:20.000Z")
        tilejson = call_tilejson(acme)
        assert (tilejson["name"], tilejson["description"], tilejson["private"]) == ("Towns of Europe", "x" * 500, False)
        assert tilejson["attribution"] == (
            '<a href="https://a.example/&quot;" target="_blank">© A &amp; B</a> <a href="" target="_blank">C</a>'
        )

    def test_other_properties_stay(self, start: Start) -> None:
        acme = start()
        acme.emulator.add_tileset("acme.x", description="kept", visibility="public")

        assert call(acme, "PATCH", "acme.x", json={"name": "New"}).status_code == 204

        [tileset] = call(acme, "GET").json()
        assert (tileset["name"], tileset["description"], tileset["visibility"]) == ("New", "kept", "public")

    @pytest.mark.parametrize("changes", [{}, {"name": "New"}])
    def test_update_can_leave_the_time_of_modification(
        self, start: Start, clock: Clock, changes: dict[str, Any]
    ) -> None:
        acme = start(update_changes_modified=not changes)
        acme.emulator.add_tileset("acme.x", created=clock.now - DAY)

        assert call(acme, "PATCH", "acme.x", json=changes).status_code == 204

        assert call(acme, "GET").json()[0]["modified"] == "2023-11-13T22:13:20.000Z"

    @pytest.mark.parametrize("status", [400, 422])
    def test_update_of_an_uploaded_tileset_can_be_refused(self, start: Start, status: int) -> None:
        acme = start(update_refused_status=status)
        acme.emulator.add_tileset("acme.uploaded")
        acme.emulator.add_tileset("acme.served")
        acme.emulator.mark_tiling_service("acme.served")

        response = call(acme, "PATCH", "acme.uploaded", json={"private": False})

        assert refusal(response) == (
            status,
            "Unable to perform action. acme.uploaded was not created with the /tilesets/v1 endpoint.",
        )
        assert listed(acme, visibility="public") == []
        assert call(acme, "PATCH", "acme.served", json={"private": False}).status_code == 204
        assert listed(acme, visibility="public") == ["served"]

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ("", 400, "Request body is not valid JSON"),
            ("{", 400, "Request body is not valid JSON"),
            ('{"name": "\\ud800"}', 400, "Request body is not valid JSON"),
            ("[]", 400, "Request body must be a JSON object"),
            ('{"private": false, "type": "raster"}', 422, 'The request body contains the invalid property "type".'),
            ('{"modified": 0}', 422, 'The request body contains the invalid property "modified".'),
            ('{"name": 7}', 422, 'Invalid "name" value'),
            ('{"name": null}', 422, 'Invalid "name" value'),
            ('{"name": "\\u0000"}', 422, 'Invalid "name" value'),
            (f'{{"name": "{"x" * 65}"}}', 422, 'Invalid "name" value'),
            (f'{{"description": "{"x" * 501}"}}', 422, 'Invalid "description" value'),
            ('{"private": "true"}', 422, 'Invalid "private" value'),
            ('{"private": 1}', 422, 'Invalid "private" value'),
            ('{"attribution": {}}', 422, 'Invalid "attribution" value'),
            ('{"attribution": [{"text": "x"}]}', 422, 'Invalid "attribution" value'),
            ('{"attribution": ["x"]}', 422, 'Invalid "attribution" value'),
            ('{"attribution": [{"text": "x", "link": 7}]}', 422, 'Invalid "attribution" value'),
            (f'{{"attribution": [{{"text": "{"x" * 81}", "link": ""}}]}}', 422, 'Invalid "attribution" value'),
            (f'{{"attribution": [{{"text": "", "link": "{"x" * 1001}"}}]}}', 422, 'Invalid "attribution" value'),
            (
                '{"attribution": [' + ", ".join(['{"text": "", "link": ""}'] * 4) + "]}",
                422,
                'Invalid "attribution" value',
            ),
        ],
    )
    def test_invalid_body_is_refused_and_changes_nothing(
        self, shared: Account, body: str, status: int, message: str
    ) -> None:
        shared.emulator.add_tileset("acme.kept", created=1.0)
        before = call(shared, "GET").json()

        response = call(shared, "PATCH", "acme.kept", data=body, headers={"Content-Type": "application/json"})

        assert refusal(response) == (status, message)
        assert call(shared, "GET").json() == before

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "recipe"), ("PATCH", "recipe"), ("POST", "publish"), ("GET", "jobs")]
    )
    def test_tiling_service_refuses_an_uploaded_tileset(self, shared: Account, method: str, path: str) -> None:
        shared.emulator.add_tileset("acme.kept")

        assert refusal(call(shared, method, f"acme.kept/{path}")) == (
            400,
            "Unable to perform action. acme.kept was not created with the /tilesets/v1 endpoint.",
        )
        assert call(shared, method, f"acme.never/{path}").status_code == 404
        assert call(shared, "GET", "acme.kept/status").status_code == 404


class TestRateLimits:
    def test_reads_writes_and_uploads_have_windows_of_their_own(self, start: Start, clock: Clock) -> None:
        acme = start(rate_limit=1, tilesets_read_limit=2, tilesets_write_limit=3)

        assert [call(acme, "GET").status_code for _ in range(3)] == [200, 200, 429]
        assert [call(acme, "DELETE", "acme.x").status_code for _ in range(4)] == [404, 404, 404, 429]
        assert refusal(call(acme, "PATCH", "acme.x")) == (429, "Too Many Requests")
        assert [acme.call("GET").status_code for _ in range(2)] == [200, 429]

        read = call(acme, "GET").headers
        assert (read["X-Rate-Limit-Interval"], read["X-Rate-Limit-Limit"]) == ("60", "2")
        assert read["X-Rate-Limit-Reset"] == str(int(clock.now) + 60)
        assert call(acme, "DELETE", "acme.x").headers["X-Rate-Limit-Limit"] == "3"
        clock.now += 60
        assert call(acme, "GET").status_code == 200
        assert call(acme, "DELETE", "acme.x").status_code == 404

    def test_all_unknown_accounts_share_one_window(self, start: Start) -> None:
        acme = start(tilesets_read_limit=2)

        assert [call(acme, "GET", f"other{number}").status_code for number in range(3)] == [404, 404, 429]
        assert call(acme, "GET").status_code == 200

    def test_default_limits_are_the_documented_ones(self) -> None:
        assert (EmulatorSettings().tilesets_read_limit, EmulatorSettings().tilesets_write_limit) == (3000, 100)


class TestFaults:
    def test_status_keeps_the_request_from_its_effect(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.x")
        acme.emulator.faults.add("status", status=503, method="DELETE", path="^/tilesets/v1/")

        assert call(acme, "GET").status_code == 200
        assert refusal(call(acme, "DELETE", "acme.x")) == (503, "Internal Server Error")
        assert listed(acme) == ["x"]

    def test_lost_reply_deletes(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.x")
        acme.emulator.faults.add("drop_after", method="DELETE")

        with pytest.raises(requests.ConnectionError):
            call(acme, "DELETE", "acme.x")

        assert call(acme, "DELETE", "acme.x").status_code == 404

    def test_cut_connection_deletes_nothing(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.x")
        acme.emulator.faults.add("drop_before", method="DELETE")

        with pytest.raises(requests.ConnectionError):
            call(acme, "DELETE", "acme.x")

        assert listed(acme) == ["x"]

    @pytest.mark.parametrize("kind", ["garbage", "html"])
    def test_list_can_be_unreadable(self, acme: Account, kind: str) -> None:
        acme.emulator.faults.add(kind, method="GET")

        with pytest.raises(requests.JSONDecodeError):
            call(acme, "GET").json()

    def test_tilejson_can_fail(self, acme: Account) -> None:
        acme.upload(TOWNS)
        acme.emulator.faults.add("status", status=502, path=r"^/v4/acme\.places\.json")

        assert call_tilejson(acme) == {"message": "Internal Server Error"}
        assert call_tilejson(acme)["id"] == "acme.places"

    def test_requests_are_recorded_without_the_token(self, acme: Account) -> None:
        acme.emulator.faults.add("status", status=500, method="PATCH")
        call(acme, "GET")
        call(acme, "PATCH", "acme.x")
        call(acme, "DELETE", "acme.x")
        call_tilejson(acme)

        assert [(record.method, record.path, record.status) for record in acme.emulator.requests] == [
            ("GET", "/tilesets/v1/acme", 200),
            ("PATCH", "/tilesets/v1/acme.x", 500),
            ("DELETE", "/tilesets/v1/acme.x", 404),
            ("GET", "/v4/acme.places.json", 404),
        ]

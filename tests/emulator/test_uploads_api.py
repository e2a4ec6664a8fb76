"""The Uploads API: statuses, messages, headers and pages."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.emulator.conftest import TOWNS, Account, Clock

USED = "The provided url has already been used by another upload. Fetch new credentials."

KEYS = ["complete", "created", "error", "id", "modified", "name", "owner", "progress", "tileset"]


def status_and_message(response: requests.Response) -> tuple[int, str]:
    body = response.json()
    assert list(body) == ["message"]
    return response.status_code, body["message"]


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Account]:
    """An emulator with a stopped clock, so that uploads stay in processing."""
    settings = EmulatorSettings(account="acme", processing_seconds=60, rate_limit=0)
    with Emulator(tmp_path / "frozen", settings=settings, clock=Clock()) as emulator:
        yield Account(emulator)


def finish(account: Account) -> None:
    clock: Any = account.emulator._clock
    clock.now += 61


def concatenate(pages: list[list[str]]) -> list[str]:
    return [upload_id for page in pages for upload_id in page]


class TestCreate:
    def test_create_returns_201_with_an_upload_object(self, frozen: Account) -> None:
        response = frozen.create(frozen.stage(TOWNS)["url"], name="Towns")

        assert response.status_code == 201
        upload = response.json()
        assert sorted(upload) == KEYS
        assert re.fullmatch(r"c[0-9a-z]{24}", upload["id"])
        assert upload["created"] == upload["modified"] == "2023-11-14T22:13:20.000Z"
        assert {key: upload[key] for key in ("name", "complete", "error", "tileset", "owner", "progress")} == {
            "name": "Towns",
            "complete": False,
            "error": None,
            "tileset": "acme.places",
            "owner": "acme",
            "progress": 0,
        }

    def test_missing_name_is_null(self, frozen: Account) -> None:
        assert frozen.create(frozen.stage(TOWNS)["url"]).json()["name"] is None
        assert frozen.create(frozen.stage(TOWNS)["url"], "other", name=None).json()["name"] is None

    @pytest.mark.parametrize(
        "form",
        [
            "http://{bucket}.s3.amazonaws.com/{key}",
            "https://{bucket}.s3.amazonaws.com/{key}",
            "https://{bucket}.s3.us-east-1.amazonaws.com/{key}",
            "https://s3.amazonaws.com/{bucket}/{key}",
            "http://s3.us-east-1.amazonaws.com/{bucket}/{key}",
        ],
    )
    def test_every_form_of_the_staged_url_is_understood_and_used_up(self, frozen: Account, form: str) -> None:
        credentials = frozen.stage(TOWNS)

        assert frozen.create(form.format(**credentials)).status_code == 201
        assert frozen.create(credentials["url"], "other").status_code == 409

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"tileset": "acme.x"}, 'Missing required property "url"'),
            ({"tileset": "acme.x", "url": None}, 'Missing required property "url"'),
            ({"url": "https://x.invalid/"}, 'Missing required property "tileset"'),
            ({}, 'Missing required property "tileset"'),
            (
                {"tileset": "acme.x", "url": "https://x.invalid/", "private": True},
                'The request body contains the invalid property "private".',
            ),
            (
                {"tileset": "acme.x", "url": "https://x.invalid/", "patch": True},
                'The request body contains the invalid property "patch".',
            ),
            ({"tileset": "acme.x", "url": "https://x.invalid/", "name": "n" * 65}, 'Invalid "name" value'),
            ({"tileset": "acme.x", "url": "https://x.invalid/", "name": 7}, 'Invalid "name" value'),
            ({"tileset": "acme.x", "url": 7}, 'Invalid "url" value'),
        ],
        ids=[
            "no url",
            "url null",
            "no tileset",
            "empty object",
            "private",
            "patch",
            "name too long",
            "name not a string",
            "url not a string",
        ],
    )
    def test_body_that_breaks_a_rule_is_refused(self, shared: Account, body: dict[str, Any], message: str) -> None:
        assert status_and_message(shared.call("POST", json=body)) == (422, message)

    @pytest.mark.parametrize(
        "tileset",
        [
            "acme.",
            ".x",
            "x",
            "acme.x.y",
            "other.x",
            "acme.x\n",
            "acme\n.x",
            "acme." + "x" * 33,
            "acme.é",
            "acme.x y",
            "acme/x",
            "acme.../x",
            "",
            7,
            ["acme.x"],
        ],
    )
    def test_invalid_tileset_id_is_refused(self, shared: Account, tileset: Any) -> None:
        response = shared.call("POST", json={"tileset": tileset, "url": "https://x.invalid/"})

        assert status_and_message(response) == (422, 'Invalid "tileset" value')

    def test_longest_allowed_names_are_accepted(self, acme: Account) -> None:
        response = acme.create(acme.stage(TOWNS)["url"], "Aa0_-" + "x" * 27, name="n" * 64)

        assert response.status_code == 201

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"\xff", pytest.param(b"[" * 100_000, id="deeply nested"), b'{"url": NaN']
    )
    def test_body_that_is_not_json_is_refused(self, shared: Account, body: bytes) -> None:
        assert shared.call("POST", data=body).status_code == 400

    @pytest.mark.parametrize("body", [[], "x", 7, None], ids=["array", "string", "number", "null"])
    def test_json_that_is_not_an_object_is_refused(self, shared: Account, body: Any) -> None:
        assert shared.call("POST", json=body, headers={"Content-Type": "application/json"}).status_code == 400

    @pytest.mark.parametrize(
        "body", [b'{"tileset": "acme.x", "url": "https://x.invalid/", "name": "\\ud800"}', b'{"\\udfff": 1}']
    )
    def test_half_of_a_surrogate_pair_is_refused(self, shared: Account, body: bytes) -> None:
        assert shared.call("POST", data=body).status_code == 400

    def test_body_of_megabytes_is_refused(self, acme: Account) -> None:
        large = b" " * (2 << 20)

        assert status_and_message(acme.call("POST", data=large)) == (413, "Request body is too large")
        assert acme.call("POST", data=large, token=None).status_code == 401

    @pytest.mark.parametrize(
        "url",
        [
            "s3://{bucket}/{key}",
            "https://elsewhere.s3.amazonaws.com/{key}",
            "https://s3.amazonaws.com/elsewhere/{key}",
            "https://example.invalid/{key}",
            "file:///etc/passwd",
            "http://[",
            "",
            "mapbox://tilesets/acme.x",
        ],
    )
    def test_url_outside_the_staging_bucket_is_an_internal_error(self, shared: Account, url: str) -> None:
        credentials = shared.stage(TOWNS)

        assert status_and_message(shared.create(url.format(**credentials))) == (500, "Internal Server Error")

    def test_url_without_a_staged_object_cannot_be_accessed(self, acme: Account) -> None:
        credentials = acme.credentials()

        assert status_and_message(acme.create(credentials["url"])) == (422, "Could not access url")
        assert status_and_message(acme.create(credentials["url"] + "x")) == (422, "Could not access url")
        assert status_and_message(acme.create(f"https://{credentials['bucket']}.s3.amazonaws.com/")) == (
            422,
            "Could not access url",
        )

    def test_refused_create_does_not_use_up_the_url(self, acme: Account) -> None:
        credentials = acme.credentials()
        acme.create(credentials["url"])
        acme.s3(credentials).put_object(Bucket=credentials["bucket"], Key=credentials["key"], Body=b"{}")

        assert acme.create(credentials["url"]).status_code == 201

    def test_url_makes_only_one_upload(self, acme: Account) -> None:
        credentials = acme.stage(TOWNS)
        upload = acme.create(credentials["url"]).json()
        used = (409, "The provided url has already been used by another upload. Fetch new credentials.")

        assert status_and_message(acme.create(credentials["url"], "other")) == used
        acme.wait(upload["id"])
        assert status_and_message(acme.create(credentials["url"], "other")) == used
        acme.call("DELETE", f"/{upload['id']}")
        assert status_and_message(acme.create(credentials["url"], "other")) == used

    def test_staging_again_does_not_make_a_used_url_valid(self, acme: Account) -> None:
        credentials = acme.stage(TOWNS)
        acme.create(credentials["url"])
        acme.s3(credentials).put_object(Bucket=credentials["bucket"], Key=credentials["key"], Body=b"{}")

        assert acme.create(credentials["url"], "other").status_code == 409

    def test_second_upload_to_a_tileset_in_processing_is_refused(self, frozen: Account) -> None:
        first = frozen.create(frozen.stage(TOWNS)["url"]).json()
        second = frozen.stage(TOWNS)

        assert status_and_message(frozen.create(second["url"])) == (422, "An upload is already active")
        assert frozen.create(frozen.stage(TOWNS)["url"], "other").status_code == 201
        finish(frozen)
        frozen.wait(first["id"])
        assert frozen.create(second["url"]).status_code == 201

    def test_only_one_of_several_simultaneous_creates_succeeds(self, acme: Account) -> None:
        for round_number in range(5):
            credentials = acme.stage(TOWNS)
            gate = threading.Barrier(4)

            def create(tileset: str, url: str = credentials["url"], gate: threading.Barrier = gate) -> int:
                gate.wait()
                return Account(acme.emulator).create(url, tileset).status_code

            tilesets = [f"t{round_number}-{number}" for number in range(4)]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                assert sorted(pool.map(create, tilesets)) == [201, 409, 409, 409]

    @pytest.mark.parametrize(
        ("first_check", "after_processing", "during_processing"),
        [
            ("used", (409, USED), (409, USED)),
            ("staged", (422, "Could not access url"), (422, "Could not access url")),
            ("active", (409, USED), (422, "An upload is already active")),
        ],
        ids=["used", "staged", "active"],
    )
    def test_first_refusal_of_a_used_url_is_a_setting(
        self,
        tmp_path: Path,
        settings: EmulatorSettings,
        first_check: str,
        after_processing: tuple[int, str],
        during_processing: tuple[int, str],
    ) -> None:
        changed = dataclasses.replace(settings, create_looks_first=first_check, processing_seconds=60)
        with Emulator(tmp_path, settings=changed) as emulator:
            acme = Account(emulator)
            url = acme.stage(TOWNS)["url"]
            upload_id = acme.create(url).json()["id"]
            while_busy = status_and_message(acme.create(url))
            emulator.clock.run(600)
            acme.wait(upload_id)

            assert (status_and_message(acme.create(url)), while_busy) == (after_processing, during_processing)


class TestStatus:
    @pytest.mark.slow
    def test_progress_rises_and_is_1_only_if_complete(self, tmp_path: Path) -> None:
        settings = EmulatorSettings(account="acme", processing_seconds=2.0, rate_limit=0)
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            upload = acme.create(acme.stage(TOWNS)["url"]).json()
            polls = []

            def is_complete(state: dict[str, Any]) -> bool:
                polls.append(state)
                return bool(state["complete"])

            done = acme.wait(upload["id"], is_complete)

        progress = [state["progress"] for state in polls]
        assert progress == sorted(progress)
        assert len(set(progress)) > 3
        assert all(share < 1 for share in progress[:-1])
        assert {**upload, "complete": True, "progress": 1, "modified": done["modified"]} == done
        assert done["modified"] > done["created"]

    def test_status_of_an_unknown_id_is_not_found(self, acme: Account) -> None:
        for upload_id in ("c" + "0" * 24, "x", "..", "%2e%2e", "a%00b"):
            assert status_and_message(acme.call("GET", f"/{upload_id}"))[0] == 404

    @pytest.mark.parametrize("failed_complete", [False, True])
    def test_complete_of_a_failed_upload_is_a_setting(
        self, tmp_path: Path, settings: EmulatorSettings, failed_complete: bool
    ) -> None:
        changed = dataclasses.replace(settings, failed_complete=failed_complete)
        with Emulator(tmp_path, settings=changed) as emulator:
            failed = Account(emulator).upload(b"nonsense")

        assert failed["error"] == "Unknown filetype"
        assert failed["complete"] is failed_complete
        assert failed["progress"] < 1


class TestDelete:
    def test_deleted_upload_leaves_the_list_and_its_tileset_stays(self, acme: Account) -> None:
        upload = acme.upload(TOWNS)

        response = acme.call("DELETE", f"/{upload['id']}")

        assert (response.status_code, response.content) == (204, b"")
        assert acme.call("GET", f"/{upload['id']}").status_code == 404
        assert acme.call("GET").json() == []
        assert acme.call("DELETE", f"/{upload['id']}").status_code == 404
        assert acme.tileset().status_code == 200

    def test_failed_upload_can_be_deleted(self, acme: Account) -> None:
        assert acme.call("DELETE", f"/{acme.upload(b'nonsense')['id']}").status_code == 204

    def test_incomplete_upload_cannot_be_deleted(self, frozen: Account) -> None:
        upload = frozen.create(frozen.stage(TOWNS)["url"]).json()

        assert status_and_message(frozen.call("DELETE", f"/{upload['id']}")) == (400, "upload is incomplete")
        assert frozen.call("GET", f"/{upload['id']}").status_code == 200

    def test_delete_of_an_unknown_id_is_not_found(self, acme: Account) -> None:
        assert status_and_message(acme.call("DELETE", "/cabc")) == (404, "Not Found")


class TestList:
    @pytest.fixture
    def five(self, frozen: Account) -> list[str]:
        """Ids of five uploads, oldest first."""
        return [frozen.create(frozen.stage(TOWNS)["url"], f"t{number}").json()["id"] for number in range(5)]

    def ids(self, response: requests.Response) -> list[str]:
        assert response.status_code == 200
        return [upload["id"] for upload in response.json()]

    def pages(self, account: Account, **params: Any) -> list[list[str]]:
        response = account.call("GET", params=params)
        pages = [self.ids(response)]
        while "next" in response.links:
            # Mapbox's links contain no token either.
            url = response.links["next"]["url"]
            assert "access_token" not in url
            response = account.session.get(url, params={"access_token": account.emulator.token}, timeout=10)
            pages.append(self.ids(response))
        return pages

    def test_list_is_an_array_with_the_newest_first(self, frozen: Account, five: list[str]) -> None:
        response = frozen.call("GET")

        assert self.ids(response) == five[::-1]
        assert "Link" not in response.headers
        assert sorted(response.json()[0]) == KEYS

    def test_list_of_a_new_account_is_empty(self, acme: Account) -> None:
        assert acme.call("GET").json() == []

    def test_links_lead_from_page_to_page(self, frozen: Account, five: list[str]) -> None:
        assert [len(page) for page in self.pages(frozen, limit=2)] == [2, 2, 1]
        assert concatenate(self.pages(frozen, limit=2)) == five[::-1]
        assert self.pages(frozen, limit=5) == [five[::-1]]

    @pytest.mark.parametrize("reverse", ["true", "", "1"])
    def test_reversed_pages_begin_with_the_oldest(self, frozen: Account, five: list[str], reverse: str) -> None:
        assert concatenate(self.pages(frozen, limit=2, reverse=reverse)) == five

    def test_reverse_without_a_value_is_understood(self, frozen: Account, five: list[str]) -> None:
        url = f"{frozen.emulator.url}/uploads/v1/acme?reverse&access_token={frozen.emulator.token}"

        assert self.ids(requests.get(url, timeout=10)) == five

    def test_reverse_false_is_not_reversed(self, frozen: Account, five: list[str]) -> None:
        assert self.ids(frozen.call("GET", params={"reverse": "false"})) == five[::-1]

    def test_page_ends_early_if_its_json_is_too_long(self, tmp_path: Path) -> None:
        settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, page_bytes=600)
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            ids = [acme.upload(b"x", f"t{number}")["id"] for number in range(5)]
            pages = self.pages(acme, limit=100)

        assert [len(page) for page in pages] == [2, 2, 1]
        assert concatenate(pages) == ids[::-1]

    def test_page_can_start_after_a_deleted_upload(self, acme: Account) -> None:
        ids = [acme.upload(b"x", f"t{number}")["id"] for number in range(3)]
        acme.call("DELETE", f"/{ids[1]}")

        assert self.ids(acme.call("GET", params={"start": ids[1]})) == [ids[0]]

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1e1", "٣"])
    def test_limit_outside_1_to_100_is_refused(self, shared: Account, limit: str) -> None:
        assert status_and_message(shared.call("GET", params={"limit": limit})) == (422, 'Invalid "limit" value')

    def test_unknown_start_is_refused(self, shared: Account) -> None:
        assert status_and_message(shared.call("GET", params={"start": "cabc"})) == (422, 'Invalid "start" value')


class TestRateLimit:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def limited(self, tmp_path: Path, clock: Clock) -> Iterator[Account]:
        settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=3, rate_window=60)
        with Emulator(tmp_path, settings=settings, clock=clock) as emulator:
            yield Account(emulator)

    def test_every_response_has_the_three_headers(self, limited: Account) -> None:
        for response in (limited.call("GET"), limited.call("GET", "/cabc"), limited.call("GET", token=None)):
            assert response.headers["X-Rate-Limit-Interval"] == "60"
            assert response.headers["X-Rate-Limit-Limit"] == "3"
            assert response.headers["X-Rate-Limit-Reset"] == "1700000060"
            assert response.headers["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"  # the same clock, at 1700000000

    def test_too_many_requests_are_refused_until_the_reset(self, limited: Account, clock: Clock) -> None:
        clock.now += 0.5
        for _ in range(3):
            response = limited.call("GET")
            assert response.status_code == 200

        clock.now += 59
        refused = limited.call("POST", "/credentials")

        assert status_and_message(refused) == (429, "Too Many Requests")
        assert refused.headers["X-Rate-Limit-Reset"] == response.headers["X-Rate-Limit-Reset"] == "1700000061"
        assert "Retry-After" not in refused.headers
        clock.now = float(refused.headers["X-Rate-Limit-Reset"])
        assert limited.call("POST", "/credentials").status_code == 200

    def test_refused_requests_do_not_move_the_reset(self, limited: Account, clock: Clock) -> None:
        resets = set()
        for _ in range(10):
            clock.now += 1
            resets.add(limited.call("GET").headers["X-Rate-Limit-Reset"])

        assert len(resets) == 1

    def test_requests_to_other_accounts_do_not_count(self, limited: Account) -> None:
        for number in range(10):
            requests.get(f"{limited.emulator.url}/uploads/v1/stranger{number}", timeout=10)

        assert limited.call("GET").status_code == 200

    def test_tokens_and_tiles_are_not_limited(self, limited: Account) -> None:
        for _ in range(5):
            response = limited.session.get(
                f"{limited.emulator.url}/tokens/v2", params={"access_token": limited.emulator.token}, timeout=10
            )
            assert response.status_code == 200
            assert "X-Rate-Limit-Limit" not in response.headers

    def test_rate_limit_0_means_no_limit(self, acme: Account) -> None:
        for _ in range(40):
            response = acme.call("GET")
        assert response.status_code == 200
        assert "X-Rate-Limit-Limit" not in response.headers


class TestInvalidRequests:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/uploads/v1/acme/x/y"),
            ("GET", "/uploads/v1"),
            ("GET", "/uploads/v1/"),
            ("PUT", "/uploads/v1/acme"),
            ("PATCH", "/uploads/v1/acme/x"),
            ("POST", "/uploads/v1/acme/x"),
            ("POST", "/tokens/v2"),
            ("GET", "/nowhere"),
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("GET", "/tilesets/..%2f..%2fshared.emulator.sqlite3"),
            ("GET", "/tilesets/../../token"),
            ("GET", "/v4/..%2ftoken.json"),
        ],
    )
    def test_unknown_route_is_not_found_in_json(self, shared: Account, method: str, path: str) -> None:
        request = requests.Request(
            method, shared.emulator.url + path, params={"access_token": shared.emulator.token}
        ).prepare()
        request.url = f"{shared.emulator.url}{path}?access_token={shared.emulator.token}"
        response = requests.Session().send(request, timeout=10, allow_redirects=False)

        assert response.status_code == 404
        assert list(response.json()) == ["message"]

    def test_request_that_is_not_http_does_no_harm(self, acme: Account) -> None:
        host, port = acme.emulator.url.removeprefix("http://").split(":")
        for noise in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01"):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(noise)

        assert acme.call("GET").status_code == 200


def test_requests_are_recorded_without_the_token(acme: Account) -> None:
    acme.upload(TOWNS)

    records = [(request.method, request.path, request.status) for request in acme.emulator.requests]
    assert records[:2] == [("POST", "/uploads/v1/acme/credentials", 200), ("POST", "/uploads/v1/acme", 201)]
    assert acme.emulator.token not in repr(acme.emulator.requests)

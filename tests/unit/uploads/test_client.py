from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from airflow_mapbox.http.retry import server_time
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import (
    ApiError,
    ConfigurationError,
    InvalidAnswerError,
    InvalidRequestError,
    InvalidTilesetError,
    InvalidUploadIdError,
    MapboxError,
    NoAnswerError,
    NotFoundError,
    ServerError,
    StagedUrlNotReadableError,
    StagedUrlUsedError,
    ThrottledError,
    TokenRejectedError,
    UploadActiveError,
    UploadIncompleteError,
)
from airflow_mapbox.uploads.models import StagingCredentials, TokenState, Upload
from tests.unit.conftest import MakeClient
from tests.unit.support import (
    ACCOUNT,
    FakeTime,
    FixedRandom,
    Reply,
    ScriptedServer,
    all_text_of,
    closed_port,
    everything_logged,
    make_token,
    upload_json,
)

STAGED = "https://tilestream-tilesets-production.s3.amazonaws.com/43/_pending/abc/orion"
DATASET = f"mapbox://datasets/{ACCOUNT}/cjz0harbours"
CREDENTIALS = {
    "accessKeyId": "ASIAEXAMPLE",
    "bucket": "tilestream-tilesets-production",
    "key": "43/_pending/abc/orion",
    "secretAccessKey": "secret/Access+Key",
    "sessionToken": "session/Token+==",
    "url": STAGED,
}
UPLOAD_ID = upload_json()["id"]


class TestEndpoints:
    def test_credentials_are_posted_for_and_read(
        self, server: ScriptedServer, client: UploadsClient, token: str
    ) -> None:
        server.script(Reply(json=CREDENTIALS))

        credentials = client.create_credentials()

        (request,) = server.requests
        assert (request.method, request.path) == ("POST", f"/uploads/v1/{ACCOUNT}/credentials")
        assert request.query == {"access_token": token}
        assert credentials == StagingCredentials(
            bucket="tilestream-tilesets-production",
            key="43/_pending/abc/orion",
            url=STAGED,
            access_key_id="ASIAEXAMPLE",
            secret_access_key="secret/Access+Key",
            session_token="session/Token+==",
        )

    def test_create_sends_the_full_tileset_id_the_url_and_the_name_as_json(
        self, server: ScriptedServer, client: UploadsClient, token: str
    ) -> None:
        server.script(Reply(201, upload_json(name="Harbours")))

        upload = client.create_upload("harbours", STAGED, "Harbours")

        (request,) = server.requests
        assert (request.method, request.path) == ("POST", f"/uploads/v1/{ACCOUNT}")
        assert request.query == {"access_token": token}
        assert request.headers["content-type"] == "application/json"
        assert request.json == {"tileset": f"{ACCOUNT}.harbours", "url": STAGED, "name": "Harbours"}
        assert upload.name == "Harbours"

    def test_create_without_a_name_sends_no_name(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(201, upload_json()))

        client.create_upload(f"{ACCOUNT}.harbours", DATASET)

        assert server.requests[0].json == {"tileset": f"{ACCOUNT}.harbours", "url": DATASET}

    def test_get_reads_the_upload_object(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json=upload_json(progress=0.5)))

        upload = client.get_upload(UPLOAD_ID)

        assert (server.requests[0].method, server.requests[0].path) == ("GET", f"/uploads/v1/{ACCOUNT}/{UPLOAD_ID}")
        assert upload == Upload.from_json(upload_json(progress=0.5))

    def test_delete_takes_an_empty_204_as_done(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(204))

        client.delete_upload(UPLOAD_ID)

        assert (server.requests[0].method, server.requests[0].path) == ("DELETE", f"/uploads/v1/{ACCOUNT}/{UPLOAD_ID}")

    def test_check_token_gives_the_state(self, server: ScriptedServer, client: UploadsClient, token: str) -> None:
        server.script(Reply(json={"code": "TokenValid", "token": {"usage": "sk", "user": ACCOUNT, "scopes": []}}))

        state = client.check_token()

        assert (server.requests[0].method, server.requests[0].path) == ("GET", "/tokens/v2")
        assert server.requests[0].query == {"access_token": token}
        assert state == TokenState("TokenValid", ACCOUNT, "sk")
        assert state.is_valid

    @pytest.mark.parametrize("status", [200, 401])
    @pytest.mark.parametrize("code", ["TokenMalformed", "TokenInvalid", "TokenExpired", "TokenRevoked"])
    def test_an_invalid_token_is_a_state_with_every_status(
        self, server: ScriptedServer, client: UploadsClient, code: str, status: int
    ) -> None:
        server.script(Reply(status, {"code": code}))

        assert client.check_token() == TokenState(code)

    def test_check_token_refused_with_a_message_is_an_error(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(401, {"message": "Not Authorized - Invalid Token"}))

        with pytest.raises(TokenRejectedError, match="Invalid Token"):
            client.check_token()

    def test_a_username_given_goes_before_the_one_in_the_token(
        self, server: ScriptedServer, make_client: MakeClient
    ) -> None:
        server.script(Reply(json=upload_json()))

        make_client(username="lyra").get_upload(UPLOAD_ID)

        assert server.requests[0].path == f"/uploads/v1/lyra/{UPLOAD_ID}"

    def test_a_base_url_with_a_path_and_a_slash_keeps_the_path(
        self, server: ScriptedServer, make_client: MakeClient
    ) -> None:
        server.script(Reply(json=upload_json()))

        make_client(base_url=f"{server.url}/mirror/").get_upload(UPLOAD_ID)

        assert server.requests[0].path == f"/mirror/uploads/v1/{ACCOUNT}/{UPLOAD_ID}"

    @pytest.mark.parametrize("upload_id", ["", "..", "../tokens", "a/b", "a?b=c", "a\n", "a" * 65, "a b", "ä"])
    def test_an_invalid_upload_id_is_not_sent(
        self, server: ScriptedServer, client: UploadsClient, upload_id: str
    ) -> None:
        for call in (client.get_upload, client.delete_upload):
            with pytest.raises(InvalidUploadIdError, match="upload id"):
                call(upload_id)
        assert not server.requests

    @pytest.mark.parametrize("tileset", ["", "a" * 33, "harbours\n", "har bours", "other.harbours", "a.b.c", "häfen"])
    def test_a_tileset_that_would_be_refused_is_not_sent(
        self, server: ScriptedServer, client: UploadsClient, tileset: str
    ) -> None:
        with pytest.raises(InvalidTilesetError):
            client.create_upload(tileset, STAGED)
        assert not server.requests

    def test_a_display_name_that_would_be_refused_is_not_sent(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        with pytest.raises(InvalidTilesetError, match="64"):
            client.create_upload("harbours", STAGED, "x" * 65)
        assert not server.requests


class TestList:
    def test_pages_are_followed_by_link_and_a_short_page_is_not_the_last(
        self, server: ScriptedServer, client: UploadsClient, token: str
    ) -> None:
        path = f"/uploads/v1/{ACCOUNT}"
        server.script(
            Reply(json=[upload_json(id="u1")], headers=_next(f"{server.url}{path}?start=u1&limit=100")),
            Reply(json=[], headers=_next(f"{path}?start=u0&limit=100")),
            Reply(json=[upload_json(id="u2"), upload_json(id="u3")]),
        )

        uploads = list(client.list_uploads())

        assert [upload.id for upload in uploads] == ["u1", "u2", "u3"]
        assert [request.query for request in server.requests] == [
            {"limit": "100", "access_token": token},
            {"start": "u1", "limit": "100", "access_token": token},
            {"start": "u0", "limit": "100", "access_token": token},
        ]

    def test_pages_are_asked_for_only_when_they_are_needed(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json=[upload_json(id="u1")], headers=_next("?start=u1")))

        first = next(client.list_uploads())

        assert first.id == "u1"
        assert len(server.requests) == 1

    def test_a_limit_bounds_both_the_page_and_the_whole(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json=[upload_json(id=f"u{n}") for n in range(5)], headers=_next("?start=u4")))

        assert len(list(client.list_uploads(limit=3))) == 3
        assert server.requests[0].query["limit"] == "3"
        assert not list(client.list_uploads(limit=0))
        assert len(server.requests) == 1

    def test_a_limit_above_a_page_asks_for_whole_pages(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(
            Reply(json=[upload_json(id=f"u{n}") for n in range(100)], headers=_next("?start=u99&limit=100")),
            Reply(json=[upload_json(id=f"v{n}") for n in range(100)]),
        )

        uploads = list(client.list_uploads(limit=150))

        assert len(uploads) == 150
        assert server.requests[0].query["limit"] == "100"

    def test_reverse_is_asked_for_and_survives_on_every_page(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(
            Reply(json=[upload_json(id="u1")], headers=_next("?start=u1&reverse")),  # bare, as one client sends it
            Reply(json=[]),
        )

        list(client.list_uploads(reverse=True))

        assert server.requests[0].query["reverse"] == "true"
        assert "reverse" in server.requests[1].query

    def test_a_token_in_the_link_is_not_sent_twice(
        self, server: ScriptedServer, client: UploadsClient, token: str
    ) -> None:
        server.script(Reply(json=[], headers=_next(f"?start=u1&access_token={make_token()}")), Reply(json=[]))

        list(client.list_uploads())

        assert server.requests[1].query == {"start": "u1", "access_token": token}

    @pytest.mark.parametrize(
        "link",
        [
            "https://evil.example/uploads/v1/orion?start=u1",
            "//evil.example/uploads",
            "https://api.mapbox.com@evil.example/uploads",
            "http://127.0.0.1:1/uploads/v1/orion",
            "ftp://127.0.0.1/uploads",
        ],
    )
    def test_a_next_page_on_another_host_is_refused(
        self, server: ScriptedServer, client: UploadsClient, link: str
    ) -> None:
        server.script(Reply(json=[upload_json()], headers=_next(link)))

        with pytest.raises(InvalidAnswerError, match="another host"):
            list(client.list_uploads())
        assert len(server.requests) == 1

    @pytest.mark.parametrize("link", ["http://127.0.0.1:port/x", "http://[::1/x", "http://127.0.0.1:99999/x"])
    def test_a_next_page_without_a_valid_url_is_an_invalid_answer(
        self, server: ScriptedServer, client: UploadsClient, link: str
    ) -> None:
        server.script(Reply(json=[upload_json()], headers=_next(link)))

        with pytest.raises(InvalidAnswerError, match="next page"):
            list(client.list_uploads())

    @pytest.mark.parametrize("relation", ["Next", "next last", "prev NEXT", "https://h/rel next"])
    @pytest.mark.parametrize("parameter", ["rel", "REL"])
    def test_a_next_page_is_known_by_one_of_its_relations_in_any_case(
        self, server: ScriptedServer, client: UploadsClient, relation: str, parameter: str
    ) -> None:
        link = f'<?start=u0>; rel="prev", <?start=u1>; {parameter}="{relation}", <?start=u9>; rel="last"'
        server.script(Reply(json=[upload_json(id="u1")], headers={"Link": link}), Reply(json=[upload_json(id="u2")]))

        assert [upload.id for upload in client.list_uploads()] == ["u1", "u2"]
        assert server.requests[1].query["start"] == "u1"

    @pytest.mark.parametrize(
        "link",
        [
            '<?start=u1>; title="a=b"; rel="next"',
            '<?start=u1>; foo; rel="next"',
            '<?start=u1>; title="a, <b>; rel=prev"; rel=next',
            '<?start=u0>; rel="prev",\t<?start=u1>; rel="next"',
            '<?start=u1;t=2>; rel="next"',
            "<?start=u1>;rel=next",
        ],
    )
    def test_a_next_page_is_found_beside_other_parameters_and_links(
        self, server: ScriptedServer, client: UploadsClient, link: str
    ) -> None:
        server.script(Reply(json=[], headers={"Link": link}), Reply(json=[]))

        assert list(client.list_uploads()) == []
        assert server.requests[1].query["start"].startswith("u1")

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_pages_that_run_in_a_circle_are_refused(
        self, server: ScriptedServer, client: UploadsClient, length: int
    ) -> None:
        server.script(
            *(
                Reply(json=[upload_json()], headers=_next(f"?limit=100&start=u{number % length}"))
                for number in range(length + 1)
            )
        )

        with pytest.raises(InvalidAnswerError, match="links to an earlier page"):
            list(client.list_uploads())

    @pytest.mark.parametrize("document", [{"uploads": []}, None, "uploads", 3])
    def test_a_list_that_is_not_an_array_is_refused(
        self, server: ScriptedServer, client: UploadsClient, document: Any
    ) -> None:
        server.script(Reply(body=json.dumps(document).encode()))

        with pytest.raises(InvalidAnswerError, match="array"):
            list(client.list_uploads())

    def test_a_throttled_page_is_asked_for_again(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
    ) -> None:
        server.script(
            Reply(json=[upload_json(id="u1")], headers=_next("?start=u1")),
            _throttled(fake_time.now + 20),
            Reply(json=[upload_json(id="u2")]),
        )

        assert [upload.id for upload in client.list_uploads()] == ["u1", "u2"]
        assert server.requests[2].query["start"] == "u1"


class TestAnotherAnswerThanWasAskedFor:
    def test_another_answer_than_was_asked_for_about_another_upload_is_invalid(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(json=upload_json(id="another", complete=True, progress=1)))

        with pytest.raises(InvalidAnswerError, match="the reply has another"):
            client.get_upload(UPLOAD_ID)

    def test_another_answer_than_was_asked_for_about_another_tileset_leaves_a_create_call_in_doubt(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(201, upload_json(tileset=f"{ACCOUNT}.lights")))

        with pytest.raises(InvalidAnswerError) as caught:
            client.create_upload("harbours", STAGED)

        assert caught.value.in_doubt

    @pytest.mark.parametrize("status", [200, 201, 202, 203])
    def test_another_answer_than_was_asked_for_with_another_status_of_success_is_a_success(
        self, server: ScriptedServer, client: UploadsClient, status: int
    ) -> None:
        server.script(Reply(status, upload_json()))

        assert client.create_upload("harbours", STAGED).id == UPLOAD_ID


class TestAGatewaysAnswer:
    @pytest.mark.parametrize("status", [408, 425, 499, 502, 503, 504])
    def test_a_gateways_answer_to_a_create_call_may_hide_that_it_took_effect(
        self, server: ScriptedServer, make_client: MakeClient, status: int
    ) -> None:
        server.script(Reply(status, {"message": "Request Timeout"}))

        with pytest.raises(ServerError) as caught:
            make_client(attempts=1).create_upload("harbours", STAGED)

        assert caught.value.retryable
        assert caught.value.in_doubt

    @pytest.mark.parametrize("status", [408, 421, 425, 499])
    def test_a_gateways_answer_is_retried(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime, status: int
    ) -> None:
        server.script(Reply(status, body=b"<html>"), Reply(json=upload_json()))

        assert client.get_upload(UPLOAD_ID).id == UPLOAD_ID
        assert len(fake_time.slept) == 1


class TestRetryAfter:
    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("as_date", [False, True])
    def test_retry_after_is_waited_for(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, status: int, as_date: bool
    ) -> None:
        server_now = fake_time.now + 900  # its clock is ahead
        value = formatdate(server_now + 100, usegmt=True) if as_date else "100"
        headers = {"Retry-After": value, "Date": formatdate(server_now, usegmt=True)}
        server.script(Reply(status, {"message": "later"}, headers=headers), Reply(json=upload_json()))

        make_client(rng=FixedRandom(0.0)).get_upload(UPLOAD_ID)

        assert fake_time.slept == [pytest.approx(100, abs=1)]

    @pytest.mark.parametrize("value", ["never", "-1", "nan", "Wed, 21 Oct 2015 07:28:00 GMT", "", "1e99"])
    def test_retry_after_that_makes_no_sense_or_is_over_keeps_the_usual_pause(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, value: str
    ) -> None:
        server.script(Reply(503, {"message": "later"}, headers={"Retry-After": value}), Reply(json=upload_json()))

        make_client(rng=FixedRandom(0.0)).get_upload(UPLOAD_ID)

        assert fake_time.slept[0] in (0.5, 3600)

    def test_retry_after_that_is_longer_than_a_call_may_wait_is_raised(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        server.script(Reply(503, {"message": "later"}, headers={"Retry-After": "3600"}))

        with pytest.raises(ServerError) as caught:
            make_client(max_throttle_wait=60).get_upload(UPLOAD_ID)

        assert caught.value.retry_after == 3600
        assert fake_time.slept == []


def test_an_answer_that_is_too_large_leaves_a_create_call_in_doubt(
    server: ScriptedServer, client: UploadsClient
) -> None:
    server.script(Reply(200, body=b" " * (9 * 2**20)))

    with pytest.raises(InvalidAnswerError) as caught:
        client.create_upload("harbours", DATASET)

    assert caught.value.in_doubt


@pytest.mark.parametrize(
    "date", ["Tue Nov 14 22:13:20 2023", "Tue, 14 Nov 2023 22:13:20 -0000", "Tue, 14 Nov 2023 22:13:20 GMT"]
)
def test_a_date_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert server_time({"Date": date}) == 1_700_000_000
    finally:
        monkeypatch.undo()
        time.tzset()


class TestTheServersClock:
    @pytest.mark.parametrize("jump", [20.0, -20.0, 86_400.0])
    def test_the_servers_clock_does_not_follow_this_machines_when_that_is_set(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, jump: float
    ) -> None:
        wall = FakeTime()
        server.script(Reply(json=upload_json(), headers={"Date": formatdate(wall.now, usegmt=True)}))
        client = make_client(clock=wall.clock)
        client.get_upload(UPLOAD_ID)

        wall.now += jump
        fake_time.now += 30

        assert client.server_now() == pytest.approx(1_700_000_000 + 30, abs=1)


def test_a_404_names_a_login_that_is_not_the_tokens_account(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script(Reply(404, {"message": "Not Found"}), Reply(404, {"message": "Not Found"}))

    with pytest.raises(NotFoundError, match=f"login is 'lyra', but the token belongs to account '{ACCOUNT}'"):
        make_client(username="lyra").get_upload(UPLOAD_ID)
    with pytest.raises(NotFoundError) as caught:
        make_client().get_upload(UPLOAD_ID)
    assert "login" not in str(caught.value)


class TestRateLimit:
    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_the_rate_limit_is_waited_out_to_the_reset_plus_jitter(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, share: float
    ) -> None:
        server.script(_throttled(fake_time.now + 42), Reply(json=upload_json()))

        make_client(rng=FixedRandom(share)).get_upload(UPLOAD_ID)

        (pause,) = fake_time.slept
        assert pause == pytest.approx(42 + 5 * share)

    @pytest.mark.parametrize("skew", [-3600.0, -90.0, 90.0, 3600.0])
    def test_the_rate_limit_is_measured_by_the_servers_clock_when_the_local_one_is_wrong(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, skew: float
    ) -> None:
        server_now = fake_time.now + skew
        server.script(_throttled(server_now + 42, Date=formatdate(server_now, usegmt=True)), Reply(json=upload_json()))

        make_client(rng=FixedRandom(0.0)).get_upload(UPLOAD_ID)

        assert fake_time.slept == [pytest.approx(42, abs=1)]

    def test_the_rate_limit_is_measured_by_the_clock_of_an_earlier_answer_if_it_has_none_itself(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        server_now = fake_time.now - 900
        server.script(
            Reply(json=upload_json(), headers={"Date": formatdate(server_now, usegmt=True)}),
            _throttled(server_now + 42),
            Reply(json=upload_json()),
        )
        client = make_client(rng=FixedRandom(0.0))

        client.get_upload(UPLOAD_ID)
        client.get_upload(UPLOAD_ID)

        assert fake_time.slept == [pytest.approx(42, abs=1)]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-Rate-Limit-Reset": "soon"},
            {"X-Rate-Limit-Reset": "nan", "X-Rate-Limit-Interval": "nan"},
            {"X-Rate-Limit-Reset": "inf", "X-Rate-Limit-Interval": "-60"},
            {"X-Rate-Limit-Reset": "9e99"},
            {"X-Rate-Limit-Reset": "1700000042000"},
            {"X-Rate-Limit-Interval": ""},
            {"X-Rate-Limit-Interval": "9e99"},
            {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"},
            {"Retry-After": "9e99"},
            {"Date": "yesterday"},
            {"Date": "Mon, 01 Jan 99999999999999 00:00:00 GMT"},
        ],
    )
    def test_the_rate_limit_with_headers_that_make_no_sense_is_waited_out_for_a_window(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, headers: dict[str, str]
    ) -> None:
        server.script(Reply(429, {"message": "Too Many Requests"}, headers=headers), Reply(json=upload_json()))

        make_client(rng=FixedRandom(0.0)).get_upload(UPLOAD_ID)

        (pause,) = fake_time.slept
        assert 60 <= pause <= 3600

    def test_the_rate_limit_whose_reset_has_passed_is_retried_soon(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        server.script(_throttled(fake_time.now - 5), Reply(json=upload_json()))

        make_client(rng=FixedRandom(1.0)).get_upload(UPLOAD_ID)

        assert fake_time.slept == [5.0]

    def test_the_rate_limit_uses_no_try_of_those_for_faults(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        server.script(*(_throttled(fake_time.now + 10) for _ in range(9)), Reply(json=upload_json()))

        upload = make_client(attempts=1).get_upload(UPLOAD_ID)

        assert upload.id == UPLOAD_ID
        assert len(fake_time.slept) == 9

    @pytest.mark.parametrize("share", [0.0, 1.0])
    @pytest.mark.parametrize("seconds", [-10, 30])
    def test_the_rate_limit_is_raised_at_once_if_no_wait_is_wanted(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, share: float, seconds: int
    ) -> None:
        server.script(_throttled(fake_time.now + seconds))

        with pytest.raises(ThrottledError) as caught:
            make_client(max_throttle_wait=0, rng=FixedRandom(share)).get_upload(UPLOAD_ID)

        assert caught.value.retry_after == pytest.approx(max(seconds, 0) + 5 * share)
        assert caught.value.status == 429
        assert caught.value.retryable
        assert fake_time.slept == []

    def test_the_rate_limit_is_raised_after_the_longest_allowed_wait(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        start = fake_time.now
        server.script(*(_throttled(start + end) for end in (40, 80, 120)))

        with pytest.raises(ThrottledError):
            make_client(max_throttle_wait=100, rng=FixedRandom(0.0)).get_upload(UPLOAD_ID)

        assert fake_time.slept == [40.0, 40.0]

    def test_the_rate_limit_of_a_dataset_create_is_waited_out_too(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
    ) -> None:
        server.script(_throttled(fake_time.now + 10), Reply(201, upload_json()))

        assert client.create_upload("harbours", DATASET).id == UPLOAD_ID
        assert len(server.requests) == 2


class TestFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            Reply(500, {"message": "Internal Server Error"}),
            Reply(502, body=b"<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}),
            Reply(503),
            Reply(fault="refuse to read"),
            Reply(fault="drop"),
            Reply(fault="reset"),
            Reply(json=upload_json(), fault="half"),
            Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{"),
            Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
            Reply(
                raw=b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"
            ),
        ],
        ids=lambda fault: fault.fault or str(fault.raw or fault.status)[:30],
    )
    def test_a_call_is_retried(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime, fault: Reply
    ) -> None:
        server.script(fault, fault, Reply(json=upload_json()))

        assert client.get_upload(UPLOAD_ID).id == UPLOAD_ID
        assert len(fake_time.slept) == 2

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_pauses_grow_twofold_up_to_the_cap(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, share: float
    ) -> None:
        server.script(*(Reply(500) for _ in range(7)))

        with pytest.raises(ServerError):
            make_client(attempts=7, base=1.0, cap=10.0, rng=FixedRandom(share)).get_upload(UPLOAD_ID)

        assert fake_time.slept == [pause * (1 + share) / 2 for pause in (1, 2, 4, 8, 10, 10)]

    def test_each_try_is_visible_at_info_without_the_token(
        self, server: ScriptedServer, client: UploadsClient, token: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.script(Reply(500), Reply(fault="drop"), Reply(429), Reply(json=upload_json()))

        with caplog.at_level(logging.INFO, logger="airflow_mapbox"):
            client.get_upload(UPLOAD_ID)

        said = [record.getMessage() for record in caplog.records if record.name.startswith("airflow_mapbox")]
        assert any("500" in line and "attempt 2 of 5" in line for line in said)
        assert any("connection broke" in line and "attempt 3 of 5" in line for line in said)
        assert any("met the rate limit" in line for line in said)
        assert any("answered 200" in line for line in said)
        assert all(token not in line for line in said)

    def test_the_error_of_a_server_that_is_down_names_the_request(
        self, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        with closed_port() as url, pytest.raises(NoAnswerError) as caught:
            make_client(base_url=url, attempts=3).get_upload(UPLOAD_ID)

        assert url in str(caught.value)
        assert f"GET /uploads/v1/{ACCOUNT}/{UPLOAD_ID}" in str(caught.value)
        assert "no connection could be made" in str(caught.value)
        assert caught.value.retryable
        assert len(fake_time.slept) == 2

    def test_a_host_without_an_address_is_named(self, make_client: MakeClient) -> None:
        with pytest.raises(NoAnswerError, match=r"nobody\.invalid: no connection could be made"):
            make_client(base_url="https://nobody.invalid", attempts=1).get_upload(UPLOAD_ID)

    def test_a_server_that_speaks_no_tls_is_an_error_that_is_not_retried(
        self, make_client: MakeClient, fake_time: FakeTime
    ) -> None:
        # Not the scripted server: what it makes of a handshake depends on the handshake's random bytes.
        def answer_plainly() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=answer_plainly, daemon=True).start()
            client = make_client(base_url=f"https://127.0.0.1:{listening.getsockname()[1]}")

            with pytest.raises(NoAnswerError, match="the TLS handshake failed"):
                client.check_token()

        assert not fake_time.slept

    def test_a_server_that_never_answers_is_given_up_after_the_read_timeout(
        self, server: ScriptedServer, make_client: MakeClient
    ) -> None:
        server.script(Reply(fault="hang"))

        with pytest.raises(NoAnswerError, match=r"no reply within 0\.3 s"):
            make_client(timeout=(1.0, 0.3, 500.0), attempts=1).get_upload(UPLOAD_ID)

    @pytest.mark.parametrize(
        "trickle",
        [
            Reply(json=upload_json(), pause=0.05),
            Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000, pause=0.02),
            Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 500, pause=0.02),
            Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 500, pause=0.02),
            Reply(301, headers={"Location": "/elsewhere", "Content-Length": "5000"}, body=b" " * 5000, pause=0.02),
        ],
        ids=["all", "body", "headers", "chunks", "redirect"],
    )
    def test_a_server_that_trickles_bytes_is_given_up_after_the_time_for_a_whole_answer(
        self, server: ScriptedServer, make_client: MakeClient, trickle: Reply
    ) -> None:
        server.script(trickle)

        # Each byte comes in time; all of them would take ten seconds or more, after which there would be no error.
        with pytest.raises(NoAnswerError, match=r"within 0\.4 s"):
            make_client(timeout=(1.0, 0.3, 0.4), attempts=1).get_upload(UPLOAD_ID)

    def test_an_answer_without_end_is_not_read_into_memory(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(body=b" " * (9 * 2**20)))

        with pytest.raises(InvalidAnswerError, match="larger than any reply of the API"):
            client.get_upload(UPLOAD_ID)

    def test_a_redirects_body_without_end_is_not_read_into_memory(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(302, body=b" " * (9 * 2**20), headers={"Location": "/elsewhere"}))

        with pytest.raises(InvalidAnswerError):
            client.get_upload(UPLOAD_ID)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_to_another_host_are_refused_and_the_token_stays(
        self, server: ScriptedServer, client: UploadsClient, status: int
    ) -> None:
        elsewhere = ScriptedServer()
        try:
            server.script(Reply(status, headers={"Location": f"{elsewhere.url}/uploads"}))

            with pytest.raises(InvalidAnswerError, match=r"redirected to 127\.0\.0\.1"):
                client.get_upload(UPLOAD_ID)
        finally:
            elsewhere.stop()
        assert len(server.requests) == 1
        assert not elsewhere.requests

    def test_redirects_to_the_same_host_are_refused_as_well(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(301, headers={"Location": f"/uploads/v2/{ACCOUNT}"}))

        with pytest.raises(InvalidAnswerError, match="redirect"):
            client.get_upload(UPLOAD_ID)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("location", ["", "http://[::1", "http://h:port/", "http://", "\xff\xfe", "//"])
    def test_redirects_to_an_invalid_url_are_refused(
        self, server: ScriptedServer, client: UploadsClient, location: str
    ) -> None:
        server.script(Reply(302, headers={"Location": location}))

        with pytest.raises(InvalidAnswerError, match="redirect"):
            client.get_upload(UPLOAD_ID)


class TestAnswersThatAreNone:
    @pytest.mark.parametrize(
        "body",
        [b"", b"<html>Sign in to the network</html>", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000],
        ids=["empty", "html", "broken", "binary", "deep", "long number"],
    )
    def test_no_json_names_the_call_and_the_server(
        self, server: ScriptedServer, client: UploadsClient, body: bytes
    ) -> None:
        server.script(Reply(body=body, headers={"Content-Type": "text/html"}))

        with pytest.raises(InvalidAnswerError) as caught:
            client.get_upload(UPLOAD_ID)

        assert f"GET /uploads/v1/{ACCOUNT}/{UPLOAD_ID}" in str(caught.value)
        assert server.url in str(caught.value)
        assert "without JSON" in str(caught.value)
        assert len(str(caught.value)) < 700

    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_no_json_under_an_error_status_is_still_that_error(
        self, server: ScriptedServer, make_client: MakeClient, status: int
    ) -> None:
        server.script(Reply(status, body=b"[" * 100_000, headers={"Content-Type": "text/html"}))

        with pytest.raises(ApiError) as caught:
            make_client(attempts=1).get_upload(UPLOAD_ID)
        assert caught.value.status == status

    @pytest.mark.parametrize("field", ["id", "tileset", "complete", "error", "progress"])
    def test_an_upload_without_a_field_names_it(
        self, server: ScriptedServer, client: UploadsClient, field: str
    ) -> None:
        document = upload_json()
        del document[field]
        server.script(Reply(json=document))

        with pytest.raises(InvalidAnswerError, match=f"'{field}'"):
            client.get_upload(UPLOAD_ID)

    @pytest.mark.parametrize("field", sorted(CREDENTIALS))
    def test_credentials_without_a_field_name_it_and_show_no_other(
        self, server: ScriptedServer, client: UploadsClient, field: str
    ) -> None:
        server.script(Reply(json={name: value for name, value in CREDENTIALS.items() if name != field}))

        with pytest.raises(InvalidAnswerError, match=f"'{field}'") as caught:
            client.create_credentials()

        text = all_text_of(caught.value)
        assert all(value not in text for value in CREDENTIALS.values())

    def test_a_token_state_without_a_code_names_it(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(json={}))

        with pytest.raises(InvalidAnswerError, match="'code'"):
            client.check_token()


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "message", "kind"),
        [
            (401, "Unauthorized", TokenRejectedError),
            (401, "Not Authorized - Invalid Token", TokenRejectedError),
            (404, "Not Found", NotFoundError),
            (
                409,
                "The provided url has already been used by another upload. Fetch new credentials.",
                StagedUrlUsedError,
            ),
            (422, "Could not access url", StagedUrlNotReadableError),
            (422, "An upload is already active", UploadActiveError),
            (409, "An upload is already active", UploadActiveError),
            (422, 'Missing required property "url"', InvalidRequestError),
            (422, 'Invalid "tileset" value', InvalidRequestError),
            (400, "Anything else", InvalidRequestError),
            (500, "Internal Server Error", ServerError),
        ],
    )
    def test_each_meaning_has_its_class_and_keeps_the_status_and_the_message(
        self, server: ScriptedServer, make_client: MakeClient, status: int, message: str, kind: type[ApiError]
    ) -> None:
        server.script(Reply(status, {"message": message}))

        with pytest.raises(ApiError) as caught:
            make_client(attempts=1).create_upload("harbours", STAGED)

        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.message) == (status, message)
        assert message in str(caught.value)
        advice = str(caught.value).partition(f"({message}).\n")[2]
        assert len(advice) > 20, "the message says what to do next"

    @pytest.mark.parametrize("message", ["Could not access url", "An upload is already active"])
    def test_messages_about_create_calls_mean_nothing_for_other_calls(
        self, server: ScriptedServer, make_client: MakeClient, message: str
    ) -> None:
        server.script(Reply(422, {"message": message}))

        with pytest.raises(InvalidRequestError) as caught:
            list(make_client(attempts=1).list_uploads())

        assert type(caught.value) is InvalidRequestError

    def test_deleting_an_unfinished_upload_has_its_own_error(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(422, {"message": "upload is incomplete"}))

        with pytest.raises(UploadIncompleteError, match="wait"):
            client.delete_upload(UPLOAD_ID)

    @pytest.mark.parametrize(
        ("call", "scope"),
        [
            (lambda client: client.create_credentials(), "uploads:write"),
            (lambda client: client.create_upload("harbours", STAGED), "uploads:write"),
            (lambda client: client.delete_upload(UPLOAD_ID), "uploads:write"),
            (lambda client: client.get_upload(UPLOAD_ID), "uploads:read"),
            (lambda client: list(client.list_uploads()), "uploads:list"),
        ],
    )
    def test_404_names_the_scope_that_the_call_needs(
        self, server: ScriptedServer, client: UploadsClient, call: Callable[[UploadsClient], Any], scope: str
    ) -> None:
        server.script(Reply(404, {"message": "Not Found"}))

        with pytest.raises(NotFoundError, match=scope):
            call(client)
        assert len(server.requests) == 1

    def test_404_for_a_call_that_needs_no_scope_names_no_scope(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(404, {"message": "Not Found"}))

        with pytest.raises(NotFoundError) as caught:
            client.check_token()
        assert "scope" not in str(caught.value)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
    def test_a_refusal_is_not_retried(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime, status: int
    ) -> None:
        server.script(Reply(status, {"message": "No"}))

        with pytest.raises(MapboxError):
            client.get_upload(UPLOAD_ID)
        assert not fake_time.slept


class TestWhatMustNotHappenTwice:
    @pytest.mark.parametrize("loss", ["drop", "reset", "half", "hang"])
    def test_a_staged_create_whose_answer_was_lost_and_that_answers_409_then_says_that_the_url_is_used(
        self, server: ScriptedServer, make_client: MakeClient, loss: str
    ) -> None:
        server.script(
            Reply(201, upload_json(), fault=loss),
            Reply(409, {"message": "The provided url has already been used by another upload."}),
        )

        with pytest.raises(StagedUrlUsedError):
            make_client(timeout=(1.0, 0.3, 2.0)).create_upload("harbours", STAGED)

        first, second = server.requests
        assert first.json == second.json

    @pytest.mark.parametrize("loss", [Reply(fault="drop"), Reply(fault="reset"), Reply(fault="hang"), Reply(502)])
    def test_a_dataset_create_is_not_repeated_after_it_may_have_happened(
        self, server: ScriptedServer, make_client: MakeClient, fake_time: FakeTime, loss: Reply
    ) -> None:
        server.script(loss)

        with pytest.raises((NoAnswerError, ServerError)):
            make_client(timeout=(1.0, 0.3, 2.0)).create_upload("harbours", DATASET)

        assert len(server.requests) == 1
        assert not fake_time.slept

    def test_a_dataset_create_is_repeated_when_the_connection_was_never_made(
        self, make_client: MakeClient, fake_time: FakeTime, server: ScriptedServer
    ) -> None:
        # Given that nobody listens at first.
        port = server.port
        server.stop()
        revived: list[ScriptedServer] = []

        def sleep(seconds: float) -> None:
            fake_time.sleep(seconds)
            if len(fake_time.slept) == 2:
                revived.append(_server_at(port, Reply(201, upload_json())))

        upload = make_client(sleep=sleep).create_upload("harbours", DATASET)

        assert upload.id == UPLOAD_ID
        assert len(fake_time.slept) == 2
        (again,) = revived
        assert len(again.requests) == 1
        again.stop()

    @pytest.mark.parametrize("loss", [Reply(fault="drop"), Reply(204, fault="reset"), Reply(503)])
    def test_a_delete_repeated_after_a_lost_answer_takes_404_as_done(
        self, server: ScriptedServer, client: UploadsClient, loss: Reply
    ) -> None:
        server.script(loss, Reply(404, {"message": "Not Found"}))

        client.delete_upload(UPLOAD_ID)

        assert [request.method for request in server.requests] == ["DELETE", "DELETE"]

    def test_a_delete_that_finds_nothing_at_first_is_an_error(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(404, {"message": "Not Found"}))

        with pytest.raises(NotFoundError):
            client.delete_upload(UPLOAD_ID)

    def test_a_delete_that_was_only_throttled_before_does_not_take_404_as_done(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
    ) -> None:
        server.script(_throttled(fake_time.now + 1), Reply(404, {"message": "Not Found"}))

        with pytest.raises(NotFoundError):
            client.delete_upload(UPLOAD_ID)


class TestSettings:
    @pytest.mark.parametrize("token", ["", "  \n"])
    def test_a_missing_token_is_reported(self, token: str) -> None:
        with pytest.raises(ConfigurationError, match="access token is missing"):
            UploadsClient(token)

    def test_space_around_a_token_is_not_sent(
        self, server: ScriptedServer, make_client: MakeClient, token: str
    ) -> None:
        server.script(Reply(json=upload_json()))

        make_client(access_token=f" {token}\n").get_upload(UPLOAD_ID)

        assert server.requests[0].query["access_token"] == token

    @pytest.mark.parametrize("username", ["or ion", "orion\n", "a" * 33, "../etc", "ori.on"])
    def test_an_account_that_cannot_be_one_is_blamed_on_the_connection(self, token: str, username: str) -> None:
        with pytest.raises(ConfigurationError, match="login"):
            UploadsClient(token, username)

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("http://api.mapbox.com", "https"),
            ("http://127.0.0.1.evil.example", "https"),
            ("ftp://api.mapbox.com", "http"),
            ("api.mapbox.com", "http"),
            ("https://", "http"),
            ("https://user:pw4secret@api.mapbox.com", "password"),
            ("https://api.mapbox.com?x=1", "query"),
            ("https://api.mapbox.com#x", "fragment"),
            ("https://[::1", "is not a URL"),
            ("https://host:port", "is not a URL"),
        ],
    )
    def test_an_address_that_cannot_be_used_is_refused(self, token: str, url: str, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why) as caught:
            UploadsClient(token, base_url=url)
        assert "pw4secret" not in all_text_of(caught.value)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
    def test_plain_http_is_taken_for_the_loopback(self, token: str, host: str) -> None:
        assert UploadsClient(token, base_url=f"http://{host}:8080/").base_url == f"http://{host}:8080"

    def test_requests_to_the_loopback_bypass_the_environments_proxy(
        self, server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = ScriptedServer()
        monkeypatch.setenv("http_proxy", proxy.url)
        server.script(Reply(json=upload_json()))
        try:
            make_client().get_upload(UPLOAD_ID)
        finally:
            proxy.stop()
        assert not proxy.requests

    def test_the_last_response_sets_the_servers_time(
        self, server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
    ) -> None:
        server.script(Reply(json=upload_json(), headers={"Date": formatdate(fake_time.now + 77, usegmt=True)}))
        before = client.server_now()

        client.get_upload(UPLOAD_ID)
        fake_time.now += 3

        assert before == 1_700_000_000.0
        assert client.server_now() == pytest.approx(fake_time.now + 77)


class TestSecrets:
    """The token is in nothing that the client says, whatever happens to it."""

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(json=upload_json()),
            Reply(fault="drop"),
            Reply(fault="reset"),
            Reply(fault="hang"),
            Reply(json=upload_json(), fault="half"),
            Reply(500),
            Reply(401, {"message": "Unauthorized"}),
            Reply(404, {"message": "Not Found"}),
            Reply(301, headers={"Location": "https://evil.example/"}),
            Reply(raw=b"nonsense\r\n\r\n"),
            Reply(raw=b"HTTP/1.1 200 OK\r\nbroken header\r\nContent-Length: 2\r\n\r\n{}"),
            Reply(body=b"<html>"),
            Reply(429),
        ],
        ids=lambda reply: reply.fault or str(reply.raw or reply.body or reply.status)[:30],
    )
    def test_the_token_is_in_no_log_line_and_no_exception(
        self, server: ScriptedServer, make_client: MakeClient, token: str, reply: Reply
    ) -> None:
        server.script(reply, reply)
        error: BaseException | None = None

        with everything_logged() as log:
            client = make_client(attempts=2, timeout=(1.0, 0.2, 1.0), max_throttle_wait=0)
            try:
                client.get_upload(UPLOAD_ID)
            except MapboxError as caught:
                error = caught
        said = log.getvalue() + ("" if error is None else all_text_of(error)) + repr(client) + repr(vars(client))

        assert said
        for part in _pieces(token):
            assert part not in said
        assert "urllib3.connectionpool DEBUG" in said, "urllib3's own log is among what was looked through"

    @pytest.mark.parametrize("status", [200, 301, 401, 422, 500])
    @pytest.mark.parametrize("form", ["{token}", "access_token={token}", "x{token}y", "{pad}{token}", "{other}"])
    def test_a_token_that_the_server_sends_back_is_not_passed_on(
        self, server: ScriptedServer, make_client: MakeClient, token: str, status: int, form: str
    ) -> None:
        other = make_token("lyra")
        text = form.format(token=token, pad="." * 100, other=other)
        server.script(
            Reply(
                status, {"message": text}, headers={"Location": f"https://{text.lower()}.example/?access_token={text}"}
            ),
            Reply(status, body=f"<html>{text}</html>".encode(), headers={"Location": f"https://h/{text}"}),
        )
        client = make_client(attempts=1)
        errors = []

        with everything_logged() as log:
            for _ in range(2):
                with pytest.raises(MapboxError) as caught:
                    client.get_upload(UPLOAD_ID)
                errors.append(all_text_of(caught.value))

        for part in (*_pieces(token), *_pieces(other)):
            assert part not in log.getvalue() + "".join(errors)

    @pytest.mark.parametrize("before", range(60, 500, 23))
    def test_a_secret_that_is_cut_off_with_a_long_message_leaves_no_part_of_itself(
        self, server: ScriptedServer, make_client: MakeClient, before: int
    ) -> None:
        server.script(
            Reply(json=CREDENTIALS | {"sessionToken": "SESSION+Canary/" * 8}),
            Reply(422, {"message": "." * before + "SESSION+Canary/" * 8}),
            Reply(422, body=b"." * before + b"SESSION+Canary/" * 8),
        )
        client = make_client()
        client.create_credentials()

        for _ in range(2):
            with pytest.raises(InvalidRequestError) as caught:
                client.create_upload("harbours", STAGED)
            assert "SESSION" not in all_text_of(caught.value)

    def test_a_token_in_the_place_of_an_upload_id_is_not_repeated(self, client: UploadsClient, token: str) -> None:
        for text in (token, f"{'.' * 70}{token}", f"https://h/?access_token={token}"):
            with pytest.raises(InvalidUploadIdError) as caught:
                client.get_upload(text)
            assert all(part not in all_text_of(caught.value) for part in _pieces(token))

    def test_a_token_without_an_account_is_refused_without_being_shown(self) -> None:
        for text in ("sk.notbase64.signature0canary", "canary", make_token("or ion"), make_token("")):
            with pytest.raises(ConfigurationError, match="names no account") as caught:
                UploadsClient(text)
            assert text not in all_text_of(caught.value)

    def test_credentials_show_themselves_without_their_secrets(
        self, server: ScriptedServer, client: UploadsClient
    ) -> None:
        server.script(Reply(json=CREDENTIALS))

        with everything_logged() as log:
            credentials = client.create_credentials()

        for field in ("accessKeyId", "secretAccessKey", "sessionToken"):
            assert CREDENTIALS[field] not in log.getvalue() + repr(credentials) + str(credentials)
        assert credentials.bucket in repr(credentials)


def _pieces(token: str) -> tuple[str, str, str]:
    """Give the token and its two secret parts: a part alone gives it away too."""
    _, payload, signature = token.split(".")
    return token, payload, signature


def _next(link: str) -> dict[str, str]:
    return {"Link": f'<{link}>; rel="next"'}


def _throttled(reset: float, **headers: str) -> Reply:
    return Reply(
        429,
        {"message": "Too Many Requests"},
        headers={"X-Rate-Limit-Interval": "60", "X-Rate-Limit-Limit": "30", "X-Rate-Limit-Reset": f"{reset:.0f}"}
        | headers,
    )


def _server_at(port: int, *replies: Reply) -> ScriptedServer:
    server = ScriptedServer(port)
    server.script(*replies)
    return server


def test_the_user_agent_and_other_headers_carry_no_token(
    server: ScriptedServer, client: UploadsClient, token: str
) -> None:
    server.script(Reply(json=upload_json()))

    client.get_upload(UPLOAD_ID)

    assert not re.search(re.escape(token), repr(server.requests[0].headers))

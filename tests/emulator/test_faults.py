"""Faults on demand: what a client of the API and of S3 sees of each, and what processing does."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, ReadTimeoutError

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.store import Store
from tests.emulator.conftest import TOWNS, Account

MIB = 1 << 20


@pytest.fixture
def fresh(shared: Account) -> Iterator[Account]:
    """The shared emulator without faults, before and after."""
    shared.emulator.faults.clear()
    yield shared
    shared.emulator.faults.clear()


def put(account: Account, issued: dict[str, str], **changed: Any) -> None:
    account.s3(issued, **changed).put_object(Bucket=issued["bucket"], Key=issued["key"], Body=b"data")


def is_staged(account: Account, issued: dict[str, str]) -> bool:
    try:
        account.s3(issued).head_object(Bucket=issued["bucket"], Key=issued["key"])
    except ClientError:
        return False
    return True


class TestAtTheApi:
    def test_a_status_is_answered_and_nothing_took_effect(self, fresh: Account) -> None:
        staged = fresh.stage(TOWNS)["url"]
        fresh.emulator.faults.add("status", method="POST", status=502, message="Bad Gateway")

        refused = fresh.create(staged, "status")

        assert (refused.status_code, refused.json()) == (502, {"message": "Bad Gateway"})
        assert fresh.create(staged, "status").status_code == 201

    def test_a_connection_dropped_before_left_no_upload(self, fresh: Account) -> None:
        staged = fresh.stage(TOWNS)["url"]
        fresh.emulator.faults.add("drop_before", method="POST")

        with pytest.raises(requests.ConnectionError):
            fresh.create(staged, "before")

        assert fresh.create(staged, "before").status_code == 201

    def test_a_connection_dropped_after_left_one(self, fresh: Account) -> None:
        staged = fresh.stage(TOWNS)["url"]
        fresh.emulator.faults.add("drop_after", method="POST")

        with pytest.raises(requests.ConnectionError):
            fresh.create(staged, "after")

        assert fresh.create(staged, "after").status_code == 409
        assert fresh.call("GET", params={"limit": 1}).json()[0]["tileset"] == "acme.after"

    def test_garbage_hides_a_call_that_took_effect(self, fresh: Account) -> None:
        staged = fresh.stage(TOWNS)["url"]
        fresh.emulator.faults.add("garbage", method="POST")

        answer = fresh.create(staged, "garbage")

        assert answer.status_code == 200
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
        assert fresh.create(staged, "garbage").status_code == 409

    def test_html_is_a_proxys_error_page(self, fresh: Account) -> None:
        fresh.emulator.faults.add("html", status=502)

        answer = fresh.call("GET")

        assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")
        assert "502 Bad Gateway" in answer.text

    def test_a_delay_comes_before_the_usual_answer(self, fresh: Account) -> None:
        fresh.emulator.faults.add("delay", seconds=0.2)
        started = time.monotonic()

        assert fresh.call("GET").status_code == 200

        assert time.monotonic() - started >= 0.2

    def test_a_hang_gives_no_answer(self, fresh: Account) -> None:
        fresh.emulator.faults.add("hang")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{fresh.emulator.url}/uploads/v1/acme", timeout=0.2)

    def test_a_hang_ends_with_the_connection_cut(self, fresh: Account) -> None:
        fresh.emulator.faults.add("hang", seconds=0.1)
        with pytest.raises(requests.ConnectionError):
            fresh.call("GET")

    def test_times_and_after_are_counted(self, fresh: Account) -> None:
        fresh.emulator.faults.add("status", status=503, after=1, times=2)

        assert [fresh.call("GET").status_code for _ in range(4)] == [200, 503, 503, 200]

    def test_times_0_is_until_it_is_taken_away(self, fresh: Account) -> None:
        fault = fresh.emulator.faults.add("status", times=0)
        assert [fresh.call("GET").status_code for _ in range(5)] == [500] * 5

        assert fresh.emulator.faults.clear(fault.id)

        assert fresh.call("GET").status_code == 200

    def test_method_and_path_say_which_requests(self, fresh: Account) -> None:
        fresh.emulator.faults.add("status", status=418, method="GET", path=r"^/uploads/v1/acme\?.*limit=7", times=0)

        assert fresh.call("GET").status_code == 200
        assert fresh.call("POST", params={"limit": 7}, json={}).status_code == 422
        assert fresh.call("GET", params={"limit": 7}).status_code == 418

    def test_the_first_that_matches_is_met_first(self, fresh: Account) -> None:
        for status in (501, 502):
            fresh.emulator.faults.add("status", status=status)

        assert [fresh.call("GET").status_code for _ in range(3)] == [501, 502, 200]

    def test_tokens_and_tiles_have_them_too(self, fresh: Account) -> None:
        fresh.emulator.faults.add("status", path="^/tokens/", status=500)
        answer = requests.get(f"{fresh.emulator.url}/tokens/v2", params={"access_token": "x"}, timeout=10)
        assert answer.status_code == 500

    def test_requests_are_recorded_with_their_answers(self, acme: Account) -> None:
        for kind in ("status", "drop_before", "drop_after", "html"):
            acme.emulator.faults.add(kind, status=503)
        for _ in range(4):
            with contextlib.suppress(requests.ConnectionError):
                acme.call("GET")

        assert [request.status for request in acme.emulator.requests] == [503, 0, 200, 503]


class TestAtS3:
    @pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("AccessDenied", 403)])
    def test_an_error_of_s3_is_an_error_of_boto3(self, fresh: Account, code: str, status: int) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("status", where="s3", code=code, status=status, message="Please <wait>.")

        with pytest.raises(ClientError) as caught:
            put(fresh, issued)

        answer = caught.value.response
        assert answer["Error"]["Code"] == code
        assert answer["Error"]["Message"] == "Please <wait>."
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
        assert not is_staged(fresh, issued)

    def test_boto3_gets_over_a_slow_down(self, fresh: Account) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("status", where="s3", code="SlowDown", status=503)

        put(fresh, issued, config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}))

        assert is_staged(fresh, issued)

    @pytest.mark.parametrize(
        ("kind", "seen", "staged"),
        [
            ("drop_before", (ConnectionError, HTTPClientError), False),
            ("drop_after", (ConnectionError, HTTPClientError), True),
            ("hang", (ConnectionError, HTTPClientError), False),
        ],
    )
    def test_a_cut_connection_shows_as_boto3s_connection_error(
        self, fresh: Account, kind: str, seen: tuple[type[Exception], ...], staged: bool
    ) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add(kind, where="s3", seconds=0.1)

        with pytest.raises(seen):
            put(fresh, issued)

        assert is_staged(fresh, issued) is staged

    def test_a_hang_without_an_end_gives_no_answer(self, fresh: Account) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("hang", where="s3")
        impatient = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=0.2)
        with pytest.raises(ReadTimeoutError):
            put(fresh, issued, config=impatient)

    def test_a_delay_comes_before_the_usual_answer(self, fresh: Account) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("delay", where="s3", seconds=0.2)
        started = time.monotonic()

        put(fresh, issued)

        assert time.monotonic() - started >= 0.2
        assert is_staged(fresh, issued)

    def test_garbage_hides_a_put_that_took_effect(self, fresh: Account) -> None:
        issued = fresh.credentials()
        where = {"Bucket": issued["bucket"], "Key": issued["key"]}
        fresh.emulator.faults.add("garbage", where="s3", times=2)

        # boto3 takes what it can't read for a failure of S3's.
        with pytest.raises(ClientError, match="500"):
            fresh.s3(issued).create_multipart_upload(**where)
        with pytest.raises(ClientError, match="500"):
            put(fresh, issued)

        assert is_staged(fresh, issued)

    def test_html_is_a_proxys_error_page(self, fresh: Account) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("html", where="s3", status=502)

        answer = requests.put(f"{fresh.emulator.s3_url}/{issued['bucket']}/{issued['key']}", data=b"x", timeout=10)

        assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")

    def test_one_part_that_fails_is_sent_again(self, fresh: Account, tmp_path: Path) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("status", where="s3", method="PUT", path="partNumber=2", code="InternalError")

        self._upload(fresh, issued, tmp_path, 17 * MIB)

        assert fresh.emulator.faults.all() == []
        assert is_staged(fresh, issued)

    def test_a_part_that_always_fails_ends_the_upload(self, fresh: Account, tmp_path: Path) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("status", where="s3", path="partNumber=2", code="InternalError", times=0)

        with pytest.raises(Exception, match="InternalError"):
            self._upload(fresh, issued, tmp_path, 17 * MIB)

        assert not is_staged(fresh, issued)

    def test_credentials_expire_after_some_bytes_and_new_ones_are_good(self, fresh: Account, tmp_path: Path) -> None:
        issued = fresh.credentials()
        fresh.emulator.faults.add("expire", where="s3", bytes=10 * MIB)

        with pytest.raises(Exception, match="ExpiredToken"):
            self._upload(fresh, issued, tmp_path, 25 * MIB)

        with pytest.raises(ClientError, match="ExpiredToken"):
            put(fresh, issued)
        again = fresh.credentials()
        self._upload(fresh, again, tmp_path, 25 * MIB)
        assert is_staged(fresh, again)

    def test_bytes_are_counted_for_each_key(self, fresh: Account, tmp_path: Path) -> None:
        fresh.emulator.faults.add("expire", where="s3", bytes=5, times=0, after=1)
        first, *others = (fresh.credentials() for _ in range(3))

        for _ in range(3):
            put(fresh, first)
        for issued in others:
            for _ in range(2):
                put(fresh, issued)
            with pytest.raises(ClientError, match="ExpiredToken"):
                put(fresh, issued)

    @staticmethod
    def _upload(account: Account, issued: dict[str, str], folder: Path, size: int) -> None:
        file = folder / "data"
        with file.open("wb") as stream:
            stream.truncate(size)
        s3 = account.s3(
            issued,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2, "mode": "standard"}),
        )
        s3.upload_file(str(file), issued["bucket"], issued["key"], Config=TransferConfig(max_concurrency=1))


class TestStopping:
    @pytest.mark.parametrize("where", ["api", "s3"])
    @pytest.mark.parametrize("seconds", [0, 600])
    def test_stopping_does_not_wait_for_a_hang(
        self, tmp_path: Path, settings: EmulatorSettings, where: str, seconds: float
    ) -> None:
        emulator = Emulator(tmp_path, settings=settings).start()
        fault = emulator.faults.add("hang", where=where, seconds=seconds)
        url = f"{emulator.url}/uploads/v1/acme" if where == "api" else f"{emulator.s3_url}/x"
        seen: list[Exception] = []

        def ask() -> None:
            try:
                requests.get(url, timeout=600)
            except requests.RequestException as error:
                seen.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        while fault in emulator.faults.all():
            time.sleep(0.01)

        emulator.stop()  # a wait for the hang would outlast pytest's timeout
        asking.join()

        assert isinstance(seen[0], requests.ConnectionError)


class TestProcessing:
    @pytest.fixture
    def settings(self, settings: EmulatorSettings) -> EmulatorSettings:
        return dataclasses.replace(settings, workers=1)

    @staticmethod
    def _create(account: Account, tileset: str = "places") -> str:
        return str(account.create(account.stage(TOWNS)["url"], tileset).json()["id"])

    def test_an_upload_stalls_until_the_fault_is_removed(self, acme: Account) -> None:
        fault = acme.emulator.faults.add("stall", where="processing", progress=0.37)
        upload = self._create(acme)
        acme.wait(upload, until=lambda upload: upload["progress"] == 0.37)

        acme.emulator.clock.advance(1_000_000)
        # Where it is held up, it holds up no other.
        assert acme.wait(self._create(acme, "other"))["complete"]

        assert acme.call("GET", f"/{upload}").json()["progress"] == 0.37
        assert acme.emulator.faults.all() == [dataclasses.replace(fault, times=1)]
        assert acme.call("DELETE", f"/{upload}").status_code == 400
        acme.emulator.faults.clear(fault.id)
        assert acme.wait(upload)["complete"]
        assert acme.wait(self._create(acme))["complete"]

    def test_a_stalled_upload_does_not_keep_stop_waiting_and_is_processed_at_the_next_start(
        self, tmp_path: Path, settings: EmulatorSettings
    ) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            emulator.faults.add("stall", where="processing", progress=0.37)
            upload = self._create(acme)
            acme.wait(upload, until=lambda upload: upload["progress"] == 0.37)
        # A wait for the stalled upload would outlast pytest's timeout.

        with Emulator(tmp_path, settings=settings) as emulator:
            assert Account(emulator).wait(upload)["complete"]

    def test_an_upload_fails_at_the_given_progress(self, acme: Account) -> None:
        acme.emulator.faults.add("fail", where="processing", progress=0.8, message="Processing timed out.")

        failed = acme.wait(self._create(acme))

        assert (failed["error"], failed["progress"]) == ("Processing timed out.", 0.8)
        assert acme.tileset().status_code == 404
        assert acme.wait(self._create(acme))["complete"]

    @pytest.mark.parametrize("progress", [0, 1])
    def test_an_upload_fails_at_either_end_of_its_progress(self, acme: Account, progress: float) -> None:
        acme.emulator.faults.add("fail", where="processing", progress=progress, message="No.")
        assert acme.wait(self._create(acme))["error"] == "No."

    def test_invalid_data_may_fail_by_a_fault_as_well(self, acme: Account) -> None:
        acme.emulator.faults.add("fail", where="processing", progress=0.8, message="No.")
        assert acme.upload(b"nonsense")["error"] == "No."

    def test_progress_goes_backwards_once_and_then_to_the_end(
        self, acme: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        acme.emulator.faults.add("backwards", where="processing", progress=0.5)
        shown: list[float] = []
        set_progress = Store.set_progress

        def noted(store: Store, upload_id: str, progress: float, **options: Any) -> None:
            set_progress(store, upload_id, progress, **options)
            shown.append(acme.call("GET", f"/{upload_id}").json()["progress"])

        monkeypatch.setattr(Store, "set_progress", noted)

        done = acme.wait(self._create(acme))

        falls = [(a, b) for a, b in itertools.pairwise(shown) if b < a]
        assert len(falls) == 1, shown
        assert falls[0][1] < 0.5
        assert done["progress"] == 1

    def test_a_processing_fault_meets_matching_tilesets_as_often_as_asked(self, acme: Account) -> None:
        acme.emulator.faults.add("fail", where="processing", path="bad$", message="No.", times=2, after=1)

        outcomes = [acme.wait(self._create(acme, name))["error"] for name in ("bad", "good", "bad", "bad", "bad")]

        assert outcomes == [None, None, "No.", "No.", None]


class TestAFreshUpload:
    def test_a_fresh_upload_is_not_found_for_a_while(self, tmp_path: Path) -> None:
        settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, unseen_seconds=5)
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            upload = acme.create(acme.stage(TOWNS)["url"]).json()["id"]
            unseen = acme.call("GET", f"/{upload}")

            emulator.clock.advance(5)

            assert (unseen.status_code, unseen.json()) == (404, {"message": "Not Found"})
            assert acme.wait(upload)["complete"]

    def test_a_fresh_upload_is_missing_in_the_list_for_a_while(self, tmp_path: Path) -> None:
        settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, unlisted_seconds=5)
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            older = acme.create(acme.stage(TOWNS)["url"], "older").json()["id"]
            emulator.clock.advance(5)
            newer = acme.create(acme.stage(TOWNS)["url"], "newer").json()["id"]

            at_once = acme.call("GET", "?limit=1").json()
            emulator.clock.advance(5)
            later = acme.call("GET", "?limit=1").json()

        assert ([row["id"] for row in at_once], [row["id"] for row in later]) == ([older], [newer])


@pytest.mark.parametrize(
    "options",
    [{"kind": "x"}, {"kind": "status", "status": 100}, {"kind": "expire"}, {"kind": "fail", "where": "api"}],
)
def test_an_invalid_fault_is_refused(shared: Account, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        shared.emulator.faults.add(**options)

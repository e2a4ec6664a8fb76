"""Faults on demand: their effects on clients of the API and of S3, and on processing."""

from __future__ import annotations

import contextlib
import dataclasses
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
from tests.emulator.conftest import TOWNS, Account, Clock

MIB = 1 << 20


@pytest.fixture
def faultless(shared: Account) -> Iterator[Account]:
    """The shared emulator without faults, before and after."""
    shared.emulator.faults.clear()
    yield shared
    shared.emulator.faults.clear()


def put(account: Account, credentials: dict[str, str], **changed: Any) -> None:
    account.s3(credentials, **changed).put_object(Bucket=credentials["bucket"], Key=credentials["key"], Body=b"data")


def is_staged(account: Account, credentials: dict[str, str]) -> bool:
    try:
        account.s3(credentials).head_object(Bucket=credentials["bucket"], Key=credentials["key"])
    except ClientError:
        return False
    return True


class TestFaultsOfTheApi:
    def test_status_fault_returns_the_status_and_the_request_has_no_effect(self, faultless: Account) -> None:
        staged = faultless.stage(TOWNS)["url"]
        faultless.emulator.faults.add("status", method="POST", status=502, message="Bad Gateway")

        refused = faultless.create(staged, "status")

        assert (refused.status_code, refused.json()) == (502, {"message": "Bad Gateway"})
        assert faultless.create(staged, "status").status_code == 201

    def test_drop_before_fault_creates_no_upload(self, faultless: Account) -> None:
        staged = faultless.stage(TOWNS)["url"]
        faultless.emulator.faults.add("drop_before", method="POST")

        with pytest.raises(requests.ConnectionError):
            faultless.create(staged, "before")

        assert faultless.create(staged, "before").status_code == 201

    def test_drop_after_fault_creates_the_upload(self, faultless: Account) -> None:
        staged = faultless.stage(TOWNS)["url"]
        faultless.emulator.faults.add("drop_after", method="POST")

        with pytest.raises(requests.ConnectionError):
            faultless.create(staged, "after")

        assert faultless.create(staged, "after").status_code == 409
        assert faultless.call("GET", params={"limit": 1}).json()[0]["tileset"] == "acme.after"

    def test_garbage_fault_returns_invalid_json_and_the_request_takes_effect(self, faultless: Account) -> None:
        staged = faultless.stage(TOWNS)["url"]
        faultless.emulator.faults.add("garbage", method="POST")

        response = faultless.create(staged, "garbage")

        assert response.status_code == 200
        with pytest.raises(requests.JSONDecodeError):
            response.json()
        assert faultless.create(staged, "garbage").status_code == 409

    def test_html_fault_returns_an_error_page_of_a_proxy(self, faultless: Account) -> None:
        faultless.emulator.faults.add("html", status=502)

        response = faultless.call("GET")

        assert (response.status_code, response.headers["Content-Type"]) == (502, "text/html")
        assert "502 Bad Gateway" in response.text

    def test_delay_fault_returns_the_usual_response_later(self, faultless: Account) -> None:
        faultless.emulator.faults.add("delay", seconds=0.2)
        started = time.monotonic()

        assert faultless.call("GET").status_code == 200

        assert time.monotonic() - started >= 0.2

    def test_hang_fault_returns_no_response(self, faultless: Account) -> None:
        faultless.emulator.faults.add("hang")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{faultless.emulator.url}/uploads/v1/acme", timeout=0.2)

    def test_hang_fault_with_seconds_ends_with_a_cut_connection(self, faultless: Account) -> None:
        faultless.emulator.faults.add("hang", seconds=0.1)
        with pytest.raises(requests.ConnectionError):
            faultless.call("GET")

    def test_fault_counts_times_and_after(self, faultless: Account) -> None:
        faultless.emulator.faults.add("status", status=503, after=1, times=2)

        assert [faultless.call("GET").status_code for _ in range(4)] == [200, 503, 503, 200]

    def test_fault_with_times_0_stays_until_it_is_cleared(self, faultless: Account) -> None:
        fault = faultless.emulator.faults.add("status", times=0)
        assert [faultless.call("GET").status_code for _ in range(5)] == [500] * 5

        assert faultless.emulator.faults.clear(fault.id)

        assert faultless.call("GET").status_code == 200

    def test_fault_applies_only_to_matching_method_and_path(self, faultless: Account) -> None:
        faultless.emulator.faults.add("status", status=418, method="GET", path=r"^/uploads/v1/acme\?.*limit=7", times=0)

        assert faultless.call("GET").status_code == 200
        assert faultless.call("POST", params={"limit": 7}, json={}).status_code == 422
        assert faultless.call("GET", params={"limit": 7}).status_code == 418

    def test_first_matching_fault_applies_first(self, faultless: Account) -> None:
        for status in (501, 502):
            faultless.emulator.faults.add("status", status=status)

        assert [faultless.call("GET").status_code for _ in range(3)] == [501, 502, 200]

    def test_token_endpoint_gets_faults_too(self, faultless: Account) -> None:
        faultless.emulator.faults.add("status", path="^/tokens/", status=500)
        response = requests.get(f"{faultless.emulator.url}/tokens/v2", params={"access_token": "x"}, timeout=10)
        assert response.status_code == 500

    def test_requests_with_faults_are_recorded_with_their_status(self, acme: Account) -> None:
        for kind in ("status", "drop_before", "drop_after", "html"):
            acme.emulator.faults.add(kind, status=503)
        for _ in range(4):
            with contextlib.suppress(requests.ConnectionError):
                acme.call("GET")

        assert [request.status for request in acme.emulator.requests] == [503, 0, 200, 503]


class TestFaultsOfS3:
    @pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("AccessDenied", 403)])
    def test_status_fault_is_an_s3_error_in_boto3(self, faultless: Account, code: str, status: int) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("status", where="s3", code=code, status=status, message="Please <wait>.")

        with pytest.raises(ClientError) as caught:
            put(faultless, credentials)

        response = caught.value.response
        assert response["Error"]["Code"] == code
        assert response["Error"]["Message"] == "Please <wait>."
        assert response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert not is_staged(faultless, credentials)

    def test_boto3_retries_after_slow_down(self, faultless: Account) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("status", where="s3", code="SlowDown", status=503)

        put(faultless, credentials, config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}))

        assert is_staged(faultless, credentials)

    @pytest.mark.parametrize(
        ("kind", "errors", "staged"),
        [
            ("drop_before", (ConnectionError, HTTPClientError), False),
            ("drop_after", (ConnectionError, HTTPClientError), True),
            ("hang", (ConnectionError, HTTPClientError), False),
        ],
        ids=["drop_before", "drop_after", "hang"],
    )
    def test_fault_that_cuts_the_connection_raises_in_boto3(
        self, faultless: Account, kind: str, errors: tuple[type[Exception], ...], staged: bool
    ) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add(kind, where="s3", seconds=0.1)

        with pytest.raises(errors):
            put(faultless, credentials)

        assert is_staged(faultless, credentials) is staged

    def test_hang_fault_without_seconds_returns_no_response(self, faultless: Account) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("hang", where="s3")
        short_timeout = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=0.2)
        with pytest.raises(ReadTimeoutError):
            put(faultless, credentials, config=short_timeout)

    def test_delay_fault_returns_the_usual_response_later(self, faultless: Account) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("delay", where="s3", seconds=0.2)
        started = time.monotonic()

        put(faultless, credentials)

        assert time.monotonic() - started >= 0.2
        assert is_staged(faultless, credentials)

    def test_garbage_fault_returns_invalid_xml_and_the_request_takes_effect(self, faultless: Account) -> None:
        credentials = faultless.credentials()
        where = {"Bucket": credentials["bucket"], "Key": credentials["key"]}
        faultless.emulator.faults.add("garbage", where="s3", times=2)

        # boto3 treats an unreadable response as an error 500 of S3.
        with pytest.raises(ClientError, match="500"):
            faultless.s3(credentials).create_multipart_upload(**where)
        with pytest.raises(ClientError, match="500"):
            put(faultless, credentials)

        assert is_staged(faultless, credentials)

    def test_html_fault_returns_an_error_page_of_a_proxy(self, faultless: Account) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("html", where="s3", status=502)

        response = requests.put(
            f"{faultless.emulator.s3_url}/{credentials['bucket']}/{credentials['key']}", data=b"x", timeout=10
        )

        assert (response.status_code, response.headers["Content-Type"]) == (502, "text/html")

    def test_part_that_fails_once_is_retried(self, faultless: Account, tmp_path: Path) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("status", where="s3", method="PUT", path="partNumber=2", code="InternalError")

        self._upload(faultless, credentials, tmp_path, 17 * MIB)

        assert faultless.emulator.faults.all() == []
        assert is_staged(faultless, credentials)

    def test_part_that_always_fails_ends_the_upload(self, faultless: Account, tmp_path: Path) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("status", where="s3", path="partNumber=2", code="InternalError", times=0)

        with pytest.raises(Exception, match="InternalError"):
            self._upload(faultless, credentials, tmp_path, 17 * MIB)

        assert not is_staged(faultless, credentials)

    def test_credentials_expire_after_some_bytes_and_new_credentials_work(
        self, faultless: Account, tmp_path: Path
    ) -> None:
        credentials = faultless.credentials()
        faultless.emulator.faults.add("expire", where="s3", bytes=10 * MIB)

        with pytest.raises(Exception, match="ExpiredToken"):
            self._upload(faultless, credentials, tmp_path, 25 * MIB)

        with pytest.raises(ClientError, match="ExpiredToken"):
            put(faultless, credentials)
        new_credentials = faultless.credentials()
        self._upload(faultless, new_credentials, tmp_path, 25 * MIB)
        assert is_staged(faultless, new_credentials)

    def test_bytes_are_counted_for_each_key(self, faultless: Account, tmp_path: Path) -> None:
        faultless.emulator.faults.add("expire", where="s3", bytes=5, times=0, after=1)
        first, *others = (faultless.credentials() for _ in range(3))

        for _ in range(3):
            put(faultless, first)
        for credentials in others:
            for _ in range(2):
                put(faultless, credentials)
            with pytest.raises(ClientError, match="ExpiredToken"):
                put(faultless, credentials)

    @staticmethod
    def _upload(account: Account, credentials: dict[str, str], folder: Path, size: int) -> None:
        file = folder / "data"
        with file.open("wb") as stream:
            stream.truncate(size)
        s3 = account.s3(
            credentials,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2, "mode": "standard"}),
        )
        s3.upload_file(str(file), credentials["bucket"], credentials["key"], Config=TransferConfig(max_concurrency=1))


class TestStop:
    @pytest.mark.parametrize("where", ["api", "s3"])
    @pytest.mark.parametrize("seconds", [0, 600])
    def test_stop_does_not_wait_for_a_hanging_request(
        self, tmp_path: Path, settings: EmulatorSettings, where: str, seconds: float
    ) -> None:
        emulator = Emulator(tmp_path, settings=settings).start()
        fault = emulator.faults.add("hang", where=where, seconds=seconds)
        url = f"{emulator.url}/uploads/v1/acme" if where == "api" else f"{emulator.s3_url}/x"
        errors: list[Exception] = []

        def send_request() -> None:
            try:
                requests.get(url, timeout=600)
            except requests.RequestException as error:
                errors.append(error)

        thread = threading.Thread(target=send_request)
        thread.start()
        while fault in emulator.faults.all():
            time.sleep(0.01)

        emulator.stop()  # a wait for the hang would exceed pytest's timeout
        thread.join()

        assert isinstance(errors[0], requests.ConnectionError)


class TestFaultsOfProcessing:
    @pytest.fixture
    def settings(self, settings: EmulatorSettings) -> EmulatorSettings:
        return dataclasses.replace(settings, workers=1)

    @staticmethod
    def _create(account: Account, tileset: str = "places") -> str:
        return str(account.create(account.stage(TOWNS)["url"], tileset).json()["id"])

    def test_stalled_upload_continues_after_the_fault_is_cleared_and_blocks_no_other(self, acme: Account) -> None:
        fault = acme.emulator.faults.add("stall", where="processing", progress=0.37)
        upload = self._create(acme)
        acme.wait(upload, until=lambda upload: upload["progress"] == 0.37)

        acme.emulator.clock.advance(1_000_000)
        # The stalled upload must not delay others.
        assert acme.wait(self._create(acme, "other"))["complete"]

        assert acme.call("GET", f"/{upload}").json()["progress"] == 0.37
        assert acme.emulator.faults.all() == [dataclasses.replace(fault, times=1)]
        assert acme.call("DELETE", f"/{upload}").status_code == 400
        acme.emulator.faults.clear(fault.id)
        assert acme.wait(upload)["complete"]
        assert acme.wait(self._create(acme))["complete"]

    def test_stop_does_not_wait_for_a_stalled_upload_and_the_next_start_processes_it(
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

    def test_fail_fault_fails_the_upload_at_its_progress(self, acme: Account) -> None:
        acme.emulator.faults.add("fail", where="processing", progress=0.8, message="Processing timed out.")

        failed = acme.wait(self._create(acme))

        assert (failed["error"], failed["progress"]) == ("Processing timed out.", 0.8)
        assert acme.tileset().status_code == 404
        assert acme.wait(self._create(acme))["complete"]

    @pytest.mark.parametrize("progress", [0, 1])
    def test_fail_fault_works_at_progress_0_and_1(self, acme: Account, progress: float) -> None:
        acme.emulator.faults.add("fail", where="processing", progress=progress, message="No.")
        assert acme.wait(self._create(acme))["error"] == "No."

    def test_fail_fault_also_fails_invalid_data(self, acme: Account) -> None:
        acme.emulator.faults.add("fail", where="processing", progress=0.8, message="No.")
        assert acme.upload(b"nonsense")["error"] == "No."

    def test_progress_goes_backwards_once_and_then_reaches_the_end(self, tmp_path: Path) -> None:
        settings = EmulatorSettings(account="acme", processing_seconds=100, rate_limit=0)
        # Time passes only when the test advances it, so that each progress can be seen however busy the machine is.
        clock = Clock()
        with Emulator(tmp_path, settings=settings, clock=clock) as emulator:
            acme = Account(emulator)
            fault = emulator.faults.add("backwards", where="processing", progress=0.5, times=2)
            upload = self._create(acme)
            # The fault is counted at the start of the processing, from which its time is measured.
            acme.wait(upload, until=lambda _: fault not in emulator.faults.all())
            clock.now += 40
            acme.wait(upload, until=lambda upload: upload["progress"] == 0.4)
            clock.now += 20
            acme.wait(upload, until=lambda upload: upload["progress"] < 0.4)
            clock.now += 40
            later: list[float] = []

            def is_complete(upload: dict[str, Any]) -> bool:
                later.append(upload["progress"])
                return bool(upload["complete"])

            acme.wait(upload, until=is_complete)

        assert later == sorted(later)
        assert later[-1] == 1

    def test_processing_fault_applies_to_matching_tilesets_for_its_number_of_times(self, acme: Account) -> None:
        acme.emulator.faults.add("fail", where="processing", path="bad$", message="No.", times=2, after=1)

        outcomes = [acme.wait(self._create(acme, name))["error"] for name in ("bad", "good", "bad", "bad", "bad")]

        assert outcomes == [None, None, "No.", "No.", None]


class TestNewUpload:
    def test_status_of_a_new_upload_is_not_found_for_unseen_seconds(self, tmp_path: Path) -> None:
        settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, unseen_seconds=5)
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            upload = acme.create(acme.stage(TOWNS)["url"]).json()["id"]
            unseen = acme.call("GET", f"/{upload}")

            emulator.clock.advance(5)

            assert (unseen.status_code, unseen.json()) == (404, {"message": "Not Found"})
            assert acme.wait(upload)["complete"]

    def test_new_upload_is_missing_in_the_list_for_unlisted_seconds(self, tmp_path: Path) -> None:
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
    ids=["unknown kind", "status 100", "expire at api", "fail at api"],
)
def test_invalid_fault_is_refused(shared: Account, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        shared.emulator.faults.add(**options)

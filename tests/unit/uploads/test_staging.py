from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from airflow_mapbox.uploads.errors import SourceError, StagingError
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.redaction import register_secret
from airflow_mapbox.uploads.sources import Source, open_source
from airflow_mapbox.uploads.staging import StagedFile, stage

from ..support import Reply, ScriptedServer, all_text_of, everything_logged

PART = 8 * 2**20
SESSION = boto3.session.Session()  # loading the description of S3 takes longer than most tests


class FakeS3:
    """Reads as boto3 does: from start to end, in pieces, never seeking."""

    def __init__(self, *, until: int | None = None, failure: Exception | None = None) -> None:
        self.until = until
        self.failure = failure
        self.received = b""
        self.key: tuple[str, str] | None = None

    def upload_fileobj(self, Fileobj: Any, Bucket: str, Key: str, *, Config: Any) -> None:  # noqa: N803
        self.key = (Bucket, Key)
        assert not hasattr(Fileobj, "seek")
        while piece := Fileobj.read(1000):
            self.received += piece
            if self.until is not None and len(self.received) >= self.until:
                break
        if self.failure is not None:
            raise self.failure


class BrokenStream(io.BytesIO):
    """A stream that fails in its middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 2000:
            raise OSError("stale file handle")
        return super().read(size)


@pytest.fixture
def credentials() -> StagingCredentials:
    made = StagingCredentials(
        bucket="tilestream",
        key="43/_pending/abc/orion",
        url="https://tilestream.s3.amazonaws.com/43/_pending/abc/orion",
        access_key_id="ASIAKEYCANARY",
        secret_access_key="secretKEY/canary+key",
        session_token="sessionTOKEN/canary+token==" * 4,
    )
    register_secret(*made.secrets)
    return made


def _source(data: bytes, *, size: int | None = None, stream: IO[bytes] | None = None) -> Source:
    return Source("data.geojson", len(data) if size is None else size, lambda: stream or io.BytesIO(data))


def test_all_bytes_go_to_the_key_and_are_counted(credentials: StagingCredentials) -> None:
    s3, data = FakeS3(), bytes(range(256)) * 50

    staged = stage(_source(data), credentials, s3)

    assert staged == StagedFile(credentials.url, len(data))
    assert s3.received == data
    assert s3.key == ("tilestream", "43/_pending/abc/orion")


def test_a_source_of_unknown_size_is_sent_to_its_end(credentials: StagingCredentials) -> None:
    staged = stage(Source("stream", None, lambda: io.BytesIO(b"x" * 5000)), credentials, FakeS3())

    assert staged.bytes == 5000


def test_the_log_says_what_was_staged_and_how_fast(
    credentials: StagingCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    ticks: Iterator[float] = iter((10.0, 12.0))

    with caplog.at_level("INFO", logger="airflow_mapbox"):
        stage(_source(b"x" * 4_000_000), credentials, FakeS3(), clock=lambda: next(ticks))

    assert "Staged data.geojson: 4,000,000 bytes in 2.0 s (2.0 MB/s)" in caplog.text


@pytest.mark.parametrize("size", [4999, 5001, 0])
def test_a_source_that_shrank_or_grew_is_an_error_with_both_sizes(credentials: StagingCredentials, size: int) -> None:
    with pytest.raises(StagingError, match=r"data\.geojson") as caught:
        stage(_source(b"x" * 5000, size=size), credentials, FakeS3())

    assert f"{size:,}" in str(caught.value)
    assert "5,000" in str(caught.value)
    assert caught.value.retryable


def test_a_file_that_grows_while_it_is_sent_is_an_error(credentials: StagingCredentials, tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(b"x" * 3000)
    source = open_source(path)
    with path.open("ab") as more:
        more.write(b"y")

    with pytest.raises(StagingError, match=r"3,000 bytes .* 3,001"):
        stage(source, credentials, FakeS3())


def test_an_s3_that_stops_reading_early_is_an_error(credentials: StagingCredentials) -> None:
    with pytest.raises(StagingError, match="2,000"):
        stage(_source(b"x" * 5000), credentials, FakeS3(until=2000))


def test_a_source_that_breaks_in_the_middle_says_how_far_it_came(credentials: StagingCredentials) -> None:
    source = _source(b"x" * 5000, stream=BrokenStream(b"x" * 5000))

    with pytest.raises(StagingError, match="stale file handle") as caught:
        stage(source, credentials, FakeS3())
    assert "2,000 bytes" in str(caught.value)


def test_a_source_that_can_no_longer_be_opened_is_the_sources_error(
    credentials: StagingCredentials, tmp_path: Path
) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(b"{}")
    source = open_source(path)
    path.unlink()

    with pytest.raises(SourceError, match=r"x\.geojson"):
        stage(source, credentials, FakeS3())


def test_the_stream_is_closed_whatever_happens(credentials: StagingCredentials) -> None:
    for failure in (None, RuntimeError("no")):
        stream = io.BytesIO(b"x" * 10)
        try:
            stage(_source(b"x" * 10, stream=stream), credentials, FakeS3(failure=failure))
        except StagingError:
            assert failure is not None
        assert stream.closed


def test_an_error_of_s3_is_told_without_secrets_and_keeps_no_original(credentials: StagingCredentials) -> None:
    failure = RuntimeError(f"ExpiredToken {credentials.session_token}", {"headers": credentials.secret_access_key})

    with pytest.raises(StagingError, match="ExpiredToken") as caught:
        stage(_source(b"x" * 5000), credentials, FakeS3(failure=failure))

    assert failure not in (caught.value.__cause__, caught.value.__context__)
    for secret in credentials.secrets:
        assert secret not in all_text_of(caught.value)


def test_ctrl_c_is_not_taken_for_a_fault_of_s3(credentials: StagingCredentials) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage(_source(b"x"), credentials, FakeS3(failure=KeyboardInterrupt()))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, PART, PART + 1, 3 * PART + 17])
def test_boto3_gets_the_same_bytes_in_one_part_or_many(credentials: StagingCredentials, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    with mock_aws():
        s3 = _boto3(credentials)
        s3.create_bucket(Bucket="tilestream")

        staged = stage(_source(data), credentials, s3)

        stored = s3.get_object(Bucket="tilestream", Key=credentials.key)["Body"].read()
    assert staged.bytes == size
    assert stored == data


ECHO = """<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidToken</Code>
<Message>The token {session_token} is malformed or expired</Message><Token-0>{session_token}</Token-0>
<AWSAccessKeyId>{access_key_id}</AWSAccessKeyId><StringToSign>{secret_access_key}</StringToSign></Error>"""


@pytest.mark.parametrize("fault", ["", "drop", "echo", "denied"])
def test_the_credentials_are_in_no_log_line_of_boto3_at_any_level(
    server: ScriptedServer, credentials: StagingCredentials, fault: str
) -> None:
    if fault == "echo":
        secrets = ("access_key_id", "secret_access_key", "session_token")
        body = ECHO.format(**{name: getattr(credentials, name) for name in secrets}).encode()
        server.script(Reply(400, body=body, headers={"Content-Type": "application/xml"}))
    elif fault == "denied":
        server.script(Reply(403, headers={"Content-Type": "application/xml"}))
    else:
        server.script(Reply(200, fault=fault))
    error: StagingError | None = None

    with everything_logged() as log:
        try:
            stage(_source(b"x" * 5000), credentials, _boto3(credentials, endpoint_url=server.url))
        except StagingError as caught:
            error = caught

    assert (error is None) == (fault == "")
    said = log.getvalue() + ("" if error is None else all_text_of(error))
    for secret in credentials.secrets:
        assert secret not in said
    assert "botocore.auth DEBUG" in said, "what tells most is among what was looked through"
    assert server.requests[0].headers["x-amz-security-token"] == credentials.session_token


def _boto3(credentials: StagingCredentials, **changed: Any) -> Any:
    return SESSION.client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
        aws_session_token=credentials.session_token,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        **changed,
    )

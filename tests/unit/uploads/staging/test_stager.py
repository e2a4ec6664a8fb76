"""Staging: every byte arrives once, in order, compared; what cannot be finished is taken back."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import threading
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

from airflow_mapbox.security.redaction import register_secret
from airflow_mapbox.sources.resolve import open_source
from airflow_mapbox.sources.source import Source
from airflow_mapbox.sources.streams import IteratorStream
from airflow_mapbox.uploads.errors import (
    SourceError,
    SourceUnavailableError,
    StagingCredentialsExpiredError,
    StagingError,
    StagingStoppedError,
)
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.staging.stager import (
    LARGEST_PART,
    MIB,
    MOST_PARTS,
    SMALLEST_PART,
    StagedFile,
    Stager,
    Staging,
    StagingOptions,
)
from tests.unit.support import Reply, ScriptedServer, all_text_of, everything_logged

PART = SMALLEST_PART
SESSION = boto3.session.Session()  # loading the description of S3 takes longer than most tests


class FakeS3:
    """
    The bucket as S3 describes it: parts with digests, an object that is there once it is complete.

    :param before: called with the name of the call and its arguments; what it raises is the answer.
    """

    def __init__(self, before: Callable[[str, dict[str, Any]], object] = lambda name, arguments: None) -> None:
        self.before = before
        self.calls: list[tuple[str, int]] = []
        self.parts: dict[int, bytes] = {}
        self.stored: bytes | None = None
        self.aborted = False
        self.changed: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _asked(self, name: str, arguments: dict[str, Any]) -> None:
        assert (arguments["Bucket"], arguments["Key"]) == ("tilestream", "43/_pending/abc/orion")
        if "Body" in arguments:
            # S3 takes a checksum in big-endian order, in base64 (Amazon S3 API, "UploadPart").
            assert arguments["ChecksumCRC32"] == crc32(arguments["Body"])
        with self._lock:
            self.calls.append((name, arguments.get("PartNumber", 0)))
        self.before(name, arguments)

    def put_object(self, **arguments: Any) -> dict[str, Any]:
        self._asked("put", arguments)
        self.stored = bytes(arguments["Body"])
        return {"ETag": f'"{hashlib.md5(self.stored).hexdigest()}"'} | self.changed

    def create_multipart_upload(self, **arguments: Any) -> dict[str, Any]:
        self._asked("begin", arguments)
        # Else S3 refuses the checksums of parts, and with it those of all are given at the end (Amazon S3 API,
        # "CreateMultipartUpload", "CompleteMultipartUpload").
        assert arguments["ChecksumAlgorithm"] == "CRC32"
        return {"UploadId": "u1"}

    def upload_part(self, **arguments: Any) -> dict[str, Any]:
        self._asked("part", arguments)
        data = bytes(arguments["Body"])
        with self._lock:
            self.parts[arguments["PartNumber"]] = data
        return {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} | self.changed

    def complete_multipart_upload(self, **arguments: Any) -> dict[str, Any]:
        self._asked("complete", arguments)
        listed = arguments["MultipartUpload"]["Parts"]
        assert [part["PartNumber"] for part in listed] == list(range(1, len(self.parts) + 1))
        assert [part["ChecksumCRC32"] for part in listed] == [crc32(self.parts[part["PartNumber"]]) for part in listed]
        self.stored = b"".join(self.parts[number] for number in sorted(self.parts))
        digests = b"".join(hashlib.md5(self.parts[number]).digest() for number in sorted(self.parts))
        return {"ETag": f'"{hashlib.md5(digests).hexdigest()}-{len(listed)}"'} | self.changed

    def abort_multipart_upload(self, **arguments: Any) -> None:
        self._asked("abort", arguments)
        self.aborted = True

    def head_object(self, **arguments: Any) -> dict[str, Any]:
        self._asked("head", arguments)
        if self.stored is None:
            raise refused("404")
        return {"ContentLength": len(self.stored)}

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "UploadPart")


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


Stage = Callable[..., StagedFile]


@pytest.fixture
def stage(credentials: StagingCredentials) -> Stage:
    def stage(source: Source, s3: Any, *, part_size: int = PART, **options: Any) -> StagedFile:
        chosen = {name: options.pop(name) for name in ("parts_in_flight", "progress") if name in options}
        return Staging(source, credentials, s3, options=StagingOptions(part_size, **chosen), **options).run()

    return stage


def _source(data: bytes, *, size: int | None = None, stream: Any = None) -> Source:
    return Source("data.geojson", len(data) if size is None else size, lambda: stream or io.BytesIO(data))


def _bytes(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 17])
def test_all_bytes_go_to_the_key_in_order(stage: Stage, size: int) -> None:
    s3, data = FakeS3(), _bytes(size)

    staged = stage(_source(data), s3)

    assert staged == StagedFile(
        "https://tilestream.s3.amazonaws.com/43/_pending/abc/orion", size, hashlib.sha256(data).hexdigest()
    )
    assert s3.stored == data
    assert not s3.aborted
    assert s3.count("put") == (size < PART)


def test_a_source_of_unknown_size_is_sent_to_its_end(stage: Stage) -> None:
    chunks = [b"x" * 700_001] * 20
    s3 = FakeS3()

    staged = stage(Source("stream", None, lambda: IteratorStream(iter(chunks))), s3)

    assert (staged.bytes, s3.stored) == (14_000_020, b"".join(chunks))
    assert len(s3.parts) == 3


def test_the_log_has_the_staged_size_and_the_rate(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    ticks: Iterator[float] = iter((10.0, 10.0, 10.0, 12.0))

    with caplog.at_level("INFO", logger="airflow_mapbox"):
        stage(_source(b"x" * 4_000_000), FakeS3(), clock=lambda: next(ticks))

    assert "Staged data.geojson: 4,000,000 bytes in 2.0 s (2.0 MB/s)" in caplog.text


def test_progress_reaches_the_callback_and_every_ten_seconds_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[int, int | None]] = []
    now = [0.0]

    def six_seconds_a_part(name: str, _arguments: object) -> None:
        now[0] += 6.0 if name == "part" else 0.0

    with caplog.at_level("INFO", logger="airflow_mapbox"):
        stage(
            _source(_bytes(5 * PART)),
            FakeS3(six_seconds_a_part),
            clock=lambda: now[0],
            parts_in_flight=1,
            progress=lambda count, size: told.append((count, size)),
        )

    assert told == [(number * PART, 5 * PART) for number in range(1, 6)]
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Staging data")]
    assert lines == [
        f"Staging data.geojson: {2 * PART:,} of {5 * PART:,} (40%) bytes, 0.9 MB/s",
        f"Staging data.geojson: {4 * PART:,} of {5 * PART:,} (80%) bytes, 0.9 MB/s",
    ]


@pytest.mark.parametrize("size", [4999, 5001, 0])
def test_a_source_that_shrank_or_grew_is_an_error_with_both_sizes(stage: Stage, size: int) -> None:
    s3 = FakeS3()

    with pytest.raises(StagingError, match=r"data\.geojson") as caught:
        stage(_source(b"x" * 5000, size=size), s3)

    assert f"{size:,}" in str(caught.value)
    assert "5,000" in str(caught.value)
    assert caught.value.retryable
    assert s3.stored is None


def test_a_large_source_that_grew_is_taken_back(stage: Stage) -> None:
    s3 = FakeS3()

    with pytest.raises(StagingError, match="still writing"):
        stage(_source(_bytes(2 * PART), size=2 * PART - 1), s3)

    assert (s3.aborted, s3.stored) == (True, None)


def test_a_file_that_grows_while_it_is_sent_is_an_error(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(b"x" * 3000)
    source = open_source(path)
    with path.open("ab") as more:
        more.write(b"y")

    with pytest.raises(StagingError, match=r"(?s)3,000 bytes .* 3,001"):
        stage(source, FakeS3())


def test_a_source_that_continues_beyond_the_formats_limit_is_stopped_there(stage: Stage) -> None:
    s3 = FakeS3()
    read = []

    def chunks() -> Iterator[bytes]:
        while True:
            read.append(MIB)
            yield b"x" * MIB

    with pytest.raises(SourceError, match="Mapbox's limit"):
        stage(Source("stream", None, lambda: IteratorStream(chunks())), s3, limit=3 * PART)

    assert (s3.aborted, s3.stored) == (True, None)
    assert sum(read) <= 4 * PART


def test_a_source_that_breaks_in_the_middle_says_how_far_it_came(stage: Stage) -> None:
    source = _source(b"x" * 5000, stream=BrokenStream(b"x" * 2000))

    with pytest.raises(SourceUnavailableError, match="stale file handle") as caught:
        stage(source, FakeS3())
    assert "2,000 bytes" in str(caught.value)


def test_an_iterators_error_is_raised_unchanged_and_the_parts_are_aborted(stage: Stage) -> None:
    s3 = FakeS3()

    def chunks() -> Iterator[bytes]:
        yield _bytes(2 * PART)
        raise LookupError("the user's own")

    with pytest.raises(LookupError, match="the user's own"):
        stage(Source("rows", None, lambda: IteratorStream(chunks())), s3)

    assert (s3.aborted, s3.stored) == (True, None)


def test_a_source_that_can_no_longer_be_opened_is_the_sources_error(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(b"{}")
    source = open_source(path)
    path.unlink()

    with pytest.raises(SourceError, match=r"x\.geojson"):
        stage(source, FakeS3())


def test_the_stream_is_closed_after_success_and_failure(stage: Stage) -> None:
    def fail(_name: str, _arguments: object) -> None:
        raise RuntimeError("no")

    for s3 in (FakeS3(), FakeS3(fail)):
        stream = io.BytesIO(b"x" * 10)
        try:
            stage(_source(b"x" * 10, stream=stream), s3)
        except StagingError:
            assert s3.count("put") == 1
        assert stream.closed


def test_an_error_of_s3_shows_no_secret_and_keeps_no_original(stage: Stage, credentials: StagingCredentials) -> None:
    failure = RuntimeError(f"Oh {credentials.session_token}", {"headers": credentials.secret_access_key})

    def fail(_name: str, _arguments: object) -> None:
        raise failure

    with pytest.raises(StagingError, match="Oh") as caught:
        stage(_source(b"x" * 5000), FakeS3(fail))

    assert failure not in (caught.value.__cause__, caught.value.__context__)
    for secret in credentials.secrets:
        assert secret not in all_text_of(caught.value)


def test_ctrl_c_is_not_taken_for_a_fault_of_s3(stage: Stage) -> None:
    def interrupt(_name: str, _arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(_source(b"x"), FakeS3(interrupt))


class TestParts:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            (None, 8 * MIB),
            (10, 8 * MIB),
            (800 * MIB, 8 * MIB),
            (2000 * MIB, 20 * MIB),
            (26_843_545_600, 64 * MIB),  # MBTiles, the largest that Mapbox takes
            (5 * 2**40, 5 * 2**40 // MOST_PARTS + 1),
        ],
    )
    def test_parts_are_sized_by_the_file_and_never_too_many(self, size: int | None, expected: int) -> None:
        chosen = StagingOptions().part_size_for(size)

        assert chosen == expected
        assert size is None or -(-size // chosen) <= MOST_PARTS

    def test_a_part_size_that_makes_too_many_parts_is_refused(self) -> None:
        with pytest.raises(ValueError, match="larger `part_size`"):
            StagingOptions(SMALLEST_PART).part_size_for(MOST_PARTS * SMALLEST_PART + 1)

    @pytest.mark.parametrize("size", [0, SMALLEST_PART - 1, LARGEST_PART + 1])
    def test_parts_of_a_size_that_s3_does_not_take_are_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="part_size"):
            StagingOptions(size)

    def test_a_stream_of_unknown_size_stops_at_the_most_parts_of_s3(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_mapbox.uploads.staging.stager.MOST_PARTS", 3)
        s3 = FakeS3()

        with pytest.raises(StagingError, match="larger `part_size`"):
            stage(Source("stream", None, lambda: io.BytesIO(_bytes(3 * PART + 1))), s3)

        assert (s3.aborted, s3.stored) == (True, None)

    def test_parts_go_at_the_same_time_as_many_as_allowed_and_no_more(self, stage: Stage) -> None:
        together = threading.Barrier(3, timeout=10)
        lock = threading.Lock()
        flying, most = [0], [0]

        def meet(name: str, arguments: dict[str, Any]) -> None:
            if name != "part":
                return
            with lock:
                flying[0] += 1
                most[0] = max(most[0], flying[0])
            if arguments["PartNumber"] <= 3:
                together.wait()
            with lock:
                flying[0] -= 1

        s3 = FakeS3(meet)
        stage(_source(_bytes(9 * PART)), s3, parts_in_flight=3)

        assert most == [3]
        assert s3.count("part") == 9

    def test_parts_in_flight_are_all_that_is_in_memory(self, stage: Stage) -> None:
        def discard(name: str, arguments: dict[str, Any]) -> None:
            if name == "complete":
                s3.parts.clear()

        class Forgetful(FakeS3):
            def upload_part(self, **arguments: Any) -> dict[str, Any]:
                self._asked("part", arguments)
                return {"ETag": f'"{hashlib.md5(arguments["Body"]).hexdigest()}"'}

            def complete_multipart_upload(self, **arguments: Any) -> dict[str, Any]:
                return {"ETag": '"0-0"'}

        s3 = Forgetful(discard)
        chunk = b"x" * 100_003

        def chunks() -> Iterator[bytes]:
            for _ in range(40 * PART // len(chunk)):
                yield chunk

        tracemalloc.start()
        try:
            stage(Source("stream", None, lambda: IteratorStream(chunks())), s3, parts_in_flight=3)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak < 3 * PART + 2 * MIB, f"{peak:,}"

    def test_memory_views_are_sent_without_a_copy(self, stage: Stage) -> None:
        whole = _bytes(2 * PART + 17)
        cuts = [0, PART, PART + 5, len(whole)]
        views = [memoryview(whole)[start:stop] for start, stop in itertools.pairwise(cuts)]
        s3 = FakeS3()

        stage(Source("stream", None, lambda: IteratorStream(iter(views))), s3)

        assert s3.stored == whole
        assert [len(s3.parts[number]) for number in sorted(s3.parts)] == [PART, PART, 17]

    def test_parts_that_s3_received_otherwise_are_sent_again_alone(self, stage: Stage) -> None:
        spoiled: list[int] = []

        class Spoiling(FakeS3):
            def upload_part(self, **arguments: Any) -> dict[str, Any]:
                answer = super().upload_part(**arguments)
                if arguments["PartNumber"] == 2 and not spoiled:
                    spoiled.append(2)
                    return {"ETag": '"00000000000000000000000000000000"'}
                return answer

        s3 = Spoiling()
        stage(_source(_bytes(3 * PART)), s3)

        assert Counter(s3.calls)["part", 2] == 2
        assert s3.count("part") == 4
        assert s3.stored == _bytes(3 * PART)

    @pytest.mark.parametrize("times", [1, 2, 3])
    @pytest.mark.parametrize("size", [100, 2 * PART])
    def test_parts_that_s3_refuses_for_their_checksum_are_sent_again_alone(
        self, stage: Stage, times: int, size: int
    ) -> None:
        """S3 compares a checksum itself, and answers so (Amazon S3 API, "Error responses")."""
        left = [times]

        def spoil(name: str, arguments: dict[str, Any]) -> None:
            if arguments.get("PartNumber", 1) == 1 and name in ("put", "part") and left[0]:
                left[0] -= 1
                raise refused("BadDigest")

        s3 = FakeS3(spoil)
        if times == 3:
            with pytest.raises(StagingError, match=r"(?s)received other bytes for (the file|part 1) .* 3 times"):
                stage(_source(_bytes(size)), s3)
        else:
            stage(_source(_bytes(size)), s3)
            assert s3.stored == _bytes(size)
            assert s3.count("put") + s3.count("part") == times + -(-size // PART)

    @pytest.mark.parametrize("said", [{"ETag": '"00000000000000000000000000000000"'}, {"ChecksumCRC32": "AAAAAA=="}])
    @pytest.mark.parametrize("size", [100, 2 * PART])
    def test_parts_that_s3_keeps_receiving_otherwise_are_an_error(
        self, stage: Stage, said: dict[str, Any], size: int
    ) -> None:
        s3 = FakeS3()
        s3.changed = said

        with pytest.raises(StagingError, match="received other bytes"):
            stage(_source(_bytes(size)), s3)

        assert s3.aborted == (size > PART)

    def test_parts_with_an_etag_that_is_not_a_digest_are_believed(self, stage: Stage) -> None:
        s3 = FakeS3()
        s3.changed = {"ETag": '"00000000000000000000000000000000"', "ServerSideEncryption": "aws:kms"}

        assert stage(_source(_bytes(3 * PART)), s3).bytes == 3 * PART

    def test_parts_that_make_another_object_are_an_error(self, stage: Stage) -> None:
        class Mixing(FakeS3):
            def complete_multipart_upload(self, **arguments: Any) -> dict[str, Any]:
                super().complete_multipart_upload(**arguments)
                return {"ETag": '"00000000000000000000000000000000-2"'}

        with pytest.raises(StagingError, match="an object that differs from what was sent"):
            stage(_source(_bytes(2 * PART)), Mixing())

    def test_parts_that_are_completed_while_the_answer_is_lost_are_complete(self, stage: Stage) -> None:
        class Forgetting(FakeS3):
            def complete_multipart_upload(self, **arguments: Any) -> dict[str, Any]:
                super().complete_multipart_upload(**arguments)
                raise refused("NoSuchUpload")  # what boto3's own second try is told

        s3 = Forgetting()

        assert stage(_source(_bytes(2 * PART)), s3).bytes == 2 * PART
        assert s3.stored == _bytes(2 * PART)

    def test_missing_parts_without_an_object_are_an_error(self, stage: Stage) -> None:
        def gone(name: str, _arguments: object) -> None:
            if name == "complete":
                raise refused("NoSuchUpload")

        with pytest.raises(StagingError, match="NoSuchUpload"):
            stage(_source(_bytes(2 * PART)), FakeS3(gone))

    def test_parts_that_fail_are_taken_back(self, stage: Stage) -> None:
        def fail(name: str, arguments: dict[str, Any]) -> None:
            if name == "part" and arguments["PartNumber"] == 2:
                raise refused("InternalError")

        s3 = FakeS3(fail)

        with pytest.raises(StagingError, match="InternalError"):
            stage(_source(_bytes(3 * PART)), s3)

        assert (s3.aborted, s3.stored) == (True, None)


def test_an_object_of_another_size_is_an_error(stage: Stage) -> None:
    class Short(FakeS3):
        def head_object(self, **arguments: Any) -> dict[str, Any]:
            return {"ContentLength": 4}

    with pytest.raises(StagingError, match=r"(?s)has 4 bytes .* 5 were sent"):
        stage(_source(b"12345"), Short())


@pytest.mark.parametrize("code", ["403", "404", "MethodNotAllowed"])
def test_a_bucket_that_may_not_be_looked_at_is_not_an_error(stage: Stage, code: str) -> None:
    def hidden(name: str, _arguments: object) -> None:
        if name == "head":
            raise refused(code)

    assert stage(_source(b"12345"), FakeS3(hidden)).bytes == 5


class TestCancelling:
    def test_cancelling_takes_the_parts_back_and_stops(self, credentials: StagingCredentials) -> None:
        staging: Staging

        def cancel(name: str, arguments: dict[str, Any]) -> None:
            if name == "part" and arguments["PartNumber"] == 2:
                staging.cancel()

        s3 = FakeS3(cancel)
        staging = Staging(_source(_bytes(50 * PART)), credentials, s3, options=StagingOptions(PART, 2))

        with pytest.raises(StagingStoppedError, match=r"data\.geojson was stopped after [\d,]+ bytes"):
            staging.run()

        assert (s3.aborted, s3.stored) == (True, None)
        assert s3.count("part") < 10

    def test_cancelling_at_the_last_moment_is_reported(self, credentials: StagingCredentials) -> None:
        staging: Staging

        def cancel(name: str, _arguments: object) -> None:
            if name == "complete":
                staging.cancel()
                raise refused("NoSuchUpload")

        staging = Staging(_source(_bytes(2 * PART)), credentials, FakeS3(cancel), options=StagingOptions(PART))

        with pytest.raises(StagingStoppedError):
            staging.run()

    def test_cancelling_before_anything_was_sent_sends_nothing(self, credentials: StagingCredentials) -> None:
        s3 = FakeS3()
        staging = Staging(_source(b"12345"), credentials, s3)
        staging.cancel()

        with pytest.raises(StagingStoppedError):
            staging.run()

        assert s3.calls == []

    @pytest.mark.parametrize("moment", ["before", "at the credentials", "at the client"])
    def test_cancelling_before_it_began_begins_nothing(self, credentials: StagingCredentials, moment: str) -> None:
        s3 = FakeS3()

        def cancel_at(this: str, given: Any) -> Any:
            if this == moment:
                stager.cancel()
            return given

        stager = Stager(lambda: cancel_at("at the credentials", credentials), lambda _: cancel_at("at the client", s3))
        cancel_at("before", None)

        with pytest.raises(StagingStoppedError, match="was stopped before it started"):
            stager.stage(_source(b"12345"))

        assert s3.calls == []

    def test_cancelling_says_so_while_the_source_blocks(self, credentials: StagingCredentials) -> None:
        over = threading.Event()
        s3 = FakeS3()

        def chunks() -> Iterator[bytes]:
            yield _bytes(2 * PART)
            blocked.set()
            over.wait(30)

        blocked = threading.Event()
        staging = Staging(
            Source("rows", None, lambda: IteratorStream(chunks())), credentials, s3, options=StagingOptions(PART)
        )
        stopped: list[StagingStoppedError] = []

        def run() -> None:
            try:
                staging.run()
            except StagingStoppedError as error:
                stopped.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert blocked.wait(10)

        staging.cancel()

        assert s3.aborted, "although the thread that stages has not moved"
        over.set()
        thread.join(10)
        assert (len(stopped), s3.stored) == (1, None)


class TestExpiredCredentials:
    def _stager(self, s3: list[FakeS3], credentials: StagingCredentials) -> Stager:
        given = iter(s3)
        return Stager(lambda: credentials, lambda _: next(given), StagingOptions(PART))

    def test_expired_credentials_are_replaced_and_the_source_staged_from_its_start(
        self, credentials: StagingCredentials
    ) -> None:
        def expire(name: str, arguments: dict[str, Any]) -> None:
            if name == "part" and arguments["PartNumber"] == 2:
                raise refused("ExpiredToken")

        first, second = FakeS3(expire), FakeS3()
        data = _bytes(3 * PART)

        staged = self._stager([first, second], credentials).stage(_source(data))

        assert (first.aborted, first.stored, second.stored) == (True, None, data)
        assert staged.sha256 == hashlib.sha256(data).hexdigest()

    def test_expired_credentials_are_an_error_if_the_source_cannot_be_read_again(
        self, credentials: StagingCredentials
    ) -> None:
        def expire(name: str, _arguments: object) -> None:
            raise refused("ExpiredToken")

        source = open_source(iter([b"12345"]))

        with pytest.raises(StagingCredentialsExpiredError, match="read only once") as caught:
            self._stager([FakeS3(expire), FakeS3()], credentials).stage(source)

        assert caught.value.retryable

    def test_expired_credentials_that_never_last_are_an_error_in_the_end(self, credentials: StagingCredentials) -> None:
        def expire(name: str, _arguments: object) -> None:
            raise refused("ExpiredToken")

        s3 = [FakeS3(expire) for _ in range(5)]

        with pytest.raises(StagingCredentialsExpiredError):
            self._stager(s3, credentials).stage(_source(b"12345"))

        assert [each.count("put") for each in s3] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("size", [1, PART, PART + 1, 3 * PART + 17])
def test_boto3_gets_the_same_bytes_in_one_part_or_many(
    stage: Stage, credentials: StagingCredentials, size: int
) -> None:
    data = _bytes(size)
    with mock_aws():
        s3 = _boto3(credentials)
        s3.create_bucket(Bucket="tilestream")

        staged = stage(_source(data), s3)

        stored = s3.get_object(Bucket="tilestream", Key=credentials.key)["Body"].read()
    assert staged.bytes == size
    assert stored == data


ECHO = """<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidToken</Code>
<Message>The token {session_token} is malformed or expired</Message><Token-0>{session_token}</Token-0>
<AWSAccessKeyId>{access_key_id}</AWSAccessKeyId><StringToSign>{secret_access_key}</StringToSign></Error>"""


@pytest.mark.parametrize("fault", ["", "drop", "echo", "denied"])
def test_the_credentials_are_in_no_log_line_of_boto3_at_any_level(
    server: ScriptedServer, stage: Stage, credentials: StagingCredentials, fault: str
) -> None:
    if fault == "echo":
        secrets = ("access_key_id", "secret_access_key", "session_token")
        body = ECHO.format(**{name: getattr(credentials, name) for name in secrets}).encode()
        server.script(Reply(400, body=body, headers={"Content-Type": "application/xml"}))
    elif fault == "denied":
        server.script(Reply(403, headers={"Content-Type": "application/xml"}))
    else:
        server.script(Reply(200, fault=fault), *[Reply(403)] * (not fault))  # the second is the look at its size
    error: StagingError | None = None

    with everything_logged() as log:
        try:
            stage(_source(b"x" * 5000), _boto3(credentials, endpoint_url=server.url))
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

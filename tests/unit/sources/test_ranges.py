"""Parts of a source: local files, objects in a store, and files on the web, which are never downloaded for it."""

from __future__ import annotations

import io
import os
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from airflow_mapbox.errors import SourceError, SourceUnavailableError, UnreadableSourceError
from airflow_mapbox.sources.ranges import CachedRanges, FileRanges, RangesFile, object_ranges
from airflow_mapbox.sources.resolve import open_source
from tests.unit.support import Reply, ScriptedServer, all_text_of

DATA = bytes(range(256)) * 400
BLOCK = 16 * 1024


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


def whole(data: bytes = DATA, **headers: str) -> Reply:
    return Reply(body=data, headers={"ETag": '"1"', "Accept-Ranges": "bytes"} | headers)


def part(start: int, end: int, data: bytes = DATA, **headers: str) -> Reply:
    """Return the reply with the bytes from one offset up to another."""
    content_range = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
    return Reply(206, body=data[start:end], headers={"ETag": '"1"'} | content_range | headers)


class ObjectPath:
    """An object-storage path with no more than ``open`` and ``stat``."""

    def __init__(
        self, stream: Callable[[], IO[bytes]] = lambda: io.BytesIO(DATA), size: int | None = len(DATA)
    ) -> None:
        self.stream, self.size, self.opened = stream, size, 0

    def open(self, mode: str = "r") -> IO[bytes]:
        self.opened += 1
        return self.stream()

    def stat(self) -> Any:
        return SimpleNamespace(st_size=self.size)

    def __str__(self) -> str:
        return "s3://bucket/a.tif"


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


class TestLocalFiles:
    def test_parts_are_read_from_any_position(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(DATA)

        with open_source(path) as source, source.ranges() as ranges:
            assert ranges.size == len(DATA)
            assert ranges.read(5, 3) == DATA[5:8]
            assert ranges.read(len(DATA) - 2, 100) == DATA[-2:]
            assert ranges.read(len(DATA) + 5, 100) == ranges.read(-5, 2) == ranges.read(0, 0) == b""

    def test_a_file_that_vanishes_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(DATA)
        source = open_source(path)
        path.unlink()

        with pytest.raises(UnreadableSourceError, match=r"a\.tif cannot be read"):
            source.ranges()

    def test_a_file_that_becomes_shorter_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(DATA)
        with FileRanges(path) as ranges:
            os.truncate(path, 10)

            with pytest.raises(SourceUnavailableError, match=r"a\.tif can no longer be read \(it has become shorter\)"):
                ranges.read(5, 100)

    def test_an_error_of_the_disk_is_no_oserror(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(DATA)

        def fail(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        with FileRanges(path) as ranges:
            monkeypatch.setattr(os, "pread", fail)
            with pytest.raises(SourceUnavailableError, match="Input/output error") as caught:
                ranges.read(0, 10)

        assert caught.value.__context__ is None


class TestObjects:
    def test_a_store_of_fsspec_is_asked_for_each_part(self) -> None:
        import fsspec

        system = fsspec.filesystem("memory")
        system.pipe("/bucket/a.tif", DATA)
        asked = []

        class Path(ObjectPath):
            path = "/bucket/a.tif"
            fs = SimpleNamespace(
                cat_file=lambda key, start, end: asked.append((start, end)) or system.cat_file(key, start, end)
            )

        path = Path()
        with open_source(path).ranges() as ranges:
            assert ranges.read(100, 50) == DATA[100:150]
            assert ranges.read(len(DATA) - 1, 50) == DATA[-1:]

        assert asked == [(100, 150), (len(DATA) - 1, len(DATA))]
        assert path.opened == 0

    def test_airflows_object_storage_path_is_read_by_parts(self, tmp_path: Path) -> None:
        from airflow.sdk import ObjectStoragePath

        (tmp_path / "a.tif").write_bytes(DATA)

        with open_source(ObjectStoragePath(f"file://{tmp_path}/a.tif")).ranges() as ranges:
            assert (ranges.size, ranges.read(100, 50)) == (len(DATA), DATA[100:150])

    def test_an_object_that_can_seek_is_read_by_parts(self) -> None:
        with open_source(ObjectPath()).ranges() as ranges:
            assert (ranges.read(100, 50), ranges.read(0, 3)) == (DATA[100:150], DATA[:3])

    @pytest.mark.parametrize(
        "path", [ObjectPath(lambda: Unseekable(DATA)), ObjectPath(size=None)], ids=["cannot seek", "unknown size"]
    )
    def test_an_object_that_would_be_read_from_its_beginning_has_no_parts(self, path: ObjectPath) -> None:
        assert open_source(path).ranges() is None

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (PermissionError(13, "Forbidden"), UnreadableSourceError),
            (FileNotFoundError(2, "missing"), UnreadableSourceError),
            (ConnectionError("reset"), SourceUnavailableError),
            (RuntimeError("https://x?X-Amz-Signature=0123456789abcdef"), SourceUnavailableError),
        ],
    )
    def test_errors_of_the_store_name_the_object(self, error: Exception, kind: type[SourceError]) -> None:
        def fail(*_: object, **__: object) -> bytes:
            raise error

        path = SimpleNamespace(fs=SimpleNamespace(cat_file=fail), path="bucket/a.tif")
        ranges = object_ranges(path, 100)
        assert ranges is not None

        with pytest.raises(SourceError, match="can no longer be read") as caught:
            ranges.read(0, 10)

        assert type(caught.value) is kind
        assert "0123456789abcdef" not in all_text_of(caught.value)

    def test_an_object_that_became_shorter_is_named(self) -> None:
        ranges = object_ranges(ObjectPath(size=10**9), 10**9)
        assert ranges is not None

        with pytest.raises(SourceUnavailableError, match="become shorter"):
            ranges.read(10**8, 100)


class TestWeb:
    def test_parts_are_requested_with_range_and_the_first_is_kept(self, server: ScriptedServer) -> None:
        server.script(whole(), part(0, BLOCK), part(50_000, 50_100))

        with open_source(f"{server.url}/a.tif") as source, source.ranges() as ranges:
            assert ranges.size == len(DATA)
            assert ranges.read(0, 100) == DATA[:100]
            assert ranges.read(50_000, 100) == DATA[50_000:50_100]

        assert [seen.headers.get("range") for seen in server.requests] == [None, "bytes=0-16383", "bytes=50000-50099"]
        assert server.requests[1].headers["accept-encoding"] == "identity"

    def test_a_part_that_crosses_the_kept_one_is_joined(self, server: ScriptedServer) -> None:
        server.script(whole(), part(0, BLOCK), part(BLOCK, BLOCK + 10))

        with open_source(f"{server.url}/a.tif").ranges() as ranges:
            assert ranges.read(BLOCK - 10, 20) == DATA[BLOCK - 10 : BLOCK + 10]

    @pytest.mark.parametrize(
        "second",
        [
            whole(),
            part(0, BLOCK, ETag='"2"'),
            part(0, BLOCK, **{"Content-Encoding": "gzip"}),
            part(0, BLOCK, DATA + b"more"),
            part(0, BLOCK, **{"Content-Range": ""}),
            part(0, BLOCK, **{"Content-Range": "bytes 1-16384/102400"}),
            Reply(206, body=DATA[:BLOCK], headers={"Content-Type": "multipart/byteranges; boundary=x"}),
            Reply(416),
            Reply(403),
            Reply(404),
        ],
        ids=lambda reply: f"{reply.status} {dict(reply.headers)}"[:60],
    )
    def test_a_server_without_usable_parts_gives_none_and_its_body_is_not_read(
        self, server: ScriptedServer, second: Reply
    ) -> None:
        server.script(whole(), second)

        source = open_source(f"{server.url}/a.tif")

        assert source.ranges() is None
        assert len(server.requests) == 2
        with source.open() as stream:
            assert stream.read() == DATA

    @pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {"Content-Length": "0"}])
    def test_a_file_of_unknown_or_no_size_has_no_parts_and_is_not_asked_for_any(
        self, server: ScriptedServer, headers: dict[str, str]
    ) -> None:
        server.script(whole(b"", **headers))

        assert open_source(f"{server.url}/a.tif").ranges() is None
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "changed", [part(50_000, 50_100, ETag='"2"'), whole(), part(50_000, 50_100, DATA + b"more")]
    )
    def test_a_file_that_changes_meanwhile_is_an_error_that_a_retry_may_mend(
        self, server: ScriptedServer, changed: Reply
    ) -> None:
        server.script(whole(), part(0, BLOCK), changed)

        ranges = open_source(f"{server.url}/a.tif").ranges()

        with ranges, pytest.raises(SourceUnavailableError, match=r"/a\.tif changed while it was checked"):
            ranges.read(50_000, 100)

    @pytest.mark.parametrize(
        "fault", [Reply(503), Reply(429), Reply(fault="drop"), Reply(fault="reset"), part(0, 100)], ids=str
    )
    def test_a_server_that_fails_to_send_a_part_can_still_send_the_whole_file(
        self, server: ScriptedServer, fault: Reply
    ) -> None:
        short = Reply(206, body=b"", headers={"Content-Range": f"bytes 0-{BLOCK - 1}/{len(DATA)}", "ETag": '"1"'})
        server.script(whole(), short if fault.status == 206 else fault)

        assert open_source(f"{server.url}/a.tif").ranges() is None

    def test_half_a_part_is_an_error(self, server: ScriptedServer) -> None:
        half = part(50_000, 50_100)
        server.script(whole(), part(0, BLOCK), Reply(206, body=half.body, headers=half.headers, fault="half"))
        ranges = open_source(f"{server.url}/a.tif").ranges()

        with ranges, pytest.raises(SourceUnavailableError, match=r"A part of the source .* could not be read"):
            ranges.read(50_000, 100)

    def test_redirects_of_parts_are_followed_and_their_secrets_are_not_shown(self, server: ScriptedServer) -> None:
        moved = Reply(302, headers={"Location": f"{server.url}/b.tif?X-Amz-Signature=0123456789abcdef"})
        server.script(whole(), moved, part(0, BLOCK), moved, Reply(503))

        with open_source(f"{server.url}/a.tif").ranges() as ranges:
            assert ranges.read(0, 10) == DATA[:10]
            with pytest.raises(SourceUnavailableError) as caught:
                ranges.read(50_000, 10)

        assert "0123456789abcdef" not in all_text_of(caught.value)
        frames = traceback.walk_tb(caught.value.__traceback__)
        assert "0123456789abcdef" not in "".join(str(frame.f_locals.get("response")) for frame, _ in frames)

    def test_a_redirect_to_plain_http_is_refused(self, server: ScriptedServer) -> None:
        server.script(whole(), Reply(302, headers={"Location": "http://example.com/a.tif"}))

        with pytest.raises(SourceError, match="plain http"):
            open_source(f"{server.url}/a.tif").ranges()


@pytest.mark.parametrize("source", [io.BytesIO(DATA), iter([DATA])])
def test_streams_and_iterators_have_no_parts(source: Any) -> None:
    assert open_source(source).ranges() is None


class TestCachedRanges:
    def test_neighbouring_parts_need_one_request(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(DATA)
        with FileRanges(path) as file:
            cached = CachedRanges(file)

            assert cached.read(10, 5) == DATA[10:15]
            assert cached.read(100, 5) == DATA[100:105]
            assert cached.read(BLOCK - 5, 10) == DATA[BLOCK - 5 : BLOCK + 5]
            assert cached.read(3 * BLOCK, 2 * BLOCK) == DATA[3 * BLOCK : 5 * BLOCK]
            assert cached.read(len(DATA) - 1, 10) == DATA[-1:]
            assert cached.read(len(DATA), 10) == cached.read(-1, 10) == b""

        assert (cached.requests, cached.bytes_read) == (4, 4 * BLOCK + len(DATA) % BLOCK)

    def test_old_blocks_are_forgotten_and_long_parts_are_not_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(DATA)
        with FileRanges(path) as file:
            cached = CachedRanges(file, blocks=2)

            for start in (0, BLOCK, 2 * BLOCK, 0):
                assert cached.read(start, 1) == DATA[start : start + 1]
            assert cached.read(0, 5 * BLOCK) == DATA[: 5 * BLOCK]

        assert cached.requests == 5


class TestRangesFile:
    def test_it_reads_and_seeks_like_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        path.write_bytes(DATA)
        with FileRanges(path) as ranges, RangesFile(ranges) as file, path.open("rb") as real:
            for offset, whence, size in ((5, 0, 10), (-3, 1, 10), (-10, 2, 100), (10, 2, 5), (0, 0, -1)):
                assert file.seek(offset, whence) == real.seek(offset, whence)
                assert file.read(size) == real.read(size)
                assert file.tell() == real.tell()
            with pytest.raises(ValueError, match="-1"):
                file.seek(-1)

    def test_zipfile_reads_an_archive_by_parts(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "hello")

        with FileRanges(path) as ranges, zipfile.ZipFile(RangesFile(ranges)) as archive:
            assert archive.read("a.txt") == b"hello"

from __future__ import annotations

import _socket
import gzip
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import requests

from airflow_mapbox.sources.identity import describe, identity
from airflow_mapbox.sources.resolve import open_source
from airflow_mapbox.sources.web import _Session
from airflow_mapbox.uploads.errors import MapboxError, SourceError, SourceUnavailableError
from tests.unit.support import Reply, ScriptedServer, all_text_of, closed_port

# The one of the system: the tests' own refuses to look up what is not on the loopback.
_LOOK_UP: Any = _socket.getaddrinfo
DATA = b'{"type":"FeatureCollection","features":[]}'


class ObjectPath:
    """An object-storage path as far as the package needs one."""

    def __init__(self, data: bytes = DATA, *, size: int | OSError | None = 0, failure: OSError | None = None) -> None:
        self.data = data
        self.size = len(data) if size == 0 else size
        self.failure = failure

    def open(self, mode: str = "r") -> IO[bytes]:
        assert mode == "rb"
        if self.failure is not None:
            raise self.failure
        return io.BytesIO(self.data)

    def stat(self) -> Any:
        if isinstance(self.size, OSError):
            raise self.size
        return SimpleNamespace(st_size=self.size)

    def __str__(self) -> str:
        return "s3://aws_default@bucket/Harbours.GeoJSON"


@pytest.mark.parametrize("form", [str, Path, lambda path: f"file://{path}"])
def test_a_local_file_is_known_by_path_name_or_file_url(tmp_path: Path, form: Any) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(DATA)

    source = open_source(form(path))

    assert (source.description, source.size, source.path, source.suffix) == (str(path), len(DATA), path, ".geojson")
    with source.open() as stream:
        assert stream.read() == DATA


def test_a_file_url_may_have_escapes(tmp_path: Path) -> None:
    (tmp_path / "Große Häfen.geojson").write_bytes(DATA)

    source = open_source((tmp_path / "Große Häfen.geojson").as_uri())

    assert source.size == len(DATA)


def test_any_os_path_is_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "x.geojson").write_bytes(DATA)
    (entry,) = os.scandir(tmp_path)

    assert open_source(entry).path == tmp_path / "x.geojson"


@pytest.mark.parametrize(
    ("name", "why"), [("missing.geojson", "does not exist"), (".", "is a folder"), ("x" * 300, "cannot be read")]
)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        open_source(tmp_path / name)

    assert name.strip(".") in str(caught.value)


def test_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.geojson")

    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.geojson")


def test_a_file_that_vanishes_is_named_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(DATA)
    source = open_source(path)
    path.unlink()

    with pytest.raises(SourceError, match=r"x\.geojson cannot be read"):
        source.open()


@pytest.mark.parametrize("source", [3, None, DATA, ["x.geojson"]])
def test_an_unsupported_source_is_refused(source: Any) -> None:
    with pytest.raises(SourceError, match="cannot be uploaded"):
        open_source(source)


def test_a_url_of_object_storage_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="ObjectStoragePath"):
        open_source("s3://bucket/key.geojson")


class TestObjectPaths:
    def test_object_paths_are_described_sized_and_opened(self) -> None:
        source = open_source(ObjectPath())

        assert (source.description, source.size, source.path) == (str(ObjectPath()), len(DATA), None)
        assert source.suffix == ".geojson"
        assert source.open().read() == DATA

    def test_object_paths_may_not_know_their_size(self) -> None:
        assert open_source(ObjectPath(size=None)).size is None

    @pytest.mark.parametrize(
        ("size", "why"),
        [
            (FileNotFoundError("no"), "does not exist"),
            (-1, "does not exist"),
            (PermissionError("Forbidden"), "Forbidden"),
        ],
    )
    def test_object_paths_that_cannot_be_looked_at_are_named(self, size: Any, why: str) -> None:
        with pytest.raises(SourceError, match=why) as caught:
            open_source(ObjectPath(size=size))
        assert "bucket/Harbours.GeoJSON" in str(caught.value)

    def test_object_paths_that_cannot_be_opened_are_named(self) -> None:
        source = open_source(ObjectPath(failure=PermissionError(13, "Forbidden")))

        with pytest.raises(SourceError, match="Forbidden"):
            source.open()


class TestStreams:
    def test_seekable_streams_are_read_from_their_position_more_than_once(self) -> None:
        stream = io.BytesIO(b"skipped" + DATA)
        stream.seek(7)

        with open_source(stream) as source:
            assert (source.size, source.rereadable, source.head(3)) == (len(DATA), True, DATA[:3])
            for _ in range(2):
                with source.open() as opened:
                    assert opened.read() == DATA
        assert not stream.closed, "it is its owner's"

    def test_streams_that_cannot_seek_are_read_once(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, DATA)
        os.close(writing)

        with os.fdopen(reading, "rb") as pipe, open_source(pipe) as source:
            assert (source.size, source.rereadable, source.head(3)) == (None, False, DATA[:3])
            with source.open() as opened:
                assert opened.read() == DATA
            with pytest.raises(SourceError, match="only once"):
                source.open()

    def test_streams_of_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.geojson").write_bytes(DATA)

        with (tmp_path / "x.geojson").open() as text, pytest.raises(SourceError, match="mode 'rb'"):
            open_source(text)

    def test_streams_have_their_file_as_name(self, tmp_path: Path) -> None:
        (tmp_path / "x.geojson").write_bytes(DATA)

        with (tmp_path / "x.geojson").open("rb") as file:
            source = open_source(file)

        assert (source.description, source.suffix) == (str(tmp_path / "x.geojson"), ".geojson")
        assert describe(file) == source.description


class TestIterators:
    def test_none_among_chunks_is_an_error(self) -> None:
        with open_source(iter([b"one", None, b"two"])).open() as stream:  # type: ignore[list-item]
            assert stream.read(10) == b"one"
            with pytest.raises(SourceError, match="None instead of bytes"):
                stream.read(10)

    def test_iterators_of_bytes_are_read_like_a_file_and_closed(self) -> None:
        closed = []

        def chunks() -> Iterator[bytes]:
            try:
                yield from (b"", DATA[:4], DATA[4:5], b"", DATA[5:])
            finally:
                closed.append(True)

        with open_source(chunks()) as source:
            assert (source.size, source.rereadable) == (None, False)
            assert source.head(6) == DATA[:6]
            with source.open() as stream:
                assert stream.read(2) + stream.read() == DATA
        assert closed == [True]

    def test_iterators_that_were_only_looked_at_are_closed_with_the_source(self) -> None:
        closed = []

        def chunks() -> Iterator[bytes]:
            try:
                yield DATA
            finally:
                closed.append(True)

        with open_source(chunks()) as source:
            source.head(1)
        assert closed == [True]


def test_a_local_file_that_changes_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes(DATA)
    before = open_source(path).fingerprint
    assert open_source(str(path)).fingerprint == before

    os.utime(path, ns=(1, 1))

    assert open_source(path).fingerprint == before | {"modified": 1} != before


def _chunked(data: bytes, encoding: str = "identity") -> Reply:
    half = len(data) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:half], data[half:]) if part)
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: {encoding}\r\n\r\n"
    return Reply(raw=head.encode() + chunks + b"0\r\n\r\n")


def _read_in_blocks(stream: Any) -> None:
    while stream.read(5):
        pass


def _redirect(url: str, target: str) -> requests.Response:
    response = requests.Response()
    response.url, response.status_code = url, 302
    response.headers["Location"] = target
    return response


def _resolve(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    """Have names resolve as a name server would; addresses are read as the system reads them."""
    look_up = _LOOK_UP

    def resolved(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".example") and host not in names:
            raise socket.gaierror("unknown")
        numeric = {} if host == "localhost" else {"flags": socket.AI_NUMERICHOST}
        return look_up(names.get(host, host), *arguments, **numeric, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


class TestWebSources:
    def test_web_sources_are_sized_and_streamed_and_shown_without_their_query(self, server: ScriptedServer) -> None:
        server.script(Reply(body=DATA))

        source = open_source(f"{server.url}/x.geojson?version=2#part")

        assert source.description == f"{server.url}/x.geojson"
        assert (source.size, source.suffix, source.path) == (len(DATA), ".geojson", None)
        with source.open() as stream:
            assert stream.read() == DATA
        assert [request.query for request in server.requests] == [{"version": "2"}]

    def test_a_web_source_is_requested_once_for_its_head_and_the_rest(self, server: ScriptedServer) -> None:
        server.script(Reply(body=DATA))

        with open_source(f"{server.url}/x.geojson") as source:
            assert source.head(5) == DATA[:5]
            assert source.head(9) == DATA[:9]
            with source.open() as stream:
                assert stream.read(3) + stream.read() == DATA

        assert len(server.requests) == 1

    def test_web_sources_are_fetched_again_to_be_read_again(self, server: ScriptedServer) -> None:
        server.script(Reply(body=DATA), Reply(body=DATA))

        with open_source(f"{server.url}/x.geojson") as source:
            for _ in range(2):
                with source.open() as stream:
                    assert stream.read() == DATA

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"ETag": '"abc"', "Last-Modified": "Tue, 20 Oct 2015 19:29:34 GMT"}, {"etag": '"abc"'}),
            ({"Last-Modified": "Tue, 20 Oct 2015 19:29:34 GMT"}, {"last-modified": "Tue, 20 Oct 2015 19:29:34 GMT"}),
            ({}, {}),
        ],
    )
    def test_web_sources_have_the_servers_validator_as_fingerprint(
        self, server: ScriptedServer, headers: dict[str, str], expected: dict[str, str]
    ) -> None:
        server.script(Reply(body=DATA, headers=headers))

        with open_source(f"{server.url}/x.geojson") as source:
            assert source.fingerprint == {"source": identity(f"{server.url}/x.geojson"), "size": len(DATA)} | expected

    def test_web_sources_in_chunks_have_no_size(self, server: ScriptedServer) -> None:
        server.script(_chunked(DATA))

        with open_source(f"{server.url}/x.geojson") as source:
            assert source.size is None
            assert source.open().read() == DATA

    def test_web_sources_whose_incomplete_reply_would_look_complete_are_refused(self, server: ScriptedServer) -> None:
        server.script(Reply(body=DATA, headers={"Content-Length": ""}))

        with pytest.raises(SourceError, match="without its length"):
            open_source(f"{server.url}/x.geojson")

    @pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
    def test_web_sources_that_are_packed_are_unpacked(self, server: ScriptedServer, encoding: str) -> None:
        packed = gzip.compress(DATA)
        server.script(Reply(body=packed, headers={"Content-Encoding": encoding}))

        with open_source(f"{server.url}/x.geojson") as source:
            assert source.size is None
            assert source.open().read() == DATA
        assert server.requests[0].headers["accept-encoding"] == "gzip"

    @pytest.mark.parametrize("size", [1, 10, -8, -1])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_web_sources_whose_packed_content_is_cut_off_are_refused(
        self, server: ScriptedServer, size: int, chunked: bool
    ) -> None:
        packed = gzip.compress(bytes(range(256)) * 400)[:size]
        reply = (
            _chunked(packed, encoding="gzip") if chunked else Reply(body=packed, headers={"Content-Encoding": "gzip"})
        )
        server.script(reply)

        with (
            open_source(f"{server.url}/x.csv") as source,
            source.open() as stream,
            pytest.raises(SourceUnavailableError, match=r"x\.csv can no longer be read"),
        ):
            _read_in_blocks(stream)

    def test_web_sources_in_chunks_that_break_off_are_refused(self, server: ScriptedServer) -> None:
        whole = _chunked(DATA).raw
        assert whole is not None
        server.script(Reply(raw=whole[:-5]))

        with (
            open_source(f"{server.url}/x.geojson") as source,
            source.open() as stream,
            pytest.raises(SourceUnavailableError),
        ):
            _read_in_blocks(stream)

    @pytest.mark.parametrize("encoding", ["identity", "utf-8", "none", "binary", "aws-chunked", ""])
    def test_web_sources_of_which_the_encoding_changes_nothing_are_read(
        self, server: ScriptedServer, encoding: str
    ) -> None:
        server.script(Reply(body=DATA, headers={"Content-Encoding": encoding}))

        with open_source(f"{server.url}/x.geojson") as source:
            assert source.open().read() == DATA

    def test_web_sources_that_are_packed_on_the_way_through_a_store_are_unpacked(self, server: ScriptedServer) -> None:
        server.script(Reply(body=gzip.compress(DATA), headers={"Content-Encoding": "gzip, aws-chunked"}))

        with open_source(f"{server.url}/x.geojson") as source:
            assert source.open().read() == DATA

    @pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "gzip, br"])
    def test_web_sources_that_are_packed_otherwise_than_was_asked_for_are_refused(
        self, server: ScriptedServer, encoding: str
    ) -> None:
        server.script(Reply(body=DATA, headers={"Content-Encoding": encoding}))

        with pytest.raises(SourceError, match=r"compressed the source .* in a way that was not requested"):
            open_source(f"{server.url}/x.geojson")

    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_missing_certificates_are_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.setenv(name, str(tmp_path / "none"))

        with pytest.raises(SourceError, match=name):
            open_source("https://127.0.0.1:9/x.geojson")

    @pytest.mark.parametrize("status", [204, 401, 404, 500])
    def test_web_sources_that_answer_no_file_are_named_with_the_status(
        self, server: ScriptedServer, status: int
    ) -> None:
        server.script(Reply(status))

        with pytest.raises(SourceError, match=rf"x\.geojson answered {status}"):
            open_source(f"{server.url}/x.geojson?k=v")

    def test_web_sources_that_are_down_are_named(self) -> None:
        with closed_port() as url, pytest.raises(SourceError, match="could not be read") as caught:
            open_source(f"{url}/x.geojson?q=c4nary")
        assert "c4nary" not in all_text_of(caught.value)

    @pytest.mark.parametrize("then", [Reply(404), Reply(fault="drop")], ids=["gone", "broken"])
    def test_web_sources_that_fail_when_they_are_read_again_are_named(
        self, server: ScriptedServer, then: Reply
    ) -> None:
        server.script(Reply(body=DATA), then)
        source = open_source(f"{server.url}/x.geojson")
        source.open().close()

        with pytest.raises(SourceError, match=r"x\.geojson"):
            source.open()

    def test_web_sources_that_break_off_are_named_with_how_far_they_came(self, server: ScriptedServer) -> None:
        server.script(Reply(body=DATA, fault="half"))

        with (
            open_source(f"{server.url}/x.geojson") as source,
            source.open() as stream,
            pytest.raises(SourceUnavailableError, match=r"x\.geojson can no longer be read after \d+ bytes"),
        ):
            stream.read()

    @pytest.mark.parametrize("url", ["http://example.com/x.geojson", "http://127.0.0.1.example.com/x"])
    def test_web_sources_by_plain_http_from_elsewhere_are_refused(self, url: str) -> None:
        with pytest.raises(SourceError, match="over plain http"):
            open_source(url)

    def test_web_sources_that_redirect_to_plain_http_elsewhere_are_refused_and_not_followed(
        self, server: ScriptedServer
    ) -> None:
        server.script(Reply(302, headers={"Location": "http://192.0.2.1/x.geojson"}))

        with pytest.raises(SourceError, match=r"192\.0\.2\.1 over plain http"):
            open_source(f"{server.url}/x.geojson")

    @pytest.mark.parametrize(
        "target",
        [
            "https://127.0.0.1/x",
            "https://127.1/x",
            "https://0x7f000001/x",
            "https://2130706433/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://localhost/x",
            "https://0.0.0.0/x",
            "https://10.1.2.3/x",
            "https://192.168.0.1:8443/x",
            "https://172.16.5.4/x",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/x",
            "https://[fd00::1]/x",
            "https://[fe80::1]/x",
            "https://[64:ff9b::a9fe:a9fe]/x",
            "https://[::7f00:1]/x",
            "https://[fec0::1]/x",
            "https://168.63.129.16/x",
            "https://internal.example/x",
            "//127.0.0.1/x",
        ],
    )
    def test_web_sources_on_the_internet_do_not_lead_into_the_own_network(
        self, monkeypatch: pytest.MonkeyPatch, target: str
    ) -> None:
        _resolve(monkeypatch, {"files.example": "93.184.215.14", "internal.example": "10.0.0.5"})
        redirected = _redirect("https://files.example/x", target)

        with pytest.raises(SourceError, match="this machine or in a private network"):
            _Session("https://files.example/x").get_redirect_target(redirected)

    def test_web_sources_may_lead_from_one_public_or_private_server_to_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _resolve(monkeypatch, {"a.example": "93.184.215.14", "b.example": "2606:2800:21f:cb07:6820:80da:af6b:8b2c"})

        for start, target in (
            ("https://a.example/x", "https://b.example/y"),
            ("https://10.0.0.5/x", "https://10.0.0.6/y"),
            ("https://10.0.0.5/x", "https://a.example/y"),
            ("https://a.example/x", "https://only-the-proxy-knows.example/y"),
        ):
            assert _Session(start).get_redirect_target(_redirect(start, target)) == target

    def test_web_sources_do_not_lead_from_https_to_http(self, monkeypatch: pytest.MonkeyPatch) -> None:
        redirected = _redirect("https://127.0.0.1/x", "http://127.0.0.1/x")

        with pytest.raises(SourceError, match="from https to plain http"):
            _Session("https://127.0.0.1/x").get_redirect_target(redirected)

    @pytest.mark.parametrize("status", [429, 503, 408])
    def test_web_sources_that_are_out_of_service_may_be_retried(self, server: ScriptedServer, status: int) -> None:
        server.script(Reply(status))

        with pytest.raises(SourceError) as failure:
            open_source(f"{server.url}/x.geojson")

        assert failure.value.retryable

    def test_web_sources_with_the_scheme_in_capitals_are_read(self, server: ScriptedServer) -> None:
        server.script(Reply(200, body=b"abc"), Reply(200, body=b"abc"))

        with open_source(f"{server.url}/x".replace("http", "HTTP")).open() as stream:
            assert stream.read() == b"abc"

    @pytest.mark.parametrize(
        "url", ["https://", "https:///x", "https://host:port/x", "https://[::1/x", "https://h:99999/"]
    )
    def test_web_sources_that_are_not_urls_are_refused(self, url: str) -> None:
        with pytest.raises(MapboxError, match="source"):
            open_source(url)

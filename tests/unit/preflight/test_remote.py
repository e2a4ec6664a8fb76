"""Remote files are checked by their parts, and never downloaded for it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from airflow_mapbox.preflight import check_source
from tests.unit.preflight.binaries import tiff
from tests.unit.preflight.support import POINT, ROADS, archive, collection, with_geometry

# More than the buffers between two sockets on one machine take.
PADDING = 20_000_000
FAR = with_geometry(type="Point", coordinates=[500_000, 4_649_776])


class Server:
    """A web server with ranges. It counts what it could send before the client closed."""

    def __init__(self, *, with_ranges: bool = True) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[int] = []
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = outer.files[self.path]
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                self.send_response(206 if wanted and with_ranges else 200)
                if wanted and with_ranges:
                    start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
                    data = data[start:end]
                    outer.ranges.append(len(data))
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", '"1"')
                self.end_headers()
                for at in range(0, len(data), 65_536):
                    try:
                        self.wfile.write(data[at : at + 65_536])
                    except OSError:
                        return
                    outer.sent += len(data[at : at + 65_536])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def put(self, name: str, data: bytes) -> str:
        self.files[f"/{name}"] = data
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def large(*features: object, last: object = POINT) -> bytes:
    start = json.dumps(collection(*features)).encode().removesuffix(b"]}")
    middle = json.dumps(POINT | {"properties": {"text": "x" * 1_000_000}}).encode()
    return start + b"," + b",".join([middle] * (PADDING // 1_000_000)) + b"," + json.dumps(last).encode() + b"]}"


class TestWeb:
    @pytest.mark.parametrize(
        ("data", "rules"),
        [
            (large(POINT), []),
            (large(POINT, last=FAR), ["geojson-range"]),
            (large(POINT)[:-6], ["geojson-json"]),
            (large(POINT, last=POINT | {"geometry": None}), []),
            (large(POINT, last={"properties": {"a": {"type": "Feature", "b": 1}}, **POINT}), []),
            (large(FAR), ["geojson-range"]),
        ],
        ids=[
            "right",
            "wrong at the end",
            "cut off",
            "no geometry at the end",
            "a feature in a value",
            "wrong at the start",
        ],
    )
    def test_the_beginning_and_the_end_of_a_text_are_read(self, server: Server, data: bytes, rules: list[str]) -> None:
        report = check_source(server.put("places.geojson", data))

        assert [found.name for found in report.problems] == rules
        assert (report.bytes, report.is_complete) == (len(data), False)
        assert sum(server.ranges) < 200_000
        assert server.sent < len(data) / 2

    def test_a_zip_is_read_by_its_directory_and_the_beginnings_of_its_files(self, server: Server) -> None:
        data = archive(ROADS | {"photo.bin": bytes(range(256)) * (PADDING // 256)})
        broken = archive(
            {name: part for name, part in ROADS.items() if not name.endswith(".prj")} | {"photo.bin": data}
        )

        right, wrong = (
            check_source(server.put(name, content)) for name, content in (("a.zip", data), ("b.zip", broken))
        )

        assert right.problems == ()
        assert [found.name for found in wrong.problems] == ["shapefile-prj-missing"]
        assert sum(server.ranges) < 400_000

    def test_a_tiff_is_read_by_its_tags(self, server: Server) -> None:
        report = check_source(server.put("a.tif", tiff() + bytes(PADDING)))

        assert report.problems == ()
        assert len(server.ranges) <= 3
        assert sum(server.ranges) <= 49_152

    def test_a_server_without_ranges_is_asked_for_the_beginning_only(self) -> None:
        server = Server(with_ranges=False)
        try:
            report = check_source(server.put("places.geojson", large(POINT, last=FAR)))
        finally:
            server.close()

        assert report.ok
        assert server.sent < PADDING


def test_an_object_in_a_store_is_read_by_its_parts() -> None:
    from upath import UPath

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/places.geojson", large(POINT, last=FAR))

    report = check_source(UPath("memory://bucket/places.geojson"))

    assert [found.name for found in report.problems] == ["geojson-range"]
    assert "near its end" in str(report.problems[0])


def test_a_local_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "places.geojson"
    path.write_bytes(large(POINT, last=FAR))

    report = check_source(path)

    assert report.is_complete
    assert report.problems[0].where == "feature 21"

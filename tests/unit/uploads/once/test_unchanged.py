"""What proves that a source is what was sent before."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from airflow_mapbox.sources.source import IteratorStream, Source, open_source
from airflow_mapbox.uploads.once.unchanged import is_same
from tests.unit.support import Reply, ScriptedServer


def _source(**fingerprint: str | int) -> Source:
    return Source("https://h/x", None, lambda: IteratorStream([b"{}"]), fingerprint=fingerprint)


@pytest.mark.parametrize(
    ("fingerprint", "proves"),
    [
        ({"etag": '"abc"'}, True),
        ({"etag": '"abc"', "size": 2}, True),
        ({"md5hash": "abc"}, True),
        ({"generation": "17"}, True),
        ({"last-modified": "Tue, 20 Oct 2015 19:29:34 GMT", "size": 2}, True),
        ({"modified": 17, "size": 2}, True),
        ({"last-modified": "Tue, 20 Oct 2015 19:29:34 GMT"}, False),
        ({"modified": 17}, False),
        ({"updated": "2026-01-01"}, False),
        ({"etag": 'W/"abc"'}, False),
        ({"size": 2}, False),
        ({"source": "abc"}, False),
        ({"source": "abc", "size": 2, "export": "def", "beside": "ghi"}, False),
        ({}, False),
    ],
)
def test_a_digest_or_a_time_with_a_size_proves_it_and_less_does_not(
    fingerprint: dict[str, str | int], proves: bool
) -> None:
    assert is_same(_source(**fingerprint), fingerprint, None) is proves


@pytest.mark.parametrize("validator", [{"ETag": '"constant"'}, {"Last-Modified": "Tue, 20 Oct 2015 19:29:34 GMT"}])
def test_another_query_of_a_url_is_another_source(server: ScriptedServer, validator: dict[str, str]) -> None:
    server.script(*(Reply(body=b"{}", headers=validator) for _ in range(3)))
    first, again, second = (
        open_source(f"{server.url}/x.geojson?date={day}") for day in ("2026-01-01", "2026-01-01", "2026-01-02")
    )

    assert is_same(again, first.fingerprint, None)
    assert not is_same(second, first.fingerprint, None)


@pytest.mark.parametrize("same", [True, False])
def test_another_file_of_the_same_size_and_time_is_read_for_its_digest(tmp_path: Path, same: bool) -> None:
    first, second = tmp_path / "monday.geojson", tmp_path / "tuesday.geojson"
    for path, data in ((first, b"[1]"), (second, b"[1]" if same else b"[2]")):
        path.write_bytes(data)
        os.utime(path, ns=(17, 17))
    digest = "0f5a2ad5d5d5a1f3"  # of another content

    assert not is_same(open_source(second), open_source(first).fingerprint, digest)
    assert not is_same(open_source(second), open_source(first).fingerprint, None)
    assert is_same(open_source(second), open_source(first).fingerprint, hashlib.sha256(b"[1]").hexdigest()) is same

"""What staging over https keeps in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.connections import connection

VARIABLES = ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")


@pytest.fixture
def secure(
    tmp_path: Path, make_settings: Callable[..., EmulatorSettings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    for name in (*VARIABLES, "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with Emulator(tmp_path / "emulator", settings=make_settings(), tls=True) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        yield running


# The peak of a process of its own that stages a stream with boto3 itself: what it copies counts as well.
STAGES = """
import json, resource, sys, threading, tracemalloc
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.uploads.staging.stager import StagingOptions

part, in_flight = int(sys.argv[1]), int(sys.argv[2])
hook = MapboxUploadsHook(staging=StagingOptions(part, in_flight))
head = b'{"type":"FeatureCollection","features":[' + b" " * 600
feature = b'{"type":"Feature","properties":{},"geometry":{"type":"Point","coordinates":[1,2]}}'
hook.stage(iter([head + feature + b"]}"]))  # what is loaded and made once is not what is measured
piece = b" " * 100_003

def pieces():
    yield head
    for _ in range(12 * part // len(piece)):
        yield piece
    yield b"]}"

tracemalloc.start()
hook.stage(pieces())
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_parts_in_flight_are_all_that_is_in_memory(secure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    part, in_flight = 24 * 2**20, 3
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))

    done = subprocess.run(
        [sys.executable, "-c", STAGES, str(part), str(in_flight)], check=True, capture_output=True, text=True
    )

    peak = int(done.stdout.splitlines()[-1])
    # Beside each part boto3 has a few pieces of a megabyte on the way, whatever the part's size.
    assert peak < in_flight * (part + 6 * 2**20), f"{peak / 2**20:.1f} MiB"

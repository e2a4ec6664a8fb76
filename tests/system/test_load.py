"""What the emulator holds up under: many uploads at once, and files as large as Mapbox takes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mapbox_vector_tile
import numpy as np
import pytest
import rasterio
import requests
from rasterio.transform import from_origin
from rasterio.windows import Window

from tests.emulator.command import Command
from tests.emulator.conftest import Account, points

pytestmark = pytest.mark.timeout(900)

MIB = 1 << 20
# The most that Mapbox takes of CSV and GeoJSON.
LARGEST = 1024 * MIB
UPLOADS = 200


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, "--processing-seconds", "0", "--rate-limit", "0")
    yield command
    command.end()


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A CSV of points, as large as Mapbox takes it."""
    file = tmp_path_factory.mktemp("gigabyte") / "points.csv"
    row = b"13.377,52.516,Unter den Linden\n"
    block = row * (MIB // len(row))
    with file.open("wb") as stream:
        stream.write(b"lon,lat,name\n")
        while stream.tell() + len(block) <= LARGEST:
            stream.write(block)
    yield file
    file.unlink()


@pytest.mark.parametrize("way", ["one PUT", "parts"])
def test_a_gigabyte_is_staged_with_less_than_500_mb_more_memory(
    running: Command, gigabyte: Path, tmp_path: Path, way: str
) -> None:
    acme = Account(running.remote)
    acme.stage(b"lon,lat\n1,2\n")
    before = running.peak_memory()
    issued = acme.credentials()
    where = {"Bucket": issued["bucket"], "Key": issued["key"]}
    s3 = acme.s3(issued)

    if way == "parts":
        s3.upload_file(str(gigabyte), **where)
    else:
        with gigabyte.open("rb") as stream:
            s3.put_object(**where, Body=stream)

    grown = running.peak_memory() - before
    print(f"{way}: {gigabyte.stat().st_size:,} bytes staged, peak memory grew by {grown / MIB:.0f} MiB")
    assert grown < 500 * MIB
    head = s3.head_object(**where)
    assert head["ContentLength"] == gigabyte.stat().st_size > LARGEST - 2 * MIB
    name = hashlib.sha256(issued["key"].encode()).hexdigest()
    assert _digest(tmp_path / "folder" / "staged" / name) == _digest(gigabyte)
    assert list((tmp_path / "folder" / "work").iterdir()) == []


def test_an_image_is_cut_without_being_held_in_memory(running: Command, tmp_path: Path) -> None:
    file = tmp_path / "large.tif"
    # A little finer than zoom 14, so that its pixels are those of the tiles.
    pixel, side, strip = 8.4, 12_288, 512
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:3857", "tiled": True, "compress": "lzw"}
    shade = np.broadcast_to(np.arange(side) % 256, (3, strip, side)).astype(np.uint8)
    with rasterio.open(
        file, "w", width=side, height=side, transform=from_origin(1e6, 6e6, pixel, pixel), **profile
    ) as image:
        for top in range(0, side, strip):
            image.write(shade, window=Window(0, top, side, strip))
    acme = Account(running.remote)
    pixels = 3 * side * side
    assert acme.upload(b"lon,lat\n1,2\n", "small")["error"] is None
    issued = acme.credentials()
    acme.s3(issued).upload_file(str(file), issued["bucket"], issued["key"])
    before = running.peak_memory()

    end = _end_of(acme, acme.create(issued["url"], "large").json()["id"])

    grown = running.peak_memory() - before
    described = acme.tileset("large").json()
    print(f"{pixels:,} bytes of pixels cut into {described['tile_counts']}, peak memory grew by {grown / MIB:.0f} MiB")
    assert end["error"] is None
    assert described["maxzoom"] == 14
    assert grown < 250 * MIB < pixels


def test_two_hundred_uploads_at_once_all_become_what_they_are(running: Command) -> None:
    acme = Account(running.remote)
    # Two hundred threads that make boto3 clients would keep this process busy, not the emulator.
    issued = [acme.credentials() for _ in range(UPLOADS)]
    clients = [acme.s3(credentials) for credentials in issued]

    def upload(number: int) -> str:
        own = Account(running.remote)
        where = issued[number]
        data = json.dumps(points((number / 2, number / 4))).replace('"number": 0', f'"number": {number}')
        clients[number].put_object(Bucket=where["bucket"], Key=where["key"], Body=data.encode())
        made = own.create(where["url"], f"t{number}")
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    started = time.monotonic()
    with ThreadPoolExecutor(UPLOADS) as pool:
        ids = list(pool.map(upload, range(UPLOADS)))
    staged = time.monotonic() - started
    ends = [_end_of(acme, upload_id) for upload_id in ids]

    print(f"{UPLOADS} uploads: created after {staged:.0f} s, finished after {time.monotonic() - started:.0f} s")
    assert [(end["tileset"], end["complete"], end["error"], end["progress"]) for end in ends] == [
        (f"acme.t{number}", True, None, 1) for number in range(UPLOADS)
    ]
    for number in range(UPLOADS):
        tile = requests.get(f"{running.ready['url']}/tilesets/acme.t{number}/0/0/0.pbf", timeout=30)
        (layer,) = mapbox_vector_tile.decode(tile.content).values()
        assert [feature["properties"] for feature in layer["features"]] == [{"number": number}]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _end_of(acme: Account, upload_id: str) -> dict[str, object]:
    while True:
        upload = dict(acme.call("GET", f"/{upload_id}").json())
        if upload["complete"] or upload["error"]:
            return upload
        time.sleep(0.05)

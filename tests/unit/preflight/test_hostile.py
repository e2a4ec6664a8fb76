"""Hostile files, each checked in a process of its own: a verdict in seconds and little memory, never a hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.preflight import SourceReport, check_source
from tests.unit.preflight import binaries, hostile, support

MOST_SECONDS, MOST_BYTES = 5.0, 200_000_000
# Mapbox may accept these, and the check reads them to their end without a note.
HARMLESS = frozenset(
    {
        "a cycle of directories.tif",
        "a name of 250 MB.kml",
        "a track position of 250 MB.kml",
        "coordinates of 250 MB.kml",
        "a line of 250 MB.kml",
        "triggers.mbtiles",
    }
)
# Valid files of many small elements: as long as any valid file of that size. Their memory is bounded all the same.
LONG = frozenset({"coordinates of 250 MB.kml", "a line of 250 MB.kml", "ten million places.gpx"})
# Written and checked in less than half a second each; `make check` runs the others.
QUICK = (
    "300,000 members.zip",
    "a path above.zip",
    "entities that multiply.kml",
    "an external entity.kml",
    "views of views.mbtiles",
    "few views of many views.mbtiles",
    "text.mbtiles",
    "changes in a log.mbtiles",
    "generated columns.mbtiles",
    "a virtual table.mbtiles",
    "10,000,000 brackets.geojson",
    "a number of 7 MB.geojson",
    "two to the 32 tags.tif",
    "a cycle of directories.tif",
    "values beyond the end.tif",
)


def verdict_on(name: str, folder: Path) -> dict[str, Any]:
    path = folder / name
    hostile.FILES[name](path)
    command = [sys.executable, "-m", "tests.unit.preflight.hostile", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    finally:
        for file in folder.iterdir():
            file.unlink()  # some have a gigabyte
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in hostile.FILES]
)
def test_a_hostile_file_has_a_verdict_in_five_seconds_and_200_mb(name: str, tmp_path: Path) -> None:
    verdict = verdict_on(name, tmp_path)

    assert verdict["problems"] or verdict["notes"] or name in HARMLESS
    assert verdict["memory"] <= MOST_BYTES
    # Processor time, because other tests run beside this one. A deadline in the check counts wall time.
    assert verdict["processor"] <= MOST_SECONDS or name in LONG


SEEDS = {
    "a.geojson": support.as_bytes(support.collection(*[support.POINT] * 20)),
    "a.csv": support.CSV * 20,
    "a.kml": support.KML,
    "a.gpx": support.GPX,
    "a.zip": support.ZIP,
    "a.mbtiles": binaries.mbtiles(),
    "a.tif": binaries.tiff(),
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_that_is_cut_off_anywhere_has_a_report(name: str, tmp_path: Path) -> None:
    data, path = SEEDS[name], tmp_path / name
    places = sorted({number * len(data) // 200 for number in range(200)})
    for place in places:
        path.write_bytes(data[:place])

        report = check_source(path)

        assert isinstance(report, SourceReport)
        if name != "a.csv":  # rows that are left are a valid table
            assert not report.ok, f"cut after {place} bytes"


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("ending", [".geojson", ".csv", ".kml", ".gpx", ".zip", ".mbtiles", ".tif", ".shp", "", ".exe"])
def test_a_wrong_ending_does_not_change_the_format(name: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{ending}"
    path.write_bytes(SEEDS[name])
    expected = tmp_path / name
    expected.write_bytes(SEEDS[name])

    assert check_source(path).format == check_source(expected).format

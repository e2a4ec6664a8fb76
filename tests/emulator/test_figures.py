"""The figures of the list of tilesets: what they say about a file, and that the made-up ones depend on it alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from airflow_mapbox.emulator.figures import precision, read_figures
from airflow_mapbox.emulator.sampletiles import write_sample


@pytest.mark.parametrize(("is_raster", "kind"), [(False, "vector"), (True, "raster")])
def test_type_and_size_are_those_of_the_file(tmp_path: Path, is_raster: bool, kind: str) -> None:
    file = tmp_path / "x.mbtiles"
    write_sample(file, is_raster=is_raster)

    figures = read_figures(file)

    assert (figures.type, figures.filesize, figures.center) == (kind, file.stat().st_size, (0, 0, 0))
    assert (figures.precisions, figures.cu) == ({"free": 0}, 0.1)


def test_area_is_that_of_the_bounds_at_the_precision_of_the_maxzoom(tmp_path: Path) -> None:
    file = tmp_path / "x.mbtiles"
    write_sample(file, is_raster=False)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE metadata SET value = '-180,-30,180,30' WHERE name = 'bounds'")
        db.execute("UPDATE tiles SET zoom_level = 12")

    # Half of the earth lies between 30 degrees south and north.
    assert read_figures(file).precisions == {"1m": pytest.approx(510_065_624 / 2, rel=1e-4)}
    assert read_figures(file) == read_figures(file)


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_unreadable_file_has_only_a_size(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.mbtiles"
    file.write_bytes(content)

    assert (read_figures(file).type, read_figures(file).filesize) == ("vector", len(content))


@pytest.mark.parametrize(
    ("maxzoom", "name"),
    [
        (0, "free"),
        (5, "free"),
        (6, "10m"),
        (10, "10m"),
        (11, "1m"),
        (13, "1m"),
        (14, "30cm"),
        (16, "30cm"),
        (17, "1cm"),
    ],
)
def test_precision_follows_from_the_maxzoom(maxzoom: int, name: str) -> None:
    assert precision(maxzoom, is_tiff=False) == precision(maxzoom + 1, is_tiff=True) == name

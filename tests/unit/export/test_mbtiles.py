from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import re
import select
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import mapbox_vector_tile
import numpy as np
import pytest
import shapely
from shapely.geometry import Point, box

from airflow_mapbox.emulator.mbtilescheck import check_mbtiles
from airflow_mapbox.export import ExportReport, stream_geojson, write_auto, write_geojson, write_mbtiles
from airflow_mapbox.export.errors import CoordinatesError, EmptyExportError, NoSpaceError, TilerError
from airflow_mapbox.export.tiles import tippecanoe
from airflow_mapbox.preflight import check_source
from tests.unit.export.support import frame


def grid(count: int = 400, **columns: Any) -> geopandas.GeoDataFrame:
    x, y = np.meshgrid(np.linspace(-10, 10, 20), np.linspace(40, 60, count // 20))
    return frame(shapely.points(x.ravel(), y.ravel()), n=np.arange(count), **columns)


def metadata(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, value FROM metadata"))


def values(path: Path, zoom: int, layer: str, attribute: str) -> set[Any]:
    """Give an attribute's values in all tiles of a zoom."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        tiles = [
            mapbox_vector_tile.decode(gzip.decompress(data))
            for (data,) in db.execute("SELECT tile_data FROM tiles WHERE zoom_level = ?", (zoom,))
        ]
    return {feature["properties"][attribute] for tile in tiles if layer in tile for feature in tile[layer]["features"]}


def test_every_feature_is_in_the_tiles_of_the_maxzoom(tmp_path: Path) -> None:
    path = tmp_path / "made" / "grid.mbtiles"

    report = write_mbtiles(grid(), path, maxzoom=5)

    assert values(path, 5, "grid", "n") == set(range(400))
    assert (report.features, report.minzoom, report.maxzoom, report.tier) == (400, 0, 5, "free")
    assert report.layers == ("grid",)
    assert report.bytes == path.stat().st_size
    assert report.path == path
    assert report.incomplete == 0
    assert json.loads(json.dumps(report.to_json()))["tiles"] == report.tiles
    assert [item.name for item in path.parent.iterdir()] == ["grid.mbtiles"]


def test_written_tilesets_pass_mapboxs_rules(tmp_path: Path) -> None:
    path = tmp_path / "x.mbtiles"
    write_mbtiles(grid(**{f"attribute {n}": [f"a text {i}" for i in range(400)] for n in range(30)}), path, maxzoom=4)

    check_mbtiles(path, tick=lambda: None)
    assert check_source(path).ok


def test_tilesets_contain_no_paths_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "x.mbtiles"
    write_mbtiles(grid(), path, name="My places", maxzoom=3)

    assert metadata(path)["name"] == metadata(path)["description"] == "My places"
    content = path.read_bytes()
    for trace in (str(tmp_path), "tippecanoe/bin", "--output"):
        assert trace.encode() not in content


def test_a_projected_file_is_read_by_batches_and_tiled(tmp_path: Path) -> None:
    grid().to_crs(3035).to_parquet(tmp_path / "in.parquet")

    report = write_mbtiles(tmp_path / "in.parquet", tmp_path / "x.mbtiles", tier="free", minzoom=2, name="places")

    assert (report.minzoom, report.maxzoom) == (2, 5)
    assert values(tmp_path / "x.mbtiles", 5, "places", "n") == set(range(400))
    assert report.crs_from == ("EPSG:3035 (ETRS89-extended / LAEA Europe)",)


@pytest.mark.parametrize(("chosen", "tier"), [({}, "10m"), ({"maxzoom": 7}, "10m"), ({"maxzoom": 3}, "free")], ids=str)
def test_a_tier_is_the_ceiling_of_a_maxzoom_and_else_the_maxzoom(
    tmp_path: Path, chosen: dict[str, int], tier: str
) -> None:
    report = write_mbtiles(grid(), tmp_path / "x.mbtiles", tier="10m", **chosen)

    assert (report.maxzoom, report.tier) == (chosen.get("maxzoom", 10), tier)


def test_several_layers_each_have_their_features(tmp_path: Path) -> None:
    path = tmp_path / "x.mbtiles"
    layers = {"points": grid(), 'the "boxes"': frame([box(0, 0, 1, 1), None], n=[7, 8])}

    report = write_mbtiles(layers, path, maxzoom=4)

    assert values(path, 4, "points", "n") == set(range(400))
    assert values(path, 4, 'the "boxes"', "n") == {7}
    assert report.layers == ("points", 'the "boxes"')
    assert (report.features, report.features_read, report.dropped) == (401, 402, {"no geometry": 1})


def test_the_maxzoom_is_guessed_unless_given(tmp_path: Path) -> None:
    assert write_mbtiles(grid(), tmp_path / "x.mbtiles").maxzoom >= 0

    with pytest.raises(TilerError, match="maxzoom="):
        write_mbtiles(frame([Point(0, 0)]), tmp_path / "y.mbtiles")


def test_a_layer_may_have_its_own_reading_options(tmp_path: Path) -> None:
    file, path = tmp_path / "in.gpkg", tmp_path / "x.mbtiles"
    grid(kind="a").to_file(file, layer="north")
    grid(kind="b").to_file(file, layer="south")
    without = grid(kind="c").to_crs(3857).set_crs(None, allow_override=True)
    sources = {
        "n": (file, {"layer": "north"}),
        "s": (file, {"layer": "south", "where": "n < 7", "columns": ["n", "kind"]}),
        "t": (without, {"crs": 3857}),
        "u": (grid(), grid()),
    }

    report = write_mbtiles(sources, path, maxzoom=4, columns=["n"])

    assert values(path, 4, "n", "n") == values(path, 4, "t", "n") == values(path, 4, "u", "n") == set(range(400))
    assert values(path, 4, "s", "n") == set(range(7))
    assert values(path, 4, "s", "kind") == {"b"}
    fields = {layer["id"]: list(layer["fields"]) for layer in json.loads(metadata(path)["json"])["vector_layers"]}
    assert fields == {"n": ["n"], "s": ["kind", "n"], "t": ["n"], "u": ["n"]}
    assert report.features == 1607


def test_an_unknown_reading_option_of_a_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="lyer"):
        write_mbtiles({"n": (grid(), {"lyer": "north"})}, tmp_path / "x.mbtiles", maxzoom=4)  # type: ignore[dict-item]


@pytest.mark.slow
def test_the_precision_of_a_guessed_maxzoom_is_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    wide = frame(shapely.points(rng.uniform(6, 15, 3000), rng.uniform(47, 55, 3000)))

    report = write_mbtiles(wide, tmp_path / "x.mbtiles")

    (note,) = report.notes
    assert report.maxzoom == 2
    assert note.startswith("The maxzoom 2 is a guess")
    assert "2,446 m at the equator" in note  # 40,075,016.69 m / 2^2 / 4096
    assert note.endswith("With a higher maxzoom= or tier= they are more precise.")
    assert write_mbtiles(wide, tmp_path / "x.mbtiles", maxzoom=2).notes == ()
    assert write_auto(wide, tmp_path / "y", limit_bytes=10_000).notes == (note,)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"maxzoom": 23}, "maxzoom=23 is not from 0 to 22."),
        ({"maxzoom": -1}, "maxzoom=-1 is not from 0 to 22."),
        ({"minzoom": -1}, "minzoom=-1 is not from 0 to 22."),
        ({"minzoom": 23}, "minzoom=23 is not from 0 to 22."),
        ({"minzoom": 5, "maxzoom": 3}, "minzoom=5 is above the maxzoom, 3."),
        ({"minzoom": 6, "tier": "free"}, "minzoom=6 is not from 0 to 5, the zooms of tier free."),
        ({"tier": "free", "maxzoom": 6}, "maxzoom=6 is not from 0 to 5, the zooms of tier free."),
        ({"tier": "5m"}, "tier='5m' is not 'free' or"),
    ],
    ids=str,
)
def test_zooms_that_there_are_not_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        write_mbtiles(grid(), tmp_path / "x.mbtiles", **wrong)


@pytest.mark.parametrize("count", [100, 40_000], ids=["buffered", "sent"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, BrokenPipeError])
def test_a_source_that_fails_leaves_no_tileset_and_no_process(
    tmp_path: Path, error: type[BaseException], count: int
) -> None:
    (tmp_path / "x.mbtiles").write_bytes(b"the previous file")
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield grid(count)
        raise error("stopped")

    with pytest.raises(error, match="stopped"):
        write_mbtiles(frames(), tmp_path / "x.mbtiles", maxzoom=3, temporary_directory=temporary)

    assert (tmp_path / "x.mbtiles").read_bytes() == b"the previous file"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["temporary", "x.mbtiles"]
    assert not list(temporary.iterdir())
    assert not _children()


KILLED = """
import sys, geopandas, numpy, shapely
from airflow_mapbox.export import write_geojson, write_mbtiles

def frames():
    yield geopandas.GeoDataFrame(geometry=shapely.points(numpy.linspace(0, 9, 300_000), 0), crs=4326)
    print("asked", flush=True)
    sys.stdin.read()

target = sys.argv[1]
write_mbtiles(frames(), target, maxzoom=3) if target.endswith("mbtiles") else write_geojson(frames(), target)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.mbtiles", "x.geojson"])
def test_a_killed_export_leaves_no_process_and_the_next_removes_its_parts(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", KILLED, tmp_path / name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        started = [os.pidfd_open(child) for child in _pids(process.pid)]
        process.kill()
    try:
        assert len(started) == (name == "x.mbtiles")
        for tiler in started:
            assert select.select([tiler], [], [], 30)[0], "it still runs"
    finally:
        for tiler in started:
            os.close(tiler)
    assert (parts := list(tmp_path.glob(".*.part*")))
    assert not [part for part in parts if b"maxzoom" in part.read_bytes()], "half of the data looks like a tileset"
    assert not (tmp_path / name).exists()

    (write_mbtiles if started else write_geojson)(grid(), tmp_path / name, **({"maxzoom": 3} if started else {}))

    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_parts_of_an_export_that_lives_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield grid(200_000)
        write_geojson(grid(20), path)
        yield grid()

    assert write_geojson(frames(), path).features == 200_400
    assert [item.name for item in tmp_path.iterdir()] == ["x.geojson"]
    assert path.stat().st_size > 1_000_000


def test_errors_of_the_export_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(CoordinatesError, match="Feature 1 has"):
        write_mbtiles(frame([Point(0, 0), Point(200, 0)]), tmp_path / "x.mbtiles", maxzoom=3)
    with pytest.raises(EmptyExportError):
        write_mbtiles(frame([None]), tmp_path / "x.mbtiles", maxzoom=3)
    assert not list(tmp_path.iterdir())
    assert not _children()


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        (frame([]), EmptyExportError, "There is no feature to write: 0 were read"),
        (frame([Point(0, 0), Point(200, 0)]), CoordinatesError, "Feature 1 has"),
    ],
    ids=["empty", "coordinates"],
)
def test_errors_of_one_layer_of_several_name_it(
    tmp_path: Path, bad: geopandas.GeoDataFrame, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=f"^Source layer 'b': {match}"):
        write_mbtiles({"a": grid(), "b": bad}, tmp_path / "x.mbtiles", maxzoom=3)
    with pytest.raises(error, match=f"^{match}"):
        write_mbtiles({"b": bad}, tmp_path / "x.mbtiles", maxzoom=3)


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "\udcff", 5], ids=repr)
def test_a_layer_that_no_style_could_name_is_refused(tmp_path: Path, name: Any) -> None:
    for layers in ({name: grid()}, {"a": grid(), name: grid()}):
        with pytest.raises(ValueError, match=r"(?s)^.* cannot be the name of a source layer: "):
            write_mbtiles(layers, tmp_path / "x.mbtiles", maxzoom=3)
    assert not list(tmp_path.iterdir())


def test_an_export_without_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        write_mbtiles({}, tmp_path / "x.mbtiles", maxzoom=3)


def test_features_that_tippecanoe_did_not_read_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that ends too early looks whole to tippecanoe."""
    script = tmp_path / "tippecanoe"
    script.write_text(
        f'#!/bin/sh\nhead -n 100 | "{tippecanoe.find_tippecanoe()}" "$@"\ncode=$?\ncat >/dev/null\nexit $code\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(tippecanoe, "find_tippecanoe", lambda: str(script))

    with pytest.raises(TilerError, match="read 100 of 400 geometries"):
        write_mbtiles(grid(), tmp_path / "x.mbtiles", maxzoom=3)
    assert not (tmp_path / "x.mbtiles").exists()


@pytest.mark.parametrize(
    ("script", "match", "retryable"),
    [
        ("exit 3", "ended with 3", False),
        ("echo No space left on device >&2; exit 1", "temporary_directory=", True),
        ("echo sqlite3 insert failed: database or disk is full >&2; exit 1", "temporary_directory=", True),
        ("echo write: Disk quota exceeded >&2; exit 1", "temporary_directory=", True),
    ],
)
def test_a_tiler_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, match: str, retryable: bool
) -> None:
    program = tmp_path / "tippecanoe"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(tippecanoe, "find_tippecanoe", lambda: str(program))

    with pytest.raises(TilerError, match=match) as failed:
        write_mbtiles(grid(200_000), tmp_path / "x.mbtiles", maxzoom=3)
    assert failed.value.retryable == retryable
    assert [item.name for item in tmp_path.iterdir()] == ["tippecanoe"]


def test_too_little_temporary_space_is_reported_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        read.append(1)
        yield grid()

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))

    with pytest.raises(NoSpaceError, match=r"(?s)temporary space.*has 1,000.*temporary_directory="):
        write_mbtiles(frames(), tmp_path / "x.mbtiles", maxzoom=3)
    assert not read


@pytest.mark.parametrize("chosen", [{"where": "n < 5"}, {"bbox": (-11, 39, -9, 41)}, {"columns": []}, {}], ids=str)
def test_unselected_data_needs_no_temporary_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chosen: dict[str, Any]
) -> None:
    grid(text=["x" * 5000] * 400).to_file(tmp_path / "in.gpkg")
    size, spare = (tmp_path / "in.gpkg").stat().st_size, 256 << 20
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=spare + size // (50 if chosen else 2)))

    write_mbtiles(tmp_path / "in.gpkg", tmp_path / "x.mbtiles", maxzoom=3, **chosen)

    assert "may need more temporary space" in caplog.text


@pytest.mark.parametrize("name", ["in.parquet", "in.geojson"])
def test_a_file_that_cannot_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 100 << 30)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5 << 30))

    with pytest.raises(NoSpaceError, match=r"(?s)at least .*temporary_directory="):
        write_mbtiles(tmp_path / name, tmp_path / "x.mbtiles", maxzoom=3)


def test_temporary_space_is_watched_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage, looks = shutil.disk_usage(tmp_path), []
    monkeypatch.setattr("airflow_mapbox.export.tiles.space._BYTES_BETWEEN_CHECKS", 1 << 20)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: looks.append(1) or usage._replace(free=10**12 if len(looks) < 4 else 1000)
    )

    with pytest.raises(TilerError, match="temporary space"):
        write_mbtiles((grid(20_000) for _ in range(100)), tmp_path / "x.mbtiles", maxzoom=3)
    assert len(looks) == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_more_metadata_than_mapbox_takes_names_the_parameter(tmp_path: Path) -> None:
    wide = grid(**{f"{'a long name ' * 8}{n}": np.arange(400) for n in range(700)})

    with pytest.raises(TilerError, match=r"(?s)bytes of metadata.*columns="):
        write_mbtiles(wide, tmp_path / "x.mbtiles", maxzoom=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_features_thinned_out_at_the_maxzoom_are_reported(tmp_path: Path) -> None:
    count = 60_000
    rng = np.random.default_rng(5)
    dense = frame(
        shapely.points(rng.uniform(0, 1, count), rng.uniform(0, 1, count)),
        text=[rng.bytes(40).hex() for _ in range(count)],
    )

    report = write_mbtiles(dense, tmp_path / "x.mbtiles", maxzoom=2)

    assert report.incomplete == count - len(values(tmp_path / "x.mbtiles", 2, "x", "text")) > 0
    assert report.largest_tile <= 512_000
    assert any("missing in tiles of zoom 2" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["polygons", "lines"])
def test_features_smaller_than_a_tile_unit_are_counted(tmp_path: Path, kind: str) -> None:
    """A thousandth of a degree is a third of the unit of zoom 5, and 93 units of zoom 13."""
    x, y = grid().geometry.x.to_numpy(), grid().geometry.y.to_numpy()
    boxes = shapely.box(x, y, x + 0.001, y + 0.001)
    small = frame(boxes if kind == "polygons" else shapely.boundary(boxes), n=np.arange(400))

    coarse = write_mbtiles(small, tmp_path / "coarse.mbtiles", minzoom=4, maxzoom=5, name="small")
    fine = write_mbtiles(small, tmp_path / "fine.mbtiles", minzoom=12, maxzoom=13, name="small")

    there = values(tmp_path / "coarse.mbtiles", 5, "small", "n")
    assert 0 < coarse.incomplete == 400 - len(there)
    assert [note for note in coarse.notes if "missing in tiles of zoom 5" in note and "raise maxzoom=" in note]
    assert values(tmp_path / "fine.mbtiles", 13, "small", "n") == set(range(400))
    assert (fine.incomplete, fine.notes) == (0, ())


def test_small_polygons_that_a_tile_can_show_are_in_it(tmp_path: Path) -> None:
    """Of less than four square units, which tippecanoe would join to fewer squares of the same area."""
    x, y = grid().geometry.x.to_numpy(), grid().geometry.y.to_numpy()
    small = frame(shapely.box(x, y, x + 0.004, y + 0.004), n=np.arange(400))

    report = write_mbtiles(small, tmp_path / "x.mbtiles", minzoom=5, maxzoom=5)

    assert values(tmp_path / "x.mbtiles", 5, "x", "n") == set(range(400))
    assert report.incomplete == 0


@pytest.mark.parametrize("write", [write_mbtiles, write_auto])
def test_relative_paths_are_those_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., ExportReport]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("temporary").mkdir()
    name, limit = ("made/x.mbtiles", None) if write is write_mbtiles else ("made/x", 10_000)

    report = write(grid(), name, maxzoom=3, temporary_directory="temporary", limit_bytes=limit)

    assert report.path == Path("made/x.mbtiles")
    assert values(tmp_path / "made" / "x.mbtiles", 3, "x", "n") == set(range(400))
    assert sorted(str(item.relative_to(tmp_path)) for item in tmp_path.rglob("*")) == [
        "made",
        "made/x.mbtiles",
        "temporary",
    ]


@pytest.mark.parametrize("place", ["gone", "file"])
@pytest.mark.parametrize("write", [write_mbtiles, write_auto])
def test_a_missing_temporary_directory_is_reported_before_anything_is_read(
    tmp_path: Path, write: Callable[..., ExportReport], place: str
) -> None:
    (tmp_path / "file").touch()
    read = []

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        read.append(1)
        yield grid()

    with pytest.raises(TilerError, match=rf"(?s)temporary_directory=.*{tmp_path / place} is not a folder"):
        write(frames(), tmp_path / "made" / "x", maxzoom=3, temporary_directory=tmp_path / place)
    assert not read
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_progress_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="airflow_mapbox"):
        write_mbtiles(grid(), tmp_path / "x.mbtiles", maxzoom=5)

    told = [record.getMessage() for record in caplog.records]
    assert any(message.startswith("Tiling: ") for message in told)
    assert any("tiles of zoom 0 to 5 (tier free)" in message for message in told)


class TestAuto:
    def test_data_within_the_limit_becomes_geojson(self, tmp_path: Path) -> None:
        report = write_auto(grid(), tmp_path / "places")

        assert report.path == tmp_path / "places.geojson"
        assert report.path.read_bytes() == b"".join(stream_geojson(grid()))
        assert [item.name for item in tmp_path.iterdir()] == ["places.geojson"]

    @pytest.mark.parametrize(
        ("chosen", "named"),
        [
            ({"tier": "1m"}, "tier= is"),
            ({"maxzoom": 9, "tier": "1m", "minzoom": 3}, "minzoom= and maxzoom= and tier= are"),
            ({"minzoom": 3, "maxzoom": 9}, "minzoom= and maxzoom= are"),
        ],
        ids=str,
    )
    def test_auto_says_that_zooms_do_not_hold_for_geojson(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, chosen: dict[str, Any], named: str
    ) -> None:
        with caplog.at_level(logging.INFO, logger="airflow_mapbox"):
            report = write_auto(grid(), tmp_path / "places", **chosen)

        (note,) = report.notes
        assert note.startswith(f"{named} for vector tiles only: Mapbox chooses the zooms of GeoJSON")
        assert 'format="mbtiles"' in note
        assert note in caplog.text

    def test_default_zooms_and_used_zooms_get_no_note(self, tmp_path: Path) -> None:
        assert write_auto(grid(), tmp_path / "places").notes == ()
        assert write_auto(grid(), tmp_path / "places", limit_bytes=10_000, tier="free").notes == ()

    def test_data_beyond_the_limit_is_tiled_in_one_reading(self, tmp_path: Path) -> None:
        asked = []

        def frames() -> Iterator[geopandas.GeoDataFrame]:
            for turn in range(5):
                asked.append(turn)
                yield grid().assign(n=np.arange(400) + 400 * turn)

        report = write_auto(frames(), tmp_path / "places", limit_bytes=100_000, maxzoom=5)

        assert asked == [0, 1, 2, 3, 4]
        assert report.path == tmp_path / "places.mbtiles"
        assert report.features == 2000
        assert values(report.path, 5, "places", "n") == set(range(2000))
        assert [item.name for item in tmp_path.iterdir()] == ["places.mbtiles"]

    def test_an_error_after_the_limit_leaves_nothing(self, tmp_path: Path) -> None:
        def frames() -> Iterator[geopandas.GeoDataFrame]:
            yield grid(20_000)
            raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            write_auto(frames(), tmp_path / "places", limit_bytes=100_000, maxzoom=5)
        assert not list(tmp_path.iterdir())


def _pids(parent: int) -> list[int]:
    """The processes that one started."""
    return [
        int(pid) for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()
    ]


def _children() -> list[str]:
    """The running programs that this process started."""
    listed = subprocess.run(["ps", "-o", "comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [line for line in listed.stdout.split() if "tippecanoe" in line]


def test_collections_count_as_their_members(tmp_path: Path) -> None:
    """tippecanoe makes a feature of each member."""
    members = [Point(1, 1), shapely.LineString([(1, 1), (2, 2)]), shapely.MultiPoint([(3, 3), (4, 4)])]
    source = frame([shapely.GeometryCollection(members), Point(9, 9)], n=[1, 2])

    report = write_mbtiles(source, tmp_path / "x.mbtiles", maxzoom=5)

    assert (report.features, report.geometries, report.incomplete) == (2, 4, 0)
    assert values(tmp_path / "x.mbtiles", 5, "x", "n") == {1, 2}

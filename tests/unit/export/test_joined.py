from __future__ import annotations

import contextlib
import gzip
import json
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas
import mapbox_vector_tile
import numpy as np
import pytest
import shapely
from shapely.geometry import box

from airflow_mapbox.emulator.mbtilescheck import check_mbtiles
from airflow_mapbox.errors import UnreadableSourceError
from airflow_mapbox.export import join_mbtiles, joined, write_mbtiles
from airflow_mapbox.export.errors import EmptyExportError, NoSpaceError, TilerError
from airflow_mapbox.export.tiles.vectortile import merge_tiles
from airflow_mapbox.preflight import check_source
from tests.unit.export.support import frame
from tests.unit.export.test_examples_in_docstrings import run

ZOOMS = {"minzoom": 3, "maxzoom": 9}
Features = dict[tuple[int, int, int], list[dict[str, Any]]]


def squares(count: int = 400, *, seed: int = 0, **columns: Any) -> geopandas.GeoDataFrame:
    """Squares of different sizes; some of them cross the edges of tiles."""
    rng = np.random.default_rng(seed)
    x, y, size = rng.uniform(-10, 10, count), rng.uniform(40, 60, count), rng.uniform(0.02, 0.6, count)
    return frame(shapely.box(x, y, x + size, y + size), n=np.arange(count), **columns)


def parts_of(rows: geopandas.GeoDataFrame, folder: Path, count: int, **options: Any) -> list[Path]:
    """Write every nth row to its own file, so that most tiles have features of all parts."""
    paths = [folder / f"part-{number}.mbtiles" for number in range(count)]
    for number, path in enumerate(paths):
        write_mbtiles(rows.iloc[number::count], path, **{"name": "squares", **ZOOMS, **options})
    return paths


def features(path: Path, layer: str = "squares") -> Features:
    """Return the features of each tile, without their ids."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles").fetchall()
    found = {}
    for *address, data in rows:
        tile = mapbox_vector_tile.decode(gzip.decompress(data))
        found[tuple(address)] = [
            {"properties": feature["properties"], "geometry": feature["geometry"]}
            for feature in tile.get(layer, {"features": []})["features"]
        ]
    return found


def metadata(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, value FROM metadata"))


def execute(path: Path, sql: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(sql, values)


@pytest.mark.slow
def test_the_joined_tileset_has_every_feature_once_in_each_tile_that_it_touches(tmp_path: Path) -> None:
    rows = squares(kind=["a", "b"] * 200, size=np.linspace(0, 1, 400))

    report = join_mbtiles(parts_of(rows, tmp_path, 4), tmp_path / "made" / "all.mbtiles", name="squares")

    write_mbtiles(rows, tmp_path / "one.mbtiles", name="squares", **ZOOMS)
    maxzoom = ZOOMS["maxzoom"]
    made = {where: tile for where, tile in features(tmp_path / "made" / "all.mbtiles").items() if where[0] == maxzoom}
    whole = {where: tile for where, tile in features(tmp_path / "one.mbtiles").items() if where[0] == maxzoom}
    assert {feature["properties"]["n"] for tile in made.values() for feature in tile} == set(range(400))
    assert made.keys() == whole.keys()
    for where, tile in made.items():
        assert max(Counter(feature["properties"]["n"] for feature in tile).values()) == 1
        key = lambda feature: feature["properties"]["n"]  # noqa: E731
        assert sorted(tile, key=key) == sorted(whole[where], key=key)
    assert sum(map(len, made.values())) > 400, "no square crosses the edge of a tile"
    assert (report.parts, report.layers, report.minzoom, report.maxzoom, report.tier) == (4, ("squares",), 3, 9, "10m")
    assert [item.name for item in (tmp_path / "made").iterdir()] == ["all.mbtiles"]


def test_the_report_names_the_file_and_can_be_an_uploads_source(tmp_path: Path) -> None:
    rows, path = squares(), tmp_path / "all.mbtiles"

    report = join_mbtiles(parts_of(rows, tmp_path, 2), path)

    document = json.loads(json.dumps(report.to_json()))
    assert document["path"] == str(path)
    assert document["bytes"] == path.stat().st_size
    assert document["bounds"] == pytest.approx(rows.total_bounds, abs=0.001)
    assert document["layers"] == ["squares"]
    assert document["tiles"] == len(features(path)) >= document["merged"] > 0
    assert "2 parts joined" in str(report)


@pytest.mark.slow
def test_joined_tilesets_pass_mapboxs_rules_and_contain_no_local_path(tmp_path: Path) -> None:
    path = tmp_path / "all.mbtiles"
    join_mbtiles(parts_of(squares(), tmp_path, 3), path, name="My squares")

    check_mbtiles(path, tick=lambda: None)
    assert check_source(path).ok
    assert metadata(path)["name"] == "My squares"
    assert str(tmp_path).encode() not in path.read_bytes()


def test_tiles_of_one_part_are_copied_as_they_are(tmp_path: Path) -> None:
    west, east = frame([box(-9, 40, -8, 41)], n=[1]), frame([box(8, 40, 9, 41)], n=[2])
    for name, rows in (("west", west), ("east", east)):
        write_mbtiles(rows, tmp_path / f"{name}.mbtiles", name="squares", **ZOOMS)

    report = join_mbtiles([tmp_path / "west.mbtiles", tmp_path / "east.mbtiles"], tmp_path / "all.mbtiles")

    def tiles(name: str) -> set[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(tmp_path / f"{name}.mbtiles")) as db:
            return set(db.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"))

    apart = tiles("west") | tiles("east")
    assert report.merged == 0
    assert tiles("all") == apart
    assert report.tiles == len(apart)


def test_layers_and_attributes_of_all_parts_are_described(tmp_path: Path) -> None:
    write_mbtiles(squares(10, a=1, b="x"), tmp_path / "1.mbtiles", name="squares", **ZOOMS)
    write_mbtiles(squares(10, a="y"), tmp_path / "2.mbtiles", name="squares", **ZOOMS)
    write_mbtiles(squares(10), tmp_path / "3.mbtiles", name="others", **ZOOMS)

    report = join_mbtiles((tmp_path / f"{number}.mbtiles" for number in (1, 2, 3)), tmp_path / "all.mbtiles")

    described = {
        layer["id"]: layer["fields"]
        for layer in json.loads(metadata(tmp_path / "all.mbtiles")["json"])["vector_layers"]
    }
    assert described == {"squares": {"n": "Number", "a": "Mixed", "b": "String"}, "others": {"n": "Number"}}
    assert report.layers == ("squares", "others")
    low = [tile for where, tile in features(tmp_path / "all.mbtiles", "others").items() if where[0] == 3]
    assert any(low)


def with_layers(path: Path, layers: Any) -> Path:
    """Replace the description of the layers."""
    execute(path, "UPDATE metadata SET value = ? WHERE name = 'json'", json.dumps({"vector_layers": layers}))
    return path


def test_a_layer_whose_zooms_only_one_part_names_is_joined(tmp_path: Path) -> None:
    first, second = parts_of(squares(20), tmp_path, 2)
    with_layers(first, [{"id": "squares", "fields": {"n": "Number"}}])
    with_layers(second, [{"id": "squares", "fields": {"n": "Number"}, "minzoom": 3, "maxzoom": 9}])

    join_mbtiles([first, second], tmp_path / "joined.mbtiles")

    (layer,) = json.loads(metadata(tmp_path / "joined.mbtiles")["json"])["vector_layers"]
    assert layer == {"id": "squares", "fields": {"n": "Number"}, "minzoom": 3, "maxzoom": 9}


@pytest.mark.parametrize("layers", [None, {}, ["squares"], [{"fields": {}}], [{"id": 3}], [{"id": "a", "fields": []}]])
def test_a_part_whose_layers_are_described_wrongly_is_named(tmp_path: Path, layers: Any) -> None:
    first, second = parts_of(squares(20), tmp_path, 2)

    with pytest.raises(UnreadableSourceError, match=r"part-1\.mbtiles is not MBTiles of vector tiles"):
        join_mbtiles([first, with_layers(second, layers)], tmp_path / "joined.mbtiles")


def test_merged_tiles_keep_ids_geometries_and_attributes_of_random_features() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    values = [1, 2.5, -3, "x", "é" * 60, True, *map(str, range(300))]

    def feature(number: int) -> dict[str, Any]:
        keys = rng.sample([f"key {key}" for key in range(200)], rng.randrange(4))
        ring = box(*sorted(rng.sample(range(2048), 2)), *sorted(rng.sample(range(2048, 4096), 2)))
        return {"geometry": ring, "properties": {key: rng.choice(values) for key in keys}, "id": number}

    tiles = [
        [{"name": name, "features": [feature(1000 * part + number) for number in range(rng.randrange(1, 40))]}
         for name in rng.sample(["a", "b", "c"], 2)]
        for part in range(4)
    ]  # fmt: skip
    encoded = [mapbox_vector_tile.encode(tile) for tile in tiles]

    merged = mapbox_vector_tile.decode(gzip.decompress(merge_tiles(map(gzip.compress, encoded))))

    expected: dict[str, list[Any]] = {}
    for tile in map(mapbox_vector_tile.decode, encoded):
        for name, layer in tile.items():
            expected.setdefault(name, []).extend(layer["features"])
    assert {name: layer["features"] for name, layer in merged.items()} == expected
    assert {layer["extent"] for layer in merged.values()} == {4096}


def test_a_layer_with_another_extent_is_refused() -> None:
    layer = {"name": "a", "features": [{"geometry": "POINT (1 1)", "properties": {}}]}
    tiles = [mapbox_vector_tile.encode([layer], default_options={"extents": extent}) for extent in (4096, 8192)]

    with pytest.raises(TilerError, match=r"'a' has extent 4096 .* 8192"):
        merge_tiles(map(gzip.compress, tiles))


def test_parts_of_other_zooms_are_refused_and_named(tmp_path: Path) -> None:
    first = parts_of(squares(20), tmp_path, 1)
    write_mbtiles(squares(20), tmp_path / "deep.mbtiles", name="squares", minzoom=3, maxzoom=10)

    with pytest.raises(TilerError, match=r"deep\.mbtiles has zooms 3 to 10, .*part-0\.mbtiles has 3 to 9"):
        join_mbtiles([*first, tmp_path / "deep.mbtiles"], tmp_path / "all.mbtiles")

    assert not (tmp_path / "all.mbtiles").exists()


def test_a_joined_tile_that_is_too_large_is_an_error_that_names_tile_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = parts_of(squares(), tmp_path, 2)
    (tmp_path / "all.mbtiles").write_bytes(b"of an earlier run")
    largest = max(len(data) for (data,) in sqlite3.connect(paths[0]).execute("SELECT tile_data FROM tiles"))
    monkeypatch.setattr(joined, "TILE_BYTES", largest + 1)

    with pytest.raises(TilerError, match=r"(?s)Tile \d/\d+/\d+ of 2 joined parts has .* minzoom="):
        join_mbtiles(paths, tmp_path / "all.mbtiles")

    assert (tmp_path / "all.mbtiles").read_bytes() == b"of an earlier run"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["all.mbtiles", "part-0.mbtiles", "part-1.mbtiles"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist on this machine"), (b"", "no such table"), (b"not SQLite" * 100, "not a database")],
    ids=["missing", "empty", "another format"],
)
def test_a_part_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    paths = [*parts_of(squares(20), tmp_path, 1), tmp_path / "broken.mbtiles"]
    if content is not None:
        paths[1].write_bytes(content)

    with pytest.raises(UnreadableSourceError, match=rf"(?s)broken\.mbtiles.*{message}"):
        join_mbtiles(paths, tmp_path / "all.mbtiles")


def test_a_part_whose_tiles_are_not_compressed_is_named(tmp_path: Path) -> None:
    paths = parts_of(squares(20), tmp_path, 2)
    execute(paths[1], "UPDATE images SET tile_data = ?", b"no gzip")

    with pytest.raises(UnreadableSourceError, match=r"part-1\.mbtiles cannot be read"):
        join_mbtiles(paths, tmp_path / "all.mbtiles")


def test_a_part_without_the_tables_of_vector_tiles_is_named(tmp_path: Path) -> None:
    (path,) = parts_of(squares(20), tmp_path, 1)
    execute(path, "DELETE FROM metadata WHERE name = 'json'")

    with pytest.raises(UnreadableSourceError, match=r"part-0\.mbtiles is not MBTiles of vector tiles \(KeyError"):
        join_mbtiles([path], tmp_path / "all.mbtiles")


def test_parts_without_a_tile_make_no_file(tmp_path: Path) -> None:
    (path,) = parts_of(squares(20), tmp_path, 1)
    execute(path, "DELETE FROM map")

    with pytest.raises(EmptyExportError):
        join_mbtiles([path], tmp_path / "all.mbtiles")

    assert [item.name for item in tmp_path.iterdir()] == ["part-0.mbtiles"]


def test_no_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parts"):
        join_mbtiles([], tmp_path / "all.mbtiles")


@pytest.mark.slow
def test_a_full_disk_is_an_error_that_a_retry_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = parts_of(squares(200), tmp_path, 2)
    monkeypatch.setattr(joined, "_PRAGMAS", joined._PRAGMAS + "PRAGMA max_page_count = 8;")

    with pytest.raises(NoSpaceError, match="no space left") as caught:
        join_mbtiles(paths, tmp_path / "all.mbtiles")

    assert caught.value.retryable
    assert not (tmp_path / "all.mbtiles").exists()


@pytest.mark.slow
def test_equal_tiles_are_stored_once(tmp_path: Path) -> None:
    sea = frame([box(-80, -60, 80, 60)], n=[1])
    write_mbtiles(sea, tmp_path / "sea.mbtiles", name="sea", minzoom=0, maxzoom=7)

    report = join_mbtiles([tmp_path / "sea.mbtiles"], tmp_path / "all.mbtiles")

    with contextlib.closing(sqlite3.connect(tmp_path / "all.mbtiles")) as db:
        (images,) = db.execute("SELECT count(*) FROM images").fetchone()
    assert report.tiles > 2000
    assert images < report.tiles / 5


@pytest.mark.slow
def test_the_example_in_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("west", "east"):
        squares(10).to_parquet(f"{side}.parquet")

    report = run(join_mbtiles)["report"]

    assert (report.parts, report.layers, report.path) == (2, ("parcels",), Path("parcels.mbtiles"))

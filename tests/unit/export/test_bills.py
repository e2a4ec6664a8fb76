"""The bill in an export's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
import shapely

from airflow_mapbox.export import stream_geojson, write_auto, write_geojson, write_mbtiles
from airflow_mapbox.export.area_zooms import AreaZooms
from airflow_mapbox.preflight import estimate_area

RNG = np.random.default_rng(9)
CORNERS = RNG.uniform((7, 50), (8, 51), (3000, 2))
LAYER = geopandas.GeoDataFrame(
    {"name": [f"parcel {number}" for number in range(3000)], "id": range(3000)},
    geometry=shapely.box(*CORNERS.T, *(CORNERS + 0.001).T),
    crs=4326,
)


def test_the_bill_of_geojson_is_by_the_bytes_of_the_file(tmp_path: Path) -> None:
    report = write_geojson(LAYER, tmp_path / "layer.geojson")

    assert report.bill.bytes == report.bytes == (tmp_path / "layer.geojson").stat().st_size
    assert report.bill.maxzoom_is_expected
    assert report.to_json()["bill"] == report.bill.to_json()
    assert "Billed by size" in str(report)


def test_savings_agree_with_exports_without_them(tmp_path: Path) -> None:
    whole = write_geojson(LAYER, tmp_path / "whole.geojson")
    coarse = write_geojson(LAYER, tmp_path / "coarse.geojson", decimals=5)
    unnamed = write_geojson(LAYER, tmp_path / "unnamed.geojson", columns=["id"])

    savings = whole.bill.savings
    assert savings is not None
    assert savings.decimals[5] == pytest.approx(whole.bytes - coarse.bytes, rel=0.02)
    assert savings.attributes["name"] == pytest.approx(whole.bytes - unnamed.bytes, rel=0.001)


@pytest.mark.parametrize(("maxzoom", "tier"), [(5, "free"), (8, "10m"), (12, "1m"), (14, "30cm"), (17, "1cm")])
def test_a_tileset_is_billed_at_the_zoom_of_its_own_tier(tmp_path: Path, maxzoom: int, tier: str) -> None:
    report = write_mbtiles(LAYER.head(20), tmp_path / "layer.mbtiles", maxzoom=maxzoom)

    assert (report.bill.maxzoom, report.bill.tier, report.bill.maxzoom_is_expected) == (maxzoom, tier, False)
    assert report.bill.mbtiles_bytes == report.bill.bytes == report.bytes
    assert report.bill.area_km2 == pytest.approx(estimate_area(LAYER.head(20), tier=tier), rel=1e-3)


def test_layers_that_share_tiles_are_billed_once(tmp_path: Path) -> None:
    both = write_mbtiles({"one": LAYER.head(50), "two": LAYER.head(50)}, tmp_path / "both.mbtiles", maxzoom=12)
    single = write_mbtiles(LAYER.head(50), tmp_path / "one.mbtiles", maxzoom=12)

    assert both.bill.area_km2 == single.bill.area_km2


def test_write_auto_has_the_bill_of_what_it_wrote(tmp_path: Path) -> None:
    geojson = write_auto(LAYER.head(50), tmp_path / "small")
    tiles = write_auto(LAYER.head(50), tmp_path / "large", limit_bytes=1000, maxzoom=12)

    assert geojson.bill.maxzoom_is_expected
    assert (tiles.bill.maxzoom, tiles.bill.area_km2) == (12, pytest.approx(estimate_area(LAYER.head(50), tier="1m")))


def test_a_precision_that_was_not_collected_says_how_to_get_it(tmp_path: Path) -> None:
    tiles = write_auto(LAYER.head(5), tmp_path / "large", limit_bytes=1000, tier="1cm", maxzoom=17)

    assert tiles.bill.area_km2 is None
    assert 'tier="1cm"' in str(tiles.bill)


def test_a_stream_has_the_same_bill_for_any_number_of_threads() -> None:
    bills = []
    for threads in (1, 3):
        with stream_geojson(LAYER, threads=threads, batch_rows=100) as stream:
            for _ in stream:
                pass
        bills.append(stream.report.bill)

    assert bills[0].to_json() == bills[1].to_json()


def test_zooms_of_tiers_that_cannot_be_chosen_any_more_are_dropped() -> None:
    zooms = AreaZooms.of_geojson()

    assert zooms.within((7.0, 50.0, 7.1, 50.1)) == (14, 11, 6)
    assert zooms.within((7.0, 50.0, 60.0, 70.0)) == (11, 6)
    # A small file with large bounds has a low maxzoom.
    zooms.add(10, 1_000)
    assert zooms.within((7.0, 50.0, 7.1, 50.1), total=1_000) == (11, 6), "1 % of the features says little"
    zooms.add(90, 9_000)
    assert zooms.within((7.0, 50.0, 7.1, 50.1), total=1_000) == (6,)
    assert AreaZooms.of_tileset(17).within((-180, -85, 180, 85)) == (17,)
    assert AreaZooms.of_tileset(5).within((-180, -85, 180, 85)) == ()


@pytest.mark.parametrize("arrow", [False, True])
def test_the_report_names_the_attributes_that_most_written_features_have(tmp_path: Path, arrow: bool) -> None:
    columns = {
        "half": [None, 1.5, None],
        "all": ["x", "y", "z"],
        "none": [None, None, None],
        "in a dropped row": ["x", None, None],
        "infinite": [float("inf")] * 3,
        "a category": pandas.Series(["q", "r", None], dtype="category"),
    }
    geometry = [None, shapely.Point(1, 1), shapely.Point(2, 2)]
    source: Any = geopandas.GeoDataFrame(columns, geometry=geometry, crs=4326)
    if arrow:
        source.to_parquet(tmp_path / "layer.parquet")
        source = tmp_path / "layer.parquet"

    report = write_geojson(source, tmp_path / "layer.geojson")

    assert report.fields == ("half", "all", "a category")
    assert report.to_json()["fields"] == ["half", "all", "a category"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.date32(), [-800_000, None]),
        (pa.timestamp("s"), [-70_000_000_000, 300_000_000_000]),
        (pa.timestamp("us", "UTC"), [-70_000_000_000_000_000, None]),
        (pa.duration("s"), [2**62, None]),
        (pa.dictionary(pa.int32(), pa.date32()), [-800_000, None]),
    ],
    ids=str,
)
def test_dates_that_python_lacks_are_attributes_like_others(tmp_path: Path, kind: Any, values: list[int]) -> None:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    column = pa.array(values, pa.int32() if pa.types.is_date32(plain) else pa.int64()).cast(plain)
    column = column.dictionary_encode() if plain != kind else column
    frame = geopandas.GeoDataFrame(geometry=shapely.points([[1, 1], [2, 2]]), crs=4326)
    frame.to_parquet(tmp_path / "layer.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "layer.parquet")
    pyarrow.parquet.write_table(table.append_column("when", column), tmp_path / "layer.parquet")

    report = write_geojson(tmp_path / "layer.parquet", tmp_path / "layer.geojson")

    assert report.fields == ("when",)


def test_dates_that_python_lacks_may_be_in_a_frame_too(tmp_path: Path) -> None:
    column = pandas.Series(
        pa.array([-800_000, None], pa.int32()).cast(pa.date32()), dtype=pandas.ArrowDtype(pa.date32())
    )
    number = pandas.Series([float("nan"), float("inf")], dtype=pandas.ArrowDtype(pa.float64()))
    columns = {"when": column, "number": number}
    frame = geopandas.GeoDataFrame(columns, geometry=shapely.points([[1, 1], [2, 2]]), crs=4326)

    assert write_geojson(frame, tmp_path / "layer.geojson").fields == ("when",)

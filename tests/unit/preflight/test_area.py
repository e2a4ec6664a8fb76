"""The area and the expected maxzoom of a source, without an export."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from shapely.geometry import Point, box

from airflow_mapbox import preflight
from airflow_mapbox.errors import ExportError, OptionError
from airflow_mapbox.export import write_geojson
from airflow_mapbox.preflight import estimate_area, expected_maxzoom

PARCELS = geopandas.GeoDataFrame({"id": [1, 2]}, geometry=[box(7, 50, 7.2, 50.1), box(8, 50, 8.1, 50.2)], crs=4326)


@pytest.mark.parametrize("suffix", ["parquet", "geojson", "gpkg"])
def test_every_source_has_the_same_area(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"parcels.{suffix}"
    if suffix == "parquet":
        PARCELS.to_parquet(file)
    else:
        PARCELS.to_file(file)

    assert estimate_area(file, tier="1m") == estimate_area(PARCELS, zoom=11) == estimate_area([PARCELS], tier="1m")


def test_data_in_another_system_is_transformed() -> None:
    metres = PARCELS.to_crs(25832)

    assert estimate_area(metres, zoom=11) == estimate_area(PARCELS, zoom=11)
    unnamed = metres.set_crs(None, allow_override=True)
    assert estimate_area(unnamed, zoom=11, crs=25832) == estimate_area(PARCELS, zoom=11)


def test_the_free_tier_has_no_area() -> None:
    assert estimate_area(PARCELS, tier="free") == 0.0


def test_without_zoom_and_tier_the_size_and_bounds_of_the_file_decide(tmp_path: Path) -> None:
    file = tmp_path / "parcels.geojson"
    report = write_geojson(PARCELS, file)

    assert expected_maxzoom(file) == report.bill.maxzoom == 0
    assert estimate_area(file) == report.bill.area_km2 == 0.0


@pytest.mark.slow
def test_the_export_reports_the_same_area_as_the_estimate_of_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform((7, 50), (7.3, 50.2), (20_000, 2))
    dense = geopandas.GeoDataFrame(geometry=shapely.box(*corners.T, *(corners + 0.002).T), crs=4326)
    file = tmp_path / "dense.geojson"

    bill = write_geojson(dense, file).bill

    assert (bill.maxzoom, bill.tier) == (expected_maxzoom(file), "30cm")
    assert bill.area_km2 == pytest.approx(estimate_area(file), rel=1e-9)
    assert bill.area_km2 == pytest.approx(estimate_area(dense, tier="30cm"), rel=1e-3)


@pytest.mark.parametrize(
    "options", [{"zoom": 11, "tier": "1m"}, {"zoom": 18}, {"zoom": True}, {"tier": "5m"}, {"columns": []}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        estimate_area(PARCELS, **options)


@pytest.mark.parametrize("ask", [estimate_area, expected_maxzoom])
def test_a_source_that_is_not_sent_as_it_is_needs_a_zoom(tmp_path: Path, ask: Any) -> None:
    PARCELS.to_parquet(tmp_path / "parcels.parquet")

    for source in (PARCELS, tmp_path / "parcels.parquet"):
        with pytest.raises(OptionError, match="zoom="):
            ask(source)


def test_a_position_that_is_not_on_earth_names_its_feature() -> None:
    far = geopandas.GeoDataFrame(geometry=[Point(0, 0), Point(200, 0)], crs=4326)

    with pytest.raises(ExportError, match=r"Feature 1 .*200"):
        estimate_area(far, zoom=6)


def test_a_missing_file_is_an_export_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        estimate_area(tmp_path / "none.parquet", zoom=6)


@pytest.mark.parametrize("documented", [estimate_area, expected_maxzoom], ids=lambda function: function.__name__)
def test_the_example_in_the_docstring_runs(
    documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PARCELS.to_parquet(tmp_path / "parcels.parquet")
    PARCELS.to_file(tmp_path / "parcels.geojson")
    monkeypatch.chdir(tmp_path)

    example = textwrap.dedent((documented.__doc__ or "").partition("Example::\n")[2])
    exec(compile(example, documented.__name__, "exec"), {name: getattr(preflight, name) for name in preflight.__all__})

    assert float(capsys.readouterr().out) == (
        0 if documented is expected_maxzoom else estimate_area(PARCELS, tier="1m")
    )


def test_importing_the_preflight_and_the_bill_imports_nothing_heavy() -> None:
    code = (
        "import sys, airflow_mapbox.preflight, airflow_mapbox.billing.bill, airflow_mapbox.billing.rates\n"
        "print({'numpy', 'pyarrow', 'geopandas', 'pandas', 'shapely'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "set()"

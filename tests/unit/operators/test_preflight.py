"""The operator's preflight and ceilings: what they stop, and that Mapbox is asked for nothing before."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.exceptions import MapboxFailError
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from tests.connections import connection

NUMBERS = itertools.count()
LAND = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(5, 45, 10, 50)], crs=4326)


@pytest.fixture(scope="module")
def emulator(
    tmp_path_factory: pytest.TempPathFactory, make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator"), settings=make_settings()) as running:
        yield running


@pytest.fixture(autouse=True)
def connected(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))


def run(source: Any, **options: Any) -> dict[str, Any]:
    # A tileset of its own: Mapbox processes one upload of a tileset at a time.
    options = {"tileset": f"points-{next(NUMBERS)}", "task_id": "upload"} | options
    return StageAndCreateUploadOperator(source=source, **options).execute({})  # type: ignore[typeddict-item]


def points(tmp_path: Path, *positions: tuple[float, float]) -> str:
    path = tmp_path / "points.geojson"
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": position}, "properties": {"text": "x" * 200}}
        for position in positions
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


class TestPreflight:
    def test_a_refused_file_fails_without_a_retry_before_mapbox_is_asked_for_anything(
        self, tmp_path: Path, emulator: Emulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = len(emulator.requests)

        with pytest.raises(MapboxFailError, match="another reference system") as failure:
            run(points(tmp_path, (500_000, 4_649_776)))

        assert isinstance(failure.value, AirflowFailException)
        assert len(emulator.requests) == before
        log = capsys.readouterr().out
        for words in ("geojson-range", "Coordinates beyond web mercator range", "Billed by size"):
            assert words in log

    def test_without_the_preflight_the_file_is_sent(self, tmp_path: Path) -> None:
        assert run(points(tmp_path, (500_000, 4_649_776)), preflight=False)["id"]

    def test_a_stream_that_turns_out_to_be_refused_creates_no_upload(self, tmp_path: Path, emulator: Emulator) -> None:
        data = Path(points(tmp_path, *[(7, 50)] * 3_000, (500_000, 1))).read_bytes()
        parts = (data[start : start + 10_000] for start in range(0, len(data), 10_000))
        before = len([request for request in emulator.requests if request.method == "POST"])

        with pytest.raises(MapboxFailError, match="feature 3000"):
            run(parts)

        creates = [request for request in emulator.requests if request.method == "POST"][before:]
        assert [request.path for request in creates if "credentials" not in request.path] == []

    def test_the_bill_is_in_the_result(self, tmp_path: Path) -> None:
        path = points(tmp_path, (7, 50), (8, 51))

        bill = run(path)["source"]["bill"]

        assert bill["bytes"] == Path(path).stat().st_size
        assert (bill["tier"], bill["maxzoom_is_expected"]) == ("free", True)

    def test_the_bill_of_an_export_is_that_of_its_report_with_the_area(self, tmp_path: Path) -> None:
        path = tmp_path / "land.parquet"
        LAND.to_parquet(path)

        bill = run(str(path), format="geojson")["source"]["bill"]

        assert bill["area_km2"] is not None
        assert bill["savings"]["attributes"]["name"] > 0

    def test_the_amount_by_the_configured_rates_is_in_the_result(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__MAPBOX__RATES", '{"per_megabyte": 1000000, "currency": "EUR"}')

        bill = run(points(tmp_path, (7, 50)))["source"]["bill"]

        assert (bill["amount"], bill["currency"]) == (pytest.approx(bill["bytes"]), "EUR")

    def test_rates_without_a_price_for_the_tier_are_no_reason_against_the_upload(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__MAPBOX__RATES", '{"per_km2": {"1cm": 1}}')
        close = [(7 + number / 10_000, 50 + number / 10_000) for number in range(300)]

        bill = run(points(tmp_path, *close), max_area_km2=1e6)["source"]["bill"]

        assert "have no price per km² for tier 30cm" in bill["amount_note"]

    @pytest.mark.slow
    def test_the_area_of_a_csv_is_known_because_mapbox_reads_degrees(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("lon,lat\n7,50\n7.1,50.1\n")

        assert run(str(path), max_area_km2=1e6)["source"]["bill"]["area_km2"] is not None

    def test_rates_that_cannot_be_read_stop_the_task_before_mapbox_is_asked_for_anything(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator
    ) -> None:
        monkeypatch.setenv("AIRFLOW__MAPBOX__RATES", "cheap")
        before = len(emulator.requests)

        with pytest.raises(MapboxFailError, match="is not JSON"):
            run(points(tmp_path, (7, 50)))

        assert len(emulator.requests) == before


class TestCeilings:
    @pytest.mark.parametrize(
        ("ceiling", "words"),
        [
            ({"max_megabytes": 0.0001}, "`max_megabytes` is 0.0001"),
            ({"max_tier": "free"}, "which is tier 30cm; `max_tier` is free"),
            ({"max_area_km2": 2}, "`max_area_km2` is 2"),
        ],
    )
    def test_a_file_above_a_ceiling_fails_before_mapbox_is_asked_for_anything(
        self, tmp_path: Path, emulator: Emulator, ceiling: dict[str, Any], words: str
    ) -> None:
        before = len(emulator.requests)
        close = [(7 + number / 10_000, 50 + number / 10_000) for number in range(300)]

        with pytest.raises(MapboxFailError) as failure:
            run(points(tmp_path, *close), **ceiling)

        assert words in str(failure.value)
        assert "raise the ceiling" in str(failure.value)
        assert isinstance(failure.value, AirflowFailException)
        assert len(emulator.requests) == before

    def test_an_area_that_stays_unknown_stops_the_task_before_a_byte_is_sent(
        self, tmp_path: Path, emulator: Emulator
    ) -> None:
        data = Path(points(tmp_path, *[(7, 50)] * 3_000)).read_bytes()
        before = len(emulator.requests)

        with pytest.raises(MapboxFailError, match="Its area is unknown, so `max_area_km2` cannot be kept"):
            run(io.BytesIO(data), max_area_km2=1e9)

        assert len(emulator.requests) == before

    @pytest.mark.parametrize(("max_tier", "ok"), [("free", False), ("1cm", True)])
    def test_the_tier_of_a_stream_is_known_after_it_was_sent(self, tmp_path: Path, max_tier: str, ok: bool) -> None:
        close = [(7 + number / 100_000, 50 + number / 100_000) for number in range(3_000)]
        data = Path(points(tmp_path, *close)).read_bytes()

        if ok:
            assert run(io.BytesIO(data), max_tier=max_tier)["source"]["bill"]["tier"] == "30cm"
        else:
            with pytest.raises(MapboxFailError, match="`max_tier` is free"):
                run(io.BytesIO(data), max_tier=max_tier)

    @pytest.mark.slow
    def test_a_stream_above_a_ceiling_creates_no_upload(self, tmp_path: Path, emulator: Emulator) -> None:
        path = tmp_path / "land.parquet"
        LAND.to_parquet(path)
        before = len(emulator.requests)

        with pytest.raises(MapboxFailError, match="`max_megabytes`"):
            run(str(path), format="geojson", max_megabytes=0.00001)

        assert [request.path for request in emulator.requests[before:] if "credentials" not in request.path] == []

    def test_a_file_below_all_ceilings_is_uploaded(self, tmp_path: Path) -> None:
        path = points(tmp_path, (7, 50))

        assert run(path, max_megabytes=1, max_area_km2=1e6, max_tier="10m")["id"]

    @pytest.mark.parametrize(
        "ceiling",
        [
            {"max_megabytes": 0},
            {"max_megabytes": "5"},
            {"max_area_km2": -1},
            {"max_tier": "2m"},
            {"max_megabytes": True},
        ],
    )
    def test_an_invalid_ceiling_breaks_the_import_of_the_dag(self, ceiling: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(ceiling))):
            StageAndCreateUploadOperator(task_id="upload", source="a.geojson", tileset="a", **ceiling)

    @pytest.mark.parametrize("ceiling", [{"max_area_km2": 5}, {"max_tier": "1m"}])
    def test_ceilings_that_need_the_preflight_are_refused_without_it(self, ceiling: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="need preflight=True"):
            StageAndCreateUploadOperator(task_id="a", source="a.geojson", tileset="a", preflight=False, **ceiling)

    def test_a_dataset_has_no_size_to_compare_with_a_ceiling(self) -> None:
        with pytest.raises(MapboxFailError, match="is unknown before Mapbox processes it"):
            run("mapbox://datasets/orion/ck0x", max_megabytes=5)

"""GeoDataFrames as sources: items that are not frames, the index, and values of every type that pandas has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import GeometryCollection, Point, Polygon, box

from airflow_mapbox.export import stream_geojson
from airflow_mapbox.export.errors import AttributeNameError, AttributeValueError, UnreadableSourceError
from tests.unit.export.support import features, frame, streamed


def points(count: int = 3, **columns: Any) -> geopandas.GeoDataFrame:
    return frame([Point(n / 100, 0) for n in range(count)], **columns)


class TestItemsThatAreNotFrames:
    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("lazy", [False, True], ids=["list", "generator"])
    def test_none_among_frames_is_an_error_with_its_position(self, place: int, lazy: bool) -> None:
        items: list[Any] = [points(), points()]
        items.insert(place, None)

        with pytest.raises(UnreadableSourceError, match=f"Item {place} of the source is None"):
            features(iter(items) if lazy else items)

    def test_none_from_a_generator_fails_the_export_at_once(self) -> None:
        asked = []

        def days() -> Iterator[geopandas.GeoDataFrame | None]:
            for day, found in enumerate([points(), None, points()]):
                asked.append(day)
                yield found

        with pytest.raises(UnreadableSourceError, match="Item 1 of the source is None"):
            list(stream_geojson(days()))  # type: ignore[arg-type]
        assert asked == [0, 1]

    def test_a_frame_without_geometry_is_named_by_its_place(self) -> None:
        with pytest.raises(UnreadableSourceError, match="Item 1 of the source is a GeoDataFrame without an active"):
            features([points(), geopandas.GeoDataFrame({"a": [1]})])

    def test_an_empty_frame_among_others_is_read(self) -> None:
        assert len(features([points(), points()[:0], points()])) == 6


ROWS = points(s=["a", "a", "b"], v=[1, 2, 3])


class TestIndex:
    @pytest.mark.parametrize("parquet", [False, True], ids=["frame", "parquet"])
    @pytest.mark.parametrize(
        ("indexed", "expected"),
        [
            (lambda: ROWS, {"s": "a", "v": 1}),
            (lambda: ROWS[ROWS.v != 2], {"s": "a", "v": 1}),
            (lambda: ROWS.set_axis(["x", "y", "z"]), {"s": "a", "v": 1}),
            (lambda: ROWS.dissolve("s"), {"s": "a", "v": 1}),
            (lambda: ROWS.dissolve(["s", "v"]), {"s": "a", "v": 1}),
            (lambda: ROWS.rename_axis("fid"), {"fid": 0, "s": "a", "v": 1}),
            (lambda: ROWS[ROWS.v != 1].rename_axis("fid"), {"fid": 1, "s": "a", "v": 2}),
            (lambda: ROWS[::-1].rename_axis("fid"), {"fid": 2, "s": "b", "v": 3}),
            (lambda: ROWS.set_index("s", drop=False), {"s": "a", "v": 1}),
            (lambda: ROWS.set_index(pd.to_datetime(["2026-01-02"] * 3).rename("day")).drop(columns=["s", "v"]),
             {"day": "2026-01-02T00:00:00"}),
            (lambda: ROWS.set_index(pd.CategoricalIndex(["k"] * 3, name="kind")), {"kind": "k", "s": "a", "v": 1}),
            (lambda: ROWS.explode(index_parts=True), {"level_0": 0, "level_1": 0, "s": "a", "v": 1}),
        ],
        ids=[
            "counted", "filtered", "of unnamed strings", "dissolved", "dissolved by two", "named count",
            "named and filtered", "named and reversed", "also a column", "dates", "categories", "of two unnamed levels",
        ],
    )  # fmt: skip
    def test_an_index_is_an_attribute_if_it_has_a_name_or_levels(
        self, tmp_path: Path, indexed: Callable[[], geopandas.GeoDataFrame], expected: dict[str, Any], parquet: bool
    ) -> None:
        source: Any = indexed()
        if parquet:
            source.to_parquet(tmp_path / "x.parquet")
            source = tmp_path / "x.parquet"

        assert features(source)[0]["properties"] == expected

    def test_an_index_is_counted_on_through_the_batches_of_a_file(self, tmp_path: Path) -> None:
        points(1000, v=range(1000)).rename_axis("fid").to_parquet(tmp_path / "x.parquet", row_group_size=100)

        found = features(tmp_path / "x.parquet", batch_rows=7)

        assert [feature["properties"]["fid"] for feature in found] == list(range(1000))

    def test_an_index_can_be_chosen_by_its_name(self, tmp_path: Path) -> None:
        ROWS.dissolve("s").to_parquet(tmp_path / "x.parquet")

        for source in (ROWS.dissolve("s"), tmp_path / "x.parquet"):
            assert features(source, columns=["s"])[0]["properties"] == {"s": "a"}
            assert features(source, columns=["v"])[0]["properties"] == {"v": 1}

    def test_an_index_of_whole_numbers_past_53_bits_is_text_like_any_column(self, tmp_path: Path) -> None:
        wide = points(1, v=[1]).set_index(pd.Index([2**60], name="id"))
        wide.to_parquet(tmp_path / "x.parquet")

        for source in (wide, tmp_path / "x.parquet"):
            assert features(source)[0]["properties"] == {"id": str(2**60), "v": 1}


def test_metadata_of_pandas_that_names_no_column_of_the_file_is_ignored(tmp_path: Path) -> None:
    ROWS.dissolve("s").to_parquet(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    for changed in (
        table.drop_columns("s"),
        table.replace_schema_metadata({**table.schema.metadata, b"pandas": b"[nonsense"}),
        table.replace_schema_metadata({**table.schema.metadata, b"pandas": b'{"index_columns": [{}]}'}),
    ):
        pq.write_table(changed, tmp_path / "y.parquet")
        assert features(tmp_path / "y.parquet")[0]["properties"]["v"] == 1


def test_metadata_of_a_geoparquet_file_may_stand_beside_the_schema(tmp_path: Path) -> None:
    """GDAL and geoarrow write the key into the file's own metadata, beside an Arrow schema that lacks it."""
    ROWS.dissolve("s").to_parquet(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    with pq.ParquetWriter(tmp_path / "y.parquet", table.schema.remove_metadata()) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(table.schema.metadata)
    assert b"geo" not in (pq.read_schema(tmp_path / "y.parquet").metadata or {})

    assert features(tmp_path / "y.parquet") == features(tmp_path / "x.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "z.parquet")
    with pytest.raises(UnreadableSourceError, match="is Parquet but not GeoParquet"):
        features(tmp_path / "z.parquet")


def test_a_column_of_the_name_of_another_is_an_error_in_parquet_too(tmp_path: Path) -> None:
    ROWS.to_parquet(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    pq.write_table(table.append_column("v", table.column("v")), tmp_path / "y.parquet")

    with pytest.raises(AttributeNameError, match="More than one column is called v"):
        features(tmp_path / "y.parquet")


def nested(depth: int) -> list[Any]:
    value: list[Any] = [1]
    for _ in range(depth):
        value = [value]
    return value


def of_arrow(values: list[Any], kind: pa.DataType) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values, kind)))


class TestTypes:
    """What pandas knows of its own types ends somewhere; what it raises there tells no reader which column it is."""

    @pytest.mark.parametrize(
        ("column", "expected"),
        [
            (pd.Series(np.array([1.5, np.nan], np.longdouble)), [1.5, None]),
            (pd.Series([np.longdouble(1.5), "a"]), [1.5, "a"]),
            (pd.Series([[np.longdouble(1.5)]]), ["[1.5]"]),
            (of_arrow(["a", None], pa.string_view()), ["a", None]),
            (of_arrow([["a"], None], pa.list_view(pa.string_view())), ['["a"]', None]),
            (of_arrow([["a"]], pa.large_list(pa.large_string())), ['["a"]']),
            (of_arrow([Decimal("1.5")], pa.decimal32(5, 1)), [1.5]),
            (of_arrow([1.5], pa.float16()), [1.5]),
            (pd.Series([Decimal("NaN"), Decimal("-Infinity")]), [None, None]),
        ],
        ids=lambda value: str(value.dtype) if isinstance(value, pd.Series) else "",
    )
    def test_types_are_written(self, column: pd.Series, expected: list[Any]) -> None:
        found = features(points(len(column), v=column))

        assert [feature["properties"]["v"] for feature in found] == expected

    @pytest.mark.parametrize("as_text", [(), ("v",)], ids=["", "as text"])
    @pytest.mark.parametrize(
        "column",
        [
            pd.Series(np.array([1.5 + 1j], np.clongdouble)),
            pd.Series(np.array([np.longdouble("1e4000")])),
            of_arrow([b"a"], pa.binary_view()),
            of_arrow([(1, 2, 3)], pa.month_day_nano_interval()),
            pd.Series([Decimal("sNaN"), Decimal(1)]),
            pd.Series([nested(300)]),
            pd.Series([nested(2000)]),
            pd.Series([{"a": nested(2000)}]),
            pd.Series([10**5000]),
            pd.Series([object()]),
        ],
        ids=lambda value: str(value.dtype) if isinstance(value, pd.Series) else "",
    )
    def test_types_without_a_form_in_json_are_an_error_that_names_the_column(
        self, column: pd.Series, as_text: tuple[str, ...]
    ) -> None:
        with pytest.raises(AttributeValueError, match=r"(?s)^Column 'v' .*(?s:.)*drop the\s+column"):
            features(points(len(column), v=column), as_text=as_text)

    def test_types_without_a_form_in_json_do_not_affect_other_columns(self) -> None:
        (written,) = features(points(1, v=pd.Series([nested(2000)]), n=[1]), columns=["n"])

        assert written["properties"] == {"n": 1}


@pytest.mark.parametrize("crs", [4326, 3857])
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a collection"])
@pytest.mark.parametrize("high", [False, True], ids=["2D", "3D"])
def test_a_ring_becomes_a_line(wrapped: bool, high: bool, crs: int) -> None:
    ring = shapely.force_3d(box(0, 0, 2, 1).exterior, 5) if high else box(0, 0, 2, 1).exterior
    source = frame([GeometryCollection([ring, Point(0, 0)]) if wrapped else ring], crs=crs)

    written = features(source, decimals=15)[0]["geometry"]
    line = written["geometries"][0] if wrapped else written

    assert line["type"] == "LineString"
    assert len(line["coordinates"]) == 5
    assert line["coordinates"][0] == line["coordinates"][-1]
    assert {len(position) for position in line["coordinates"]} == {3 if high else 2}


def test_the_outlines_of_polygons_are_written_beside_features_without_one() -> None:
    polygons = frame([box(0, 0, 1, 1), None, Polygon()])

    document, report = streamed(polygons.set_geometry(polygons.exterior))

    assert [feature["geometry"]["type"] for feature in document["features"]] == ["LineString"]
    assert report.dropped == {"no geometry": 1, "empty geometry": 1}

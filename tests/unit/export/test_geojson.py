from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import logging
import random
import re
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from airflow_mapbox.export import ExportError, stream_geojson, write_geojson
from airflow_mapbox.export.errors import (
    AttributeNameError,
    AttributeValueError,
    CoordinatesError,
    EmptyExportError,
    MissingCrsError,
    UnreadableSourceError,
)
from airflow_mapbox.preflight import check_source

WGS84 = "EPSG:4326"
TOLERANCE = 1e-7


def frame(geometries: Any, crs: Any = WGS84, **columns: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns, geometry=geometries, crs=crs)


def exported(source: Any, tmp_path: Path, **options: Any) -> list[dict[str, Any]]:
    """Write a source and give the features that any JSON decoder reads from the file."""
    path = tmp_path / "out.geojson"
    report = write_geojson(source, path, **options)
    document = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    assert document["type"] == "FeatureCollection"
    assert list(document) == ["type", "features"]
    assert report.features == len(document["features"])
    assert all(list(feature) == ["type", "geometry", "properties"] for feature in document["features"])
    return list(document["features"])


def properties(values: Any, tmp_path: Path, crs: str = WGS84) -> list[Any]:
    """Give what a column of values becomes."""
    source = frame([Point(0, 0)] * len(values), crs, value=values)
    return [feature["properties"]["value"] for feature in exported(source, tmp_path)]


def assert_same(feature: dict[str, Any], geometry: shapely.Geometry) -> None:
    written = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert shapely.equals_exact(written.normalize(), geometry.normalize(), tolerance=TOLERANCE), (written, geometry)


def _refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


class TestSources:
    def test_a_frame_is_written_in_its_order(self, tmp_path: Path) -> None:
        features = exported(frame([Point(1, 2), Point(3, 4)], name=["a", "b"]), tmp_path)

        assert [feature["properties"]["name"] for feature in features] == ["a", "b"]
        assert features[1]["geometry"] == {"type": "Point", "coordinates": [3, 4]}

    def test_an_index_of_any_kind_does_not_matter(self, tmp_path: Path) -> None:
        source = frame([Point(1, 2), None, Point(3, 4)], n=[1, 2, 3])
        source.index = ["x", "x", "y"]

        assert [feature["properties"] for feature in exported(source, tmp_path)] == [{"n": 1}, {"n": 3}]

    def test_a_geometry_column_of_another_name_is_found_and_further_ones_left_out(self, tmp_path: Path) -> None:
        source = frame([Point(1, 2)], n=[1]).rename_geometry("shape")
        source["centre"] = geopandas.GeoSeries([Point(9, 9)], crs=WGS84)

        (feature,) = exported(source, tmp_path)

        assert feature["properties"] == {"n": 1}
        assert feature["geometry"]["coordinates"] == [1, 2]

    def test_an_iterable_of_frames_may_mix_reference_systems(self, tmp_path: Path) -> None:
        here = frame([Point(13.4, 52.5)], n=[1])

        features = exported(iter([here, here.to_crs(25833), here.to_crs(3857)]), tmp_path)

        for feature in features:
            assert_same(feature, Point(13.4, 52.5))

    def test_an_iterable_is_consumed_one_frame_at_a_time(self) -> None:
        given, taken = 0, []

        def frames() -> Iterator[geopandas.GeoDataFrame]:
            for number in range(4):
                taken.append(given)
                yield frame([Point(number, 0)], n=[number])

        with stream_geojson(frames()) as stream:
            for piece in stream:
                given += len(piece)

        assert taken == sorted(set(taken)), "what came before each frame is given before the next is asked for"

    @pytest.mark.parametrize("rows", [1, 7, 10, 25, None])
    def test_the_size_of_batches_does_not_change_the_output(self, tmp_path: Path, rows: int | None) -> None:
        features = exported(frame([Point(n, 0) for n in range(25)], n=range(25)), tmp_path, batch_rows=rows)

        assert [feature["properties"]["n"] for feature in features] == list(range(25))

    @pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
    @pytest.mark.parametrize(
        "geometries",
        [
            [Point(1, 2), Point(3, 4), Point(5, 6)],
            [LineString([(0, 0), (1, 1)]), LineString([(2, 2), (3, 3), (4, 5)])],
            [box(0, 0, 1, 1), box(0, 0, 9, 9).difference(box(2, 2, 3, 3))],
            [MultiPoint([(0, 0), (1, 1)]), MultiPoint([(5, 5)])],
            [shapely.MultiLineString([[(0, 0), (1, 1)], [(2, 2), (3, 3)]])],
            [MultiPolygon([box(0, 0, 1, 1), box(2, 2, 3, 3)]), MultiPolygon([box(0, 0, 1, 1)])],
            [Point(1, 2, 3), Point(4, 5, 6)],
        ],
        ids=lambda geometries: geometries[0].geom_type,
    )
    def test_geoparquet_is_read_in_every_encoding(
        self, tmp_path: Path, encoding: Any, geometries: list[shapely.Geometry]
    ) -> None:
        source = frame(geometries, n=range(len(geometries)))
        source.to_parquet(tmp_path / "in.parquet", geometry_encoding=encoding)

        features = exported(tmp_path / "in.parquet", tmp_path, batch_rows=2)

        assert [feature["properties"]["n"] for feature in features] == list(range(len(geometries)))
        for feature, geometry in zip(features, geometries, strict=True):
            assert_same(feature, geometry)

    @pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
    def test_geoparquet_in_a_projection_with_nulls_is_reprojected(self, tmp_path: Path, encoding: Any) -> None:
        source = frame([Point(13.4, 52.5), None, Point(13.5, 52.6)], n=[1, 2, 3]).to_crs(25833)
        source.to_parquet(tmp_path / "in.parquet", geometry_encoding=encoding)

        features = exported(tmp_path / "in.parquet", tmp_path)

        assert [feature["properties"]["n"] for feature in features] == [1, 3]
        assert_same(features[1], Point(13.5, 52.6))

    def test_geoparquet_in_three_dimensions_may_have_slices_without_geometries(self, tmp_path: Path) -> None:
        source = frame([None, None, Point(1, 2, 3), Point()], n=range(4))
        source.to_parquet(tmp_path / "in.parquet", geometry_encoding="geoarrow")

        (only,) = exported(tmp_path / "in.parquet", tmp_path, batch_rows=2)

        assert only["geometry"]["coordinates"] == [1, 2, 3]

    @pytest.mark.parametrize(
        ("source", "advice"),
        [
            (pd.DataFrame({"lon": [1]}), r"DataFrame.*points_from_xy"),
            (geopandas.GeoSeries([Point(1, 2)], crs=4326), r"(?s)GeoSeries.*to_frame"),
            ({"a": frame([Point(1, 2)])}, r"(?s)dict.*write_mbtiles"),
            (5, r"(?s)int.*GeoDataFrame"),
        ],
        ids=["DataFrame", "GeoSeries", "dict", "int"],
    )
    def test_an_unsupported_source_is_refused_with_a_way_to_convert_it(
        self, tmp_path: Path, source: Any, advice: str
    ) -> None:
        with pytest.raises(UnreadableSourceError, match=advice):
            exported(source, tmp_path)

    def test_geoparquet_of_geometries_alone_is_read_in_batches(self, tmp_path: Path) -> None:
        frame([Point(n, 0) for n in range(7)]).to_parquet(tmp_path / "in.parquet")

        features = exported(str(tmp_path / "in.parquet"), tmp_path, batch_rows=3)

        assert [feature["properties"] for feature in features] == [{}] * 7

    def test_geoparquet_with_an_index_of_names_is_read(self, tmp_path: Path) -> None:
        source = frame([Point(1, 2), Point(3, 4)], n=[1, 2]).set_index(pd.Index(["a", "b"], name="key"))
        source.to_parquet(tmp_path / "in.parquet")

        features = exported(tmp_path / "in.parquet", tmp_path)

        assert [feature["properties"]["n"] for feature in features] == [1, 2]

    def test_geoparquet_that_does_not_name_a_crs_is_in_longitude_latitude(self, tmp_path: Path) -> None:
        path = _with_geo(tmp_path, lambda column: column.pop("crs"))

        assert_same(exported(path, tmp_path)[0], Point(1, 2))

    def test_geoparquet_whose_crs_is_null_needs_one_given(self, tmp_path: Path) -> None:
        path = _with_geo(tmp_path, lambda column: column.update(crs=None))

        with pytest.raises(MissingCrsError, match="crs="):
            exported(path, tmp_path)
        assert_same(exported(path, tmp_path, crs="EPSG:4326")[0], Point(1, 2))

    def test_integers_beside_nulls_stay_integers(self, tmp_path: Path) -> None:
        table = pa.table({"big": [2**53 - 1, None], "flag": [True, None], "text": ["a", None]})
        _geoparquet(tmp_path / "in.parquet", table, [Point(1, 2), Point(3, 4)])

        features = exported(tmp_path / "in.parquet", tmp_path)

        assert features[0]["properties"] == {"big": 2**53 - 1, "flag": True, "text": "a"}
        assert features[1]["properties"] == {"big": None, "flag": None, "text": None}
        assert '"big":9007199254740991,' in (tmp_path / "out.geojson").read_text()

    def test_nested_columns_of_geoparquet_are_written_as_json_text(self, tmp_path: Path) -> None:
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
        columns = {
            "texts": [["a", "b"], None],
            "numbers": [[1, 2], []],
            "record": [{"x": 1, "y": ["z"]}, {"x": None, "y": None}],
            "moments": pa.array([[moment, None], []], pa.list_(pa.timestamp("us"))),
            "day": [moment.date(), None],
            "kind": pa.array(["a", None]).dictionary_encode(),
        }
        _geoparquet(tmp_path / "in.parquet", pa.table(columns), [Point(1, 2), Point(3, 4)])

        first, second = (feature["properties"] for feature in exported(tmp_path / "in.parquet", tmp_path))

        assert first == {
            "texts": '["a","b"]',
            "numbers": "[1,2]",
            "record": '{"x":1,"y":["z"]}',
            "moments": '["2026-01-02T03:04:05",null]',
            "day": "2026-01-02",
            "kind": "a",
        }
        assert second == {
            "texts": None,
            "numbers": "[]",
            "record": '{"x":null,"y":null}',
            "moments": "[]",
            "day": None,
            "kind": None,
        }

    def test_the_bounding_boxes_that_geoparquet_keeps_for_itself_are_left_out(self, tmp_path: Path) -> None:
        source = frame([Point(1, 2)], n=[1])
        source.to_parquet(tmp_path / "in.parquet", write_covering_bbox=True)

        assert exported(tmp_path / "in.parquet", tmp_path)[0]["properties"] == {"n": 1}

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 nonsense PAR1", b"{}", b"PAR1" + bytes(100) + b"PAR1"])
    def test_a_file_that_is_not_parquet_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "in.parquet").write_bytes(content)

        with pytest.raises(UnreadableSourceError, match=r"in\.parquet"):
            exported(tmp_path / "in.parquet", tmp_path)
        _assert_no_output(tmp_path)

    def test_a_file_damaged_in_its_middle_is_named_and_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "in.parquet"
        frame([Point(n, n / 9) for n in range(50)], text=[secrets.token_hex(50) for _ in range(50)]).to_parquet(path)
        data = bytearray(path.read_bytes())
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
        path.write_bytes(data)

        with pytest.raises(UnreadableSourceError, match=r"in\.parquet"):
            exported(path, tmp_path)
        _assert_no_output(tmp_path)

    @pytest.mark.parametrize(
        "geo",
        [
            b"{",
            b"[]",
            b"{}",
            b'{"primary_column":"geometry","columns":{}}',
            b'{"primary_column":"geometry","columns":{"geometry":{}}}',
            b'{"primary_column":"x","columns":{"x":{"encoding":"WKB"}}}',
            b'{"primary_column":"geometry","columns":{"geometry":{"encoding":"WKT"}}}',
            b'{"primary_column":"geometry","columns":{"geometry":{"encoding":"WKB","crs":"nonsense"}}}',
            b'{"primary_column":"geometry","columns":{"geometry":{"encoding":"WKB","crs":{"id":"EPSG:4326"}}}}',
            b'{"primary_column":"geometry","columns":{"geometry":{"encoding":"WKB","crs":{"id":{"authority":[]}}}}}',
            b'{"primary_column":"geometry","columns":{"geometry":{"encoding":"WKB","edges":"spherical"}}}',
        ],
    )
    def test_geoparquet_metadata_that_make_no_sense_are_an_error_that_names_the_file(
        self, tmp_path: Path, geo: bytes
    ) -> None:
        table = pa.table({"geometry": [shapely.to_wkb(Point(1, 2))]}).replace_schema_metadata({b"geo": geo})
        pq.write_table(table, tmp_path / "in.parquet")

        with pytest.raises(UnreadableSourceError, match=r"in\.parquet"):
            exported(tmp_path / "in.parquet", tmp_path)
        _assert_no_output(tmp_path)

    def test_parquet_without_geometry_is_not_taken_for_geoparquet(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"n": [1]}), tmp_path / "in.parquet")

        with pytest.raises(UnreadableSourceError, match=r"in\.parquet is Parquet but not GeoParquet"):
            exported(tmp_path / "in.parquet", tmp_path)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableSourceError, match=r"missing\.parquet does not exist"):
            exported(tmp_path / "missing.parquet", tmp_path)
        _assert_no_output(tmp_path)

    def test_an_item_that_is_not_a_frame_is_named_by_its_number(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableSourceError, match="Item 1 of the source is a DataFrame"):
            exported([frame([Point(1, 2)]), pd.DataFrame({"a": [1]})], tmp_path)
        _assert_no_output(tmp_path)

    @pytest.mark.parametrize("source", [None, 7, pd.DataFrame])
    def test_an_unsupported_source_is_refused(self, tmp_path: Path, source: Any) -> None:
        with pytest.raises(UnreadableSourceError, match="cannot be exported"):
            exported(source, tmp_path)

    def test_a_frame_without_a_geometry_column_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableSourceError, match="set_geometry"):
            exported(geopandas.GeoDataFrame({"n": [1]}), tmp_path)


class TestReferenceSystems:
    def test_a_frame_without_one_is_an_error_that_names_the_parameter(self, tmp_path: Path) -> None:
        with pytest.raises(MissingCrsError, match="crs="):
            exported(frame([Point(1, 2)], None), tmp_path)
        _assert_no_output(tmp_path)

    def test_the_one_given_is_for_frames_without_their_own_only(self, tmp_path: Path) -> None:
        here = frame([Point(13.4, 52.5)])
        without = here.to_crs(25833).set_crs(None, allow_override=True)

        report = write_geojson([without, here], tmp_path / "out.geojson", crs=25833)

        for feature in json.loads((tmp_path / "out.geojson").read_text())["features"]:
            assert_same(feature, Point(13.4, 52.5))
        (note,) = (note for note in report.notes if "crs=" in note)
        assert "EPSG:25833" in note
        assert "EPSG:4326 (WGS 84)" in note
        assert "allow_override" in note

    def test_a_crs_that_equals_the_datas_needs_no_note(self, tmp_path: Path) -> None:
        report = write_geojson(frame([Point(13.4, 52.5)]), tmp_path / "out.geojson", crs="OGC:CRS84")

        assert report.notes == ()

    def test_an_ignored_crs_is_named_if_coordinates_are_off_the_globe(self, tmp_path: Path) -> None:
        with pytest.raises(CoordinatesError, match=r"(?s)crs=EPSG:2223 .* was not used.*EPSG:4326.*allow_override"):
            exported(frame([Point(650_000, 900_000)]), tmp_path, crs=2223)

    @pytest.mark.parametrize("crs", ["nonsense", "EPSG:999999", {}, 3.5])
    def test_a_crs_unknown_to_proj_is_an_error_that_names_the_parameter(self, tmp_path: Path, crs: Any) -> None:
        with pytest.raises(ExportError, match="crs="):
            exported(frame([Point(1, 2)], None), tmp_path, crs=crs)
        _assert_no_output(tmp_path)

    def test_a_crs_of_no_place_on_earth_is_an_error(self, tmp_path: Path) -> None:
        local = 'LOCAL_CS["site grid",UNIT["metre",1]]'

        with pytest.raises(ExportError, match="site grid"):
            exported(frame([Point(1, 2)], local), tmp_path)
        _assert_no_output(tmp_path)

    @pytest.mark.parametrize(
        ("crs", "coordinates", "expected"),
        [
            ("EPSG:4326", (13.4, 52.5), (13.4, 52.5)),
            ("OGC:CRS84", (13.4, 52.5), (13.4, 52.5)),
            ("EPSG:4979", (13.4, 52.5, 34.5), (13.4, 52.5, 34.5)),
            # Defined northing, easting; frames hold easting, northing. The false origins tell the axes.
            ("EPSG:2193", (1_600_000, 10_000_000), (173.0, 0.0)),
            ("EPSG:3035", (4_321_000, 3_210_000), (10.0, 52.0)),
            ("EPSG:31467", (3_500_000, 0), (9.0, 0.0)),
            ("EPSG:3857", (20037508.342789244, 0), (180.0, 0.0)),
            ("EPSG:32633", (500_000, 0), (15.0, 0.0)),
        ],
    )
    def test_x_is_longitude_for_every_axis_order(
        self, tmp_path: Path, crs: str, coordinates: tuple[float, ...], expected: tuple[float, ...]
    ) -> None:
        (feature,) = exported(frame([Point(coordinates)], crs), tmp_path)

        written = feature["geometry"]["coordinates"]
        datum_shift = 5e-3 if crs == "EPSG:31467" else TOLERANCE
        assert written[:2] == pytest.approx(expected[:2], abs=datum_shift)
        assert len(written) == len(expected)
        if len(expected) == 3:
            assert written[2] == pytest.approx(expected[2], abs=1e-3)

    def test_the_edge_of_the_mercator_map_is_on_the_map(self, tmp_path: Path) -> None:
        edge = 20037508.342789244

        (feature,) = exported(frame([Point(-edge, edge)], 3857), tmp_path)

        assert feature["geometry"]["coordinates"] == [-180.0, 85.0511287]
        assert check_source(tmp_path / "out.geojson").ok


class TestGeometries:
    def test_rings_are_wound_by_the_right_hand_rule(self, tmp_path: Path) -> None:
        ring = Polygon([(0, 0), (0, 9), (9, 9), (9, 0)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
        both = MultiPolygon([ring, Polygon([(20, 0), (20, 1), (21, 1), (21, 0)])])
        nested = shapely.GeometryCollection([ring, shapely.GeometryCollection([both])])

        for geometry in (ring, ring.reverse(), both, both.reverse(), nested):
            (feature,) = exported(frame([geometry]), tmp_path)
            rings = _rings(feature["geometry"])
            assert rings
            for outer, *holes in rings:
                assert shapely.LinearRing(outer).is_ccw
                assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)

    def test_null_and_empty_ones_are_dropped_and_counted(self, tmp_path: Path) -> None:
        geometries = [Point(1, 2), None, Polygon(), Point(), Point(3, 4), None, None]

        report = write_geojson(frame(geometries, n=range(7)), tmp_path / "x.geojson", batch_rows=2)

        assert (report.features_read, report.features) == (7, 2)
        assert report.dropped == {"no geometry": 3, "empty geometry": 2}

    @pytest.mark.parametrize(
        "bad",
        [
            Point(float("nan"), 1),
            Point(1, float("nan")),
            Point(float("nan"), float("nan")),
            Point(float("inf"), 1),
            Point(1, float("-inf")),
            LineString([(0, 0), (float("nan"), 1)]),
            Point(1, 2, float("inf")),
            Point(1, 2, float("nan")),
            LineString([(0, 0, 0), (1, 1, float("nan"))]),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("crs", [WGS84, "OGC:CRS84", "EPSG:3857"])
    def test_coordinates_that_are_not_finite_name_the_feature_by_its_place_in_the_source(
        self, tmp_path: Path, bad: shapely.Geometry, crs: str
    ) -> None:
        fine = frame([Point(1, 2), None, Point(1, 2)], crs)
        worse = frame([Point(1, 2), Point(), bad], crs)

        with pytest.raises(CoordinatesError, match=r"(?s)Feature 5 .*not finite"):
            exported([fine, worse], tmp_path, batch_rows=2)
        _assert_no_output(tmp_path)

    @pytest.mark.parametrize(
        ("coordinates", "crs"),
        [
            ((180.000001, 0), WGS84),
            ((0, 85.06), WGS84),
            ((52.5, 113.4), WGS84),
            ((500_000, 4_649_776), WGS84),
            ((0, 89), "EPSG:4258"),
            ((2.5e7, 0), "EPSG:4087"),
        ],
    )
    def test_coordinates_off_the_map_name_the_feature_by_its_place_in_the_source(
        self, tmp_path: Path, coordinates: tuple[float, float], crs: str
    ) -> None:
        source = frame([None, Point(0, 0), LineString([(0, 0), coordinates])], crs)

        if crs == "EPSG:4087":  # transformed around the world it is on the map again
            exported(source, tmp_path)
            return
        with pytest.raises(CoordinatesError, match=r"(?s)Feature 2 .*85\.0511"):
            exported(source, tmp_path, batch_rows=1, beyond_mercator="error")
        _assert_no_output(tmp_path)

    @pytest.mark.parametrize("wkb", [struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0), b"nonsense", b""])
    def test_curves_and_other_bytes_that_shapely_cannot_read_are_an_error_that_names_the_file(
        self, tmp_path: Path, wkb: bytes
    ) -> None:
        geo = {"primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
        table = pa.table({"geometry": [shapely.to_wkb(Point(0, 0)), wkb]})
        pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), tmp_path / "in.parquet")

        with pytest.raises(UnreadableSourceError, match=r"in\.parquet"):
            exported(tmp_path / "in.parquet", tmp_path)
        _assert_no_output(tmp_path)

    def test_dimensions_may_be_mixed(self, tmp_path: Path) -> None:
        geometries = [Point(1, 2, 3), Point(4, 5), LineString([(0, 0, 1), (1, 1, 2)])]

        features = exported(frame(geometries), tmp_path)

        assert [feature["geometry"]["coordinates"] for feature in features] == [
            [1, 2, 3],
            [4, 5],
            [[0, 0, 1], [1, 1, 2]],
        ]

    def test_degrees_are_rounded_to_the_decimals_wanted(self, tmp_path: Path) -> None:
        source = frame([Point(1.23456789012, -0.00000001)])

        (seven,) = exported(source, tmp_path)
        (three,) = exported(source, tmp_path, decimals=3)

        assert seven["geometry"]["coordinates"] == [1.2345679, 0]
        assert three["geometry"]["coordinates"] == [1.235, 0]
        assert "-0" not in (tmp_path / "out.geojson").read_text()


class TestAttributes:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1, 2**53], [1, 2**53]),
            ([1, 2**62, -1], ["1", str(2**62), "-1"]),
            (pd.array([1, None, -(2**62)], dtype="Int64"), ["1", None, str(-(2**62))]),
            (np.array([1, 2**64 - 1], dtype="uint64"), ["1", str(2**64 - 1)]),
            ([1, 2**70, None], ["1", str(2**70), None]),
            ([decimal.Decimal(1), decimal.Decimal(2**60)], ["1", str(2**60)]),
            ([1.5, float("nan"), float("inf"), float("-inf")], [1.5, None, None, None]),
            ([True, False], [True, False]),
            (["a", None, "ü \"'\\\n\t\u2028 😀 </script>"], ["a", None, "ü \"'\\\n\t\u2028 😀 </script>"]),
            (pd.array([1, None], dtype="Int64"), [1, None]),
            (pd.array([1.5, None], dtype="Float64"), [1.5, None]),
            (pd.array([True, None], dtype="boolean"), [True, None]),
            (pd.array(["a", None], dtype="string"), ["a", None]),
            (pd.Categorical(["a", None, "a"]), ["a", None, "a"]),
            (np.array([0.5, np.nan], dtype="float32"), [0.5, None]),
            (np.array([1, 2], dtype="uint8"), [1, 2]),
            (pd.to_datetime(["2026-01-02T03:04:05.5", None]), ["2026-01-02T03:04:05.500000", None]),
            (
                pd.to_datetime(["2026-07-01T12:00", None]).tz_localize("Europe/Berlin"),
                ["2026-07-01T12:00:00+02:00", None],
            ),
            (pd.to_timedelta(["90s", None]), [90.0, None]),
            ([datetime.date(2026, 1, 2), None], ["2026-01-02", None]),
            ([datetime.time(3, 4, 5), None], ["03:04:05", None]),
            ([decimal.Decimal("1.5"), decimal.Decimal("NaN"), decimal.Decimal("Infinity")], [1.5, None, None]),
            ([pd.NA, None, pd.NaT, float("nan")], [None] * 4),
            ([1, "a", 2.5, None, True], [1, "a", 2.5, None, True]),
            ([float("inf"), "a"], [None, "a"]),
            ([{"a": [1, None, {"b": "c"}]}, None], ['{"a":[1,null,{"b":"c"}]}', None]),
            ([[], {}, ""], ["[]", "{}", ""]),
        ],
        ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
    )
    def test_attributes_come_back_equal(self, tmp_path: Path, values: Any, expected: list[Any]) -> None:
        written = properties(values, tmp_path)

        assert written == expected
        assert [type(value) for value in written] == [type(value) for value in expected]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.int64(5), 5),
            (np.float32(0.5), 0.5),
            (np.float64("nan"), None),
            (np.bool_(True), True),
            (np.str_("a"), "a"),
            (np.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
            (np.datetime64("NaT"), None),
            (np.timedelta64(90, "s"), 90.0),
            (pd.Timestamp("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
            (pd.Timestamp("2026-07-01T12:00", tz="Europe/Berlin"), "2026-07-01T12:00:00+02:00"),
            (datetime.datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), "2026-07-01T12:00:00+02:00"),
            (datetime.datetime(2026, 7, 1, 12), "2026-07-01T12:00:00"),
            (pd.NaT, None),
            (pd.NA, None),
            (pd.Timedelta("90s"), 90.0),
            (float("-inf"), None),
        ],
        ids=lambda value: f"{type(value).__name__} {value}"[:40],
    )
    def test_scalars_of_numpy_and_pandas_are_written_wherever_they_stand(
        self, tmp_path: Path, value: Any, expected: Any
    ) -> None:
        column = pd.Series([None, None, "other"], dtype=object)
        column[0] = value
        assert properties(column, tmp_path) == [expected, None, "other"]

        column[0] = {"in": [value]}
        nested, *others = properties(column, tmp_path)
        assert json.loads(nested) == {"in": [expected]}
        assert others == [None, "other"]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.array([1, 2]), [1, 2]),
            (np.array(["a", None], dtype=object), ["a", None]),
            (np.array([1.5, np.nan]), [1.5, None]),
            (np.array(["2026-01-02", "NaT"], dtype="datetime64[s]"), ["2026-01-02T00:00:00", None]),
        ],
        ids=str,
    )
    def test_arrays_in_cells_are_json_text(self, tmp_path: Path, value: Any, expected: list[Any]) -> None:
        column = pd.Series([None, "other"], dtype=object)
        column[0] = value

        text, other = properties(column, tmp_path)

        assert (json.loads(text), other) == (expected, "other")

    @pytest.mark.parametrize(
        "value",
        [b"bytes", bytearray(b"x"), {1, 2}, 1 + 2j, object(), {"a": b"x"}, [b"x"], 2**70, "\ud800"],
        ids=[
            "bytes",
            "bytearray",
            "set",
            "complex",
            "object",
            "bytes in a dict",
            "bytes in a list",
            "2**70",
            "surrogate",
        ],
    )
    def test_values_without_a_form_in_json_name_their_column_and_do_not_show_themselves(
        self, tmp_path: Path, value: Any
    ) -> None:
        source = frame([Point(0, 0), Point(1, 1)], fine=[1, 2], photo=pd.Series(["x", value], dtype=object))

        with pytest.raises(AttributeValueError, match="Column 'photo'"):
            exported(source, tmp_path)
        _assert_no_output(tmp_path)

    @pytest.mark.parametrize("names", [["a", "a"], [1, "1"]])
    def test_two_columns_of_one_name_are_an_error_that_names_them(self, tmp_path: Path, names: list[Any]) -> None:
        source = frame([Point(0, 0)])
        values = pd.DataFrame([[1, 2]], columns=names)
        source = geopandas.GeoDataFrame(values, geometry=source.geometry)

        with pytest.raises(AttributeNameError, match=str(names[0])):
            exported(source, tmp_path)
        _assert_no_output(tmp_path)

    def test_names_that_are_not_strings_become_strings(self, tmp_path: Path) -> None:
        source = geopandas.GeoDataFrame(pd.DataFrame([[1, 2]], columns=[7, 'q"ü']), geometry=[Point(0, 0)], crs=WGS84)

        assert exported(source, tmp_path)[0]["properties"] == {"7": 1, 'q"ü': 2}

    @pytest.mark.parametrize("name", ["arcs", "objects", "tilejson", "type", "x" * 600])
    def test_no_attribute_makes_the_file_look_like_another_format(self, tmp_path: Path, name: str) -> None:
        value = '"arcs":"objects":"tilejson":' * 40

        exported(frame([Point(0, 0)], **{name: [value]}), tmp_path)

        head = re.sub(r"\s", "", (tmp_path / "out.geojson").read_text()[:400])
        assert head == '{"type":"FeatureCollection","features":['
        assert check_source(tmp_path / "out.geojson").ok


class TestWholeOrAbsent:
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError, GeneratorExit])
    @pytest.mark.parametrize("before", [None, b"the previous file"])
    def test_an_export_killed_in_its_middle_keeps_the_previous_file(
        self, tmp_path: Path, error: type[BaseException], before: bytes | None
    ) -> None:
        path = tmp_path / "out.geojson"
        if before is not None:
            path.write_bytes(before)

        def frames() -> Iterator[geopandas.GeoDataFrame]:
            yield frame([Point(0, 0)])
            assert len(list(tmp_path.glob(".*.part"))) == 1
            raise error("stopped")

        with pytest.raises(error, match="stopped"):
            write_geojson(frames(), path)

        assert [item.name for item in tmp_path.iterdir()] == ([] if before is None else ["out.geojson"])
        assert before is None or path.read_bytes() == before

    def test_the_previous_file_is_there_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "out.geojson"
        path.write_bytes(b"the previous file")

        def frames() -> Iterator[geopandas.GeoDataFrame]:
            yield frame([Point(0, 0)])
            assert path.read_bytes() == b"the previous file"

        write_geojson(frames(), path)

        assert json.loads(path.read_bytes())["features"]
        assert [item.name for item in tmp_path.iterdir()] == ["out.geojson"]

    @pytest.mark.parametrize(
        "source",
        [
            frame([]),
            [],
            [frame([]), frame([])],
            frame([None, Point(), Polygon()]),
            frame([None], None),
        ],
        ids=["empty frame", "no frames", "empty frames", "nothing but empty geometries", "no crs either"],
    )
    def test_an_export_without_features_is_an_error_with_counts_and_no_file(self, tmp_path: Path, source: Any) -> None:
        with pytest.raises(EmptyExportError, match=r"no feature to write: \d were read"):
            exported(source, tmp_path)
        _assert_no_output(tmp_path)

    def test_folders_above_the_file_are_made(self, tmp_path: Path) -> None:
        report = write_geojson(frame([Point(0, 0)]), tmp_path / "a" / "b" / "x.geojson")

        assert report.path.is_file()

    def test_the_file_is_for_everybody_whom_the_umask_lets_read(self, tmp_path: Path) -> None:
        import os

        before = os.umask(0o027)
        try:
            write_geojson(frame([Point(0, 0)]), tmp_path / "x.geojson")
        finally:
            os.umask(before)

        assert (tmp_path / "x.geojson").stat().st_mode & 0o777 == 0o640


class TestReport:
    def test_the_report_tells_the_file_the_counts_the_systems_and_the_bounds(self, tmp_path: Path) -> None:
        first = frame([Point(-10.5, 3), None])
        second = frame([Point(20, 40), LineString([(0, -5), (1, 1)])]).to_crs(25833)
        path = tmp_path / "x.geojson"

        report = write_geojson([first, second], str(path))

        data = path.read_bytes()
        assert report.path == path
        assert report.bytes == len(data)
        assert report.sha256 == hashlib.sha256(data).hexdigest()
        assert (report.features_read, report.features, report.dropped) == (4, 3, {"no geometry": 1})
        assert report.crs_from == ("EPSG:4326 (WGS 84)", "EPSG:25833 (ETRS89 / UTM zone 33N)")
        assert report.crs_to == "OGC:CRS84"
        assert report.bounds == pytest.approx((-10.5, -5, 20, 40), abs=TOLERANCE)

    def test_the_report_is_json_and_a_line_of_the_log(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="airflow_mapbox"):
            report = write_geojson(frame([Point(1, 2), None]), tmp_path / "x.geojson")

        assert json.loads(json.dumps(report.to_json())) == report.to_json()
        assert report.to_json()["bounds"] == [1, 2, 1, 2]
        assert "2 features read, 1 written, 1 dropped (no geometry)" in caplog.text


@pytest.mark.parametrize("crs", [WGS84, "EPSG:3857", "EPSG:4979", "EPSG:3035"])
def test_a_random_frame_comes_back(tmp_path: Path, crs: str) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    geometries = [_random_geometry(rng) for _ in range(300)]
    columns: dict[str, list[Any]] = {
        "integer": [rng.choice([0, -1, 2**53, rng.randrange(-(2**53), 2**53)]) for _ in geometries],
        "real": [rng.choice([0.0, -0.0, 1e-300, 1e300, rng.uniform(-1e6, 1e6), float("nan")]) for _ in geometries],
        "text": [_random_text(rng) for _ in geometries],
        "nested": [rng.choice([None, {"k": [1, _random_text(rng)]}, [_random_text(rng)]]) for _ in geometries],
        "flag": [rng.random() < 0.5 for _ in geometries],
    }
    source = frame(geometries, WGS84, **columns)

    report = write_geojson(source.to_crs(crs), tmp_path / "x.geojson", batch_rows=rng.randrange(1, 400))

    features = json.loads((tmp_path / "x.geojson").read_bytes())["features"]
    assert len(features) == report.features == len(geometries)
    for row, feature in enumerate(features):
        assert_same(feature, geometries[row])
        for name, values in columns.items():
            expected = None if isinstance(values[row], float) and np.isnan(values[row]) else values[row]
            found = feature["properties"][name]
            assert (json.loads(found) if name == "nested" and found else found) == expected, (row, name)
    assert report.bounds == pytest.approx(source.total_bounds, abs=TOLERANCE)
    assert check_source(tmp_path / "x.geojson").ok


def _random_geometry(rng: random.Random) -> shapely.Geometry:
    x, y = rng.uniform(-8, 28), rng.uniform(38, 68)

    def near() -> tuple[float, float]:
        return x + rng.uniform(-1, 1), y + rng.uniform(-1, 1)

    square = box(x, y, x + rng.uniform(0.1, 1), y + rng.uniform(0.1, 1))
    hole = square.difference(box(x + 0.01, y + 0.01, x + 0.05, y + 0.05))
    kinds = [
        Point(x, y),
        MultiPoint([near(), near()]),
        LineString([near(), near(), near()]),
        shapely.MultiLineString([[near(), near()], [near(), near()]]),
        square,
        hole,
        MultiPolygon([hole, box(x + 2, y, x + 3, y + 1)]),
        shapely.GeometryCollection([Point(near()), square]),
    ]
    return rng.choice(kinds)


def _random_text(rng: random.Random) -> str:
    return "".join(rng.choice('aZ0 "\\/\n\t\x00\x1f\x7fäß漢😀\u2028{}[],:') for _ in range(rng.randrange(12)))


def _rings(geometry: dict[str, Any]) -> list[list[Any]]:
    if geometry["type"] == "GeometryCollection":
        return [rings for member in geometry["geometries"] for rings in _rings(member)]
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else list(geometry["coordinates"])


def _assert_no_output(folder: Path) -> None:
    assert not [item.name for item in folder.iterdir() if "out.geojson" in item.name]


def _geoparquet(path: Path, table: pa.Table, geometries: list[shapely.Geometry]) -> None:
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
    }
    table = table.append_column("geometry", pa.array([shapely.to_wkb(geometry) for geometry in geometries]))
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)


def _with_geo(folder: Path, change: Any) -> Path:
    """Write GeoParquet whose metadata of the geometry column are changed."""
    path = folder / "in.parquet"
    frame([Point(1, 2)], n=[1]).to_parquet(path)
    table = pq.read_table(path)
    geo = json.loads(table.schema.metadata[b"geo"])
    change(geo["columns"]["geometry"])
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)
    return path

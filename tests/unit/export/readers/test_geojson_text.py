"""What GDAL does not tell of a GeoJSON document: the reference system that it names, and ids."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import Point

from airflow_mapbox.export.errors import AttributeNameError, ExportError, MissingCrsError
from airflow_mapbox.export.readers import geojson_text
from airflow_mapbox.export.readers.geojson_text import named_crs
from tests.unit.export.support import features, frame, streamed

POINT = {"type": "Point", "coordinates": [1, 2]}


def feature(properties: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"type": "Feature", **members, "geometry": POINT, "properties": properties}


def collection(path: Path, *rows: dict[str, Any], first: Any = None, last: Any = None) -> Path:
    document = {"type": "FeatureCollection", **(first or {}), "features": list(rows), **(last or {})}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def named(name: object) -> dict[str, Any]:
    return {"type": "name", "properties": {"name": name}}


UNKNOWN = [
    named("urn:ogc:def:crs:EPSG::999999"),
    named("My Local Grid"),
    named(5),
    {"type": "link", "properties": {"href": "http://example.com/crs/42", "type": "proj4"}},
    {"type": "EPSG", "properties": {"code": 999999}},
    {"type": "name"},
    {},
    "EPSG:3857",
    None,
]


class TestReferenceSystem:
    @pytest.mark.parametrize("where", ["first", "last"])
    @pytest.mark.parametrize("crs", UNKNOWN, ids=str)
    def test_an_unknown_reference_system_is_not_guessed(self, tmp_path: Path, crs: Any, where: str) -> None:
        path = collection(tmp_path / "x.geojson", feature({"a": 1}), **{where: {"crs": crs}})

        with pytest.raises(MissingCrsError, match=r"(?s)x\.geojson .*crs="):
            features(path)
        document, report = streamed(path, crs=3857)

        assert document["features"][0]["geometry"]["coordinates"] == [9e-06, 1.8e-05]
        assert report.crs_from == ("EPSG:3857 (WGS 84 / Pseudo-Mercator)",)
        assert report.notes == ()

    @pytest.mark.parametrize(
        ("crs", "projected"),
        [
            (named("urn:ogc:def:crs:OGC:1.3:CRS84"), False),
            (named("CRS84"), False),
            (named("http://www.opengis.net/def/crs/EPSG/0/4326"), False),
            (named("urn:ogc:def:crs:EPSG::3857"), True),
            (named("EPSG:3857"), True),
            ({"type": "EPSG", "properties": {"code": 3857}}, True),
        ],
        ids=str,
    )
    def test_a_reference_system_that_the_document_names_is_used(
        self, tmp_path: Path, crs: Any, projected: bool
    ) -> None:
        path = collection(tmp_path / "x.geojson", feature({"a": 1}), first={"crs": crs})

        assert features(path)[0]["geometry"]["coordinates"] == ([9e-06, 1.8e-05] if projected else [1, 2])

    def test_a_property_called_crs_is_not_a_reference_system(self, tmp_path: Path) -> None:
        rows = [feature({"crs": named("nowhere"), "a": '"crs": {'}, note={"crs": None})] * 3

        assert len(features(collection(tmp_path / "x.geojson", *rows))) == 3

    def test_a_reference_system_of_a_single_feature_and_of_a_gzipped_file_is_read_too(self, tmp_path: Path) -> None:
        single = json.dumps(feature({"a": 1}, crs=named("My Local Grid"))).encode()
        (tmp_path / "x.geojson").write_bytes(single)
        (tmp_path / "x.geojson.gz").write_bytes(gzip.compress(single))

        for name in ("x.geojson", "x.geojson.gz"):
            with pytest.raises(MissingCrsError):
                features(tmp_path / name)

    @pytest.mark.parametrize("block", [1 << 20, 100, 7])
    def test_a_reference_system_is_found_wherever_blocks_end(self, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
        monkeypatch.setattr(geojson_text, "_BLOCK_BYTES", block)
        monkeypatch.setattr(geojson_text, "_MAX_VALUE_BYTES", 200)
        text = json.dumps(
            {"a": {"crs": "no", "b": 'x"}{\\'}, "features": [feature({"crs": None})] * 9, "crs": named("EPSG:3857")}
        )

        found, crs = named_crs(lambda: io.BytesIO(text.encode()))

        assert found
        assert crs is not None
        assert crs.to_epsg() == 3857

    def test_a_reference_system_of_a_shapefile_that_is_a_local_one_is_not_guessed_either(self, tmp_path: Path) -> None:
        frame([Point(1, 2)], crs=None, a=[1]).to_file(tmp_path / "x.shp")
        (tmp_path / "x.prj").write_text('LOCAL_CS["My Local Grid",UNIT["metre",1]]')

        with pytest.raises(ExportError, match=r"(?s)My Local Grid.*crs="):
            features(tmp_path / "x.shp")
        assert features(tmp_path / "x.shp", crs=4326)[0]["geometry"]["coordinates"] == [1, 2]


class TestIds:
    """The id of a feature is not written; with ``id_attribute=`` it is an attribute."""

    @pytest.mark.parametrize("lines", [False, True], ids=["collection", "lines"])
    @pytest.mark.parametrize(
        ("rows", "plain", "ids"),
        [
            ([feature({"a": 1}, id=7), feature({"a": 2}, id=9)], [{"a": 1}, {"a": 2}], [7, 9]),
            ([feature({"a": 1}, id="w/1"), feature({"a": 2}, id="w/2")], [{"a": 1}, {"a": 2}], ["w/1", "w/2"]),
            ([feature({"a": 1}, id=7), feature({"a": 2}, id="x")], [{"a": 1}, {"a": 2}], ["7", "x"]),
            ([feature({"a": 1}), feature({"a": 2}, id="x")], [{"a": 1}, {"a": 2}], [None, "x"]),
            ([feature({"a": 1}, id=-1), feature({"a": 2}, id=-2)], [{"a": 1}, {"a": 2}], [-1, -2]),
            ([feature({"a": 1}, id=1.5)], [{"a": 1}], ["1.5"]),
            ([feature({"a": 1}, id=None)], [{"a": 1}], [None]),
            ([feature({"a": 1}, id=2**53 + 1), feature({"a": 2}, id=1)], [{"a": 1}, {"a": 2}], [str(2**53 + 1), "1"]),
            ([feature({"a": 1}, id=1), feature({"a": 2}, id=1)], [{"a": 1}, {"a": 2}], [1, 1]),
            ([feature({"id": 5}), feature({"id": 6})], [{"id": 5}, {"id": 6}], [None, None]),
            ([feature({"id": "p"}, id="w"), feature({"id": "q"}, id="v")], [{"id": "p"}, {"id": "q"}], ["w", "v"]),
            ([feature({"id": 5}, id=1), feature({"id": 6}, id=2)], [{"id": 5}, {"id": 6}], [1, 2]),
            ([feature({"a": '}{"id": 9'}, id='a"}{')], [{"a": '}{"id": 9'}], ['a"}{']),
        ],
        ids=[
            "numbers", "strings", "both", "some", "negative", "float", "null", "long", "repeated", "properties",
            "strings and properties", "numbers and properties", "quotation marks",
        ],
    )  # fmt: skip
    def test_ids_are_written_on_request(
        self, tmp_path: Path, rows: list[dict[str, Any]], plain: list[Any], ids: list[Any], lines: bool
    ) -> None:
        path = tmp_path / ("x.geojsonl" if lines else "x.geojson")
        if lines:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        else:
            collection(path, *rows)

        assert [one["properties"] for one in features(path)] == plain
        found = [one["properties"] for one in features(path, id_attribute="fid", batch_rows=1)]
        assert found == [{"fid": number, **properties} for number, properties in zip(ids, plain, strict=True)]

    def test_ids_may_be_called_id(self, tmp_path: Path) -> None:
        path = collection(tmp_path / "x.geojson", feature({"a": 1}, id="w"))

        assert features(path, id_attribute="id")[0]["properties"] == {"id": "w", "a": 1}

    def test_ids_may_not_take_the_place_of_a_property(self, tmp_path: Path) -> None:
        path = collection(tmp_path / "x.geojson", feature({"id": 1, "a": 2}, id="w"))

        with pytest.raises(AttributeNameError, match=r"(?s)id_attribute='id'.*property of that name.*columns="):
            features(path, id_attribute="id")
        assert features(path, id_attribute="id", columns=["a"])[0]["properties"] == {"id": "w", "a": 2}

    def test_ids_of_a_collection_are_not_taken_for_ids_of_features(self, tmp_path: Path) -> None:
        rows = [feature({"a": {"id": 3}}, id="x", place={"id": "y"})] * 2
        path = collection(tmp_path / "x.geojson", *rows, first={"id": "root", "meta": {"id": 1}})

        assert [one["properties"]["fid"] for one in features(path, id_attribute="fid")] == ["x", "x"]

    def test_ids_of_many_features_stay_with_them(self, tmp_path: Path) -> None:
        path = collection(tmp_path / "x.geojson", *(feature({"n": n}, id=f"w/{n}") for n in range(20_000)))

        for one in features(path, id_attribute="fid"):
            assert one["properties"]["fid"] == f"w/{one['properties']['n']}"

    def test_ids_are_for_geojson(self, tmp_path: Path) -> None:
        frame([Point(1, 2)], a=[1]).to_file(tmp_path / "x.gpkg")

        with pytest.raises(ValueError, match=r"(?s)id_attribute= cannot be used with .*: it is for GeoJSON"):
            features(tmp_path / "x.gpkg", id_attribute="id")

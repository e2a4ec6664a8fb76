"""GeoJSON: small documents are checked completely, large ones at the beginning and the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.preflight import check_source, formats
from airflow_mapbox.uploads.errors import SourceError
from tests.unit.preflight.support import KML, POINT, WGS84, Stream, Write, as_bytes, collection, with_geometry

RING = [[0, 0], [1, 0], [1, 1], [0, 0]]


class TestSmallDocuments:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"message": "Not Found"}, "Unknown filetype"),
            ({"type": "Topology", "data": 1}, "Unknown filetype"),
            # Mapbox recognises GeoJSON by these members, and then cannot read it.
            ({"type": "Bears", "features": [{"type": "Black"}]}, "Error creating Mapnik Datasource: Invalid geojson"),
            ({"geometryType": "x", "features": [{}]}, "Error creating Mapnik Datasource: Invalid geojson"),
        ],
    )
    def test_json_of_another_type_has_mapboxs_message(self, write: Write, content: Any, message: str) -> None:
        assert [problem.message for problem in check_source(write(content)).problems] == [message]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b'{"type": "FeatureCollection", "features": [', "not JSON"),
            (b'{"type":"FeatureCollection","features":[]}\n{"type":"Feature"}', "one JSON document a line"),
            (b'{"type": "FeatureCollection", "a": NaN}', "not JSON"),
            (b'{"type": "FeatureCollection", ' + b'"a":{' * 3000, "not JSON"),
            (b'{"type": "FeatureCollection", "a": "\xff"}', "not UTF-8"),
            (b'{"type": "FeatureCollection", "a": "\x00"}', "NUL"),
            ({"type": "Topology", "data": 1}, "not GeoJSON"),
            ({"features": []}, "not GeoJSON"),
            ({"type": ["Feature"]}, "not GeoJSON"),
            ({"message": "Not Found"}, "not GeoJSON"),
            ({"error": {"code": 498, "message": "Invalid token."}}, "not GeoJSON"),
            ({"type": "https://example.com/probs/gone", "title": "gone", "coordinates": []}, "not GeoJSON"),
            ({"objectIdFieldName": "FID", "geometryType": "x", "features": [{"attributes": {}}]}, "not GeoJSON"),
            (collection(), "no features"),
            ({"type": "FeatureCollection"}, "`features` is not an array"),
            ({"type": "FeatureCollection", "features": {}}, "`features` is not an array"),
            (collection(POINT, 7), "7 instead of an object in feature 1"),
            (collection(POINT, None), "null instead of an object in feature 1"),
            (collection(POINT, POINT["geometry"]), "'Point' instead of \"Feature\" in feature 1"),
            (collection(POINT, {"geometry": None}), "an object without `type` in feature 1"),
            (collection(POINT, {"type": "FeatureCollection", "features": []}), "feature 1"),
            (collection(POINT, with_geometry(type="Circle", coordinates=[0, 0])), "feature 1"),
            (collection(POINT, POINT | {"geometry": [1, 2]}), "feature 1"),
            (collection(POINT, with_geometry(type="Point")), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates="1,2")), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=7)), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=[1])), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=["1", "2"])), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=[1, None])), "feature 1"),
            (collection(POINT, with_geometry(type="LineString", coordinates=[[1, 2], 3])), "feature 1"),
            (collection(POINT, with_geometry(type="LineString", coordinates=[[1, 2], None])), "feature 1"),
        ],
    )
    def test_an_invalid_small_document_is_a_problem_that_names_the_file_and_the_feature(
        self, write: Write, content: Any, why: str
    ) -> None:
        (problem,) = map(str, check_source(write(content)).problems)

        assert problem.startswith("data.geojson ")
        assert why in problem

    @pytest.mark.parametrize(
        "geometry",
        [
            {"type": "Point", "coordinates": [180, 85.0511]},
            {"type": "Point", "coordinates": [-180.0, -85.0511, 8848]},
            {"type": "Point", "coordinates": []},
            {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 0]]]]},
            {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 0]}]},
            {"type": "GeometryCollection", "geometries": []},
            None,
        ],
    )
    def test_a_valid_small_document_passes(self, write: Write, geometry: Any) -> None:
        assert check_source(write(collection(POINT, POINT | {"geometry": geometry}))).problems == ()

    @pytest.mark.parametrize(
        ("coordinates", "why"),
        [
            ([500_000, 4_649_776], "in another reference system"),
            ([-1e300, 0], "in another reference system"),
            ([10**30, 0], "in another reference system"),
            ([52, 100], "latitude comes first"),
            ([180.0001, 0], "longitudes end at ±180"),
            ([0, 85.06], "latitudes beyond ±85.0511"),
        ],
    )
    def test_positions_beyond_the_map_are_a_problem_with_its_cause_and_feature(
        self, write: Write, coordinates: list[float], why: str
    ) -> None:
        line = with_geometry(type="LineString", coordinates=[[0, 0], coordinates])

        (problem,) = map(str, check_source(write(collection(POINT, POINT, line, line))).problems)

        assert "feature 2" in problem
        assert why in problem
        assert "write_geojson" in problem or 'format="auto"' in problem

    def test_latitudes_of_antarctica_are_refused_with_advice_to_clip(self, write: Write) -> None:
        ring = [[-180, -90], [180, -90], [180, -84], [-180, -84], [-180, -90]]

        (problem,) = map(
            str, check_source(write(collection(POINT, with_geometry(type="Polygon", coordinates=[ring])))).problems
        )

        assert "outside the Web Mercator map" in problem
        assert "beyond_mercator" in problem
        assert "reference system" not in problem
        assert "comes first" not in problem

    def test_the_worst_position_explains_the_others(self, write: Write) -> None:
        metres = with_geometry(type="MultiPoint", coordinates=[[100, 86], [500_000, 4_649_776]])

        (problem,) = map(str, check_source(write(collection(metres))).problems)

        assert "another reference system" in problem

    def test_coordinates_deep_in_a_collection_are_checked(self, write: Write) -> None:
        inner = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 100]}]}

        (problem,) = check_source(
            write(collection(with_geometry(type="GeometryCollection", geometries=[inner])))
        ).problems

        assert "feature 0" in str(problem)
        assert problem.where == "feature 0"

    @pytest.mark.parametrize("name", ["urn:ogc:def:crs:EPSG::25832", "EPSG:3857", "urn:ogc:def:crs:EPSG:6.9:5070"])
    @pytest.mark.parametrize("at_the_end", [False, True])
    def test_a_crs_member_of_another_system_is_a_problem_that_names_it(
        self, write: Write, name: str, at_the_end: bool
    ) -> None:
        crs = {"type": "name", "properties": {"name": name}}
        document = collection(POINT) | {"crs": crs} if at_the_end else collection(POINT, crs=crs)

        (problem,) = map(str, check_source(write(document)).problems)

        assert name in problem
        assert "write_geojson" in problem

    @pytest.mark.parametrize(
        "name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "OGC:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"]
    )
    def test_a_crs_member_that_means_longitude_latitude_passes(self, write: Write, name: str) -> None:
        crs = {"type": "name", "properties": {"name": name}}

        assert check_source(write(collection(POINT, crs=crs))).ok

    @pytest.mark.parametrize("degree", ["Degree", "degree", "Decimal_Degree", "°"])
    def test_a_crs_member_in_wkt_passes_however_it_spells_degrees(self, write: Write, degree: str) -> None:
        crs = {"type": "name", "properties": {"name": WGS84.replace("Degree", degree)}}

        report = check_source(write(collection(POINT, crs=crs)))

        assert (report.problems, report.warnings) == ((), ())

    def test_a_crs_member_in_wkt_with_another_unit_is_a_problem(self, write: Write) -> None:
        name = WGS84.replace('"Degree",0.0174532925199433', '"Grad",0.01570796326794897')

        assert not check_source(write(collection(POINT, crs={"type": "name", "properties": {"name": name}}))).ok

    @pytest.mark.parametrize("crs", [None, "EPSG:3857", {"properties": None}, {"properties": {"name": 5}}, []])
    def test_a_crs_member_without_a_name_is_ignored(self, write: Write, crs: Any) -> None:
        assert check_source(write(collection(POINT, crs=crs))).ok

    @pytest.mark.parametrize("attribute", ["arcs", "objects", "tilejson"])
    def test_an_early_attribute_that_makes_mapbox_read_topojson_or_tilejson_is_a_problem(
        self, write: Write, attribute: str
    ) -> None:
        feature = POINT | {"properties": {attribute: 1}}

        (problem,) = map(str, check_source(write(collection(feature))).problems)
        later = check_source(write(collection(feature, name="x" * 400)))

        assert f'"{attribute}":' in problem
        assert later.ok

    def test_error_lists_each_problem_and_each_remedy_on_its_own_line(self, write: Write) -> None:
        crs = {"type": "name", "properties": {"name": "EPSG:3857"}}
        feature = with_geometry(type="Point", coordinates=[1e6, 6e6]) | {"properties": {"arcs": 1}}
        path = write(collection(feature, crs=crs), "data.csv")

        report = check_source(path)

        with pytest.raises(SourceError) as caught:
            report.raise_for_problems()
        first, *lines = str(caught.value).splitlines()
        assert first == f"{path} was not sent."
        assert len(lines) == 2 * len(report.problems) == 6
        for words, line in zip(('"arcs":', "EPSG:3857", "(1000000, 6000000)"), lines[::2], strict=True):
            assert line.startswith("data.csv ")
            assert words in line
        assert all(line.endswith(".") for line in lines)

    def test_a_file_too_large_under_another_formats_name_has_a_problem_and_a_warning(self) -> None:
        report = check_source(Stream(KML, "a.geojson", formats.KML.limit + 1))

        assert f"{formats.KML.limit:,}" in str(report.problems[0])
        assert "by its name" in str(report.warnings[0])

    def test_a_file_without_problems_raises_no_error(self, write: Write) -> None:
        check_source(write(collection(POINT))).raise_for_problems()


class TestGeometries:
    @pytest.mark.parametrize(
        "geometry",
        [
            {"type": "Point", "coordinates": [[1, 2]]},
            {"type": "Point", "coordinates": [[[1, 2]]]},
            {"type": "Point", "coordinates": [1]},
            {"type": "Point", "coordinates": [1, None, 2]},
            {"type": "Point", "coordinates": [1, 2, "3"]},
            {"type": "Point", "coordinates": [True, False]},
            {"type": "MultiPoint", "coordinates": [1, 2]},
            {"type": "MultiPoint", "coordinates": [[[1, 2]]]},
            {"type": "MultiPoint", "coordinates": [[]]},
            {"type": "LineString", "coordinates": [[1, 2]]},
            {"type": "LineString", "coordinates": [1, 2]},
            {"type": "LineString", "coordinates": [[[1, 2], [3, 4]]]},
            {"type": "LineString", "coordinates": [["1", "2"], ["3", "4"]]},
            {"type": "LineString", "coordinates": {"0": [1, 2]}},
            {"type": "MultiLineString", "coordinates": [[1, 2], [3, 4]]},
            {"type": "MultiLineString", "coordinates": [[[1, 2]]]},
            {"type": "Polygon", "coordinates": RING},
            {"type": "Polygon", "coordinates": [[RING]]},
            {"type": "Polygon", "coordinates": [RING[:3]]},
            {"type": "Polygon", "coordinates": [RING, []]},
            {"type": "MultiPolygon", "coordinates": [RING]},
            {"type": "MultiPolygon", "coordinates": [[[RING]]]},
            {"type": "GeometryCollection"},
            {"type": "GeometryCollection", "geometries": [None]},
            {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [[1, 2]]}]},
            {
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": RING}]}
                ],
            },
            {"type": "Feature", "geometry": None},
            {"type": "polygon", "coordinates": [RING]},
            {"type": ["Point"], "coordinates": [1, 2]},
            {"coordinates": [1, 2]},
        ],
    )
    def test_coordinates_with_the_wrong_nesting_for_their_type_are_a_problem(self, write: Write, geometry: Any) -> None:
        (problem,) = map(str, check_source(write(collection(POINT, with_geometry(**geometry)))).problems)
        (alone,) = map(str, check_source(write(collection(with_geometry(**geometry)))).problems)

        assert "in feature 1" in problem
        assert "in feature 0" in alone

    @pytest.mark.parametrize(
        "geometry",
        [
            {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4, 5, 6]]},
            {"type": "LineString", "coordinates": [[1, 2], [1, 2]]},
            {"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4.5]]]},
            {"type": "Polygon", "coordinates": [RING, RING]},
            {"type": "Polygon", "coordinates": []},
            {"type": "MultiPolygon", "coordinates": [[RING], [RING]], "bbox": [0, 0, 1, 1]},
            {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": []}]},
        ],
    )
    def test_coordinates_with_the_right_nesting_for_their_type_pass(self, write: Write, geometry: Any) -> None:
        report = check_source(write(collection(POINT, with_geometry(**geometry))))

        assert (report.problems, report.warnings) == ((), ())

    @pytest.mark.parametrize(
        "geometry", [{"type": "Point", "coordinates": [[1, 2]]}, {"type": "Polygon", "coordinates": RING}]
    )
    def test_a_geometry_that_is_the_whole_document_is_checked(self, write: Write, geometry: Any) -> None:
        assert not check_source(write(geometry)).ok

    def test_an_open_ring_is_a_warning_because_mapnik_closes_it(self, write: Write) -> None:
        ring = [[0, 0], [1, 0], [1, 1], [0, 1]]

        report = check_source(write(collection(with_geometry(type="Polygon", coordinates=[ring]))))

        assert report.ok
        (warning,) = map(str, report.warnings)
        assert "feature 0" in warning

    def test_a_height_that_is_null_is_a_warning(self, write: Write) -> None:
        report = check_source(write(collection(POINT, with_geometry(type="Point", coordinates=[1, 2, None]))))

        assert report.ok
        (warning,) = map(str, report.warnings)
        assert "height is null in feature 1" in warning

    @pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ud83d\\ud83d\\ude00"])
    def test_half_of_a_character_is_a_warning(self, write: Write, half: str) -> None:
        document = json.dumps(collection(POINT | {"properties": {"name": "it"}})).replace('"it"', f'"{half}"')

        report = check_source(write(document.encode()))

        assert report.ok
        (warning,) = map(str, report.warnings)
        assert "half a character" in warning

    @pytest.mark.parametrize("whole", ["\\ud83d\\ude00", "\\\\ud83d"])
    def test_a_whole_character_passes(self, write: Write, whole: str) -> None:
        document = json.dumps(collection(POINT | {"properties": {"name": "it"}})).replace('"it"', f'"{whole}"')

        report = check_source(write(document.encode()))

        assert (report.problems, report.warnings) == ((), ())

    def test_a_position_slightly_beyond_the_map_is_shown_with_all_digits(self, write: Write) -> None:
        (problem,) = map(
            str, check_source(write(collection(with_geometry(type="Point", coordinates=[180.0000001, 2])))).problems
        )

        assert "(180.0000001, 2)" in problem

    @pytest.mark.parametrize("properties", [[1], [], "name", "", 7, True])
    def test_properties_that_are_not_an_object_are_a_problem(self, write: Write, properties: Any) -> None:
        (problem,) = map(str, check_source(write(collection(POINT, POINT | {"properties": properties}))).problems)

        assert "`properties`" in problem
        assert "feature 1" in problem

    @pytest.mark.parametrize("properties", [None, {}, {"a": [1, {"b": 2}]}])
    def test_properties_that_are_an_object_or_null_pass(self, write: Write, properties: Any) -> None:
        assert check_source(write(collection(POINT | {"properties": properties}))).ok


class TestReferenceSystems:
    @pytest.mark.parametrize(
        "name",
        [
            "http://www.opengis.net/def/crs/EPSG/0/4326",
            "https://www.opengis.net/def/crs/EPSG/9.9.1/4326",
            "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
            "https://www.opengis.net/def/crs/OGC/0/CRS84h",
            "http://www.opengis.net/gml/srs/epsg.xml#4326",
            "http://spatialreference.org/ref/epsg/4326/",
            "https://epsg.io/4326",
            "urn:ogc:def:crs:OGC::CRS84",
            "urn:ogc:def:crs:OGC:1.3:CRS84h",
            "urn:x-ogc:def:crs:EPSG:4326",
            "urn:ogc:def:crs:EPSG:6.9:4326",
            "urn:ogc:def:crs:EPSG::4979",
            "EPSG:4979",
            "epsg:4326",
            "EPSG 4326",
            "CRS84",
            "CRS:84",
            "OGC:CRS84",
            "WGS84",
            "WGS 84",
            "wgs_84",
            "WGS 84 (CRS84)",
            "GCS_WGS_1984",
            "World Geodetic System 1984",
            "+proj=longlat +datum=WGS84 +no_defs",
            'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
            'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]',
        ],
    )
    def test_a_crs_member_passes_with_each_name_of_longitude_latitude(self, write: Write, name: str) -> None:
        report = check_source(write(collection(POINT, crs={"type": "name", "properties": {"name": name}})))

        assert (report.problems, report.warnings) == ((), ())

    @pytest.mark.parametrize(
        "crs",
        [
            {"type": "EPSG", "properties": {"code": 3857}},
            {"type": "EPSG", "properties": {"code": "25832"}},
            {
                "type": "link",
                "properties": {"href": "http://spatialreference.org/ref/epsg/3857/proj4/"},
            },
            {"type": "name", "properties": {"name": "http://www.opengis.net/def/crs/EPSG/0/3857"}},
            {"type": "name", "properties": {"name": "urn:ogc:def:crs:ESRI::102100"}},
            {"type": "name", "properties": {"name": "ETRS89 / UTM zone 32N"}},
            {"type": "name", "properties": {"name": "EPSG:4978"}},
            {"type": "name", "properties": {"name": "EPSG:4807"}},  # grads from Paris
        ],
    )
    def test_a_crs_member_of_another_system_is_a_problem_in_each_form(self, write: Write, crs: Any) -> None:
        (problem,) = map(str, check_source(write(collection(POINT, crs=crs))).problems)

        assert "Mapbox ignores that" in problem

    @pytest.mark.parametrize(
        "crs", [{"type": "EPSG", "properties": {"code": 4326}}, {"type": "OGC", "properties": {"code": "CRS84"}}]
    )
    def test_a_crs_member_of_the_older_form_with_longitude_latitude_passes(self, write: Write, crs: Any) -> None:
        report = check_source(write(collection(POINT, crs=crs)))

        assert (report.problems, report.warnings) == ((), ())

    @pytest.mark.parametrize(
        "name",
        [
            "EPSG:4258",
            "urn:ogc:def:crs:EPSG::4269",
            "urn:ogc:def:crs:OGC:1.3:CRS83",
            "NAD83",
            "My Local Grid",
            "urn:ogc:def:crs:EPSG::999999",
            "https://example.com/my.prj",
        ],
    )
    def test_a_crs_member_with_another_datum_or_an_unknown_name_is_a_warning(self, write: Write, name: str) -> None:
        report = check_source(write(collection(POINT, crs={"type": "name", "properties": {"name": name}})))

        assert report.ok
        (warning,) = map(str, report.warnings)
        assert name in warning

    def test_a_crs_member_whose_code_only_ends_with_4326_is_a_warning(self, write: Write) -> None:
        name = "urn:ogc:def:crs:EPSG::14326"

        assert check_source(write(collection(POINT, crs={"type": "name", "properties": {"name": name}}))).warnings


class TestLargeDocuments:
    """Documents above 16 MiB. Their middle is not checked."""

    MIDDLE = b',{"type":"Feature","properties":{"text":"%s"},"geometry":null}' % (b"x" * 1_000_000) * 17

    def write_large(self, write: Write, first: Any, last: Any, *, ending: bytes = b"]}\n", start: bytes = b"") -> Path:
        head = start or b'{"type":"FeatureCollection","features":['
        return write(head + as_bytes(first) + self.MIDDLE + b"," + as_bytes(last) + ending)

    @pytest.mark.parametrize("ending", [b"]}", b"]}\n", b'], "bbox": [1, 2, 3, 4]\n}', b'],"numberReturned":2}'])
    def test_valid_large_documents_pass(self, write: Write, ending: bytes) -> None:
        report = check_source(self.write_large(write, POINT, POINT, ending=ending))

        assert (report.problems, report.warnings) == ((), ())

    def test_large_documents_with_features_larger_than_a_part_pass(self, write: Write) -> None:
        large = with_geometry(type="MultiPoint", coordinates=[[1.5, 2.5]] * 20_000)

        report = check_source(self.write_large(write, large, {"id": 1, **large}))

        assert (report.problems, report.warnings) == ((), ())

    def test_large_documents_with_features_inside_properties_pass(self, write: Write) -> None:
        nested = POINT | {"properties": {"of": [POINT, {"type": "Feature", "name": 'a "}]} '}]}}

        assert check_source(self.write_large(write, nested, nested)).problems == ()

    @pytest.mark.parametrize("where", ["first", "last"])
    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (with_geometry(type="Point", coordinates=[500_000, 4_649_776]), "another reference system"),
            (with_geometry(type="Point", coordinates=[0, -89]), "Web Mercator"),
            (with_geometry(type="Point", coordinates=[[1, 2]]), "a Point whose"),
            (POINT | {"properties": [1]}, "`properties`"),
        ],
    )
    def test_large_documents_with_an_invalid_first_or_last_feature_are_a_problem(
        self, write: Write, where: str, bad: Any, why: str
    ) -> None:
        path = self.write_large(write, **({"first": POINT, "last": POINT} | {where: bad}))

        (problem,) = map(str, check_source(path).problems)

        assert why in problem

    @pytest.mark.parametrize(
        "ending",
        [b"", b"]", b",", b'],"a', b"\x00\x00", b'\n,{"type":"Feature","properties":{"a":1', b"]} trailing", b"]}}"],
    )
    def test_large_documents_that_are_cut_off_or_continue_are_a_problem(self, write: Write, ending: bytes) -> None:
        assert len(check_source(self.write_large(write, POINT, POINT, ending=ending)).problems) == 1

    @pytest.mark.parametrize("middle", [b"\n", b"\n\x1e"])
    def test_large_documents_that_are_line_delimited_are_a_problem(self, write: Write, middle: bytes) -> None:
        line = json.dumps(POINT | {"properties": {"text": "x" * 1_000_000}}).encode()

        (problem,) = map(str, check_source(write(middle.join([line] * 17 + [json.dumps(POINT).encode()]))).problems)

        assert "one JSON document a line" in problem

    def test_large_documents_with_a_crs_member_after_the_features_are_checked(self, write: Write) -> None:
        ending = b'],"crs":{"type":"name","properties":{"name":"EPSG:3857"}}}'

        (problem,) = map(str, check_source(self.write_large(write, POINT, POINT, ending=ending)).problems)

        assert "EPSG:3857" in problem

    def test_streams_are_checked_at_the_beginning(self) -> None:
        bad = with_geometry(type="Point", coordinates=[500_000, 4_649_776])
        data = json.dumps(collection(bad, *[POINT] * 2000)).encode()

        (problem,) = map(str, check_source(Stream(data, "s3://bucket/x.geojson")).problems)

        assert "another reference system" in problem

    @pytest.mark.parametrize("cut", range(0, 400, 7))
    def test_a_valid_stream_passes_if_the_first_part_ends_anywhere(self, cut: int) -> None:
        features = json.dumps([POINT | {"properties": {"a": "ü\\u00e4\\n", "b": [1.5e-7, -3, None]}}] * 9).encode()
        start = b'{"type":"FeatureCollection","name":"'
        data = start + b"n" * (65_536 - len(start) - cut) + b'","features":' + features + b"}" + b" " * 65_536

        assert check_source(Stream(data, "x")).problems == ()

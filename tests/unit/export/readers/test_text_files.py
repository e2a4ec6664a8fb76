"""What files say in text: encodings, dates as they stand, coordinates that are none, and names of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import Point

from airflow_mapbox.export import write_auto, write_geojson
from airflow_mapbox.export.errors import AttributeValueError, EmptyExportError, UnreadableSourceError
from tests.unit.export.support import features, frame, streamed


def properties(source: Path, **options: Any) -> list[dict[str, Any]]:
    if source.suffix == ".csv":
        options = {"crs": 4326} | options
    return [feature["properties"] for feature in features(source, **options)]


class TestEncodings:
    @pytest.fixture
    def latin(self, tmp_path: Path) -> Path:
        rows = frame([Point(1, 2), Point(3, 4)], city=["Zürich", "Basel"], **{"Größe": ["groß", "klein"]})
        rows.to_file(tmp_path / "x.shp", encoding="ISO-8859-1")
        (tmp_path / "x.cpg").unlink()
        return tmp_path / "x.shp"

    def test_a_shapefile_that_does_not_name_its_encoding_is_read_as_latin_1(self, latin: Path) -> None:
        assert properties(latin)[0] == {"city": "Zürich", "Größe": "groß"}

    def test_columns_and_conditions_are_in_that_encoding_too(self, latin: Path) -> None:
        assert properties(latin, columns=["Größe"], where="city = 'Zürich'") == [{"Größe": "groß"}]
        assert properties(latin, where="\"Größe\" = 'klein'") == [{"city": "Basel", "Größe": "klein"}]

    @pytest.mark.parametrize("encoding", ["UTF-8", "CP1250", "CP866"])
    def test_a_shapefile_that_names_its_encoding_is_read_in_it(self, tmp_path: Path, encoding: str) -> None:
        text = "Привет" if encoding == "CP866" else "Zürich"
        frame([Point(1, 2)], city=[text]).to_file(tmp_path / "x.shp", encoding=encoding)

        assert properties(tmp_path / "x.shp") == [{"city": text}]

    @pytest.mark.parametrize("header", ["city", "Größe"])
    def test_a_csv_that_is_not_utf_8_is_an_error_about_its_encoding(self, tmp_path: Path, header: str) -> None:
        (tmp_path / "x.csv").write_bytes(f"lon,lat,{header}\n1,2,Zürich\n".encode("latin-1"))

        with pytest.raises((AttributeValueError, UnreadableSourceError), match="not UTF-8"):
            properties(tmp_path / "x.csv")


def dated(path: Path, *texts: str | None) -> Path:
    points = [f'"geometry": {{"type": "Point", "coordinates": [{n}, 2]}}' for n in range(len(texts))]
    rows = [
        f'{{"type": "Feature", {point}, "properties": {{"n": {n}, "d": {json.dumps(text)}}}}}'
        for n, (point, text) in enumerate(zip(points, texts, strict=True))
    ]
    if path.suffix == ".csv":
        path.write_text("lon,lat,n,d\n" + "".join(f"{n},2,{n},{text or ''}\n" for n, text in enumerate(texts)))
    elif path.suffix == ".geojsons":
        path.write_text("".join(f"\x1e{row}\n" for row in rows))
    elif path.suffix == ".geojsonl":
        path.write_text("\n".join(rows) + "\n\n")
    else:
        path.write_text(f'{{"type": "FeatureCollection", "features": [{", ".join(rows)}]}}')
    return path


@pytest.mark.parametrize("name", ["x.geojson", "x.json", "x.geojsonl", "x.geojsons", "x.csv"])
class TestDates:
    """The source is text already: what GDAL makes of what looks like a date is not what the file says."""

    @pytest.mark.parametrize(
        "text",
        [
            "2020-01-01T00:00:00.000400Z",
            "2020-01-01T00:00:00.123456789+05:30",
            "20000-01-01T00:00:00Z",
            "2020-01-01T10:00:00 UTC",
            "2020-01-01 10:00:00",
            "2020/01/02",
            "2020-02-30",
            "10:00:00.123456789",
        ],
    )
    def test_dates_are_the_text_of_the_file(self, tmp_path: Path, name: str, text: str) -> None:
        path = dated(tmp_path / name, text, None, text)

        expected = [{"n": 0, "d": text}, {"n": 1, "d": None}, {"n": 2, "d": text}]
        assert properties(path) == expected
        assert properties(path, columns=["d"]) == [{"d": text}, {"d": None}, {"d": text}]
        assert properties(path, where="n >= 1") == expected[1:]
        assert properties(path, bbox=[-1, -1, 0.5, 3]) == expected[:1]

    def test_dates_of_several_forms_are_the_text_of_the_file(self, tmp_path: Path, name: str) -> None:
        texts = ["2020-01-01", "2020-01-01T10:00:00Z", "2020-01-01T10:00:00+02:00"]

        assert [one["d"] for one in properties(dated(tmp_path / name, *texts))] == texts


@pytest.mark.parametrize(
    "text", ["2020-01-01T00:00:00.000400Z", "2020-01-01T10:00:00 UTC", "2020-02-30", "20000-01-01"]
)
def test_dates_of_gml_are_the_text_of_the_file(tmp_path: Path, text: str) -> None:
    frame([Point(1, 2)], d=["MARK"]).to_file(tmp_path / "x.gml")
    (tmp_path / "x.xsd").unlink()
    (tmp_path / "x.gml").write_text((tmp_path / "x.gml").read_text().replace("MARK", text))

    assert properties(tmp_path / "x.gml")[0]["d"] == text


@pytest.mark.parametrize(("when", "expected"), [("03:04:05.000400Z", "03:04:05Z"), ("03:04:05.5Z", "03:04:05.500Z")])
def test_dates_of_gpx_have_no_nul_in_them(tmp_path: Path, when: str, expected: str) -> None:
    (tmp_path / "x.gpx").write_text(
        '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
        f'<wpt lat="52.5" lon="13.4"><time>2026-01-02T{when}</time></wpt></gpx>'
    )

    assert properties(tmp_path / "x.gpx")[0]["time"] == f"2026-01-02T{expected}"


class TestCoordinatesThatCannotBeRead:
    def test_coordinates_that_cannot_be_read_are_counted_apart_from_rows_without_any(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("n,lon,lat\na,1,2\nb,,\nc,N/A,52\nd,4.5E,1\ne,13.4,\nf, , \n")

        document, report = streamed(tmp_path / "x.csv", crs=4326)

        assert [feature["properties"] for feature in document["features"]] == [{"n": "a"}]
        assert report.dropped == {"coordinates that cannot be read": 3, "no geometry": 2}
        assert report.notes == (
            "Row 3 (from 1, without a header) is the first with unreadable coordinates: lon='N/A', lat='52'.",
        )

    def test_coordinates_that_cannot_be_read_of_wkt_are_counted_too(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text(
            'n,WKT\n1,POINT(1 2)\n2,\n3,PONT(1 2)\n4,"CIRCULARSTRING(0 0,1 1,2 0)"\n5,POINT(\n'
        )

        document, report = streamed(tmp_path / "x.csv", crs=4326)

        assert [feature["properties"] for feature in document["features"]] == [{"n": 1}, {"n": 4}]
        assert report.dropped == {"coordinates that cannot be read": 2, "no geometry": 1}
        assert "Row 3 " in report.notes[0]
        assert "WKT='PONT(1 2)'" in report.notes[0]

    @pytest.mark.parametrize("lines", [False, True], ids=["collection", "lines"])
    @pytest.mark.parametrize("wrong", ['["1", "2"]', "[1]", "null", '[1, "a"]', "{}"])
    def test_coordinates_that_cannot_be_read_of_geojson_are_counted_too(
        self, tmp_path: Path, wrong: str, lines: bool
    ) -> None:
        texts = ["[1, 2]", wrong, "[3, 4]", wrong]
        rows = [
            f'{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": {text}}}, "properties": {{}}}}'
            for text in texts
        ]
        rows.insert(1, '{"type": "Feature", "geometry": null, "properties": {"geometry": "mine"}}')
        path = tmp_path / ("x.geojsonl" if lines else "x.geojson")
        path.write_text(
            "\n".join(rows) if lines else f'{{"type": "FeatureCollection", "features": [{", ".join(rows)}]}}'
        )

        document, report = streamed(path)

        assert len(document["features"]) == 2
        assert report.dropped == {"coordinates that cannot be read": 2, "no geometry": 1}
        assert "Row 3 " in report.notes[0]
        assert f'"coordinates": {wrong}' in report.notes[0]

    @pytest.mark.slow
    def test_coordinates_that_cannot_be_read_are_numbered_through_all_of_a_file(self, tmp_path: Path) -> None:
        rows = [f"{n},{n % 90},0,{2**60 + n},2020-01-01" for n in range(100_000)]
        rows[70_001] = "70001,?,0,1,2020-01-01"
        rows[90_000] = "90000,,,1,"
        (tmp_path / "x.csv").write_text("\n".join(["n,lon,lat,id,day", *rows]))

        document, report = streamed(tmp_path / "x.csv", crs=4326)

        assert len(document["features"]) == 99_998
        assert [feature["properties"]["n"] for feature in document["features"][70_000:70_002]] == [70_000, 70_002]
        assert document["features"][-1]["properties"] == {"n": 99_999, "id": str(2**60 + 99_999), "day": "2020-01-01"}
        assert report.dropped == {"coordinates that cannot be read": 1, "no geometry": 1}
        assert any("Row 70002 " in note and "lon='?'" in note for note in report.notes)

    def test_unreadable_coordinates_alone_are_reported_on_their_own_line(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("n,lon,lat\na,N/A,N/A\nb,,\n")

        with pytest.raises(EmptyExportError) as failed:
            features(tmp_path / "x.csv", crs=4326)
        assert str(failed.value).splitlines() == [
            "There is no feature to write: 2 were read. Dropped: 1 (coordinates that cannot be read), 1 (no geometry).",
            "Row 1 (from 1, without a header) is the first with unreadable coordinates: lon='N/A', lat='N/A'.",
            "Mapbox refuses an empty file: check the query or filter of the data.",
        ]

    @pytest.mark.parametrize("write", [write_geojson, write_auto])
    def test_coordinates_that_cannot_be_read_are_in_every_report(self, tmp_path: Path, write: Any) -> None:
        (tmp_path / "x.csv").write_text("n,lon,lat\na,1,2\nb,?,?\n")

        report = write(tmp_path / "x.csv", tmp_path / "out", crs=4326)

        assert report.dropped == {"coordinates that cannot be read": 1}
        assert "Row 2 " in report.notes[0]


@pytest.mark.parametrize("ending", ["geojson", "fgb", "gpkg", "gml", "csv"])
@pytest.mark.parametrize("name", ["wkb_geometry", "OGC_FID", "geometry", "ogr_geometry", "GEOMETRY", "geom"])
def test_an_attribute_may_be_called_as_gdal_calls_a_geometry(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    if ending == "csv":
        path.write_text(f"lon,lat,{name},k\n1,2,a,1\n3,4,b,2\n")
    else:
        rows = frame([Point(1, 2), Point(3, 4)]).rename_geometry("place").assign(**{name: ["a", "b"], "k": [1, 2]})
        rows.to_file(path, **({"geometry_name": "place"} if ending == "gpkg" else {}))

    for choice in ({}, {"columns": [name]}, {"where": "k > 0", "columns": [name]}, {"bbox": [0, 0, 9, 9]}):
        found = properties(path, **choice)
        assert sorted(one[name] for one in found) == ["a", "b"]
    if name != "ogr_geometry":  # which is the geometry in OGR's SQL
        (only,) = features(path, where=f"\"{name}\" = 'b'", **({"crs": 4326} if ending == "csv" else {}))
        assert only["geometry"]["coordinates"] == [3, 4]
    assert properties(path, columns=["k"])[0].keys() == {"k"}


class TestErrors:
    def test_a_layer_that_does_not_exist_lists_those_that_do(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gpkg"
        for layer in ("plots", "trees"):
            frame([Point(1, 2)], a=[1]).to_file(path, layer=layer, driver="GPKG")

        for wrong in ("tree", 2):
            with pytest.raises(UnreadableSourceError) as failed:
                features(path, layer=wrong)
            problem, remedy = str(failed.value).splitlines()
            assert "x.gpkg cannot be read by GDAL" in problem
            assert remedy == "It has the layers 'plots', 'trees'."

    @pytest.mark.parametrize(
        "options",
        [{"where": "nothing = 1"}, {"layer": "other"}, {"columns": ["nothing"]}],
        ids=["where", "layer", "columns"],
    )
    def test_the_remedy_is_on_a_line_of_its_own(self, tmp_path: Path, options: dict[str, Any]) -> None:
        frame([Point(1, 2)], a=[1]).to_file(tmp_path / "x.gpkg")

        with pytest.raises(ValueError, match=r"\n") as failed:
            features(tmp_path / "x.gpkg", **options)
        assert len(str(failed.value).splitlines()) == 2

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import struct
from pathlib import Path
from typing import IO, Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from shapely.geometry import LineString, Point, Polygon, box

from airflow_mapbox.export.errors import AttributeNameError, AttributeValueError, MissingCrsError, UnreadableSourceError
from tests.unit.export.support import PRECISION, features, frame, geometries, streamed

ROWS = 20
SOURCE = frame(
    [box(n, 10, n + 0.5, 10.5).difference(box(n + 0.1, 10.1, n + 0.2, 10.2)) for n in range(ROWS)],
    name=[f"Straße {n}" for n in range(ROWS)],
    n=range(ROWS),
    real=np.linspace(0, 1, ROWS),
)


class Remote:
    """A path in an object store, as far as the export looks at it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.opened: list[IO[bytes]] = []

    def __str__(self) -> str:
        return f"s3://bucket/{self._path.name}"

    def open(self, mode: str = "r") -> IO[bytes]:
        assert mode == "rb"
        self.opened.append(io.BytesIO(self._path.read_bytes()))
        return self.opened[-1]


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("x.gpkg", "GPKG"),
        ("x.shp", "ESRI Shapefile"),
        ("x.fgb", "FlatGeobuf"),
        ("x.geojson", "GeoJSON"),
        ("x.geojsonl", "GeoJSONSeq"),
        ("x.kml", "KML"),
        ("x.gml", "GML"),
        ("x.sqlite", "SQLite"),
        ("x.parquet", None),
    ],
)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_formats_are_read_alike(tmp_path: Path, name: str, driver: str | None, remote: bool) -> None:
    path = tmp_path / name
    if driver is None:
        SOURCE.to_parquet(path)
    else:
        SOURCE.to_file(path, driver=driver)
    if remote and path.suffix == ".shp":
        shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path)
        path = tmp_path / "x.zip"
    source: Any = Remote(path) if remote else path

    document, report = streamed(source)

    assert report.features == ROWS
    # FlatGeobuf stores features in the order of its index.
    written = sorted(document["features"], key=lambda feature: feature["geometry"]["coordinates"][0][0])
    for feature, expected in zip(written, SOURCE.itertuples(), strict=True):
        found = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shapely.equals_exact(found.normalize(), expected.geometry.normalize(), tolerance=PRECISION)
        properties = {key.lower(): value for key, value in feature["properties"].items()}
        assert properties["name"] == expected.name
        if driver != "KML":
            assert properties["n"] == expected.n
            assert properties["real"] == pytest.approx(expected.real)
    if remote:
        assert all(stream.closed for stream in source.opened)


def test_gpx_is_read_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "x.gpx"
    path.write_text(
        '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
        '<wpt lat="52.5" lon="13.4"><ele>34</ele><time>2026-01-02T03:04:05Z</time><name>here</name></wpt>'
        '<trk><trkseg><trkpt lat="1" lon="2"/><trkpt lat="3" lon="4"/></trkseg></trk></gpx>'
    )

    (waypoint,) = features(path, layer="waypoints")
    (track,) = features(path, layer="tracks")

    assert waypoint["geometry"]["coordinates"][:2] == [13.4, 52.5]
    assert waypoint["properties"]["name"] == "here"
    assert waypoint["properties"]["time"].startswith("2026-01-02T03:04:05")
    assert track["geometry"]["coordinates"] == [[[2, 1], [4, 3]]]


def geojson(path: Path, *properties: str) -> Path:
    """Write features of these properties, as they stand."""
    point = '"geometry": {"type": "Point", "coordinates": [1, 2]}'
    texts = [f'{{"type": "Feature", {point}, "properties": {{{text}}}}}' for text in properties]
    path.write_text(f'{{"type": "FeatureCollection", "features": [{", ".join(texts)}]}}', encoding="utf-8")
    return path


class TestSelection:
    def test_by_layer_condition_columns_and_box(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gpkg"
        SOURCE.to_file(path, layer="plots", driver="GPKG")
        frame([Point(1, 2)], kind=["tree"]).to_file(path, layer="trees", driver="GPKG")

        assert features(path, layer="trees")[0]["properties"] == {"kind": "tree"}
        assert features(path, layer=1)[0]["properties"] == {"kind": "tree"}
        chosen = features(path, layer="plots", where="n >= 3", bbox=(0, 0, 5.9, 90), columns=["n"])
        assert [feature["properties"] for feature in chosen] == [{"n": 3}, {"n": 4}, {"n": 5}]

    def test_a_missing_layer_or_column_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gpkg"
        SOURCE.to_file(path, driver="GPKG")

        with pytest.raises(AttributeNameError, match="no column called nothing"):
            features(path, columns=["nothing"])
        with pytest.raises(UnreadableSourceError, match=r"(?s)x\.gpkg cannot be read by GDAL.*other"):
            features(path, layer="other")
        with pytest.raises(UnreadableSourceError, match=r"x\.gpkg cannot be read by GDAL"):
            features(path, where="nothing = 1")
        with pytest.raises(ValueError, match=r"x= cannot be used with \.gpkg"):
            features(path, x="lon")


@pytest.mark.parametrize("name", ["x.gpkg", "x.shp", "x.fgb", "x.geojson", "x.gml", "x.csv"])
class TestConditions:
    """Not every driver of GDAL judges by fields that it is told not to read."""

    @pytest.fixture
    def path(self, tmp_path: Path, name: str) -> Path:
        rows = frame(
            [Point(n, 0) for n in range(6)], id=[2**54 + n for n in range(6)], n=[*range(5), None], s=list("abcdef")
        )
        if name.endswith(".csv"):
            rows.drop(columns="geometry").assign(lon=range(6), lat=0).to_csv(tmp_path / name, index=False)
        else:
            rows.to_file(tmp_path / name)
        return tmp_path / name

    @pytest.mark.parametrize(
        ("where", "places"),
        [
            ("n >= 3", [3, 4]),
            ("n IS NULL", [5]),
            ("NOT (n = 1)", [0, 2, 3, 4]),
            ("n = 0 OR s = 'f'", [0, 5]),
        ],
    )
    def test_conditions_may_be_about_columns_that_are_not_written(
        self, path: Path, where: str, places: list[int]
    ) -> None:
        found = features(path, where=where, columns=["s"], crs=4326)

        # FlatGeobuf keeps them by place.
        written = sorted(feature["properties"]["s"] for feature in found)
        assert written == ["abcdef"[place] for place in places]
        assert {len(feature["properties"]) for feature in found} == {1}

    @pytest.mark.parametrize("choice", [{"where": "s = 'b'"}, {"where": "n = 1"}, {"bbox": (0.5, -1, 1.5, 1)}])
    def test_conditions_hide_no_number_past_53_bits(self, path: Path, choice: dict[str, Any]) -> None:
        (only,) = features(path, columns=["id"], crs=4326, **choice)

        assert only["properties"] == {"id": str(2**54 + 1)}


def test_a_condition_may_be_about_the_geometry(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'id,WKT\n{2**60},POINT(1 2)\n1,"LINESTRING(1 2,3 4)"\n')

    (only,) = features(path, where="OGR_GEOMETRY = 'POINT'", crs=4326)

    assert only["properties"] == {"id": str(2**60)}


@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"type": "FeatureColl'])
@pytest.mark.parametrize("name", ["x.geojson", "x.gpkg", "x.shp", "x", "x.zip"])
def test_a_file_that_gdal_cannot_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UnreadableSourceError, match=name):
        features(tmp_path / name)


def test_a_layer_without_a_crs_names_the_parameter(tmp_path: Path) -> None:
    path = tmp_path / "x.shp"
    SOURCE.to_crs(25832).to_file(path)
    path.with_suffix(".prj").unlink()

    with pytest.raises(MissingCrsError, match="crs="):
        features(path)
    written = geometries(path, crs=25832)
    assert shapely.equals_exact(written[3].normalize(), SOURCE.geometry[3].normalize(), tolerance=PRECISION)


@pytest.mark.parametrize("folder", ["plain", 'a "quoted" füße $HOME'])
def test_curves_are_linearised(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "curves.csv"
    path.write_text(
        'n,WKT\n1,"CIRCULARSTRING(0 0,1 1,2 0)"\n'
        '2,"CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0))"\n3,"POINT(1 2)"\n'
        '4,"MULTISURFACE(CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0)))"\n'
    )

    document, _ = streamed(path, crs="EPSG:4326")
    arc, disc, point, surface = (
        shapely.from_geojson(json.dumps(feature["geometry"])) for feature in document["features"]
    )

    assert [feature["properties"] for feature in document["features"]] == [{"n": n} for n in (1, 2, 3, 4)]
    assert arc.length == pytest.approx(np.pi, rel=1e-3)
    assert disc.area == pytest.approx(np.pi, rel=5e-3)
    assert surface.area == pytest.approx(np.pi, rel=5e-3)
    assert surface.geom_type == "MultiPolygon"
    assert point.equals(Point(1, 2))


def test_curves_of_a_geopackage_are_linearised_if_a_condition_chooses(tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    frame([Point(0, 0), Point(1, 1)], n=[1, 2]).to_file(path, driver="GPKG", geometry_type="Unknown", layer="arcs")
    arc = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER IF EXISTS rtree_arcs_geom_update6")
        db.execute("DROP TRIGGER IF EXISTS rtree_arcs_geom_update7")
        for name, *_ in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        header = b"GP\x00\x01" + struct.pack("<i", 4326)
        db.execute("UPDATE arcs SET geom = ? WHERE n = 2", (header + arc,))

    (only,) = geometries(path, where="n = 2", layer="arcs")

    assert isinstance(only, LineString)
    assert only.length == pytest.approx(np.pi, rel=1e-3)


class TestIntegersPast53Bits:
    @pytest.mark.parametrize("name", ["x.gpkg", "x.fgb", "x.geojson"])
    def test_an_integer_past_53_bits_makes_the_whole_column_text(self, tmp_path: Path, name: str) -> None:
        points = [Point(n / 1000, 0) for n in range(20_000)]
        frame(points, id=[*range(19_999), 2**60], n=range(20_000)).to_file(tmp_path / name)

        document, report = streamed(tmp_path / name)

        assert {type(feature["properties"]["id"]) for feature in document["features"]} == {str}
        assert {type(feature["properties"]["n"]) for feature in document["features"]} == {int}
        assert any("'id'" in note for note in report.notes)

    @pytest.mark.parametrize("curves", [False, True])
    @pytest.mark.parametrize(
        "number", ["12345678901234567890", "-9223372036854775809", "9223372036854775807", "9" * 40], ids=len
    )
    def test_integers_past_64_bits_are_as_in_the_csv(self, tmp_path: Path, number: str, curves: bool) -> None:
        path = tmp_path / "x.csv"
        header, place = ("WKT", "POINT(1 2)") if curves else ("lon,lat", "1,2")
        path.write_text(f"id,n,{header}\n{number},1,{place}\n5,2,{place}\n,3,{place}\n")

        document, report = streamed(path, crs=4326)

        assert [feature["properties"] for feature in document["features"]] == [
            {"id": number, "n": 1},
            {"id": "5", "n": 2},
            {"id": None, "n": 3},
        ]
        assert [note for note in report.notes if "'id'" in note and "written as strings" in note]

    @pytest.mark.parametrize("as_text", [(), ("id",)])
    def test_integers_past_64_bits_are_as_in_the_csv_if_a_condition_chooses(
        self, tmp_path: Path, as_text: tuple[str, ...]
    ) -> None:
        path = tmp_path / "x.csv"
        path.write_text("id,s,lon,lat\n12345678901234567891,a,1,2\n12345678901234567893,a,1,2\n5,b,1,2\n")

        found = features(path, crs=4326, where="s = 'a'", as_text=as_text)

        assert [feature["properties"]["id"] for feature in found] == ["12345678901234567891", "12345678901234567893"]

    @pytest.mark.parametrize("name", ["x.geojson", "x.geojsonl", "x.gml"])
    def test_integers_past_64_bits_are_refused_if_gdal_reads_other_numbers(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        long = "12345678901234567890"
        frame([Point(1, 2), Point(3, 4)], id=[2**60, 5], ratio=[1e20, 0.5], size=[1e20, 1e21]).to_file(path)
        path.write_text(path.read_text().replace(str(2**60), long))
        path.with_suffix(".xsd").unlink(missing_ok=True)

        with pytest.raises(AttributeValueError, match=r"(?s)beyond 64 bits in column 'id'.*write them as strings"):
            features(path)

    @pytest.mark.parametrize("number", [2**64, -(2**63) - 1, int("9" * 40)])
    @pytest.mark.parametrize("key", ["Straße", r"Stra\u00dfe"])
    def test_an_integer_past_64_bits_is_refused_however_its_key_is_written(
        self, tmp_path: Path, key: str, number: int
    ) -> None:
        path = geojson(tmp_path / "x.geojson", f'"{key}" : {number}')

        with pytest.raises(AttributeValueError, match=r"beyond 64 bits in column 'Straße', which"):
            features(path)

    @pytest.mark.parametrize(
        "others",
        [
            f'"id": {2**63 - 2}',
            f'"id": {-(2**63) + 1}',
            f'"deep": {{"id": {2**64}}}',
            r'"text": "\"e\": 12345678901234567890, "',
        ],
        ids=["19 digits", "20 characters", "in a record", "in a text"],
    )
    def test_floats_are_not_refused_for_a_long_number_elsewhere(self, tmp_path: Path, others: str) -> None:
        path = geojson(tmp_path / "x.geojson", f'"e": 1e20, {others}', '"e": 1e18')

        assert [feature["properties"]["e"] for feature in features(path)] == [1e20, 1e18]

    def test_other_large_numbers_stay_unchanged(self, tmp_path: Path) -> None:
        long = 2**63 - 1
        frame([Point(1, 2)], id=[long], size=[1e20]).to_file(tmp_path / "x.gpkg")
        frame([Point(1, 2)], id=["12345678901234567890"], size=[1e20]).to_file(tmp_path / "x.geojson")

        assert features(tmp_path / "x.gpkg")[0]["properties"] == {"id": str(long), "size": 1e20}
        assert features(tmp_path / "x.geojson")[0]["properties"] == {"id": "12345678901234567890", "size": 1e20}


class TestUndefinedSystems:
    @pytest.mark.parametrize("srs", [-1, 0])
    def test_a_geopackage_has_no_open_options(self, tmp_path: Path, srs: int) -> None:
        path = tmp_path / "x.gpkg"
        frame([Point(13.4, 52.5)], n=[1]).to_file(path, layer="places")
        with sqlite3.connect(path) as db:
            for table in ("gpkg_contents", "gpkg_geometry_columns"):
                db.execute(f"UPDATE {table} SET srs_id = ?", (srs,))

        with pytest.raises(MissingCrsError, match="crs="):
            features(path)
        assert geometries(path, crs=4326) == [Point(13.4, 52.5)]


class TestSeveralLayers:
    def test_layers_are_listed_if_no_layer_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gpkg"
        SOURCE.to_file(path, layer="plots", driver="GPKG")
        frame([Point(1, 2)], kind=["tree"]).to_file(path, layer="trees", driver="GPKG")

        with pytest.raises(UnreadableSourceError, match=r"(?s)x\.gpkg has several layers: plots, trees.*layer="):
            features(path)

    def test_several_layers_that_have_no_features_do_not_count(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gpkg"
        SOURCE[:0].to_file(path, layer="none", driver="GPKG")
        frame([Point(1, 2)], kind=["tree"]).to_file(path, layer="trees", driver="GPKG")
        (tmp_path / "x.gpx").write_text(
            '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
            '<wpt lat="52.5" lon="13.4"><name>here</name></wpt></gpx>'
        )

        assert features(path)[0]["properties"] == {"kind": "tree"}
        assert features(tmp_path / "x.gpx")[0]["properties"]["name"] == "here"


class TestCSV:
    def test_several_pairs_of_coordinates_are_listed(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("id,x,y,lon,lat\n1,500000,0,15,1\n")

        with pytest.raises(UnreadableSourceError, match=r"x= is one of x, lon and y= is one of y, lat"):
            features(path, crs=4326)
        (chosen,) = features(path, crs=4326, x="lon", y="lat")
        assert chosen["geometry"]["coordinates"] == [15, 1]
        assert chosen["properties"] == {"id": 1, "x": 500000, "y": 0}

    @pytest.mark.parametrize(("x", "y"), [("lon", "lat"), ("X", "Y"), ("Longitude (deg)", "Latitude (deg)")])
    def test_columns_of_coordinates_are_found_by_name_and_are_not_attributes(
        self, tmp_path: Path, x: str, y: str
    ) -> None:
        path = tmp_path / "x.csv"
        path.write_text(f'id,{x},{y},name,real\n7,13.4,52.5,"a, ""b""",0.5\n8,,,c,\n9,1,2,,1e3\n', encoding="utf-8")

        document, report = streamed(path, crs="EPSG:4326")

        assert [feature["geometry"]["coordinates"] for feature in document["features"]] == [[13.4, 52.5], [1, 2]]
        assert document["features"][0]["properties"] == {"id": 7, "name": 'a, "b"', "real": 0.5}
        assert document["features"][1]["properties"]["real"] == 1000
        assert report.dropped == {"no geometry": 1}

    @pytest.mark.parametrize("header", ["id,id", "name,name"])
    def test_two_columns_of_one_name_are_refused_by_it(self, tmp_path: Path, header: str) -> None:
        path = tmp_path / "x.csv"
        path.write_text(f"lon,lat,n,{header}\n1,2,3,4,5\n")

        with pytest.raises(AttributeNameError, match=f"More than one column is called {header.split(',')[0]}.\nRename"):
            features(path, crs=4326)
        assert features(path, crs=4326, columns=["n"])[0]["properties"] == {"n": 3}

    def test_columns_of_coordinates_in_any_system_can_be_named(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("id;Rechtswert;Hochwert\n1;500000;0\n")

        (feature,) = features(path, crs="EPSG:32633", x="Rechtswert", y="Hochwert")

        assert feature == {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [15, 0]},
            "properties": {"id": 1},
        }

    def test_a_csv_without_a_crs_names_the_parameter(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("lon,lat\n1,2\n")

        with pytest.raises(MissingCrsError, match="crs="):
            features(tmp_path / "x.csv")

    def test_a_csv_without_coordinates_names_the_parameters(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("a,b\n1,2\n")

        with pytest.raises(UnreadableSourceError, match="x= and y="):
            features(tmp_path / "x.csv", crs=4326)

    @pytest.mark.slow
    def test_the_type_of_a_column_is_that_of_all_its_values(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        rows = [f"{n},{n % 90},0,{n:05}" for n in range(100_000)]
        path.write_text("\n".join(["code,lon,lat,zip", *rows, "text,1,2,x"]))

        document, _ = streamed(path, crs=4326)

        assert document["features"][5]["properties"] == {"code": "5", "zip": "00005"}
        assert document["features"][-1]["properties"] == {"code": "text", "zip": "x"}


def test_object_storage_of_airflow_is_read(tmp_path: Path) -> None:
    from airflow.sdk import ObjectStoragePath

    SOURCE.to_parquet(tmp_path / "x.parquet")
    SOURCE.to_file(tmp_path / "x.fgb")

    for name in ("x.parquet", "x.fgb"):
        assert len(features(ObjectStoragePath(f"file://{tmp_path / name}"))) == ROWS
        assert len(features(f"file://{tmp_path / name}")) == ROWS


class TestRemoteFailures:
    """Whether another try may help, as Airflow's retries want to know."""

    @pytest.mark.parametrize(
        ("error", "retryable"),
        [
            (TimeoutError("no answer"), True),
            (ConnectionResetError(), True),
            (type("EndpointConnectionError", (Exception,), {})("of the store's own tree"), True),
            (FileNotFoundError("no such key"), False),
            (PermissionError("denied"), False),
            (ImportError("install s3fs"), False),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    @pytest.mark.parametrize("name", ["x.parquet", "x.fgb"])
    @pytest.mark.parametrize("when", ["opened", "read"])
    def test_temporary_remote_failures_may_be_retried_and_lasting_ones_may_not(
        self, tmp_path: Path, name: str, when: str, error: Exception, retryable: bool
    ) -> None:
        path = tmp_path / name
        SOURCE.to_parquet(path) if path.suffix == ".parquet" else SOURCE.to_file(path)

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise error

        class Store(Remote):
            def open(self, mode: str = "r") -> IO[bytes]:
                if when == "opened":
                    raise error
                return Broken(path.read_bytes())

        advice = r"airflow-provider-mapbox\[s3\]" if isinstance(error, ImportError) else "connection"
        with pytest.raises(
            UnreadableSourceError, match=rf"(?s)s3://bucket/{name} cannot be {when}.*{advice}"
        ) as failed:
            features(Store(path))
        assert failed.value.retryable == retryable

    def test_an_unreadable_file_is_not_a_network_failure(self, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_bytes(b"PAR1 and nonsense")

        with pytest.raises(UnreadableSourceError, match="cannot be read as GeoParquet") as failed:
            features(Remote(tmp_path / "x.parquet"))
        assert not failed.value.retryable


def test_a_url_of_any_store_that_fsspec_knows_is_read() -> None:
    import fsspec

    with fsspec.open("memory://bucket/x.parquet", "wb") as target:
        SOURCE.to_parquet(target)

    assert len(features("memory://bucket/x.parquet")) == ROWS
    with pytest.raises(UnreadableSourceError, match=r"memory://bucket/y.parquet cannot be opened"):
        features("memory://bucket/y.parquet")


@pytest.mark.slow
def test_gdal_is_asked_for_batches_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = np.linspace(0, 2 * np.pi, 20_000)
    large = Polygon(np.stack([np.cos(turn), np.sin(turn)], axis=1))
    geopandas.GeoDataFrame(geometry=[large] * 100, crs=4326).to_file(tmp_path / "x.gpkg")
    asked = []
    opened = pyogrio.open_arrow
    monkeypatch.setattr(pyogrio, "open_arrow", lambda *a, **k: asked.append(k["batch_size"]) or opened(*a, **k))

    assert len(features(tmp_path / "x.gpkg")) == 100
    assert 1 < max(asked) < 50

"""The report: as text, as JSON, and as Markdown for a person who approves."""

from __future__ import annotations

import json

import pytest
from markdown_it import MarkdownIt

from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight import check_source
from tests.unit.preflight.support import POINT, Write, collection, with_geometry


def test_the_report_has_all_problems_at_once_each_with_its_rule_place_message_and_remedy(write: Write) -> None:
    bad = collection(
        POINT,
        with_geometry(type="Point", coordinates=[500_000, 4_649_776]),
        with_geometry(type="Point"),
        crs={"type": "name", "properties": {"name": "EPSG:3857"}},
    )

    report = check_source(write(bad, "roads.geojson"), tileset="a b", name="n" * 65)

    assert [found.name for found in report.problems] == [
        "upload-name",
        "upload-name",
        "geojson-crs",
        "geojson-feature",
        "geojson-range",
    ]
    beyond = report.problems[-1]
    assert beyond.where == "feature 1"
    assert beyond.message == "Coordinates beyond web mercator range. Please check projection and lat/lon values."
    assert "reprojects" in beyond.remedy
    assert not report.ok
    with pytest.raises(SourceError) as error:
        report.raise_for_problems()
    assert len(str(error.value).splitlines()) == 1 + 2 * len(report.problems)


@pytest.mark.parametrize(
    ("tileset", "name", "names"),
    [
        ("parcels", "Parcels", []),
        ("orion.parcels", None, []),
        ("orion.par cels", None, ["upload-name"]),
        ("or ion.parcels", None, ["upload-name"]),
        ("parcels", "", ["upload-name"]),
        ("parcels", "🗺" * 33, ["upload-name-units"]),
        ("parcels", "🗺" * 32, []),
    ],
)
def test_names_are_checked_with_the_file(write: Write, tileset: str, name: str | None, names: list[str]) -> None:
    report = check_source(write(collection(POINT)), tileset=tileset, name=name)

    assert [found.name for found in (*report.problems, *report.warnings)] == names


@pytest.mark.parametrize(
    ("url", "ok"),
    [("mapbox://datasets/orion/ck0x", True), ("mapbox://datasets/orion", False), ("mapbox://tilesets/orion.a", False)],
)
def test_the_url_of_a_dataset_is_checked(url: str, ok: bool) -> None:
    report = check_source(url, tileset="parcels")

    assert (report.ok, report.format) == (ok, "dataset")


def test_the_report_as_json_is_json_and_names_each_fact(write: Write) -> None:
    report = check_source(write(collection(POINT, POINT)), tileset="parcels")

    facts = json.loads(json.dumps(report.to_json()))

    assert (facts["ok"], facts["format"], facts["features"]) == (True, "GeoJSON", 2)
    assert facts["bounds"] == [13.4, 52.5, 13.4, 52.5]
    assert facts["bill"]["bytes"] == facts["bytes"] == report.bytes
    assert (facts["bill"]["maxzoom_is_expected"], facts["bill"]["tier"]) == (True, "free")


def test_markdown_says_what_is_sent_how_much_where_and_what_it_replaces(write: Write) -> None:
    path = write(collection(POINT), "places.geojson")

    page = check_source(path, tileset="places", name="Places").to_markdown(replaces="the tileset of 2026-11-29")

    html = MarkdownIt().enable("table").render(page)
    assert "<table>" in html
    for words in (
        str(path),
        "GeoJSON",
        "places (Places)",
        "the tileset of 2026-11-29",
        "Mapbox should accept",
        "Billed by",
    ):
        assert words.replace("_", "\\_") in page or words in html


def test_markdown_shows_names_from_the_file_as_text_and_not_as_markup(write: Write) -> None:
    kml = (
        '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Folder><name>'
        "[click](http://127.0.0.1) | &lt;img src=x> `a` **b**</name><Placemark><Point><coordinates>1,2</coordinates>"
        "</Point></Placemark></Folder></kml>"
    )

    html = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(check_source(write(kml.encode(), "a.kml")).to_markdown())
    )

    assert "<a " not in html
    assert "<img" not in html
    assert "<strong>b" not in html
    assert html.count("<tr>") == html.count("</tr>") == len(html.split("<tr>")) - 1


def test_markdown_stays_small_enough_for_an_xcom(write: Write) -> None:
    place = "<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"
    folders = "".join(f"<Folder><name>{'x' * 5000}{number % 7}</name>{place}</Folder>" for number in range(14))
    kml = f'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2">{folders}</kml>'

    page = check_source(write(kml.encode(), "a.kml")).to_markdown()

    assert "would refuse" in page
    assert len(page) < 10_000

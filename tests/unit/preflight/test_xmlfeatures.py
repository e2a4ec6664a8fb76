"""KML and GPX: layers, positions, and files that are hostile."""

from __future__ import annotations

import random
import time

import pytest

from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.formats import GPX, KML
from airflow_mapbox.preflight.xmlfeatures import XMLCheck
from airflow_mapbox.rules import xml as rules
from tests.unit.preflight import support

START = '<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2">'
PLACE = "<Placemark><name>a</name><Point><coordinates>7,50,0</coordinates></Point></Placemark>"


def kml(*parts: str) -> bytes:
    return (START + "".join(parts) + "</kml>").encode()


def folder(name: str, *parts: str) -> str:
    return f"<Folder><name>{name}</name>{''.join(parts)}</Folder>"


def check(data: bytes, kind: object = KML, part: int = 65_536) -> tuple[list[Finding], Content]:
    content = Content()
    checked = XMLCheck(kind, content)  # type: ignore[arg-type]
    for start in range(0, len(data), part):
        checked.feed(data[start : start + part])
    return checked.close(), content


@pytest.mark.parametrize("part", [1, 10, 65_536])
def test_a_layer_is_a_document_or_folder_that_directly_holds_a_placemark(part: int) -> None:
    data = kml("<Document><name>all</name>", folder("a", PLACE, PLACE), folder("b", folder("c", PLACE)), "</Document>")

    findings, content = check(data, part=part)

    assert findings == []
    assert (content.layers, content.features, content.bounds) == (("a", "c"), 3, (7, 50, 7, 50))


def test_placemarks_directly_in_the_root_are_a_layer() -> None:
    assert check(kml(PLACE))[0] == []


def test_an_outer_layer_comes_after_the_layers_inside_it() -> None:
    assert check(kml(folder("outer", PLACE, folder("inner", PLACE))))[1].layers == ("inner", "outer")


NO_GEOMETRY = "<Placemark><name>a</name></Placemark>"


@pytest.mark.parametrize(
    "more",
    [
        folder("x", NO_GEOMETRY),
        folder("0", NO_GEOMETRY),
        folder("x", "<NetworkLink/>"),
        f"<Unknown>{folder('x', PLACE)}</Unknown>",
        f"<Placemark><description>{folder('x', PLACE)}</description></Placemark>",
    ],
    ids=["no geometry", "no geometry, and a name of another", "no Placemark", "unknown element", "description"],
)
def test_folders_without_geometries_are_not_layers_beside_15_others(more: str) -> None:
    data = kml("<Document>", *(folder(str(number), PLACE) for number in range(15)), more, "</Document>")

    findings, content = check(data)

    assert findings == []
    assert content.layers == tuple(map(str, range(15)))


def test_a_multigeometry_makes_its_folder_a_layer() -> None:
    points = "<MultiGeometry><Point><coordinates>1,2</coordinates></Point></MultiGeometry>"

    assert check(kml(folder("a", f"<Placemark>{points}</Placemark>")))[1].layers == ("a",)


def test_a_document_without_placemarks_is_not_a_layer() -> None:
    assert [found.message for found in check(kml("<Document><name>a</name></Document>"))[0]] == [
        "KML does not contain any layers."
    ]


def test_a_document_whose_placemarks_have_no_geometry_has_no_features() -> None:
    assert [found.rule for found in check(kml(f"<Document>{NO_GEOMETRY}</Document>"))[0]] == [rules.KML_EMPTY]


def test_without_placemarks_all_folders_are_layers_and_the_file_has_no_features() -> None:
    findings, content = check(kml(folder("a"), folder("b")))

    assert [found.rule for found in findings] == [rules.KML_EMPTY]
    assert content.layers == ("a", "b")


@pytest.mark.parametrize(("layers", "refused"), [(15, False), (16, True), (2_000, True)])
def test_more_than_15_layers_are_refused_with_mapboxs_message(layers: int, refused: bool) -> None:
    findings, _ = check(kml(*(folder(f"layer {number}", PLACE) for number in range(layers))))

    assert bool(findings) is refused
    if refused:
        assert findings[0].rule is rules.TOO_MANY_LAYERS
        assert str(findings[0].message).endswith("layers found. Maximum of 15 layers allowed.")


def test_layers_of_the_same_name_are_refused_and_named() -> None:
    findings, _ = check(kml(folder("x", PLACE), folder("x", PLACE), folder("y", PLACE)))

    assert [found.message for found in findings] == ["Duplicate layer names: x (2)"]


def test_duplicate_names_are_in_the_order_in_which_mapbox_finds_them() -> None:
    findings, _ = check(kml(*(folder(name, PLACE) for name in "baabb")))

    assert [found.message for found in findings] == ["Duplicate layer names: a (2) b (3)"]


def test_names_are_compared_as_gdal_reads_them() -> None:
    """GDAL drops the spaces before each line of a name, and keeps those after it."""
    assert check(kml(folder("x", PLACE), folder("x ", PLACE)))[0] == []
    findings, _ = check(kml(folder("x y", PLACE), folder("\n  x\n y", PLACE)))
    assert [found.message for found in findings] == ["Duplicate layer names: x y (2)"]


@pytest.mark.parametrize("name", [None, ""])
def test_layers_without_a_name_are_no_duplicates(name: str | None) -> None:
    unnamed = f"<Folder>{'' if name is None else '<name/>'}{PLACE}</Folder>"

    assert check(kml(unnamed, unnamed))[0] == []


def test_the_document_without_layers_is_refused() -> None:
    assert [found.message for found in check(kml())[0]] == ["KML does not contain any layers."]


def test_tracks_of_googles_extension_have_positions() -> None:
    coordinates = "<gx:coord>7 50 0</gx:coord><gx:coord>8 51 0</gx:coord>"
    track = f"<Placemark><gx:Track xmlns:gx='x'>{coordinates}</gx:Track></Placemark>"

    findings, content = check(kml(folder("a", track)))

    assert findings == []
    assert content.bounds == (7, 50, 8, 51)


def test_long_coordinates_are_read_in_pieces() -> None:
    line = " ".join(f"{number / 1000},50" for number in range(170_000))

    findings, content = check(
        kml(folder("a", f"<Placemark><LineString><coordinates>{line}</coordinates></LineString></Placemark>"))
    )

    assert findings == []
    assert content.bounds == (0, 50, 169.999, 50)


def test_a_position_beyond_the_map_is_a_warning() -> None:
    findings, _ = check(kml(folder("a", PLACE.replace("7,50", "500000,4649776"))))

    assert [(found.rule, found.refused) for found in findings] == [(rules.RANGE, False)]
    assert "(500000, 4649776)" in findings[0].what


def test_gpx_counts_waypoints_routes_and_tracks() -> None:
    data = b"""<?xml version="1.0"?><gpx version="1.1"><wpt lat="50" lon="7"/><rte><rtept lat="1" lon="2"/></rte>
    <trk><trkseg><trkpt lat="51" lon="8"/></trkseg></trk></gpx>"""

    findings, content = check(data, GPX)

    assert findings == []
    assert (content.features, content.bounds) == (3, (2, 1, 8, 51))
    assert content.layers == ("waypoints", "routes", "route_points", "tracks", "track_points")


def test_gpx_without_points_is_refused_with_mapboxs_message() -> None:
    findings, _ = check(b'<?xml version="1.0"?><gpx version="1.1"><trk><name>a</name></trk></gpx>', GPX)

    assert [found.message for found in findings] == ["GPX does not contain any valid features."]


@pytest.mark.parametrize("length", range(1, 400, 17))
def test_a_file_that_is_cut_off_is_refused(length: int) -> None:
    data = kml(folder("a", *[PLACE] * 5))

    assert [found.rule for found in check(data[:-length])[0]] == [rules.NOT_XML]


@pytest.mark.parametrize(
    ("kind", "message"),
    [(KML, "Error opening dataset"), (GPX, "Error creating Mapnik Datasource: Invalid OGR: could not open the file")],
    ids=["KML", "GPX"],
)
def test_broken_xml_has_mapboxs_message(kind: object, message: str) -> None:
    data = {KML: support.KML, GPX: support.GPX}[kind]  # type: ignore[index]

    for broken in (data[:-3], data[:-20] + b"<" + data[-20:]):
        assert [found.message for found in check(broken, kind)[0]] == [message]


def test_an_error_names_its_line() -> None:
    findings, _ = check(kml("\n\n<Folder></Document>"))

    assert "line 3" in findings[0].where


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_declared_encodings_are_read(encoding: str) -> None:
    data = kml(folder("Grüße", PLACE)).decode().replace("UTF-8", encoding).encode(encoding)

    findings, content = check(data)

    assert findings == []
    assert content.layers == ("Grüße",)


BILLION = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (f'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a0 "x">{BILLION}]><kml>&a19;</kml>'.encode(), rules.ENTITIES),
        (
            b'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY x SYSTEM "file:///etc/passwd">]><kml>&x;</kml>',
            rules.ENTITIES,
        ),
        (b'<?xml version="1.0"?><!DOCTYPE kml SYSTEM "http://127.0.0.1:1/x.dtd"><kml/>', rules.DOCTYPE),
        (kml("<Folder>" * 300_000), rules.TOO_DEEP),
        (kml("<Folder a='" + "x" * 20_000_000 + "'/>"), rules.TOKEN_TOO_LONG),
        (kml("<!--" + "x" * 20_000_000 + "-->"), rules.TOKEN_TOO_LONG),
    ],
    ids=["billion laughs", "external entity", "external DTD", "deep", "long attribute", "long comment"],
)
def test_hostile_files_are_refused_within_five_seconds(data: bytes, rule: object) -> None:
    started = time.process_time()

    findings, _ = check(data)

    assert time.process_time() - started < 5
    assert rule in [found.rule for found in findings]


@pytest.mark.parametrize("seed", range(3))
def test_changed_files_have_findings_and_never_an_error(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    for base, kind in ((support.KML, KML), (support.GPX, GPX)):
        for _ in range(500):
            data = bytearray(base)
            for _ in range(rng.randint(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            check(bytes(data), kind, rng.choice([1, 50, 1000]))


def test_a_comment_after_the_root_is_allowed() -> None:
    assert check(support.KML + b"\n<!-- made by x -->")[0] == []

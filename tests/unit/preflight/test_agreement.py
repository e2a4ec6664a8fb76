"""
Preflight and emulator agree about every file that can be had, and with Mapbox's own tests.

They share no code, so each finds the mistakes of the other. ``pytest -s`` prints the table of all files.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator.errors import DataError
from airflow_mapbox.emulator.sniff import sniff as emulators_sniff
from airflow_mapbox.preflight import sniff
from airflow_mapbox.preflight.findings import Content
from airflow_mapbox.preflight.formats import KML
from airflow_mapbox.preflight.mbtiles import check_mbtiles
from airflow_mapbox.preflight.xmlfeatures import XMLCheck
from tests.unit.preflight import support
from tests.unit.preflight.binaries import PNG, TILE, mbtiles
from tests.unit.preflight.corpus import UNTESTED, Case, all_cases
from tests.unit.preflight.verdicts import emulators_message, table_of, verdict_of

# Set AGREEMENT_SEED to the seed that a failed test prints to repeat it.
SEED = int(os.environ.get("AGREEMENT_SEED") or random.SystemRandom().randrange(2**32))

# Every known difference, with its reason and which of the two is right.
DIFFERENCES = {
    "mapbox/invalid.omnivore.geojson-bounds.json": (
        "both differ from Mapbox's tests",
        "Longitude 361. The public validator compares the bounds with ±360. Production was seen to give both messages, "
        "and its message about web mercator also covers longitudes from 180 to 360. Both refuse the file.",
    ),
    "gdal/GTiff, a position of zeros and ones": (
        "both refuse, with different messages",
        "The file has a matrix, and it is the one that GDAL gives for a file without any. The preflight is right: it "
        "reads the tag. The emulator asks GDAL, which does not tell the two apart.",
    ),
}


ORIGINS = tuple(dict.fromkeys(case.origin for case in all_cases()))
# Thirty million rows are counted, and thousands of tiles are made.
SLOW = ("mapbox/invalid.mbtiles-limits.mbtiles", "export/points.mbtiles", "export/polygons.mbtiles")


@pytest.fixture(autouse=True)
def _any_machine_is_fast_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the preflight's queries as much time as they need, however busy this machine is."""
    monkeypatch.setattr("airflow_mapbox.preflight.source.check_mbtiles", partial(check_mbtiles, clock=lambda: 0.0))


def _check(cases: list[Case], *, tiles: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GDAL warns of what the files are made for
        verdicts = [verdict_of(case, tiles=tiles) for case in cases]
    expected = {name: entry for name, entry in DIFFERENCES.items() if name in {case.name for case in cases}}
    print(f"\n{table_of(verdicts)}")
    for name, (difference, reason) in expected.items():
        print(f"{name}: {difference}. {reason}")
    found = {verdict.case.name: verdict.difference for verdict in verdicts if verdict.difference}
    assert found == {name: difference for name, (difference, _) in expected.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize("origin", ORIGINS)
def test_both_agree_about_every_file(origin: str) -> None:
    _check([case for case in all_cases() if case.origin == origin and case.name not in SLOW], tiles=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("caplog")
def test_both_agree_about_every_file_when_its_tiles_are_made() -> None:
    _check(all_cases(), tiles=True)


def test_every_difference_is_of_a_file_that_is_compared() -> None:
    assert DIFFERENCES.keys() <= {case.name for case in all_cases()}


def test_every_name_is_unique_and_each_of_mapboxs_tests_is_compared() -> None:
    cases = all_cases()

    assert len({case.name for case in cases}) == len(cases)
    tested = [case for case in cases if case.mapbox != UNTESTED]
    assert (sum(case.mapbox is None for case in tested), sum(case.mapbox is not None for case in tested)) == (12, 23)


# --- At random ---


@pytest.fixture
def rng() -> random.Random:
    print(f"AGREEMENT_SEED={SEED}")
    return random.Random(SEED)


HEADS = [
    *(
        '{"type"',
        ':"Feature',
        'Collection"',
        ': "Topology"',
        '"features":',
        '"arcs" :',
        '"coordinates":',
        '"tilejson":',
    ),
    *("{", "}", " ", "\n", "\t", "\ufeff", "\u00a0", "\x00", "x" * 90, "\U0001f600" * 40, '"', "\\u0022"),
    *('<?xml version="1.0"?>', "<kml", "<gpx", "<k:kml>", "<!-- -->", "SQLite format 3\x00", "PK", "PK\x03\x04"),
    *("II*\x00", "MM\x00*", "II+\x00", "MM\x00+", "lon", "lat", "x", "y", ",", ";", "|", "Longitude", "end_latitude"),
    *("wkt", "geom", "the_geom", "\r\n", "1,2", "\x1f\x8b"),
]


@pytest.mark.slow
def test_both_recognise_the_same_format_in_random_heads(rng: random.Random, tmp_path: Path) -> None:
    names = {"GeoJSON": "geojson", "CSV": "csv", "KML": "kml", "GPX": "gpx", "TIFF": "tiff", "MBTiles": "mbtiles"}
    path = tmp_path / "head"
    for _ in range(2500):
        head = "".join(rng.choices(HEADS, k=rng.randint(1, 9))).encode("utf-8", "surrogatepass")
        if len(head) < 3:
            continue
        path.write_bytes(head)
        try:
            recognised: str | None = emulators_sniff(path).value.name
        except DataError:
            recognised = None
        by_preflight = sniff.sniff(head)
        expected = None if by_preflight is None else names.get(by_preflight.name, "shapefile")

        # The preflight has no format for JSON that Uploads does not take.
        assert {"topojson": None, "tilejson": None}.get(str(recognised), recognised) == expected, head


NUMBERS: list[Any] = [0, 1, 2, 5, 22, 23, 30, 31, -1, 1.5, "0", "1", "1.5", "", " 1", "1 and more", "x", "1e0", None]
BOXES: list[Any] = [
    *("-180,-85,180,85", "0,0,0,0", "-360,-95,360,95", "-361,0,0,0", "0,-95.5,1,1", "2,0,1,1", "0,2,1,1", "0,0,1"),
    *("", "a,b,c,d", "0,0,1e999,1", " 0 , 0 , 1 , 1 ", "0,0,1,1,", None, "0x1,0,1,1", ".5,.5,+1,1"),
]
CENTERS: list[Any] = [
    *("0,0,0", "0,0,1", "1,1", "181,0,0", "0,-91,0", "0,0,24", "0,0,0.5", "0,0,-1", "x,0,0", "", "200,0,0", None),
    *("0,0,9", " 1,1,1 ", "0,0,1,"),
]
LAYERS: list[Any] = [
    *([{"id": "roads"}], [{"id": "a"}, {"id": "a"}], [{"id": ""}], [], {}, [1], [{}], [{"id": 1}], "roads", None),
    *([{"id": "x" * 256}], [None], [[]], [{"id": "a"}, {"id": "b"}, {"id": "a"}], False, 0, ""),
]
TEXTS: list[Any] = ["", "roads", "x" * 255, "x" * 256, "x" * 2001, "\U0001f600" * 200, 7, 1.5, None]
FLAGS: list[Any] = [*TEXTS, "tms", "xyz", "1", 0]
JSONS: list[Any] = ["{}", "", "null", "[]", '"x"', "{", '{"a" 1}', '{"a": NaN}', None, '{"a": "%s"}' % ("x" * 70_000)]
TILES: list[Any] = [
    TILE,
    TILE,
    TILE,
    PNG,
    b"",
    None,
    "",
    "text",
    b"GIF89a",
    b"\xff\xd8 \xff\xd9",
    b"\xff\xd8",
    b"nonsense",
]


def _random_metadata(rng: random.Random) -> dict[str, Any]:
    """Return one to four changes of valid metadata."""
    pools: dict[str, list[Any]] = {
        **dict.fromkeys(("minzoom", "maxzoom", "fillzoom"), NUMBERS),
        "bounds": BOXES,
        "center": CENTERS,
        **dict.fromkeys(("name", "version", "format", "description", "attribution", "legend", "template"), TEXTS),
        **dict.fromkeys(("prepare", "formatter", "scheme", "tiles", "source"), FLAGS),
        "json": [*JSONS, *(json.dumps({"vector_layers": layers}) for layers in LAYERS)],
    }
    changes = {name: rng.choice(pools[name]) for name in rng.sample(sorted(pools), rng.randint(1, 4))}
    if rng.random() < 0.3:
        members = {name: rng.choice(pools[name]) for name in rng.sample(sorted(pools.keys() - {"json"}), 2)}
        changes["json"] = json.dumps({"vector_layers": [{"id": "roads"}], **members})
    return changes


def _tables(rng: random.Random) -> Iterator[str]:
    if rng.random() < 0.1:
        yield rng.choice(["DROP TABLE tiles", "DROP TABLE metadata", "DELETE FROM tiles", "DELETE FROM metadata"])
    if rng.random() < 0.1:
        yield f"CREATE TABLE grids AS SELECT {rng.choice([0, 1, 31])} AS zoom_level, x'00' AS grid"
    if rng.random() < 0.05:
        yield rng.choice(["CREATE TABLE carmen (a)", "CREATE TABLE carmen AS SELECT 1 AS a"])


def test_both_agree_about_random_mbtiles(rng: random.Random, tmp_path: Path) -> None:
    verdicts = set()
    for number in range(600):
        changes = _random_metadata(rng)
        tiles = [(rng.choice([0, 0, 0, 1]), 0, 0, rng.choice(TILES)), (1, 0, 0, TILE)]
        if tiles[0][3] is not TILE:
            tiles.pop()  # a tile after the first of another kind is refused by the emulator only
        more = [*_tables(rng)]
        path = tmp_path / f"{number}.mbtiles"
        path.write_bytes(mbtiles(changes, tiles=tiles, more=more))

        first = next((item for item in check_mbtiles(path, Content()) if item.refused), None)
        work = tmp_path / f"work{number}"
        work.mkdir()
        emulator = emulators_message(path, work, tiles=False)

        shown = changes, tiles, more, None if first is None else (first.name, first.message), emulator
        assert (first is None) == (emulator is None), shown
        verdicts.add(emulator is None)
    assert verdicts == {True, False}


def _random_kml(rng: random.Random, depth: int = 0) -> str:
    """Return an element of KML, with a few names, so that some are duplicates."""
    kind = rng.choice(["Folder", "Folder", "Document", "Placemark", "Placemark", "Unknown", "NetworkLink"])
    name = rng.choice(["", "<name/>", "<name>a</name>", "<name>b</name>", "<name>\n c \n</name>"])
    if kind == "Placemark":
        point = "<Point><coordinates>7,50</coordinates></Point>"
        return (
            f"<Placemark>{name}{rng.choice([point, point, f'<MultiGeometry>{point}</MultiGeometry>', ''])}</Placemark>"
        )
    inside = "".join(_random_kml(rng, depth + 1) for _ in range(rng.randint(0, 4))) if depth < 4 else ""
    return f"<{kind}>{name}{inside}</{kind}>"


@pytest.mark.slow
def test_both_count_the_same_layers_in_random_kml(rng: random.Random, tmp_path: Path) -> None:
    from airflow_mapbox.emulator.ogr import check_kml_layers

    path = tmp_path / "random.kml"
    messages = set()
    for _ in range(500):
        content = "".join(_random_kml(rng) for _ in range(rng.randint(0, 8)))
        data = f'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2">{content}</kml>'.encode()
        check = XMLCheck(KML, Content())
        check.feed(data)
        # What is missing in features is compared by the other tests.
        refused = [found.message for found in check.close() if found.refused and found.name != "kml-empty"]
        path.write_bytes(data)
        try:
            check_kml_layers(path)
            message = None
        except DataError as error:
            message = str(error)

        assert (refused[0] if refused else None) == message, data
        messages.add(message and message.split()[0])
    assert {None, "Duplicate"} <= messages


def _random_geojson(rng: random.Random) -> bytes:
    """Return a document of one to three features, some of them with one fault."""
    position = lambda: [rng.choice([0, 7, 179.5]), rng.choice([0, 50, -85])]  # noqa: E731
    shapes: list[Callable[[], Any]] = [
        lambda: {"type": "Point", "coordinates": position()},
        lambda: {"type": "LineString", "coordinates": [position() for _ in range(rng.randint(0, 3))]},
        lambda: {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]][: rng.randint(3, 4)]]},
        lambda: {"type": "MultiPoint", "coordinates": [position() for _ in range(rng.randint(0, 2))]},
        lambda: {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": position()}]},
        lambda: None,
    ]
    faults: list[Any] = [None, 7, "x", [], {}, {"type": "Point"}, [[]], [1], [1, None], [1, "2"], True, [True, 1]]
    features = []
    for _ in range(rng.randint(0, 3)):
        feature: dict[str, Any] = {"type": "Feature", "properties": {"a": 1}, "geometry": rng.choice(shapes)()}
        if rng.random() < 0.3:
            place = rng.choice(["type", "properties", "geometry", "coordinates"])
            if place != "coordinates":
                feature[place] = rng.choice(faults)
            elif feature["geometry"]:
                feature["geometry"]["coordinates"] = rng.choice(faults)
        features.append(feature)
    return support.as_bytes(support.collection(*features))


@pytest.mark.slow
def test_both_agree_about_random_geojson(rng: random.Random, tmp_path: Path) -> None:
    from airflow_mapbox.preflight import check_source

    path, work = tmp_path / "random.geojson", tmp_path / "work"
    for number in range(500):
        path.write_bytes(_random_geojson(rng))
        (work / str(number)).mkdir(parents=True)

        problems = check_source(path).problems
        message = emulators_message(path, work / str(number), tiles=False)

        assert (problems[0].message if problems else None) == message, path.read_bytes()

from __future__ import annotations

import functools
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import shapely
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import LineString, Point, Polygon, box

from airflow_mapbox.export.geometry.crs import find_transformation
from airflow_mapbox.export.geometry.shapes import from_shapely
from tests.unit.export.support import PRECISION, frame, geometry, streamed

GEOD = Geod(ellps="WGS84")


def test_a_missing_grid_is_reported_with_both_accuracies() -> None:
    _, report = streamed(frame([Point(400_000, 300_000)], "EPSG:27700"))

    (note,) = [note for note in report.notes if "grid" in note]
    assert "EPSG:27700" in note
    assert "OSTN" in note
    assert "may be off by 2 m. With" in note
    assert "would be 1 m" in note
    assert report.accuracy == 2.0


@functools.cache
def from_degrees(crs: str) -> Transformer:
    return Transformer.from_crs("OGC:CRS84", crs, always_xy=True)


HAVANA, KANSAS, TEXAS, QUEBEC = Point(-82.4, 23.1), Point(-98, 38.5), Point(-97, 31), Point(-71, 48)


def in_system(crs: str, *places: Point) -> list[Point]:
    to_source = from_degrees(crs)
    return [Point(to_source.transform(place.x, place.y)) for place in places]


@pytest.mark.parametrize("rows", [1, None])
@pytest.mark.parametrize("places", [(HAVANA, KANSAS), (KANSAS, HAVANA)])
def test_the_worst_accuracy_is_reported_in_any_order_of_features(places: tuple[Point, ...], rows: int | None) -> None:
    _, report = streamed(frame(list(places), "EPSG:4267"), batch_rows=rows)

    assert report.accuracy == 7.0
    grids, accuracy = report.notes
    assert "off by 7 m. With PROJ's grids us_noaa_conus.tif, us_noaa_kshpgn.tif, which are not installed" in grids
    assert "may be off by 7 m" in accuracy


def test_an_accurate_transformation_has_no_note() -> None:
    _, report = streamed(frame([HAVANA], "EPSG:4267"))

    assert report.accuracy == 1.0
    assert report.notes == ()


@pytest.mark.parametrize("shape", ["points", "line", "polygon", "multi-point"])
def test_the_worst_place_of_a_long_feature_counts(shape: str) -> None:
    places = [HAVANA, KANSAS] if shape in ("line", "multi-point") else [HAVANA, KANSAS, Point(-80, 23)]
    made = {"line": LineString, "polygon": Polygon, "multi-point": shapely.MultiPoint}
    source = places if shape == "points" else [made[shape](places)]

    assert streamed(frame(source, "EPSG:4267"))[1].accuracy == 7.0


@pytest.mark.parametrize(
    ("crs", "place", "grids"),
    [
        ("EPSG:5070", TEXAS, {"us_noaa_ethpgn.tif"}),
        ("EPSG:5070", KANSAS, {"us_noaa_kshpgn.tif"}),
        ("EPSG:4269", TEXAS, {"us_noaa_ethpgn.tif"}),
        ("EPSG:4269", QUEBEC, {"ca_nrc_NA83SCRS.tif"}),
        ("EPSG:4269", Point(179.9, 65), set()),
    ],
)
def test_the_grids_of_the_data_are_named_and_no_others(crs: str, place: Point, grids: set[str]) -> None:
    _, report = streamed(frame(in_system(crs, place), crs))

    assert {word for note in report.notes for word in re.findall(r"\w+\.tif", note)} == grids


def test_grids_of_a_continent_are_not_listed_all() -> None:
    places = [Point(x, y) for x in range(-120, -75, 2) for y in range(32, 48, 2)]

    _, report = streamed(frame(in_system("EPSG:5070", *places), "EPSG:5070"))

    (note,) = [note for note in report.notes if "grids" in note]
    assert len(re.findall(r"\w+\.tif", note)) == 5
    assert re.search(r" and \d\d more, which are not installed", note)


@pytest.mark.parametrize("crs", ["EPSG:4267", "EPSG:4269", "EPSG:4230", "EPSG:5070", "EPSG:25833"])
def test_the_accuracy_is_that_of_the_operation_that_proj_takes(crs: str) -> None:
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    rng = np.random.default_rng(seed)
    source = CRS(crs)
    area, transformation = source.area_of_use, find_transformation(source)
    west = area.west if area.west < area.east else -170
    for _ in range(200):
        (place,) = in_system(crs, Point(rng.uniform(west, area.east), rng.uniform(area.south, area.north)))
        lonlat = transformation.apply(next(from_shapely(np.array([place]), np.arange(1))))
        try:
            expected = transformation.transformer.get_last_used_operation().accuracy
        except ProjError:  # there is but one
            expected = transformation.transformer.accuracy

        found = transformation.accuracy(lonlat)

        assert found.metres == (None if expected < 0 else expected), place


def test_an_inaccurate_transformation_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="airflow_mapbox"):
        streamed(frame([Point(10, 10)]))
        assert not caplog.records
        _, report = streamed(frame([KANSAS], "EPSG:4267"))

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", note) for note in report.notes
    ]
    assert len(report.notes) == 2


def test_an_accuracy_worse_than_the_threshold_is_warned_of_and_reported_in_metres() -> None:
    source = frame([Point(0, 1_000_000)], "EPSG:5070")

    _, quiet = streamed(source)
    _, loud = streamed(source, accuracy_warning=1.0)

    assert quiet.accuracy == loud.accuracy == 4.0
    assert not any("WGS 84 may be off" in note for note in quiet.notes)
    assert any("WGS 84 may be off by 4 m" in note for note in loud.notes)


@pytest.mark.parametrize("crs", ["EPSG:4326", "OGC:CRS84", "EPSG:4979", "EPSG:3857", "EPSG:32633"])
def test_systems_on_wgs_84_are_exact_and_have_no_notes(crs: str) -> None:
    _, report = streamed(frame([Point(10, 10)], crs))

    assert report.accuracy == 0.0
    assert report.notes == ()


@pytest.mark.parametrize(("kilometres", "off"), [(10, 1.6), (100, 156), (1000, 15_600)])
def test_the_error_of_long_edges_is_reported(kilometres: float, off: float) -> None:
    line = LineString([(0, 1_500_000), (kilometres * 1000, 1_500_000)])

    _, report = streamed(frame([line], "EPSG:5070"))

    assert report.edge_error == pytest.approx(off, rel=0.15)
    assert any("max_segment=" in note for note in report.notes)


def test_long_edges_get_vertices_and_keep_the_old_ones() -> None:
    shell = [(0.0, 1_500_000.0), (200_000.0, 1_500_000.0), (200_000.0, 1_700_000.0), (0.0, 1_700_000.0)]
    hole = [(50_000.0, 1_550_000.0), (50_000.0, 1_560_000.0), (60_000.0, 1_560_000.0)]
    source = frame([Polygon(shell, [hole])], "EPSG:5070")
    to_degrees = Transformer.from_crs("EPSG:5070", "OGC:CRS84", always_xy=True)

    document, report = streamed(source, max_segment=1000)
    outer, inner = document["features"][0]["geometry"]["coordinates"]

    assert len(outer) == 801
    assert len(inner) == 1 + 10 + 10 + 15
    assert report.edge_error < 0.1
    for x, y in shell + hole:
        corner = np.array(to_degrees.transform(x, y))
        assert np.abs(np.array(outer + inner) - corner).max(axis=1).min() <= PRECISION
    middle = np.array(to_degrees.transform(100_000, 1_500_000))
    assert np.abs(np.array(outer) - middle).max(axis=1).min() <= PRECISION


def test_max_segment_is_in_metres_if_the_system_is_in_feet() -> None:
    feet = CRS("EPSG:2225")  # California zone 1, US survey feet
    line = LineString([(6_000_000, 2_000_000), (6_000_000 + 3280.8333, 2_000_000)])

    assert len(geometry(frame([line], feet), max_segment=100).coords) == 11


def test_added_vertices_get_interpolated_heights() -> None:
    line = LineString([(500_000, 0, 0), (500_100, 0, 100)])

    written = geometry(frame([line], "EPSG:32633"), max_segment=25)

    assert [z for _, _, z in written.coords] == pytest.approx([0, 25, 50, 75, 100])


def test_edges_in_degrees_are_straight_already() -> None:
    _, report = streamed(frame([LineString([(0, 0), (100, 50)])]), max_segment=1)

    assert report.edge_error == 0.0
    assert report.notes == ()


def test_geocentric_coordinates_become_degrees_and_heights() -> None:
    to_earth = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)

    written = geometry(frame([Point(to_earth.transform(13.4, 52.5, 34.0))], "EPSG:4978"))

    assert shapely.get_coordinates(written, include_z=True)[0] == pytest.approx([13.4, 52.5, 34.0], abs=1e-6)


def test_longitudes_from_0_to_360_are_an_error_that_names_the_range() -> None:
    with pytest.raises(ValueError, match=r"(?s)Feature 1 has \(190\.0, 10\.0\).*0 to 360"):
        streamed(frame([Point(10, 10), Point(190, 10)]))


def test_the_first_faulty_feature_is_named_among_several_kinds() -> None:
    source = frame([Point(0, 0), box(0, 0, 1, 1), LineString([(0, 0), (200, 0)]), Point(0, 95), box(0, 0, 300, 1)])

    with pytest.raises(ValueError, match="Feature 2 has"):
        streamed(source)


def test_every_thread_and_batch_gives_what_one_transformation_would() -> None:
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(200_000, 800_000, 20_000), rng.uniform(1_000_000, 6_000_000, 20_000)
    expected = np.stack(Transformer.from_crs(25833, "OGC:CRS84", always_xy=True).transform(x, y), axis=1)

    document, _ = streamed(frame(shapely.points(x, y), "EPSG:25833"), batch_rows=500)

    written = np.array([feature["geometry"]["coordinates"] for feature in document["features"]])
    assert np.abs(written - expected).max() <= PRECISION / 2 + 1e-12


def test_a_system_that_comes_as_a_new_object_with_each_frame_is_looked_up_once() -> None:
    systems = [CRS.from_epsg(25832) for _ in range(50)] + [
        CRS.from_wkt(CRS.from_epsg(5070).to_wkt()) for _ in range(50)
    ]

    found = {id(find_transformation(crs)) for crs in systems}

    assert len(found) == 2


def test_threads_share_costly_transformations() -> None:
    crs = CRS.from_epsg(31467)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find_transformation(crs), range(8)))

    assert all(one is found[0] for one in found)


def test_a_fork_while_a_transformation_is_found_does_not_keep_the_child_from_finding_one() -> None:
    """Python has a program for it, since pytest's process has threads that a fork would not survive."""
    program = """
import os, signal
from pyproj import CRS
from airflow_mapbox.export.geometry import crs as crs84

with crs84._cache.lock:
    child = os.fork()
    if not child:
        signal.alarm(20)
        crs84.find_transformation(CRS.from_epsg(25832))
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["7"]

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import antimeridian
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from airflow_mapbox.export import write_geojson
from airflow_mapbox.export.errors import CoordinatesError, EmptyExportError, InvalidGeometryError, UnreadableSourceError
from tests.unit.export.support import PRECISION, WGS84, features, frame, geometries, geometry, streamed

EDGE = 85.0511287
BOW_TIE = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])


def circle(x: float, y: float, radius: float, count: int = 64, clockwise: bool = False) -> Polygon:
    turn = np.linspace(0, (-2 if clockwise else 2) * math.pi, count, endpoint=False)
    return Polygon(np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1))


def geoparquet(path: Path, wkb: list[bytes | None]) -> Path:
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    table = pa.table({"n": range(len(wkb)), "geometry": pa.array(wkb, pa.binary())})
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)
    return path


def geoarrow_parquet(path: Path, kind: str, geometries: list[Any]) -> Path:
    """Write the native encoding, in which a part may be a list of nothing, and an empty point is one of NaN."""

    def nested(one: Any) -> Any:
        if one.geom_type == "Point":
            return [math.nan, math.nan] if one.is_empty else list(one.coords[0])
        if one.geom_type == "Polygon":
            return [] if one.is_empty else [[list(corner) for corner in one.exterior.coords]]
        if one.geom_type == "LineString":
            return [list(corner) for corner in one.coords]
        return [nested(part) for part in shapely.get_parts(one)]

    levels = pa.list_(pa.field("xy", pa.float64()), 2)
    for _ in range({"MultiPoint": 1, "MultiLineString": 2, "MultiPolygon": 3}[kind]):
        levels = pa.list_(levels)
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": kind.lower()}}}
    table = pa.table({"geometry": pa.array([nested(one) for one in geometries], levels)})
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)
    return path


class TestAntimeridian:
    @pytest.mark.parametrize("clockwise", [False, True])
    def test_a_polygon_is_cut_and_nothing_of_it_lost(self, clockwise: bool) -> None:
        ring = [(170, -10), (-170, -10), (-170, 10), (170, 10)]
        source = Polygon(ring[::-1] if clockwise else ring, [[(178, -1), (-178, -1), (-178, 1), (178, 1)]])

        document, report = streamed(frame([source]))
        written = shapely.from_geojson(json.dumps(document["features"][0]["geometry"]))

        assert written.equals(
            MultiPolygon(
                [
                    box(170, -10, 180, 10).difference(box(178, -1, 180, 1)),
                    box(-180, -10, -170, 10).difference(box(-180, -1, -178, 1)),
                ]
            )
        )
        assert report.changed == {"cut at the antimeridian": 1}

    def test_lines_are_cut_at_the_antimeridian_and_keep_their_heights(self) -> None:
        written = geometry(frame([LineString([(170, 0, 0), (-170, 20, 100), (170, 40, 200)])]))

        parts = sorted(shapely.get_coordinates(part, include_z=True).tolist() for part in written.geoms)
        assert parts == [
            [[-180, 10, 50], [-170, 20, 100], [-180, 30, 150]],
            [[170, 0, 0], [180, 10, 50]],
            [[180, 30, 150], [170, 40, 200]],
        ]

    def test_multi_parts_that_cross_in_part_stay_together(self) -> None:
        written = geometry(
            frame([MultiPolygon([box(0, 0, 1, 1), Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)])])])
        )

        assert written.equals(MultiPolygon([box(0, 0, 1, 1), box(179, 0, 180, 1), box(-180, 0, -179, 1)]))

    def test_a_vertex_on_the_other_side_of_the_seam_makes_no_sliver(self) -> None:
        written = geometry(frame([Polygon([(170, 0), (-180, 0), (-180, 10), (170, 10)])]))

        assert written.geom_type == "Polygon"
        assert written.equals(box(170, 0, 180, 10))

    @pytest.mark.parametrize(
        ("ring", "expected"),
        [
            ([(170, 0), (180, 0), (-180, 10), (170, 10)], box(170, 0, 180, 10)),
            ([(-170, 0), (-180, 0), (180, 10), (-170, 10)], box(-180, 0, -170, 10)),
            ([(170, 0), (180, 0), (-180, 5), (180, 10), (170, 10)], box(170, 0, 180, 10)),
            (
                [(170, 0), (180, 0), (-180, 0), (-170, 0), (-170, 10), (-180, 10), (180, 10), (170, 10)],
                MultiPolygon([box(170, 0, 180, 10), box(-180, 0, -170, 10)]),
            ),
            (
                [(170, 5), (180, 0), (-180, 0), (-170, 5), (-180, 10), (180, 10)],
                MultiPolygon(
                    [Polygon([(170, 5), (180, 0), (180, 10)]), Polygon([(-180, 0), (-170, 5), (-180, 10)])],
                ),
            ),
            (
                [(170, 0), (180, 0), (-180, 0), (-170, 0), (-170, 10), (170, 10)],
                MultiPolygon([box(170, 0, 180, 10), box(-180, 0, -170, 10)]),
            ),
        ],
    )
    def test_both_signs_of_the_seam_in_a_ring_are_one_meridian(
        self, ring: list[tuple[float, float]], expected: Any
    ) -> None:
        for turn in range(len(ring)):
            for way in (1, -1):
                written = geometry(frame([Polygon((ring[turn:] + ring[:turn])[::way])]))

                assert written.equals(expected), (turn, way)

    def test_vertices_of_either_sign_on_the_seam_make_no_difference(self) -> None:
        seed = np.random.SeedSequence().entropy
        print("seed", seed)
        rng = np.random.default_rng(seed)
        plain, signed = [], []
        for _ in range(100):
            turn = np.sort(rng.uniform(0, 2 * math.pi, 12))
            radius = rng.uniform(1, 20, 12)
            ring = np.stack([180 + rng.uniform(-5, 5) + radius * np.cos(turn), radius * np.sin(turn) + 30], axis=1)
            corners = []
            for first, second in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                corners.append(tuple(first))
                if (first[0] - 180) * (second[0] - 180) < 0:
                    y = first[1] + (180 - first[0]) / (second[0] - first[0]) * (second[1] - first[1])
                    corners += [(sign * 180.0, y) for sign in rng.permutation([1, -1])[: rng.integers(1, 3)]]
            plain.append(Polygon([((x + 180) % 360 - 180, y) for x, y in ring]))
            signed.append(Polygon([(x if abs(x) == 180 else (x + 180) % 360 - 180, y) for x, y in corners]))

        expected, written = geometries(frame(plain)), geometries(frame(signed))

        for one, other in zip(written, expected, strict=True):
            assert one.symmetric_difference(other).area < 1e-4
            assert one.is_valid

    def test_both_signs_of_the_seam_in_a_line_are_one_meridian(self) -> None:
        for sign in (1, -1):
            line = LineString([(170, 0), (180 * sign, 5), (-180 * sign, 5), (-170, 0)])

            written = geometry(frame([line]))

            assert written.equals(shapely.MultiLineString([[(170, 0), (180, 5)], [(-180, 5), (-170, 0)]]))

    @pytest.mark.parametrize(
        "world",
        [
            box(-180, -80, 180, 80),
            box(-180, -80, 180 + 3e-14, 80),
            box(-180, 10, 180, 20),
            LineString([(-180, 0), (180, 0)]),
            LineString([(-180, -80), (180, 80)]),
            Polygon([(-180, -80), (180, -80), (170, 0), (180, 80), (-180, 80)]),
            Polygon([(-180, -80), (-60, -70), (60, -75), (180, -80)]),
            Polygon([(-180, -80), (0, -80), (180, -80), (180, 80), (-180, 80)], [box(-10, 0, 10, 10).exterior.coords]),
        ],
        ids=str,
    )
    def test_a_geometry_around_the_whole_world_is_not_cut(self, world: Any) -> None:
        document, report = streamed(frame([world]))

        written = shapely.from_geojson(json.dumps(document["features"][0]["geometry"]))
        assert shapely.equals_exact(written, world, tolerance=PRECISION, normalize=True)
        assert report.changed == {}

    @pytest.mark.parametrize("pole", [1, -1])
    def test_a_ring_around_the_pole_may_have_both_signs_of_the_seam(self, pole: int) -> None:
        coast = [(longitude, pole * (75 - abs(longitude) % 7)) for longitude in range(-180, 181, 10)]

        written = geometry(frame([Polygon(coast)]), beyond_mercator="clip")

        end = math.copysign(EDGE, pole)
        expected = Polygon([*coast, (180, end), (-180, end)])
        assert written.symmetric_difference(expected).area < 1e-6

    def test_an_edge_over_180_degrees_wide_is_a_matter_of_choice(self) -> None:
        wide = frame([box(-100, 0, 100, 10)])

        assert geometry(wide, antimeridian="keep").equals(box(-100, 0, 100, 10))
        assert geometry(wide).equals(MultiPolygon([box(-180, 0, -100, 10), box(100, 0, 180, 10)]))

    def test_a_wide_edge_of_a_projected_system_goes_the_way_that_it_goes_there(self) -> None:
        wide = frame([box(-100, 0, 100, 10)]).to_crs("EPSG:3857")

        assert geometry(wide).equals(box(-100, 0, 100, 10))

    @pytest.mark.parametrize(
        ("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90), ("EPSG:3995", 90), ("EPSG:3976", -90)]
    )
    @pytest.mark.parametrize("clockwise", [False, True])
    def test_a_disc_over_a_pole_covers_it(self, crs: str, pole: int, clockwise: bool) -> None:
        disc = circle(100_000, -50_000, 1_500_000, clockwise=clockwise)

        with pytest.raises(CoordinatesError, match="beyond_mercator"):
            features(frame([disc], crs), beyond_mercator="error")
        written = geometry(frame([disc], crs))

        assert written.is_valid
        south, north = (EDGE, 75) if pole > 0 else (-75, -EDGE)
        assert written.bounds[0] == -180
        assert written.bounds[2] == 180
        assert written.bounds[3 if pole > 0 else 1] == math.copysign(EDGE, pole)
        inside = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
        to_plane = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
        assert inside.transform(0, 0)[1] == pytest.approx(pole)
        for longitude in range(-175, 180, 10):
            for latitude in np.linspace(min(south, north), max(south, north), 8)[1:-1]:
                x, y = to_plane.transform(longitude, float(latitude))
                away = disc.exterior.distance(Point(x, y))
                if away > 20_000:
                    assert written.contains(Point(longitude, latitude)) == disc.contains(Point(x, y))

    def test_a_ring_of_sea_around_a_pole_keeps_its_hole(self) -> None:
        sea = circle(0, 0, 3_000_000).difference(circle(0, 0, 1_500_000))

        written = geometry(frame([sea], "EPSG:3413"), beyond_mercator="clip")

        assert written.contains(Point(10, 70))
        assert written.contains(Point(-170, 70))
        assert not written.contains(Point(10, 80))
        assert not written.contains(Point(10, 50))

    def test_a_ring_around_the_pole_in_degrees_holds_the_nearer_pole(self) -> None:
        ring = Polygon([(longitude, -70) for longitude in range(-175, 180, 10)])

        written = geometry(frame([ring]), beyond_mercator="clip")

        assert written.symmetric_difference(box(-180, -EDGE, 180, -70)).area < 1e-6

    def test_random_polygons_are_cut_as_the_package_antimeridian_cuts_them(self) -> None:
        seed = np.random.SeedSequence().entropy
        print("seed", seed)
        rng = np.random.default_rng(seed)
        sources = []
        for _ in range(100):
            turn = np.sort(rng.uniform(0, 2 * math.pi, 20))
            radius = rng.uniform(1, 20, 20)
            x = rng.choice([-180, 180]) + rng.uniform(-5, 5) + radius * np.cos(turn)
            sources.append(Polygon(np.stack([(x + 180) % 360 - 180, radius * np.sin(turn) + 30], axis=1)))

        ours = geometries(frame(sources))

        for source, written in zip(sources, ours, strict=True):
            theirs = antimeridian.fix_polygon(source, great_circle=False, fix_winding=True)
            assert written.symmetric_difference(theirs.buffer(0)).area < 1e-4
            assert written.is_valid

    @pytest.mark.parametrize("choice", ["fix", "drop", "error"])
    @pytest.mark.parametrize("last", [0, 1e-9])
    def test_rings_without_area_are_dropped_also_at_the_antimeridian(self, choice: str, last: float) -> None:
        def around(middle: float) -> list[Any]:
            def ring(*corners: tuple[float, float]) -> list[tuple[float, float]]:
                return [((middle + x + 180) % 360 - 180, y) for x, y in corners]

            flat = ring((-1, 0), (1, 0), (1, last), (-1, 0))
            sound = ring((-5, -5), (5, -5), (5, 5), (-5, 5))
            beside = ring((-9, -5), (-6, -5), (-6, 5), (-9, 5))
            return [Polygon(flat), Polygon(sound, [flat]), MultiPolygon([(beside, []), (flat, [])])]

        _, elsewhere = streamed(frame(around(0)), on_invalid=choice)
        document, report = streamed(frame(around(180)), on_invalid=choice)

        halves, part = (shapely.from_geojson(json.dumps(feature["geometry"])) for feature in document["features"])
        assert halves.equals(MultiPolygon([box(175, -5, 180, 5), box(-180, -5, -175, 5)]))
        assert part.equals(box(171, -5, 174, 5))
        assert report.dropped == elsewhere.dropped == {"smaller than the precision": 1}
        assert report.changed == {"cut at the antimeridian": 1}

    @pytest.mark.parametrize(
        ("flat", "crs"),
        [
            ([(179, 0), (-179, 0), (-178, 0)], WGS84),
            ([(179, 0), (180, 0), (-180, 0)], WGS84),
            ([(3_000_000, 0), (3_500_000, 0), (3_500_000, 0)], "EPSG:3832"),
            ([(3_000_000, 0), (3_400_000, 0), (3_500_000, 0)], "EPSG:3832"),
        ],
    )
    def test_nothing_is_left_of_a_ring_along_a_line_across_the_seam(
        self, flat: list[tuple[float, float]], crs: str
    ) -> None:
        _, report = streamed(frame([Polygon(flat), Polygon([(0, 0), (1, 0), (1, 1)])], crs))

        assert report.dropped == {"smaller than the precision": 1}
        assert report.changed == {}


class TestRings:
    def test_rings_are_closed(self, tmp_path: Path) -> None:
        corners = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0)]
        wkb = struct.pack("<BIII", 1, 3, 1, 3) + b"".join(struct.pack("<2d", *corner) for corner in corners)

        (feature,) = features(geoparquet(tmp_path / "open.parquet", [wkb]))

        assert feature["geometry"]["coordinates"] == [[[0, 0], [4, 0], [4, 4], [0, 0]]]

    def test_vertices_that_rounding_puts_on_one_another_are_written_once(self) -> None:
        line = LineString([(0, 0), (1e-9, 0), (1, 1), (1, 1 + 1e-9), (2, 2)])

        assert list(geometry(frame([line])).coords) == [(0, 0), (1, 1), (2, 2)]

    def test_a_slice_of_collections_that_are_smaller_than_the_precision_is_dropped_and_counted(self) -> None:
        small = shapely.GeometryCollection([box(0, 0, 1e-9, 1e-9), LineString([(5, 5), (5 + 1e-9, 5)])])

        document, report = streamed(frame([small, small, Point(1, 1)]), batch_rows=2)

        assert report.dropped == {"smaller than the precision": 2}
        assert len(document["features"]) == 1

    def test_rings_smaller_than_the_precision_are_dropped_and_counted(self) -> None:
        small = [box(0, 0, 1e-9, 1e-9), LineString([(5, 5), (5 + 1e-9, 5)]), Point(1, 1), box(0, 0, 1, 1)]
        holed = Polygon(box(0, 0, 1, 1).exterior, [circle(0.5, 0.5, 1e-9).exterior])

        document, report = streamed(frame([*small, holed, MultiPolygon([box(0, 0, 1, 1), box(5, 5, 5 + 1e-9, 6)])]))

        assert report.dropped == {"smaller than the precision": 2}
        assert [feature["geometry"]["type"] for feature in document["features"]] == [
            "Point",
            "Polygon",
            "Polygon",
            "MultiPolygon",
        ]
        assert len(document["features"][2]["geometry"]["coordinates"]) == 1
        assert len(document["features"][3]["geometry"]["coordinates"]) == 1


class TestMembers:
    def test_documents_have_no_crs_member(self) -> None:
        document, _ = streamed(frame([Point(500_000, 0)], "EPSG:32633"))

        assert "crs" not in json.dumps(document)

    def test_no_coordinate_has_more_than_seven_decimals_unless_asked(self) -> None:
        source = frame([Point(1 / 3, 2 / 3), LineString([(1 / 7, 0), (1 / 9, 1 / 11)])])

        def most(**options: Any) -> int:
            numbers = json.dumps([feature["geometry"] for feature in features(source, **options)])
            return max(len(number.partition(".")[2]) for number in numbers.replace("]", " ").replace(",", " ").split())

        assert most() == 7
        assert most(decimals=3) == 3
        assert most(decimals=12) == 12

    def test_heights_are_kept_or_dropped_and_measures_always_dropped(self, tmp_path: Path) -> None:
        wkb = [
            struct.pack("<BI2d", 1, 1, 1, 2),
            struct.pack("<BI3d", 1, 1001, 1, 2, 3),
            struct.pack("<BI3d", 1, 2001, 1, 2, 9),
            struct.pack("<BI4d", 1, 3001, 1, 2, 3, 9),
            struct.pack(">BI3d", 0, 1001, 1, 2, 3),
            struct.pack("<BII3d", 1, 0xA0000001, 4326, 1, 2, 3),
            struct.pack("<BI3d", 1, 0x40000001, 1, 2, 9),
        ]
        path = geoparquet(tmp_path / "zm.parquet", wkb)

        document, report = streamed(path)
        kept = [feature["geometry"]["coordinates"] for feature in document["features"]]

        assert kept == [[1, 2], [1, 2, 3], [1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2]]
        assert report.notes == ("Measures (M) were dropped: GeoJSON has no place for them.",)
        dropped = [feature["geometry"]["coordinates"] for feature in features(path, z="drop")]
        assert dropped == [[1, 2]] * 7

    @pytest.mark.parametrize(
        ("shape", "kind", "srid"),
        [
            ("<2d", 1, b""),
            (">2d", 1, b""),
            ("<3d", 1001, b""),
            ("<3d", 0x80000001, b""),
            (">3d", 2001, b""),
            (">4d", 3001, b""),
            ("<2d", 0x20000001, struct.pack("<I", 4326)),
            (">2d", 0x20000001, struct.pack(">I", 4326)),
            ("<4d", 0xE0000001, struct.pack("<I", 4326)),
        ],
    )
    def test_points_are_read_from_every_form_of_wkb(self, tmp_path: Path, shape: str, kind: int, srid: bytes) -> None:
        order, size = shape[0], int(shape[1])
        head = struct.pack(f"{order}BI", order == "<", kind) + srid
        points = [[n + 0.5, -n, 100.25 + n, 9][:size] for n in range(50)]
        wkb: list[bytes | None] = [head + struct.pack(shape, *point) for point in points]
        wkb[7] = None
        wkb[9] = head + struct.pack(shape, *[math.nan] * size)

        document, report = streamed(geoparquet(tmp_path / "in.parquet", wkb))

        high = bool(shapely.has_z(shapely.from_wkb(wkb[0])))
        written = {feature["properties"]["n"]: feature["geometry"]["coordinates"] for feature in document["features"]}
        assert written == {n: point[: 3 if high else 2] for n, point in enumerate(points) if n not in (7, 9)}
        assert report.dropped == {"no geometry": 1, "empty geometry": 1}

    @pytest.mark.parametrize(
        "wrong",
        [
            *(shapely.to_wkb(Point(1, 2))[:cut] for cut in (9, 13, 20)),
            struct.pack("<BI3d", 1, 0x800007D1, 1, 2, 3),  # both ways to say that there is a Z or M
            struct.pack(">BI3d", 0, 0x400003E9, 1, 2, 3),
        ],
        ids=bytes.hex,
    )
    def test_points_that_are_cut_off_are_an_error(self, tmp_path: Path, wrong: bytes) -> None:
        wkb: list[bytes | None] = [wrong] * 3

        with pytest.raises(UnreadableSourceError, match="feature 0: its geometry is not readable WKB"):
            features(geoparquet(tmp_path / "in.parquet", wkb))

    def test_measures_of_frames_are_dropped_too(self) -> None:
        measured = shapely.from_wkt(["POINT M (1 2 9)", "LINESTRING ZM (0 0 5 9, 1 1 6 9)"])

        written = [feature["geometry"]["coordinates"] for feature in features(frame(measured))]

        assert written == [[1, 2], [[0, 0, 5], [1, 1, 6]]]

    def test_boxes_are_written_on_request(self) -> None:
        fiji = Polygon([(177, -20), (-178, -20), (-178, -16), (177, -16)])
        source = frame([Point(1, 2), fiji, GeometryCollection([Point(3, 4), box(5, 5, 6, 6)])])

        document, _ = streamed(source, write_bbox=True)

        assert [feature["bbox"] for feature in document["features"]] == [
            [1, 2, 1, 2],
            [177, -20, -178, -16],
            [3, 4, 6, 6],
        ]
        assert document["bbox"] == [-180, -20, 180, 5 + 1]
        assert "bbox" not in json.dumps(streamed(source)[0])

    @pytest.mark.parametrize(
        ("crossing", "expected"),
        [
            (Polygon([(179, 0), (-180, 0), (-180, 1), (179, 1)]), [179, 0, 180, 1]),
            (LineString([(179, 0), (-180, 1)]), [179, 0, 180, 1]),
            (Polygon([(-179, 0), (180, 0), (180, 1), (-179, 1)]), [-180, 0, -179, 1]),
            (LineString([(180, 0), (-179, 1)]), [-180, 0, -179, 1]),
            (MultiPolygon([Polygon([(179, 0), (-179, 0), (-179, 1)]), box(-5, 50, 2, 60)]), [179, 0, 2, 60]),
            (MultiPolygon([Polygon([(179, 0), (-179, 0), (-179, 1)]), box(-2, 50, 5, 60)]), [-2, 0, -179, 60]),
            (
                GeometryCollection([LineString([(179, 0), (-179, 0)]), Point(170, 1), MultiPoint([(-170, 2), (5, 3)])]),
                [5, 0, -170, 3],
            ),
            (LineString([(10, 0), (170, 1), (-30, 2)]), [10, 0, -30, 2]),
            (LineString([(-30, 0), (100, 0), (170, 1), (-20, 2)]), [-180, 0, 180, 2]),
            (LineString([(0, 0), (90, 1), (180, 2), (-90, 3), (0, 4)]), [-180, 0, 180, 4]),
            (Polygon([(longitude, 70) for longitude in range(-175, 180, 10)]), [-180, 70, 180, EDGE]),
        ],
        ids=str,
    )
    def test_the_box_of_what_crosses_holds_all_of_it_and_goes_around_the_widest_gap(
        self, crossing: Any, expected: list[float]
    ) -> None:
        source = frame([None, crossing, Point(1, 2)])

        document, _ = streamed(source, write_bbox=True, beyond_mercator="clip")

        assert document["features"][0]["bbox"] == expected
        assert document["features"][1]["bbox"] == [1, 2, 1, 2]

    def test_boxes_are_written_if_nothing_is_left_of_a_crossing_ring(self) -> None:
        source = frame([LineString([(179, 86), (-179, 86)]), Point(1, 2)])

        (only,) = features(source, write_bbox=True, beyond_mercator="clip")

        assert only["bbox"] == [1, 2, 1, 2]

    def test_boxes_have_heights_if_features_have(self) -> None:
        fiji = Polygon([(177, -20, 5), (-178, -20, 6), (-178, -16, 7), (177, -16, 8)])
        mixed = GeometryCollection([Point(3, 4), Point(5, 6, -1.5), LineString([(0, 0, 1), (9, 9, 30)])])
        source = frame([Point(1, 2, 3), Point(1, 2), fiji, mixed])

        document, _ = streamed(source, write_bbox=True)

        assert [feature["bbox"] for feature in document["features"]] == [
            [1, 2, 3, 1, 2, 3],
            [1, 2, 1, 2],
            [177, -20, 5, -178, -16, 8],
            [0, 0, -1.5, 9, 9, 30],
        ]
        assert document["bbox"] == [-180, -20, -1.5, 180, 9, 30]
        flat, _ = streamed(source, write_bbox=True, z="drop")
        assert {len(feature["bbox"]) for feature in flat["features"]} == {len(flat["bbox"])} == {4}
        assert streamed(frame([Point(1, 2)]), write_bbox=True)[0]["bbox"] == [1, 2, 1, 2]


class TestGeometry:
    def test_collections_are_written_flat_and_their_empty_members_left_out(self) -> None:
        nested = GeometryCollection([Point(1, 2), GeometryCollection([box(0, 0, 1, 1), Point()]), MultiPoint([(3, 4)])])

        written = [
            feature["geometry"] for feature in features(frame([Point(9, 9), nested, GeometryCollection(), None]))
        ]

        assert [one["type"] for one in written] == ["Point", "GeometryCollection"]
        assert [member["type"] for member in written[1]["geometries"]] == ["Point", "Polygon", "MultiPoint"]

    @pytest.mark.parametrize("source", ["frame", "geoparquet", "geoarrow", "beside a collection", "in a collection"])
    @pytest.mark.parametrize("kind", ["MultiPoint", "MultiLineString", "MultiPolygon"])
    @pytest.mark.parametrize("places", [{0}, {1}, {2}, {0, 2}, {0, 1}], ids=str)
    def test_empty_parts_are_left_out(self, tmp_path: Path, source: str, kind: str, places: set[int]) -> None:
        texts = {
            "MultiPoint": "({n} 0)",
            "MultiLineString": "({n} 0, {n} 1)",
            "MultiPolygon": "(({n} 0, {n}.5 0, {n}.5 1, {n} 0))",
        }
        parts = ["EMPTY" if n in places else texts[kind].format(n=n) for n in range(3)]
        holey, full, gone = shapely.from_wkt(
            [
                f"{kind} ({', '.join(parts)})",
                f"{kind} ({', '.join(part for part in parts if part != 'EMPTY')})",
                f"{kind} (EMPTY, EMPTY)",
            ]
        )
        column = [full, holey, gone, full]
        expected = [full, full, full]
        if source == "beside a collection":
            column.append(GeometryCollection([Point(1, 2)]))
            expected.append(column[-1])
        if source == "in a collection":
            column = [GeometryCollection([one]) for one in column]
            expected = [GeometryCollection([one]) for one in expected]
        given: Any = frame(column)
        if source == "geoparquet" or "collection" in source:
            given = geoparquet(tmp_path / "in.parquet", [shapely.to_wkb(one) for one in column])
        if source == "geoarrow":
            given = geoarrow_parquet(tmp_path / "in.parquet", kind, column)

        for each in (given, frame(column)):
            document, report = streamed(each)
            written = [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in document["features"]]
            assert shapely.equals_exact(written, expected, normalize=True).all()
            assert report.dropped == {"empty geometry": 1}
            assert report.changed == {}

    @pytest.mark.parametrize("source", ["frame", "geoparquet"])
    def test_a_collection_of_one_stays_a_collection(self, tmp_path: Path, source: str) -> None:
        one = frame([GeometryCollection([Point(1, 2)]), None, Point(3, 4)])
        one.to_parquet(tmp_path / "in.parquet")

        written = [feature["geometry"] for feature in features(one if source == "frame" else tmp_path / "in.parquet")]

        assert written == [
            {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
            {"type": "Point", "coordinates": [3, 4]},
        ]

    def test_invalid_polygons_are_repaired_dropped_or_an_error(self) -> None:
        source = frame([Point(9, 9), BOW_TIE, box(0, 0, 1, 1)], n=[0, 1, 2])

        document, report = streamed(source)
        repaired = shapely.from_geojson(json.dumps(document["features"][1]["geometry"]))
        assert repaired.is_valid
        assert repaired.area == pytest.approx(2)
        assert report.changed == {"repaired": 1}

        document, report = streamed(source, on_invalid="drop")
        assert [feature["properties"]["n"] for feature in document["features"]] == [0, 2]
        assert report.dropped == {"invalid geometry": 1}

        with pytest.raises(InvalidGeometryError, match=r"(?s)Feature 1 is not valid \(Self-intersection.*on_invalid"):
            streamed(source, on_invalid="error")

    @pytest.mark.parametrize(
        "crossing",
        [
            Polygon([(179, 0), (-179, 2), (-179, 0), (179, 2)]),
            # Its hole is on the other side of the seam, and outside.
            Polygon([(178, 0), (-178, 0), (-178, 2), (178, 2)], [[(-177, 0), (-176, 0), (-176, 1)]]),
            Polygon([(178, 0), (-178, 0), (-178, 2), (178, 2)], [[(-179, 0.5), (179, 1.5), (179, 0.5), (-179, 1.5)]]),
            MultiPolygon(
                [
                    Polygon([(178, 0), (-178, 0), (-178, 2), (178, 2)]),
                    Polygon([(-179, 1), (-177, 1), (-177, 3), (-179, 3)]),
                ]
            ),
        ],
        ids=["bow-tie", "hole outside", "hole crosses itself", "parts overlap"],
    )
    def test_invalid_polygons_across_the_antimeridian_are_reported_like_any_others(self, crossing: Any) -> None:
        source = frame([Point(9, 9), crossing], n=[0, 1])

        document, report = streamed(source)
        assert shapely.from_geojson(json.dumps(document["features"][1]["geometry"])).is_valid
        assert report.changed == {"cut at the antimeridian": 1, "repaired": 1}

        document, report = streamed(source, on_invalid="drop")
        assert [feature["properties"]["n"] for feature in document["features"]] == [0]
        assert report.dropped == {"invalid geometry": 1}
        assert report.changed == {}

        with pytest.raises(InvalidGeometryError, match=r"(?s)Feature 1 is not valid \(.*on_invalid"):
            streamed(source, on_invalid="error")

    @pytest.mark.parametrize(
        ("valid", "crs"),
        [
            (Polygon([(178, 0), (-178, 0), (-178, 2), (178, 2)], [[(-179, 0.5), (-179, 1.5), (179, 1)]]), WGS84),
            (Polygon([(-178, 0), (178, 0), (178, 2), (-178, 2)], [[(179, 0.5), (179, 1.5), (178.5, 1)]]), WGS84),
            (
                MultiPolygon(
                    [
                        Polygon([(178, 0), (-178, 0), (-178, 2), (178, 2)]),
                        box(-178, 2, -177, 3),
                        box(170, 0, 177, 0.5).union(box(170, 0, 171, 5)),
                        box(0, 0, 1, 1),
                    ]
                ),
                WGS84,
            ),
            (Polygon([(longitude, 70) for longitude in range(-175, 180, 10)]), WGS84),
            (circle(0, 0, 3_000_000, 63).difference(circle(0, 0, 1_500_000, 63)), "EPSG:3413"),
            (circle(0, 0, 3_000_000, 63).difference(circle(1_000_000, 1_000_000, 500_000)), "EPSG:3413"),
        ],
    )
    @pytest.mark.parametrize("choice", ["drop", "error", "fix"])
    def test_valid_polygons_across_the_antimeridian_are_not_an_error(self, valid: Any, crs: str, choice: str) -> None:
        document, report = streamed(frame([valid], crs), on_invalid=choice, beyond_mercator="clip")

        assert len(document["features"]) == 1
        assert report.changed["cut at the antimeridian"] == 1
        assert "repaired" not in report.changed

    @pytest.mark.parametrize("choice", ["drop", "error"])
    def test_polygons_that_rounding_breaks_across_the_antimeridian_are_repaired(self, choice: str) -> None:
        needle = [(0, 0), (1, 0), (1, 1), (0.5, 1), (0.5, 3), (0.5 - 1e-9, 3), (0.5 - 1e-9, 1), (0, 1)]
        source = Polygon([((179.7 + x + 180) % 360 - 180, y) for x, y in needle])

        document, report = streamed(frame([source]), on_invalid=choice)

        assert shapely.from_geojson(json.dumps(document["features"][0]["geometry"])).is_valid
        assert report.changed == {"cut at the antimeridian": 1, "repaired": 1}

    @pytest.mark.parametrize("size", [1e-1, 1e-4, 5e-6, 5e-7])
    # With the second GEOS fails to round one of the polygons. With the third it calls a ring without area valid.
    @pytest.mark.parametrize("seed", [None, 303103583801762619150418030480116188086, 6])
    def test_repaired_polygons_are_valid_after_rounding(self, size: float, seed: int | None) -> None:
        seed = seed or np.random.SeedSequence().entropy
        print("seed", seed)
        rng = np.random.default_rng(seed)
        corners = rng.uniform(-80, 80, (300, 1, 2)) + rng.uniform(-size, size, (300, 6, 2))
        source = frame([Polygon(ring) for ring in corners])

        document, report = streamed(source)
        written = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in document["features"]])

        assert shapely.is_valid(written).all()
        assert not shapely.is_empty(written).any()
        assert report.features + sum(report.dropped.values()) == report.features_read == 300
        for one in shapely.get_parts(written):
            assert one.exterior.is_ccw
            assert not any(hole.is_ccw for hole in one.interiors)
            for ring in (one.exterior, *one.interiors):
                assert (np.abs(np.diff(shapely.get_coordinates(ring), axis=0)).max(axis=1) > 0).all()

    def test_polygons_that_rounding_breaks_are_always_repaired(self) -> None:
        # Valid as it is; a spike narrower than a ten millionth of a degree closes on itself.
        needle = Polygon([(0, 0), (1, 0), (1, 1), (0.5, 1), (0.5, 3), (0.5 - 1e-9, 3), (0.5 - 1e-9, 1), (0, 1)])
        assert needle.is_valid

        for choice in ("fix", "drop", "error"):
            written = geometry(frame([needle]), on_invalid=choice)
            assert written.is_valid
            assert written.equals(box(0, 0, 1, 1))

    @pytest.mark.parametrize("choice", ["drop", "error"])
    def test_degenerate_rings_do_not_stop_other_choices(self, tmp_path: Path, choice: str) -> None:
        two = [(0.0, 0.0), (1.0, 1.0), (0.0, 0.0)]
        line_like = struct.pack("<BIII", 1, 3, 1, 3) + b"".join(struct.pack("<2d", *corner) for corner in two)
        path = geoparquet(tmp_path / "in.parquet", [line_like, shapely.to_wkb(box(0, 0, 1, 1))])

        document, report = streamed(path, on_invalid=choice)

        assert [feature["properties"]["n"] for feature in document["features"]] == [1]
        assert sum(report.dropped.values()) == 1

    def test_latitudes_beyond_the_map_are_refused_or_clipped(self) -> None:
        source = frame(
            [
                box(0, 80, 10, 90),
                LineString([(0, 80, 0), (0, 90, 10)]),
                Point(5, 89),
                box(0, 86, 1, 87),
                MultiPoint([(0, 0), (0, 89)]),
                Point(0, -85.0511287),
            ]
        )

        with pytest.raises(CoordinatesError, match=r"(?s)Feature 0 .*85\.0511.*beyond_mercator"):
            features(source, beyond_mercator="error")
        document, report = streamed(source)

        written = [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in document["features"]]
        assert written[0].equals(box(0, 80, 10, EDGE))
        assert written[1].coords[1] == pytest.approx((0, EDGE, 5.0511287))
        assert [one.wkt for one in written[2:]] == ["POINT (0 0)", "POINT (0 -85.0511287)"]
        assert report.dropped == {"beyond ±85.0511 degrees": 2}
        assert report.changed == {"clipped at ±85.0511 degrees": 3}
        assert any("3 clipped there, 2 dropped" in note for note in report.notes)

    def test_a_continent_that_reaches_the_pole_is_clipped_and_noted(self) -> None:
        antarctica = Polygon([(-180, -90), (-180, -84), (-120, -74), (0, -70), (120, -66), (180, -84), (180, -90)])

        document, report = streamed(frame([antarctica, box(0, 0, 1, 1)]))

        assert document["features"][0]["geometry"]["type"] == "Polygon"
        assert report.bounds[1] == -85.0511287
        assert report.changed == {"clipped at ±85.0511 degrees": 1}
        assert [note for note in report.notes if "85.0511" in note and "1 clipped there" in note]

    def test_data_beyond_the_map_alone_says_why_nothing_is_left(self) -> None:
        with pytest.raises(EmptyExportError, match=r"(?s)1 \(beyond ±85\.0511 degrees\).*map ends at"):
            features(frame([Point(0, 89)]))

    def test_latitudes_beyond_90_are_an_error_in_any_case(self) -> None:
        with pytest.raises(CoordinatesError, match="Feature 1 has"):
            features(frame([Point(0, 0), Point(0, 90.001)]), beyond_mercator="clip")

    @pytest.mark.parametrize("number", [8, 9, 10, 11, 12])
    def test_curves_in_geoparquet_are_named_as_curves(self, tmp_path: Path, number: int) -> None:
        wkb = [shapely.to_wkb(Point(0, 0)), None, struct.pack("<BII6d", 1, number, 3, 0, 0, 1, 1, 2, 0)]

        with pytest.raises(UnreadableSourceError, match=r"(?s)in\.parquet.*feature 2.*curve"):
            features(geoparquet(tmp_path / "in.parquet", wkb))

    @pytest.mark.parametrize("source", ["frame", "geoparquet"])
    @pytest.mark.parametrize("deep", [1, 2])
    def test_curves_in_a_collection_are_named_with_their_feature(self, tmp_path: Path, source: str, deep: int) -> None:
        curve = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)
        for _ in range(deep):
            curve = struct.pack("<BII", 1, 7, 2) + shapely.to_wkb(Point(0, 0)) + curve
        wkb = [shapely.to_wkb(GeometryCollection([Point(0, 0), LineString([(0, 0), (1, 1)])])), None, curve]
        given = geoparquet(tmp_path / "in.parquet", wkb) if source == "geoparquet" else frame(shapely.from_wkb(wkb))
        name = r"in\.parquet" if source == "geoparquet" else "The GeoDataFrame"

        with pytest.raises(
            UnreadableSourceError, match=rf"(?s){name} cannot be read: feature 2: .*curve.*linearise it"
        ):
            features(given)

    @pytest.mark.parametrize("cut", [1, 8, 9, 20, 60, 90])
    def test_truncated_geometries_are_named(self, tmp_path: Path, cut: int) -> None:
        whole = shapely.to_wkb(box(0, 0, 1, 1))

        with pytest.raises(UnreadableSourceError, match=r"in\.parquet cannot be read: feature 1"):
            features(geoparquet(tmp_path / "in.parquet", [whole, whole[:cut], whole]))

    def test_further_geometry_columns_of_geoparquet_are_left_out(self, tmp_path: Path) -> None:
        source = frame([Point(1, 2)], n=[1])
        source["centre"] = geopandas.GeoSeries([Point(9, 9)], crs=WGS84)
        source.to_parquet(tmp_path / "in.parquet")

        assert features(tmp_path / "in.parquet")[0]["properties"] == {"n": 1}


def test_mixed_kinds_dimensions_and_gaps_come_back_in_order(tmp_path: Path) -> None:
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    rng = np.random.default_rng(seed)

    def one() -> Any:
        x, y = rng.uniform(-150, 150), rng.uniform(-70, 70)
        holed = box(x, y, x + 2, y + 2).difference(box(x + 0.5, y + 0.5, x + 1, y + 1))
        return rng.choice(
            np.array(
                [
                    None,
                    Point(x, y),
                    Point(x, y, 5),
                    Point(),
                    LineString([(x, y), (x + 1, y)]),
                    LineString([(x, y, 1), (x + 1, y, 2)]),
                    holed,
                    shapely.force_3d(holed, 7),
                    MultiPolygon([holed, box(x + 3, y, x + 4, y + 1)]),
                    MultiPolygon([box(x + 3, y, x + 4, y + 1)]),
                    shapely.MultiLineString([[(x, y), (x + 1, y)], [(x, y + 1), (x + 1, y + 2)]]),
                    MultiPoint([(x, y), (x + 1, y)]),
                    GeometryCollection([Point(x, y), holed]),
                ],
                dtype=object,
            )
        )

    sources = [one() for _ in range(600)]
    source = frame(sources, n=range(600))
    source.to_parquet(tmp_path / "in.parquet")
    there = [n for n, source in enumerate(sources) if source is not None and not source.is_empty]

    for given in (source, tmp_path / "in.parquet"):
        document, report = streamed(given, batch_rows=int(rng.integers(1, 300)))
        assert [feature["properties"]["n"] for feature in document["features"]] == there
        assert sum(report.dropped.values()) == 600 - len(there)
        for feature in document["features"]:
            written = shapely.from_geojson(json.dumps(feature["geometry"]))
            expected = sources[feature["properties"]["n"]]
            assert written.has_z == expected.has_z
            assert shapely.equals_exact(written.normalize(), expected.normalize(), tolerance=PRECISION)


def test_gdal_reads_the_written_file(tmp_path: Path) -> None:
    source = frame([box(0, 0, 1, 1), MultiPolygon([box(3, 3, 4, 4)]), BOW_TIE], n=[1, 2, 3], s=['"', "ü", None])
    write_geojson(source, tmp_path / "x.geojson")

    read = geopandas.read_file(tmp_path / "x.geojson")

    assert read.crs == WGS84
    assert read["n"].tolist() == [1, 2, 3]
    assert read["s"].tolist()[:2] == ['"', "ü"]
    assert read.geometry.is_valid.all()

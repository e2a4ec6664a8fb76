"""Curves in layers that GDAL reads, whatever type of geometry the layer says that it has."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from shapely.geometry import Point, box

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.geometry.decode import has_curves, to_storage
from tests.unit.export.support import features, frame, geometries, streamed

DISC = struct.pack("<BII10d", 1, 8, 5, 0, 0, 1, 1, 2, 0, 1, -1, 0, 0)
ARC = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)
ARC_3D = struct.pack("<BII9d", 1, 1008, 3, 0, 0, 5, 1, 1, 5, 2, 0, 5)
LINE = struct.pack("<BII4d", 1, 2, 2, -1, 0, 0, 0)


def several(kind: int, *members: bytes) -> bytes:
    return struct.pack("<BII", 1, kind, len(members)) + b"".join(members)


CURVES = {
    "CircularString": (ARC, "LineString", np.pi),
    "CircularString Z": (ARC_3D, "LineString", np.pi),
    "CompoundCurve": (several(9, LINE, ARC), "LineString", np.pi + 1),
    "CurvePolygon": (several(10, DISC), "Polygon", 2 * np.pi),
    "MultiCurve": (several(11, ARC, LINE), "MultiLineString", np.pi + 1),
    "MultiSurface": (several(12, several(10, DISC)), "MultiPolygon", 2 * np.pi),
}


def geopackage(path: Path, curve: bytes, declared: str, before: int = 0) -> Path:
    """Write a layer of boxes, and have its last feature be a curve, as other programs write it."""
    boxes = [shapely.multipolygons([box(n % 90, 0, n % 90 + 0.5, 1)]) for n in range(before + 1)]
    frame(boxes, n=range(before + 1)).to_file(path, layer="all", geometry_type="MultiPolygon")
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute("UPDATE gpkg_geometry_columns SET geometry_type_name = ?, z = 2", (declared.upper(),))
        header = b"GP\x00\x01" + struct.pack("<i", 4326)
        db.execute('UPDATE "all" SET geom = ? WHERE n = ?', (header + curve, before))
    return path


@pytest.mark.parametrize("declared", ["Geometry", "LineString", "MultiPolygon", "GeometryCollection", "CurvePolygon"])
@pytest.mark.parametrize("curve", CURVES)
def test_curves_are_linearised_in_layers_of_every_declared_type(tmp_path: Path, curve: str, declared: str) -> None:
    wkb, kind, length = CURVES[curve]
    path = geopackage(tmp_path / "x.gpkg", wkb, declared)

    for choice in ({}, {"where": "n = 0"}, {"layer": "all"}, {"columns": []}, {"bbox": [-1, -1, 2, 2]}):
        (only,) = geometries(path, **choice)

        assert only.geom_type == kind
        assert only.length == pytest.approx(length, rel=5e-3)
        assert only.has_z == curve.endswith("Z")


@pytest.mark.parametrize("declared", ["Geometry", "MultiPolygon", "GeometryCollection"])
def test_curves_in_a_collection_are_an_error_that_says_what_to_do(tmp_path: Path, declared: str) -> None:
    path = geopackage(tmp_path / "x.gpkg", several(7, several(7, several(10, DISC)), LINE), declared, before=3)

    with pytest.raises(
        UnreadableSourceError, match=r"(?s)x\.gpkg .*feature 3: its collection has a curve.*linearise it first"
    ):
        features(path)
    straight = geopackage(tmp_path / "y.gpkg", several(7, LINE, LINE), declared, before=3)
    assert geometries(straight)[-1].geom_type == "GeometryCollection"


@pytest.mark.slow
@pytest.mark.parametrize("where", [None, "n >= 40000"])
def test_one_curve_after_many_features_changes_nothing_else(tmp_path: Path, where: str | None) -> None:
    wkb, kind, _ = CURVES["MultiSurface"]
    path = geopackage(tmp_path / "x.gpkg", wkb, "MultiPolygon", before=60_000)

    document, report = streamed(path, where=where)

    first = 0 if where is None else 40_000
    assert [feature["properties"]["n"] for feature in document["features"]] == list(range(first, 60_001))
    assert report.features == 60_001 - first
    assert document["features"][-1]["geometry"]["type"] == kind
    assert document["features"][-2]["geometry"]["type"] == "MultiPolygon"


@pytest.mark.parametrize("name", ["curve.gpkg", "curvepolygon.gpkg", "multisurface.gpkg"])
def test_files_of_pyogrio_are_read(name: str) -> None:
    path = Path(pyogrio.__file__).parent / "tests" / "fixtures" / name
    if not path.exists():
        pytest.skip("this pyogrio comes without its tests")

    assert features(path)


def test_layers_without_curves_are_read_straight() -> None:
    import pyarrow as pa

    def column(*values: Any) -> pa.Array:
        return to_storage(pa.array(values, pa.binary()))

    straight = [shapely.to_wkb(geometry) for geometry in (Point(1, 2), box(0, 0, 1, 1), Point(1, 2, 3), Point())]
    straight += [shapely.to_wkb(Point(1, 2, 3), flavor="iso"), shapely.to_wkb(Point(1, 2), byte_order=0), None, b""]
    assert not has_curves(column(*straight))
    assert not has_curves(column(shapely.to_wkb(Point(1, 2), include_srid=True)))
    for wkb, *_ in CURVES.values():
        assert has_curves(column(*straight, wkb))
    big = struct.pack(">BII6d", 0, 8, 3, 0, 0, 1, 1, 2, 0)
    assert has_curves(column(None, big))
    assert has_curves(column(*straight, big)[3:])

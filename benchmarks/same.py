"""That what was written, decoded again, is what was read."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import orjson
import pandas as pd
import shapely

_HALF = 0.5e-7 + 1e-11  # degrees: half of the last decimal, and the arithmetic of comparing
_JOINED = 2e-7  # degrees: vertices closer than the last decimal fall together


def check_same(source: Path, target: Path) -> str:
    """
    Compare every geometry and every attribute.

    :param source: GeoParquet.
    :param target: what was made of it.
    :return: what was compared.
    :raises AssertionError: where there is a difference.
    """
    frame = geopandas.read_parquet(source)
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)].reset_index(drop=True)
    features = orjson.loads(target.read_bytes())["features"]
    assert len(features) == len(frame), (len(features), len(frame))
    expected = np.asarray(frame.geometry.to_crs("OGC:CRS84"))
    written = shapely.from_geojson([orjson.dumps(feature["geometry"]) for feature in features])
    valid = shapely.is_valid(expected)
    # An invalid polygon is repaired, so what it is compared with is too, by GEOS alone.
    repaired = shapely.make_valid(expected[~valid], method="structure", keep_collapsed=False)
    assert shapely.is_valid(written[~valid]).all()
    for mine, theirs in zip(written[~valid], repaired, strict=True):
        assert shapely.hausdorff_distance(mine, theirs) < _JOINED
    expected, written = expected[valid], written[valid]
    assert (shapely.get_type_id(written) == shapely.get_type_id(expected)).all()
    same = shapely.get_num_coordinates(written) == shapely.get_num_coordinates(expected)
    if shapely.get_type_id(expected[0]) in (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON):
        expected, written = (shapely.orient_polygons(these, exterior_cw=False) for these in (expected, written))
    off = np.abs(shapely.get_coordinates(written[same]) - shapely.get_coordinates(expected[same]))
    assert off.max() <= _HALF, off.max()
    # The others had vertices closer than the precision.
    for mine, theirs in zip(written[~same], expected[~same], strict=True):
        assert shapely.hausdorff_distance(mine, theirs) < _JOINED
    decoded = pd.DataFrame([feature["properties"] for feature in features])
    for name in frame.columns.drop(frame.active_geometry_name):
        column = frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            assert (pd.to_datetime(decoded[name]) == column).all(), name
        else:
            assert (decoded[name] == column).all() or decoded[name].fillna("").eq(column.fillna("")).all(), name
    return (
        f"{len(frame):,} features decoded again are the same to {off.max():.1e} degrees, {int((~same).sum())} of them "
        f"with vertices that rounding joined, {int((~valid).sum())} invalid ones repaired alike; attributes equal"
    )

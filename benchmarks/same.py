"""Check that exported GeoJSON has the features of its source."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import orjson
import pandas as pd
import shapely

# Half of the last decimal, and the error of the comparison.
_MAX_ERROR_DEGREES = 0.5e-7 + 1e-11
# Vertices closer than the last decimal become one.
_MAX_DISTANCE_DEGREES = 2e-7


def check_same(source: Path, target: Path) -> str:
    """
    Compare all geometries and attributes.

    :param source: the GeoParquet file.
    :param target: the exported GeoJSON file.
    :return: a summary of the comparison.
    :raises AssertionError: if there is a difference.
    """
    frame = geopandas.read_parquet(source)
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)].reset_index(drop=True)
    features = orjson.loads(target.read_bytes())["features"]
    assert len(features) == len(frame), (len(features), len(frame))
    expected = np.asarray(frame.geometry.to_crs("OGC:CRS84"))
    written = shapely.from_geojson([orjson.dumps(feature["geometry"]) for feature in features])
    valid = shapely.is_valid(expected)
    # The export repairs invalid polygons, so they are compared with GEOS's repair.
    repaired = shapely.make_valid(expected[~valid], method="structure", keep_collapsed=False)
    assert shapely.is_valid(written[~valid]).all()
    for mine, theirs in zip(written[~valid], repaired, strict=True):
        assert shapely.hausdorff_distance(mine, theirs) < _MAX_DISTANCE_DEGREES
    expected, written = expected[valid], written[valid]
    assert (shapely.get_type_id(written) == shapely.get_type_id(expected)).all()
    same = shapely.get_num_coordinates(written) == shapely.get_num_coordinates(expected)
    if shapely.get_type_id(expected[0]) in (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON):
        expected, written = (shapely.orient_polygons(these, exterior_cw=False) for these in (expected, written))
    difference = np.abs(shapely.get_coordinates(written[same]) - shapely.get_coordinates(expected[same]))
    assert difference.max() <= _MAX_ERROR_DEGREES, difference.max()
    # The other geometries have vertices that rounding joined.
    for mine, theirs in zip(written[~same], expected[~same], strict=True):
        assert shapely.hausdorff_distance(mine, theirs) < _MAX_DISTANCE_DEGREES
    decoded = pd.DataFrame([feature["properties"] for feature in features])
    for name in frame.columns.drop(frame.active_geometry_name):
        column = frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            assert (pd.to_datetime(decoded[name]) == column).all(), name
        else:
            assert (decoded[name] == column).all() or decoded[name].fillna("").eq(column.fillna("")).all(), name
    return (
        f"{len(frame):,} features are equal within {difference.max():.1e} degrees, and so are all attributes; rounding "
        f"joined vertices of {int((~same).sum())}; {int((~valid).sum())} were invalid and are repaired"
    )

"""What Mapbox's messages about failed processing mean, and what to do about each."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FailureCause:
    """
    The cause of failed processing.

    :param data_at_fault: whether the same data would fail again.
    :param hint: what to do next.
    """

    data_at_fault: bool
    hint: str


_NEW_UPLOAD = FailureCause(
    False, "The cause may not be the data: clear the task that created the upload to upload again."
)

_SMALLER = "Simplify or split the data, or upload it as MBTiles."
_MBTILES = "Repair the MBTiles file with the tool that made it; its metadata and tiles must agree."
_COLUMNS = (
    "The CSV needs UTF-8 and a header row with columns lon and lat (or wkt, geom, geometry, geojson), separated by "
    "commas, tabs, semicolons or pipes."
)
_GEOJSON = "Send a FeatureCollection. airflow_mapbox.export.write_geojson writes one that Mapbox accepts."
_RANGE = "Coordinates must be longitude, latitude (CRS84) within ±180 and ±85.0511; write_geojson reprojects the data."
_ZIP = "Send one .zip that contains the .shp, .dbf, .shx and .prj of one shapefile."
_EMPTY = "Check the query or the filter that selects the data: it returned no feature."
_TIFF = "The TIFF must be 8-bit and georeferenced, with a coordinate reference system."

# The messages whose cause is the data (docs/reference/errors.md, "Failed processing").
_DATA_AT_FAULT: tuple[tuple[str, str], ...] = (
    (r"Failed to find a shapefile in your zip", _ZIP),
    (r"Invalid shapefile: (missing|invalid) projection file", _ZIP),
    (r"vector_layers must be an array of layer objects", _MBTILES),
    (r'Vector source must include "vector_layers" key', _MBTILES),
    (r'Vector source "vector_layers" contains duplicate ID', _MBTILES),
    (r"Metadata exceeds limit of", "Shorten the MBTiles metadata: fewer layers or attributes, no tile statistics."),
    (r"In mbtiles file, ", _MBTILES),
    (r"Tile is invalid", _MBTILES),
    (r"Invalid tile based on the Mapbox Vector Tile spec", _MBTILES),
    (r"Tileset is empty", _EMPTY),
    (r"KML does not contain any layers", _EMPTY),
    (r"KML does not contain any valid features", _EMPTY),
    (r"GPX does not contain any valid features", _EMPTY),
    (r"CSV file does not contain any features", _EMPTY),
    (r"Invalid geojson: does not contain any features", _EMPTY),
    (r"\d+ layers found\. Maximum of \d+ layers allowed", "Send fewer layers in one file."),
    (r"Duplicate layer names", "Give each layer its own name."),
    (r"Tileset exceeds processing limit", _SMALLER),
    (r"Tile exceeds maximum size", _SMALLER),
    (r"Tile size exceeds limit", _SMALLER),
    (r"File is larger than .* Too big to process", _SMALLER),
    (r"Failed to parse geojson feature", _GEOJSON),
    (r"Error creating Mapnik Datasource", _GEOJSON),
    (r"Coordinates beyond web mercator range", _RANGE),
    (r"bounds (west|south|east|north) value must be", _RANGE),
    (r"Error calculating min/max zoom: Bounds invalid", _RANGE),
    (r"Unable to reproject data", _RANGE),
    (r"Unable to reproject tif", _TIFF),
    (r"Invalid raster", _TIFF),
    (r"Unknown filetype", "Mapbox did not recognise the format: send GeoJSON, CSV, KML, GPX, MBTiles, TIFF or a zip."),
    (r"Unknown format", "Mapbox did not recognise the format: send GeoJSON, CSV, KML, GPX, MBTiles, TIFF or a zip."),
    (r"File is zero bytes", "The file is empty: check the task that wrote it."),
    (r"File too small", "The file is too small for its format: check the task that wrote it."),
    (r"Invalid CSV", _COLUMNS),
    (r"Dataset not found", "The dataset was deleted or never existed: check the mapbox://datasets/ source."),
)


def explain_failure(message: str) -> FailureCause:
    """
    Return the cause of a failed upload, and what to do.

    :param message: the ``error`` field of the upload.
    :return: the cause. For an undocumented message it is not the data.
    """
    # The patterns are compiled here and not at import: few uploads fail, and every poll imports this module.
    for pattern, hint in _DATA_AT_FAULT:
        if re.search(pattern, message, re.IGNORECASE):
            return FailureCause(True, hint)
    return _NEW_UPLOAD

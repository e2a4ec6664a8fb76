"""Rules for GeoJSON."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import EXPORT, FILTER, REPROJECT, WRITER
from airflow_mapbox.rules.rule import Rule

_GEOMETRY_WRITER = "Write it with airflow_mapbox.export.write_geojson, or check the task that wrote it."
_PARSER = "seen; source: mapnik-omnivore reads GeoJSON with Mapnik"

NOT_JSON = Rule(
    name="geojson-json",
    format="GeoJSON",
    meaning="The file is not valid JSON: it is cut off or broken.",
    message="Error creating Mapnik Datasource: Invalid geojson",
    remedy=WRITER,
    evidence=_PARSER,
)
LINES = Rule(
    name="geojson-lines",
    format="GeoJSON",
    meaning="The file has one JSON document on each line (line-delimited GeoJSON).",
    message="Error creating Mapnik Datasource: Invalid geojson",
    remedy=EXPORT,
    evidence="source: mapnik-omnivore reads GeoJSON with Mapnik, whose grammar is one document",
)
OTHER_JSON = Rule(
    name="geojson-type",
    format="GeoJSON",
    meaning="The file is JSON, but its `type` is not one of GeoJSON's.",
    message="Unknown filetype",
    remedy="Check the task that wrote it, or the URL: a server may have returned an error as JSON.",
    evidence="seen; source: mapbox-file-sniff",
)
HEAD = Rule(
    name="geojson-head",
    format="GeoJSON",
    meaning="The first 400 characters do not show that the file is GeoJSON, or look like TopoJSON or TileJSON.",
    message="Unknown filetype",
    remedy="Write `type` first, then `features`, then the other members.",
    evidence="seen; source: mapbox-file-sniff",
)
FEATURES = Rule(
    name="geojson-features",
    format="GeoJSON",
    meaning="The `features` of a FeatureCollection are not an array.",
    message="Error creating Mapnik Datasource: Invalid geojson",
    remedy=WRITER,
    evidence=_PARSER,
)
EMPTY = Rule(
    name="geojson-empty",
    format="GeoJSON",
    meaning="The file has no feature, or no geometry in any feature.",
    message="Invalid geojson: does not contain any features",
    remedy=FILTER,
    evidence="seen; source: mapnik-omnivore, lib/geojson.js",
)
FEATURE = Rule(
    name="geojson-feature",
    format="GeoJSON",
    meaning="A feature or its geometry has a form that GeoJSON does not allow (RFC 7946, 3).",
    message="Failed to parse geojson feature",
    remedy=_GEOMETRY_WRITER,
    evidence=_PARSER,
)
RANGE = Rule(
    name="geojson-range",
    format="GeoJSON",
    meaning="Positions lie outside ±180 degrees of longitude or ±85.0511 degrees of latitude.",
    message="Coordinates beyond web mercator range. Please check projection and lat/lon values.",
    remedy=REPROJECT,
    evidence="seen",
)
CRS = Rule(
    name="geojson-crs",
    format="GeoJSON",
    meaning="The `crs` member names a system whose coordinates are not longitude, latitude. Mapbox ignores it.",
    message="Coordinates beyond web mercator range. Please check projection and lat/lon values.",
    remedy=REPROJECT,
    evidence="seen",
)
OTHER_DATUM = Rule(
    name="geojson-datum",
    format="GeoJSON",
    meaning="The `crs` member is unknown, or names a datum other than WGS 84. The data may be some metres off.",
    remedy=REPROJECT,
    evidence="none: Mapbox reads WGS 84 and ignores the member",
    refused=False,
)
UNCLOSED_RING = Rule(
    name="geojson-ring",
    format="GeoJSON",
    meaning="A ring does not end where it begins (RFC 7946, 3.1.6).",
    remedy=f"GeoJSON requires closed rings (RFC 7946, 3.1.6). {_GEOMETRY_WRITER}",
    evidence="source: Mapnik closes rings (geometry::correct), so such files pass",
    refused=False,
)
NULL_HEIGHT = Rule(
    name="geojson-height",
    format="GeoJSON",
    meaning="The height of a position is null (RFC 7946, 3.1.1).",
    remedy=f"In GeoJSON a height is a number, or it is left out (RFC 7946, 3.1.1). {_GEOMETRY_WRITER}",
    evidence="none: what Mapbox does is unknown",
    refused=False,
)
HALF_CHARACTER = Rule(
    name="geojson-surrogate",
    format="GeoJSON",
    meaning="A string has an escape sequence for half a character, such as \\ud83d alone.",
    remedy=f"A string was cut inside a character. {WRITER}",
    evidence="none: what Mapbox does is unknown",
    refused=False,
)
REPROJECTION = Rule(
    name="geojson-reprojection",
    format="GeoJSON",
    meaning="Mapbox could not convert the coordinates to its map.",
    message="Unable to reproject data. {reason}",
    remedy="Coordinates must be longitude, latitude within ±180 and ±85.0511 degrees. " + REPROJECT,
    evidence="seen",
    checked=False,
)
DATASOURCE = Rule(
    name="vector-datasource",
    format="GeoJSON",
    meaning="Mapnik, which reads the data at Mapbox, could not open the file.",
    message="Error creating Mapnik Datasource",
    remedy=f"Send a FeatureCollection. {EXPORT}",
    evidence=_PARSER,
    checked=False,
)
ZOOMS = Rule(
    name="vector-bounds",
    format="GeoJSON",
    meaning="Mapbox could not compute the bounds, so it could not choose zooms.",
    message="Error calculating min/max zoom: Bounds invalid",
    remedy="Coordinates must be longitude, latitude within ±180 and ±85.0511 degrees. " + REPROJECT,
    evidence="seen; source: mapnik-omnivore, lib/utils.js",
    checked=False,
)

RULES = (
    NOT_JSON,
    LINES,
    OTHER_JSON,
    HEAD,
    FEATURES,
    EMPTY,
    FEATURE,
    RANGE,
    CRS,
    OTHER_DATUM,
    UNCLOSED_RING,
    NULL_HEIGHT,
    HALF_CHARACTER,
    REPROJECTION,
    DATASOURCE,
    ZOOMS,
)

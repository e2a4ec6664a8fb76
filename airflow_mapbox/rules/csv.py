"""Rules for CSV."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import FILTER, REPROJECT_CSV, WRITER
from airflow_mapbox.rules.rule import Rule

_COORDINATES = (
    "Write longitude and latitude in degrees with a decimal point, or WKT or GeoJSON in a geometry column. "
    'For other reference systems, upload it with format="auto" and export={"crs": "EPSG:…"}.'
)
_SOURCE = "source: mapnik-omnivore, lib/csv.js"

COLUMNS = Rule(
    name="csv-columns",
    format="CSV",
    meaning="The header has no columns of coordinates that Mapbox recognises.",
    message="Invalid CSV. Cannot detect column(s) with the name(s) of wkt, geojson, x/y, or latitude/longitude.",
    remedy=(
        "Name columns lon and lat, x and y, or …longitude… and …latitude…. Or name one column exactly wkt, geom, "
        "geometry or geojson, within the first 512 bytes."
    ),
    evidence=f"seen; {_SOURCE}; source: detect-geocsv",
    checked=False,
)
EMPTY = Rule(
    name="csv-empty",
    format="CSV",
    meaning="The file has a header and no rows.",
    message="CSV file does not contain any features",
    remedy=FILTER,
    evidence=f"seen; {_SOURCE}",
)
UNREADABLE = Rule(
    name="csv-coordinates",
    format="CSV",
    meaning="No row has coordinates that Mapbox can read.",
    message="CSV file does not contain any features",
    remedy=_COORDINATES,
    evidence=f"seen; {_SOURCE}",
)
RANGE = Rule(
    name="csv-range",
    format="CSV",
    meaning="All readable rows lie outside ±180 degrees of longitude or ±85.0511 degrees of latitude.",
    message="Coordinates beyond web mercator range. Please check projection and lat/lon values.",
    remedy=REPROJECT_CSV,
    evidence="seen",
)
QUOTE = Rule(
    name="csv-quote",
    format="CSV",
    meaning="A quoted cell has no closing quotation mark, so the rest of the file belongs to it.",
    remedy=f"Close the quotation mark, or double it inside a cell. {WRITER}",
    evidence="source: Mapnik reads the rest of the file as one cell",
    refused=False,
)
SKIPPED_ROWS = Rule(
    name="csv-skipped-rows",
    format="CSV",
    meaning="Some rows have no coordinates that Mapbox can read. It leaves them out without a message.",
    remedy=f"Mapbox leaves such rows out. {_COORDINATES}",
    evidence="source: Mapnik, csv_datasource",
    refused=False,
)
SOME_OUT_OF_RANGE = Rule(
    name="csv-some-out-of-range",
    format="CSV",
    meaning="Some rows lie outside ±180 degrees of longitude or ±85.0511 degrees of latitude.",
    remedy=REPROJECT_CSV,
    evidence="none: whether one such row is enough to be refused is unknown",
    refused=False,
)
WIDE_ROWS = Rule(
    name="csv-wide-rows",
    format="CSV",
    meaning="Some rows have more cells than the header.",
    remedy=f"Quote cells that contain the separator. {WRITER}",
    evidence="source: Mapnik, csv_datasource, ignores the additional cells",
    refused=False,
)

RULES = (COLUMNS, EMPTY, UNREADABLE, RANGE, QUOTE, SKIPPED_ROWS, SOME_OUT_OF_RANGE, WIDE_ROWS)

"""Rules for MBTiles."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import FILTER, WRITER
from airflow_mapbox.rules.rule import Rule

_AGAIN = "Repair the MBTiles file with the tool that made it; its metadata and tiles must agree."
_CONVERT = 'Send MBTiles, or export the data with format="auto", which reads GeoPackage and other SQLite formats.'
_TABLES = "Write the tiles into a table, or into the views that MBTiles 1.3 describes."
_SIMPLER = (
    "Simplify the data at this zoom, drop attributes, or raise the minzoom (tippecanoe: --drop-densest-as-needed)."
)
_ZOOMS_AGAIN = "Set the metadata to the zooms of the tiles: UPDATE metadata SET value = … WHERE name = 'maxzoom'."
_BOUNDS_AGAIN = "Write the bounds as west,south,east,north in degrees."
_CENTER_AGAIN = "Write the center as longitude,latitude,zoom inside the bounds and zooms, or delete the row."
_GET_INFO = "source: @mapbox/mbtiles 0.10, lib/mbtiles.js"
_VALIDATOR = "source: mapbox-upload-validate, lib/validators/mbtiles.js"
_TILELIVE = "source: @mapbox/tilelive 5.12, lib/tilelive.js"

BROKEN = Rule(
    name="mbtiles-broken",
    format="MBTiles",
    meaning="The database is broken.",
    message="SQLITE_CORRUPT: database disk image is malformed",
    remedy=WRITER,
    evidence=_VALIDATOR,
)
CUT_OFF = Rule(
    name="mbtiles-cut-off",
    format="MBTiles",
    meaning="The database is shorter than its own header says: it is cut off.",
    message="SQLITE_CORRUPT: database disk image is malformed",
    remedy=WRITER,
    evidence=f"{_VALIDATOR}; SQLite's file format, 1.3",
)
NOT_DATABASE = Rule(
    name="mbtiles-not-a-database",
    format="MBTiles",
    meaning="The file begins like an SQLite database, but SQLite cannot open it.",
    message="SQLITE_NOTADB: file is {reason}",
    remedy=WRITER,
    evidence="source: mapbox-upload-validate, lib/validate.js",
)
NOT_WRITTEN = Rule(
    name="mbtiles-wal",
    format="MBTiles",
    meaning="The last changes are in a write-ahead log beside the file, and that log is not sent.",
    remedy='Close the program that writes the file, or run sqlite3 with "PRAGMA wal_checkpoint(TRUNCATE)".',
    evidence="none, the preflight's own rule: Mapbox would get the file without the changes",
)
NO_TILES_TABLE = Rule(
    name="mbtiles-tables",
    format="MBTiles",
    meaning="The database has neither a tiles table nor a grids table, so it is not MBTiles.",
    message="Tileset is empty.",
    remedy=_CONVERT,
    evidence=_VALIDATOR,
)
NO_COLUMN = Rule(
    name="mbtiles-columns",
    format="MBTiles",
    meaning="A table lacks a column that MBTiles requires.",
    message="SQLITE_ERROR: no such column: {column}",
    remedy=_AGAIN,
    evidence=f"{_VALIDATOR}; MBTiles 1.3",
)
NO_METADATA = Rule(
    name="mbtiles-metadata-missing",
    format="MBTiles",
    meaning="The database has no metadata table.",
    remedy="Create it again with the tool that made it.",
    evidence="none: MBTiles 1.3 requires the table; whether Mapbox does is unknown",
    refused=False,
)
PREPARE = Rule(
    name="mbtiles-prepare",
    format="MBTiles",
    meaning="The metadata has a row named prepare.",
    message="Source cannot contain prepare key",
    remedy="Delete the row: DELETE FROM metadata WHERE name = 'prepare'.",
    evidence="source: mapbox-upload-validate, lib/validate.js",
)
METADATA_JSON = Rule(
    name="mbtiles-metadata-json",
    format="MBTiles",
    meaning="The json row of the metadata is not valid JSON.",
    message="Unexpected token {token} in JSON at position {position}",
    remedy=_AGAIN,
    evidence=_GET_INFO,
)
METADATA_TEXT = Rule(
    name="mbtiles-metadata-text",
    format="MBTiles",
    meaning="A value in the metadata is not a string, or is too long.",
    message="{key} must be a string of {limit} characters or less",
    remedy="Shorten the value, or delete the row.",
    evidence=_TILELIVE,
)
METADATA_URLS = Rule(
    name="mbtiles-metadata-urls",
    format="MBTiles",
    meaning="The tiles or grids in the metadata are not an array of URLs.",
    message="{key} must be an array of templated urls",
    remedy="Delete the row: MBTiles need no URLs.",
    evidence=_TILELIVE,
)
SCHEME = Rule(
    name="mbtiles-scheme",
    format="MBTiles",
    meaning="The scheme in the metadata is neither tms nor xyz.",
    message='scheme must be "tms" or "xyz"',
    remedy="Delete the row: DELETE FROM metadata WHERE name = 'scheme'.",
    evidence=_TILELIVE,
)
ZOOM_VALUE = Rule(
    name="mbtiles-metadata-zoom",
    format="MBTiles",
    meaning="The minzoom or maxzoom in the metadata is not an integer between 0 and 30.",
    message="{key} must be an integer between 0 and 30",
    remedy=_ZOOMS_AGAIN,
    evidence=_TILELIVE,
)
ZOOM_ORDER = Rule(
    name="mbtiles-metadata-zoom-order",
    format="MBTiles",
    meaning="The minzoom in the metadata is above the maxzoom.",
    message="minzoom must be less than or equal to maxzoom",
    remedy=_ZOOMS_AGAIN,
    evidence=_TILELIVE,
)
HIGH_ZOOM = Rule(
    name="mbtiles-zoom-high",
    format="MBTiles",
    meaning="The maxzoom is above 22, the highest zoom of Mapbox's maps.",
    remedy="Lower the maxzoom to 22.",
    evidence="documented: maps have zooms up to 22; tilelive accepts 30",
    refused=False,
)
BOUNDS_FORM = Rule(
    name="mbtiles-bounds-form",
    format="MBTiles",
    meaning="The bounds in the metadata are not four numbers.",
    message="bounds must be an array of the form [west, south, east, north]",
    remedy=_BOUNDS_AGAIN,
    evidence=_TILELIVE,
)
BOUNDS = Rule(
    name="mbtiles-bounds",
    format="MBTiles",
    meaning="The bounds in the metadata reach beyond ±360 degrees of longitude or ±95 degrees of latitude.",
    message="bounds {side} value must be between {minimum} and {maximum}",
    remedy=_BOUNDS_AGAIN,
    evidence=f"seen; {_TILELIVE}",
)
BOUNDS_ORDER = Rule(
    name="mbtiles-bounds-order",
    format="MBTiles",
    meaning="In the bounds of the metadata, west is greater than east, or south greater than north.",
    message="bounds {lower} value must be less than or equal to {upper}",
    remedy=_BOUNDS_AGAIN,
    evidence=f"seen; {_TILELIVE}",
)
CENTER_FORM = Rule(
    name="mbtiles-center-form",
    format="MBTiles",
    meaning="The center in the metadata is not three numbers.",
    message="center must be an array of the form [lon, lat, z]",
    remedy=_CENTER_AGAIN,
    evidence=_TILELIVE,
)
CENTER = Rule(
    name="mbtiles-center",
    format="MBTiles",
    meaning="The center in the metadata lies beyond ±180 degrees of longitude or ±90 degrees of latitude.",
    message="center {part} value must be between {minimum} and {maximum}",
    remedy=_CENTER_AGAIN,
    evidence=_TILELIVE,
)
CENTER_BOUNDS = Rule(
    name="mbtiles-center-bounds",
    format="MBTiles",
    meaning="The center in the metadata lies outside the bounds.",
    message="center {part} value must be between bounds {minimum} and {maximum}",
    remedy=_CENTER_AGAIN,
    evidence=_TILELIVE,
)
CENTER_ZOOM = Rule(
    name="mbtiles-center-zoom",
    format="MBTiles",
    meaning="The zoom of the center in the metadata is not an integer between 0 and 23.",
    message="center z value must be an integer between 0 and 30",
    remedy=_CENTER_AGAIN,
    evidence=f"{_TILELIVE}, whose message says 30",
)
CENTER_ZOOMS = Rule(
    name="mbtiles-center-zooms",
    format="MBTiles",
    meaning="The zoom of the center in the metadata is below the minzoom or above the maxzoom.",
    message="center zoom value must be {relation} than or equal to {bound} {zoom}",
    remedy=_CENTER_AGAIN,
    evidence=_TILELIVE,
)
VECTOR_LAYERS = Rule(
    name="mbtiles-vector-layers",
    format="MBTiles",
    meaning="The vector_layers in the metadata are not an array, or are an empty array.",
    message="vector_layers must be an array of layer objects",
    remedy=_AGAIN,
    evidence=f"seen; {_TILELIVE}",
)
LAYER = Rule(
    name="mbtiles-vector-layer",
    format="MBTiles",
    meaning="An element of vector_layers in the metadata is not an object.",
    message="vector_layers[{index}] must be a layer object",
    remedy=_AGAIN,
    evidence=_TILELIVE,
)
LAYER_ID = Rule(
    name="mbtiles-vector-layer-id",
    format="MBTiles",
    meaning="The id of a vector layer in the metadata is missing, is not a string, or has more than 255 characters.",
    message="vector_layers[{index}] id must be a string of 255 characters or less",
    remedy="Give each layer an id of 1 to 255 characters.",
    evidence=_TILELIVE,
)

NO_VECTOR_LAYERS = Rule(
    name="mbtiles-vector-layers-missing",
    format="MBTiles",
    meaning="The tiles are vector tiles, but the metadata has no vector_layers.",
    message='Vector source must include "vector_layers" key',
    remedy=_AGAIN,
    evidence=f"seen; {_VALIDATOR}",
)
DUPLICATE_LAYERS = Rule(
    name="mbtiles-vector-layers-duplicate",
    format="MBTiles",
    meaning="Two vector_layers in the metadata have the same id.",
    message='Vector source "vector_layers" contains duplicate ID: {id}',
    remedy="Give each layer its own id.",
    evidence=f"seen; {_VALIDATOR}",
)
METADATA_SIZE = Rule(
    name="mbtiles-metadata-size",
    format="MBTiles",
    meaning="The metadata without tilestats has more than 60 kB (61,440 bytes).",
    message="Metadata {size} exceeds limit of {limit}.",
    remedy="Shorten it: fewer layers or attributes, shorter descriptions.",
    evidence="documented; source: mapbox-upload-validate, lib/validate.js",
)
METADATA_LIMIT = Rule(
    name="mbtiles-metadata-limit",
    format="MBTiles",
    meaning="The metadata is too large. Mapbox's servers use this message.",
    message="Metadata exceeds limit of {limit}",
    remedy="Shorten it: fewer layers or attributes, no tile statistics.",
    evidence="seen",
    checked=False,
)
TILEMILL = Rule(
    name="mbtiles-formatter",
    format="MBTiles",
    meaning="The metadata has a row named formatter, which TileMill wrote before version 0.7.",
    message="Use TileMill 0.7 or later to export MBTiles with a valid template.",
    remedy="Delete the row: DELETE FROM metadata WHERE name = 'formatter'.",
    evidence=_VALIDATOR,
)
FIRST_TILE = Rule(
    name="mbtiles-tile-empty",
    format="MBTiles",
    meaning="The data of the first tile is null or an empty string.",
    message="Tile is invalid",
    remedy=_AGAIN,
    evidence=f"seen; {_VALIDATOR}",
)
TILE_FORMAT = Rule(
    name="mbtiles-tile-format",
    format="MBTiles",
    meaning="The first tile is neither an image nor a compressed vector tile.",
    message="Unknown format.",
    remedy="Compress vector tiles with gzip, as MBTiles 1.3 requires. Images are PNG, JPEG or WebP.",
    evidence=f"seen; {_VALIDATOR}",
)
VECTOR_TILE = Rule(
    name="mbtiles-vector-tile",
    format="MBTiles",
    meaning="A vector tile cannot be decompressed, or breaks the Mapbox Vector Tile specification.",
    message="Invalid tile based on the Mapbox Vector Tile spec: {reason}",
    remedy=_AGAIN,
    evidence="seen; Mapbox Vector Tile Specification 2.1",
)
OTHER_TILE = Rule(
    name="mbtiles-tile-other",
    format="MBTiles",
    meaning="A tile after the first is empty, has an unknown format, or has another format than the first.",
    remedy="Write all tiles in one format; compress vector tiles with gzip, as MBTiles 1.3 requires.",
    evidence="none: Mapbox's validator reads the first tile only",
    refused=False,
)
TILE_LAYERS = Rule(
    name="mbtiles-tile-layers",
    format="MBTiles",
    meaning="A vector tile has a layer twice, a layer without features, or a layer that is not in vector_layers.",
    remedy=_AGAIN,
    evidence="Mapbox Vector Tile Specification 2.1, 4.1; what Mapbox does is unknown",
    refused=False,
)
TILE_UNPACKED = Rule(
    name="mbtiles-tile-unpacked",
    format="MBTiles",
    meaning="A vector tile has more than 5 MB after decompression.",
    remedy=_SIMPLER,
    evidence="none: Mapbox refuses vector tiles of 5 MB, but whether it counts decompressed bytes is unknown",
    refused=False,
)
CARMEN = Rule(
    name="mbtiles-carmen",
    format="MBTiles",
    meaning="The file has rows in a table named carmen, an old index for search.",
    message="Carmen 0.1.x tilesets are no longer supported.",
    remedy="Delete the table: DROP TABLE carmen.",
    evidence=_VALIDATOR,
)
EMPTY = Rule(
    name="mbtiles-empty",
    format="MBTiles",
    meaning="The file has no tiles and no grids.",
    message="Tileset is empty.",
    remedy=FILTER,
    evidence=f"seen; {_VALIDATOR}",
)
TOO_MANY = Rule(
    name="mbtiles-tiles-max",
    format="MBTiles",
    meaning="The file has more than 30,000,000 tiles and grids.",
    message="Tileset exceeds processing limit.",
    remedy="Lower the maxzoom, or split the data.",
    evidence=f"seen; {_VALIDATOR}; mapbox-upload-limits",
)
TILE_SIZE = Rule(
    name="mbtiles-tile-size",
    format="MBTiles",
    meaning="A tile has more than 512,000 bytes.",
    message="Tile exceeds maximum size of 500k at z{zoom}. {advice}",
    remedy=_SIMPLER,
    evidence=f"documented; seen; {_VALIDATOR}",
)
GRID_SIZE = Rule(
    name="mbtiles-grid-size",
    format="MBTiles",
    meaning="A grid has more than 512,000 bytes.",
    message="Grid exceeds maximum size of 500k at z{zoom}. {advice}",
    remedy=_SIMPLER,
    evidence=_VALIDATOR,
)
TILE_SIZE_UNPACKED = Rule(
    name="mbtiles-tile-size-unpacked",
    format="MBTiles",
    meaning="A vector tile that Mapbox made has more than 5 MB.",
    message="Tile size exceeds limit. At least one vector tile is larger than 5MB.",
    remedy=_SIMPLER,
    evidence="seen",
    checked=False,
)
MAXZOOM = Rule(
    name="mbtiles-zoom-max",
    format="MBTiles",
    meaning="A tile or grid has a zoom above 30.",
    message=(
        "Maxzoom exceeded for mbtiles file. There is a max zoom limit of {maximum} but tiles up to zoom level {zoom} "
        "were found. {advice}"
    ),
    remedy="Lower the maxzoom.",
    evidence=f"{_VALIDATOR}; mapbox-upload-limits",
)
ZOOMS = Rule(
    name="mbtiles-zooms",
    format="MBTiles",
    meaning="The maxzoom or fillzoom in the metadata does not fit the zooms of the tiles.",
    message="In mbtiles file, metadata.{name} ({value}) is {relation} than actual tiles {bound} ({zoom})",
    remedy=_ZOOMS_AGAIN,
    evidence=f"seen; {_VALIDATOR}",
)
UNSAFE = Rule(
    name="mbtiles-unsafe",
    format="MBTiles",
    meaning="The tiles or the metadata come from a virtual table, or from views that use each other too often.",
    remedy=_TABLES,
    evidence="none: the preflight refuses it for safety",
)
TOO_SLOW = Rule(
    name="mbtiles-endless",
    format="MBTiles",
    meaning="Reading the schema, or a recursive view of the tiles or the metadata, takes more than a few seconds.",
    remedy=_TABLES,
    evidence="none: the preflight refuses it for safety",
)

RULES = (
    NOT_DATABASE,
    CUT_OFF,
    BROKEN,
    NOT_WRITTEN,
    NO_COLUMN,
    NO_METADATA,
    METADATA_JSON,
    PREPARE,
    SCHEME,
    CENTER_ZOOM,
    ZOOM_VALUE,
    LAYER,
    LAYER_ID,
    METADATA_TEXT,
    METADATA_URLS,
    CENTER_FORM,
    CENTER_BOUNDS,
    CENTER,
    BOUNDS_FORM,
    BOUNDS,
    BOUNDS_ORDER,
    VECTOR_LAYERS,
    ZOOM_ORDER,
    CENTER_ZOOMS,
    HIGH_ZOOM,
    METADATA_SIZE,
    METADATA_LIMIT,
    TILEMILL,
    FIRST_TILE,
    TILE_FORMAT,
    NO_VECTOR_LAYERS,
    DUPLICATE_LAYERS,
    CARMEN,
    EMPTY,
    NO_TILES_TABLE,
    TOO_MANY,
    MAXZOOM,
    ZOOMS,
    TILE_SIZE,
    GRID_SIZE,
    VECTOR_TILE,
    OTHER_TILE,
    TILE_LAYERS,
    TILE_UNPACKED,
    TILE_SIZE_UNPACKED,
    UNSAFE,
    TOO_SLOW,
)

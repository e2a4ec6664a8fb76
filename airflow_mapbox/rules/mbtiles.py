"""Rules for MBTiles."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import FILTER, WRITER
from airflow_mapbox.rules.rule import Rule

_AGAIN = "Repair the MBTiles file with the tool that made it; its metadata and tiles must agree."
_CONVERT = 'Send MBTiles, or export the data with format="auto", which reads GeoPackage and other SQLite formats.'
_SIMPLER = (
    "Simplify the data at this zoom, drop attributes, or raise the minzoom (tippecanoe: --drop-densest-as-needed)."
)
_VALIDATOR = "source: mapbox-upload-validate, lib/validators/mbtiles.js"
_TILELIVE = "source: tilelive, lib/tilelive.js"

BROKEN = Rule(
    name="mbtiles-broken",
    format="MBTiles",
    meaning="The database is cut off or broken.",
    message="SQLITE_CORRUPT: database disk image is malformed",
    remedy=WRITER,
    evidence=_VALIDATOR,
)
NOT_WRITTEN = Rule(
    name="mbtiles-wal",
    format="MBTiles",
    meaning="Changes lie in a write-ahead log beside the file, which is not sent.",
    remedy='Close the program that writes it, or run sqlite3 with "PRAGMA wal_checkpoint(TRUNCATE)".',
    evidence="none: Mapbox would get the file without the changes",
)
NO_TILES_TABLE = Rule(
    name="mbtiles-tables",
    format="MBTiles",
    meaning="The database has neither a table of tiles nor one of grids, so it is not MBTiles.",
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
    meaning="The database has no table of metadata.",
    remedy="Create it again with the tool that made it.",
    evidence="none: MBTiles 1.3 requires the table, Mapbox is not known to",
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
METADATA = Rule(
    name="mbtiles-metadata",
    format="MBTiles",
    meaning="A value in the metadata has a wrong type, is too long, or is out of range.",
    remedy=_AGAIN,
    evidence=_TILELIVE,
)
BOUNDS = Rule(
    name="mbtiles-bounds",
    format="MBTiles",
    meaning="The bounds in the metadata are out of range or in the wrong order.",
    message="bounds {side} value must be between {minimum} and {maximum}",
    remedy="Write the bounds as west,south,east,north in degrees.",
    evidence=f"seen; {_TILELIVE}",
)
CENTER = Rule(
    name="mbtiles-center",
    format="MBTiles",
    meaning="The centre in the metadata is out of range, or outside the bounds or the zooms.",
    message="center {part} value must be between {minimum} and {maximum}",
    remedy="Write the center as longitude,latitude,zoom inside the bounds and zooms, or delete the row.",
    evidence=_TILELIVE,
)
VECTOR_LAYERS = Rule(
    name="mbtiles-vector-layers",
    format="MBTiles",
    meaning="The vector_layers in the metadata are not an array of objects with an id.",
    message="vector_layers must be an array of layer objects",
    remedy=_AGAIN,
    evidence=f"seen; {_TILELIVE}",
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
    meaning="The metadata without tilestats has more than 60 kB.",
    message="Metadata {size} exceeds limit of {limit}.",
    remedy="Shorten it: fewer layers or attributes, shorter descriptions.",
    evidence="documented; source: mapbox-upload-validate, lib/validate.js",
)
METADATA_LIMIT = Rule(
    name="mbtiles-metadata-limit",
    format="MBTiles",
    meaning="The metadata is too large, in the words that production uses.",
    message="Metadata exceeds limit of {limit}",
    remedy="Shorten it: fewer layers or attributes, no tile statistics.",
    evidence="seen",
    checked=False,
)
TILEMILL = Rule(
    name="mbtiles-formatter",
    format="MBTiles",
    meaning="The metadata has a formatter, which TileMill wrote before version 0.7.",
    message="Use TileMill 0.7 or later to export MBTiles with a valid template.",
    remedy="Delete the row: DELETE FROM metadata WHERE name = 'formatter'.",
    evidence=_VALIDATOR,
)
FIRST_TILE = Rule(
    name="mbtiles-tile-empty",
    format="MBTiles",
    meaning="The first tile has no data.",
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
    meaning="A vector tile breaks the Mapbox Vector Tile specification.",
    message="Invalid tile based on the Mapbox Vector Tile spec: {reason}",
    remedy=_AGAIN,
    evidence="seen; Mapbox Vector Tile Specification 2.1",
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
    message=(
        "Tile exceeds maximum size of 500k at z{zoom}. Reduce the detail of data at this zoom level or omit it by "
        "adjusting your minzoom."
    ),
    remedy=_SIMPLER,
    evidence=f"documented; seen; {_VALIDATOR}",
)
GRID_SIZE = Rule(
    name="mbtiles-grid-size",
    format="MBTiles",
    meaning="A grid exceeds Mapbox's limit.",
    message=(
        "Grid exceeds maximum size of 500k at z{zoom}. Reduce the detail of data at this zoom level or omit it by "
        "adjusting your minzoom."
    ),
    remedy=_SIMPLER,
    evidence=_VALIDATOR,
)
TILE_SIZE_UNPACKED = Rule(
    name="mbtiles-tile-size-unpacked",
    format="MBTiles",
    meaning="An uncompressed vector tile has more than 5 MB.",
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
        "were found."
    ),
    remedy="Lower the maxzoom.",
    evidence=f"{_VALIDATOR}; mapbox-upload-limits",
)
ZOOMS = Rule(
    name="mbtiles-zooms",
    format="MBTiles",
    meaning="The maxzoom or fillzoom in the metadata does not fit the zooms of the tiles.",
    message="In mbtiles file, metadata.{name} ({value}) is {relation} than actual tiles {bound} ({zoom})",
    remedy="Set the metadata to the zooms of the tiles: UPDATE metadata SET value = … WHERE name = 'maxzoom'.",
    evidence=f"seen; {_VALIDATOR}",
)
TOO_SLOW = Rule(
    name="mbtiles-endless",
    format="MBTiles",
    meaning="The database takes too long to answer a simple query: a view may not end.",
    remedy="Write the tiles into a table, or into the views that MBTiles 1.3 describes.",
    evidence="none: the check refuses it for safety",
)

RULES = (
    BROKEN,
    NOT_WRITTEN,
    NO_TILES_TABLE,
    NO_COLUMN,
    NO_METADATA,
    PREPARE,
    BOUNDS,
    CENTER,
    VECTOR_LAYERS,
    NO_VECTOR_LAYERS,
    DUPLICATE_LAYERS,
    METADATA_SIZE,
    METADATA_LIMIT,
    TILEMILL,
    FIRST_TILE,
    TILE_FORMAT,
    VECTOR_TILE,
    CARMEN,
    EMPTY,
    TOO_MANY,
    TILE_SIZE,
    GRID_SIZE,
    TILE_SIZE_UNPACKED,
    MAXZOOM,
    ZOOMS,
    TOO_SLOW,
    METADATA,
)

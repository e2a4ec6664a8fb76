"""
Mapbox's numbers, each with its source.

``docs/reference/limits.md`` has the same numbers with how well each of them is known.
"""

from __future__ import annotations

import re

# --- Names (Uploads API, "Create an upload") ---

# Each part of a tileset id, the account and the name: "The only allowed special characters are - and _", 32 characters.
TILESET_PART = re.compile(r"[A-Za-z0-9_-]{1,32}")
DISPLAY_NAME_CHARACTERS = 64

# --- Sizes in bytes (Uploads API, "Restrictions and limits"; the exact numbers are from mapbox-upload-limits) ---

GEOJSON_BYTES = 1_073_741_824
CSV_BYTES = 1_073_741_824
KML_BYTES = 272_629_760
GPX_BYTES = 272_629_760
# The unzipped .shp and .dbf together, so the size of the .zip does not decide.
SHAPEFILE_BYTES = 272_629_760
MBTILES_BYTES = 26_843_545_600
TIFF_BYTES = 10_000_000_000

# --- KML (mapbox-upload-limits) ---

KML_LAYERS = 15

# --- MBTiles (docs/reference/limits.md) ---

TILE_BYTES = 512_000
METADATA_BYTES = 60 * 1024
# Tiles and grids together, and the highest zoom of either (mapbox-upload-limits).
MAX_TILES = 30_000_000
MAX_TILE_ZOOM = 30

# --- What Mapbox reads of a file to recognise its format (mapbox/mapbox-file-sniff) ---

SNIFFED_BYTES = 512
# Mapbox reads this many characters to distinguish GeoJSON, TopoJSON and TileJSON.
SNIFFED_CHARACTERS = 400

# --- The map ---

WEB_MERCATOR_LATITUDE = 85.0511287798066  # degrees, atan(sinh(pi)): the edge of the square map
# The highest zoom of each price tier (Mapbox pricing, "Tilesets").
TIER_MAXZOOM = {"free": 5, "10m": 10, "1m": 13, "30cm": 16, "1cm": 22}

# --- Requests (Uploads API, "Restrictions and limits", "Retrieve recent upload statuses") ---

# The window of the rate limit if a reply does not name its own: 30 requests in one minute.
RATE_LIMIT_INTERVAL_SECONDS = 60.0
LIST_PAGE = 100  # "The maximum number of statuses to return, up to 100"
LIST_BYTES = 2**20  # "up to 1 MB"
# Tilesets on one page of the account's list (Mapbox Tiling Service, "List tilesets": `limit`).
TILESETS_PAGE = 500

# --- Processing (Uploads API, "Restrictions and limits") ---

# One hour; for MBTiles two.
MAX_PROCESSING_SECONDS = 2 * 3600.0

# --- Staging (Uploads API, "Retrieve S3 credentials") ---

STAGING_REGION = "us-east-1"

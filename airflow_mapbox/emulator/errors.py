"""The messages of Mapbox: the API's refusals and the errors of failed processing, each in one place."""

from __future__ import annotations

from enum import StrEnum


class RefusedError(Exception):
    """A request that the API refuses.

    :param status: the HTTP status.
    :param message: the ``message`` in the response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class DataError(Exception):
    """Data that Mapbox refuses. The exception's message becomes the upload's ``error``."""


class ApiMessage(StrEnum):
    """Messages of the API (see ``docs/reference/errors.md``, "Refused requests")."""

    UNAUTHORIZED = "Not Authorized - Invalid Token"
    # Documented for the tilesets endpoints; the Uploads API was seen to answer with the other one.
    NO_TOKEN = "Not Authorized - No Token"  # noqa: S105 - a message
    NO_SCOPE = "This endpoint requires a token with {} scope"
    NOT_FOUND = "Not Found"
    TILESET_MISSING = "Tileset does not exist"
    TILE_MISSING = "Tile not found"
    NO_JSON = "Request body is not valid JSON"
    NO_OBJECT = "Request body must be a JSON object"
    BODY_TOO_LARGE = "Request body is too large"
    MISSING = 'Missing required property "{}"'
    INVALID_PROPERTY = 'The request body contains the invalid property "{}".'
    INVALID_VALUE = 'Invalid "{}" value'
    USED_URL = "The provided url has already been used by another upload. Fetch new credentials."
    # The grammar is Mapbox's.
    INVALID_QUERY = 'The requested url\'s querystring "{}" property contains in invalid value.'
    INVALID_START = "Invalid start key"
    # Documented for a tileset source that is being processed.
    LOCKED = "Resource is locked and cannot be modified"
    NOT_MADE_HERE = "Unable to perform action. {} was not created with the /tilesets/v1 endpoint."
    NO_ACCESS = "Could not access url"
    ACTIVE = "An upload is already active"
    # The wording is unknown: docs/reference/undocumented.md, "Creating an upload".
    TILING_SERVICE = "A tileset made by the Mapbox Tiling Service cannot be replaced by an upload"
    INCOMPLETE = "upload is incomplete"
    RATE_LIMITED = "Too Many Requests"
    INTERNAL = "Internal Server Error"


class FailureMessage(StrEnum):
    """Messages of failed processing (see ``docs/reference/errors.md``, "Failed processing")."""

    ZERO_BYTES = "File is zero bytes."
    TOO_SMALL = "File too small"
    UNKNOWN_FILETYPE = "Unknown filetype"
    TOO_LARGE = "File is larger than {}. Too big to process."
    GEOJSON_INVALID = "Error creating Mapnik Datasource: Invalid geojson"
    GEOJSON_FEATURE = "Failed to parse geojson feature"
    GEOJSON_EMPTY = "Invalid geojson: does not contain any features"
    BEYOND_MERCATOR = "Coordinates beyond web mercator range. Please check projection and lat/lon values."
    CSV_COLUMNS = "Invalid CSV. Cannot detect column(s) with the name(s) of wkt, geojson, x/y, or latitude/longitude."
    CSV_EMPTY = "CSV file does not contain any features"
    KML_UNREADABLE = "Error opening dataset"
    KML_NO_LAYERS = "KML does not contain any layers."
    KML_TOO_MANY_LAYERS = "{} layers found. Maximum of {} layers allowed."
    KML_DUPLICATE_LAYERS = "Duplicate layer names: {}"
    KML_EMPTY = "KML does not contain any valid features"
    GPX_UNREADABLE = "Error creating Mapnik Datasource: Invalid OGR: could not open the file"
    GPX_EMPTY = "GPX does not contain any valid features."
    NO_SHAPEFILE = "Failed to find a shapefile in your zip"
    SHAPEFILE_PART_MISSING = "Error creating Mapnik Datasource: could not create file mapping for {}"
    SHAPEFILE_NO_PROJECTION = "Invalid shapefile: missing projection file"
    SHAPEFILE_BAD_PROJECTION = "Invalid shapefile: invalid projection file"
    NO_REPROJECTION = "Unable to reproject data. {}"
    SQLITE = "{}: {}"
    PREPARE = "Source cannot contain prepare key"
    SCHEME = 'scheme must be "tms" or "xyz"'
    METADATA_JSON = "Unexpected token {} in JSON at position {}"
    METADATA_JSON_ENDS = "Unexpected end of JSON input"
    METADATA_JSON_NULL = "Cannot convert undefined or null to object"
    METADATA_ZOOM = "{} must be an integer between 0 and 30"
    METADATA_ZOOM_ORDER = "minzoom must be less than or equal to maxzoom"
    METADATA_TEXT = "{} must be a string of {} characters or less"
    METADATA_URLS = "{} must be an array of templated urls"
    CENTER_FORM = "center must be an array of the form [lon, lat, z]"
    CENTER = "center {} value must be between {} and {}"
    CENTER_ZOOM = "center z value must be an integer between 0 and 30"
    CENTER_BOUNDS = "center {} value must be between bounds {} and {}"
    CENTER_ZOOMS = "center zoom value must be {} than or equal to {} {}"
    BOUNDS_FORM = "bounds must be an array of the form [west, south, east, north]"
    BOUNDS = "bounds {} value must be between {} and {}"
    BOUNDS_ORDER = "bounds {} value must be less than or equal to {}"
    VECTOR_LAYER = "vector_layers[{}] must be a layer object"
    VECTOR_LAYER_ID = "vector_layers[{}] id must be a string of 255 characters or less"
    OLD_TILEMILL = "Use TileMill 0.7 or later to export MBTiles with a valid template."
    OLD_CARMEN = "Carmen 0.1.x tilesets are no longer supported."
    METADATA_TOO_LARGE = "Metadata exceeds limit of 60kb"
    NO_VECTOR_LAYERS = 'Vector source must include "vector_layers" key'
    VECTOR_LAYERS_NO_ARRAY = "vector_layers must be an array of layer objects"
    VECTOR_LAYERS_DUPLICATE = 'Vector source "vector_layers" contains duplicate ID: {}'
    ZOOM_MISMATCH = "In mbtiles file, metadata.{} ({}) is {} than actual tiles {} ({})"
    MAXZOOM = (
        "Maxzoom exceeded for mbtiles file. There is a max zoom limit of {} but tiles up to zoom level {} were found. "
        "If you need support for 1cm tilesets please reach out to support."
    )
    TILE_TOO_LARGE = (
        "Tile exceeds maximum size of 500k at z{}. "
        "Reduce the detail of data at this zoom level or omit it by adjusting your minzoom."
    )
    GRID_TOO_LARGE = (
        "Grid exceeds maximum size of 500k at z{}. "
        "Reduce the detail of data at this zoom level or omit it by adjusting your minzoom."
    )
    TILE_INVALID = "Tile is invalid"
    TILE_BREAKS_SPEC = "Invalid tile based on the Mapbox Vector Tile spec: {}"
    TILE_MADE_TOO_LARGE = "Tile size exceeds limit. At least one vector tile is larger than 5MB."
    TOO_MUCH = "Tileset exceeds processing limit."
    TILESET_EMPTY = "Tileset is empty."
    UNKNOWN_FORMAT = "Unknown format."
    DATASET_MISSING = "Dataset not found. It may have been deleted during processing into a tileset."
    RASTER_UNREADABLE = "Invalid raster: could not open the file"
    RASTER_PIXELS = "Invalid raster: Invalid pixelsize in geotransform array"
    RASTER_ROTATED = "Invalid raster: Invalid rotation value in geotransform array"
    RASTER_NOT_GEOREFERENCED = "Invalid raster: could not read georeferencing information"
    RASTER_NO_CRS = "Unable to reproject tif. No CRS information found."
    RASTER_NO_BOUNDS = "Invalid raster: Unable to compute bounds. X or Y values exceed limits of provided CRS."
    RASTER_BOUNDS_INVALID = "Error calculating min/max zoom: Bounds invalid"
    # Mapbox documents the rule, but its wording is unknown.
    RASTER_NOT_8_BIT = "Invalid raster: only 8-bit TIFF is supported"
    TIMED_OUT = "Processing timed out."
    INTERNAL = "Processing failed."

"""Rules for GeoTIFF."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import WRITER
from airflow_mapbox.rules.rule import Rule

_GEOREFERENCE = "Write it with its reference system and position: gdal_translate -a_srs EPSG:… -a_ullr …."
_WARP = "Warp it to the web map: gdalwarp -t_srs EPSG:3857."
_OMNIVORE = "source: mapnik-omnivore, lib/raster.js"

BROKEN = Rule(
    name="tiff-broken",
    format="TIFF",
    meaning="The file is cut off, or its tags are broken.",
    message="Invalid raster: could not open the file",
    remedy=WRITER,
    evidence="source: TIFF 6.0; mapnik-omnivore reads it with GDAL",
)
BITS = Rule(
    name="tiff-bits",
    format="TIFF",
    meaning="The samples are not unsigned integers of 8 bits.",
    remedy="Convert it: gdal_translate -ot Byte -scale.",
    evidence="documented: Uploads API, TIFF must be 8-bit; what Mapbox says is unknown",
)
NOT_REFERENCED = Rule(
    name="tiff-georeference",
    format="TIFF",
    meaning="The file has neither a scale with a tiepoint nor a transformation matrix, so its position is unknown.",
    message="Invalid raster: could not read georeferencing information",
    remedy=_GEOREFERENCE,
    evidence=f"seen; {_OMNIVORE}",
)
PIXELS = Rule(
    name="tiff-pixels",
    format="TIFF",
    meaning="The image is mirrored, or one side of its pixels is more than twice as long as the other.",
    message="Invalid raster: Invalid pixelsize in geotransform array",
    remedy=_WARP,
    evidence=_OMNIVORE,
)
ROTATED = Rule(
    name="tiff-rotation",
    format="TIFF",
    meaning="The image is rotated or sheared.",
    message="Invalid raster: Invalid rotation value in geotransform array",
    remedy=_WARP,
    evidence=_OMNIVORE,
)
BOUNDS = Rule(
    name="tiff-bounds",
    format="TIFF",
    meaning="The image lies outside the area for which its reference system is defined.",
    message="Invalid raster: Unable to compute bounds. X or Y values exceed limits of provided CRS.",
    remedy=f"The reference system belongs to other data. {_GEOREFERENCE}",
    evidence=f"seen; {_OMNIVORE}",
)
NO_CRS = Rule(
    name="tiff-crs",
    format="TIFF",
    meaning="The file has no reference system.",
    message="Unable to reproject tif. No CRS information found.",
    remedy=_GEOREFERENCE,
    evidence="seen",
)
BIG_ENDIAN_BIGTIFF = Rule(
    name="tiff-big-endian-bigtiff",
    format="TIFF",
    meaning="The file is a BigTIFF whose numbers are big-endian, which Mapbox does not recognise.",
    message="Unknown filetype",
    remedy="Write it little-endian: gdal_translate -co ENDIANNESS=LITTLE.",
    evidence="source: mapbox-file-sniff",
)
OTHER = Rule(
    name="tiff-raster",
    format="TIFF",
    meaning="Mapbox could not read the image for another reason.",
    message="Invalid raster",
    remedy="The TIFF must be 8-bit and georeferenced, with a coordinate reference system.",
    evidence=f"seen; {_OMNIVORE}",
    checked=False,
)

# The last matches whatever the others do not.
RULES = (BROKEN, BITS, NOT_REFERENCED, PIXELS, ROTATED, BOUNDS, NO_CRS, BIG_ENDIAN_BIGTIFF, OTHER)

"""Rules for zipped shapefiles."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import EXPORT, WRITER
from airflow_mapbox.rules.rule import Rule

_FORMAT = "zipped shapefile"
_ZIP_AGAIN = "Send one .zip with the .shp, .dbf, .shx and .prj of one shapefile."
_WRITE_PRJ = f"Write the shapefile with its reference system, for example frame.set_crs(…).to_file(…). {EXPORT}"
_OMNIVORE = "seen; source: mapnik-omnivore, lib/shape.js"

BROKEN_ZIP = Rule(
    name="zip-broken",
    format=_FORMAT,
    meaning="The file is not a complete zip archive, or a member has a wrong checksum.",
    remedy=f"Zip it again. {WRITER}",
    evidence="none, the preflight's own rule: no program can unpack the file",
)
UNSAFE_NAMES = Rule(
    name="zip-names",
    format=_FORMAT,
    meaning="A member would be unpacked outside of the target folder: an absolute name, `..`, or a symbolic link.",
    remedy="Zip it again, with relative names and without links.",
    evidence="none: the preflight refuses it for safety",
)
DUPLICATE_NAMES = Rule(
    name="zip-names-duplicate",
    format=_FORMAT,
    meaning="Two members have the same name, so one of them overwrites the other.",
    remedy="Zip it again, with each file once.",
    evidence="none: the preflight refuses it for safety",
)
UNSUPPORTED = Rule(
    name="zip-method",
    format=_FORMAT,
    meaning="A member is encrypted, or compressed with another method than Deflate.",
    remedy="Zip it without a password, with Deflate, the usual method.",
    evidence="none, the preflight's own rule: GDAL, which Mapbox reads shapefiles with, cannot unpack it",
)
TOO_MANY_MEMBERS = Rule(
    name="zip-members",
    format=_FORMAT,
    meaning="The archive has more than 10,000 members, or its directory is too large.",
    remedy=_ZIP_AGAIN,
    evidence="none: the preflight refuses it for safety",
)
MISSING = Rule(
    name="shapefile-missing",
    format=_FORMAT,
    meaning="The archive contains no .shp.",
    message="Failed to find a shapefile in your zip",
    remedy=_ZIP_AGAIN,
    evidence="seen",
)
PARTS = Rule(
    name="shapefile-parts",
    format=_FORMAT,
    meaning="The .dbf or .shx of a shapefile is missing.",
    message="Error creating Mapnik Datasource: could not create file mapping for {file}",
    remedy="Add all files of the shapefile: .shp, .dbf, .shx and .prj with the same name.",
    evidence="documented; source: mapbox-upload-validate's fixture invalid.omnivore.bad-projection",
)
NO_PROJECTION = Rule(
    name="shapefile-prj-missing",
    format=_FORMAT,
    meaning="The .prj of a shapefile is missing.",
    message="Invalid shapefile: missing projection file",
    remedy=_WRITE_PRJ,
    evidence=_OMNIVORE,
)
PROJECTION = Rule(
    name="shapefile-prj",
    format=_FORMAT,
    meaning="The .prj is empty, or is not the WKT of a reference system.",
    message="Invalid shapefile: invalid projection file",
    remedy=_WRITE_PRJ,
    evidence=_OMNIVORE,
)
TOO_LARGE = Rule(
    name="shapefile-too-large",
    format=_FORMAT,
    meaning="The unzipped .shp and .dbf together exceed Mapbox's limit.",
    message="File is larger than {limit}. Too big to process.",
    remedy=f"Split it. {EXPORT}",
    evidence="source: mapbox-upload-validate, lib/validators/omnivore.js; mapbox-upload-limits",
)
NOT_SHAPEFILE = Rule(
    name="shapefile-type",
    format=_FORMAT,
    meaning="The .shp is another kind of file: it does not begin with the header of a shapefile.",
    message="Unknown filetype",
    remedy=f"{_ZIP_AGAIN} {WRITER}",
    evidence="source: mapbox-file-sniff; ESRI Shapefile Technical Description",
)
HEADER = Rule(
    name="shapefile-header",
    format=_FORMAT,
    meaning="The .shx or .dbf is another kind of file: its header has wrong values.",
    message="Error creating Mapnik Datasource",
    remedy=f"{_ZIP_AGAIN} {WRITER}",
    evidence="source: ESRI Shapefile Technical Description; mapnik-omnivore, index.js",
)
CUT_OFF = Rule(
    name="shapefile-cut-off",
    format=_FORMAT,
    meaning="A .shp, .shx or .dbf is shorter than its own header says.",
    message="Error creating Mapnik Datasource",
    remedy=f"{_ZIP_AGAIN} {WRITER}",
    evidence="source: ESRI Shapefile Technical Description; mapnik-omnivore, index.js",
)
MISMATCH = Rule(
    name="shapefile-mismatch",
    format=_FORMAT,
    meaning="The .shp, .shx and .dbf have different types or numbers of records, so they belong to different data.",
    message="Error creating Mapnik Datasource",
    remedy=f"{_ZIP_AGAIN} {WRITER}",
    evidence="source: ESRI Shapefile Technical Description; mapnik-omnivore, index.js",
)
RANGE = Rule(
    name="shapefile-range",
    format=_FORMAT,
    meaning="The .prj says degrees, but the box in the .shp reaches beyond ±360 or ±95 degrees.",
    message="Coordinates beyond web mercator range. Please check projection and lat/lon values.",
    remedy=f"The .prj belongs to other data. {_WRITE_PRJ}",
    evidence="seen; source: tilelive, lib/tilelive.js, for the limits",
)
SOME_OUT_OF_RANGE = Rule(
    name="shapefile-some-out-of-range",
    format=_FORMAT,
    meaning="The .prj says degrees, but the box in the .shp reaches beyond ±180 or ±90 degrees.",
    remedy=f"Cut the data at ±180 degrees. {EXPORT}",
    evidence="none: whether one such feature is enough to be refused is unknown",
    refused=False,
)
EMPTY = Rule(
    name="shapefile-empty",
    format=_FORMAT,
    meaning="The shapefile has no records.",
    message="Error calculating min/max zoom: Bounds invalid",
    remedy="Check the query or filter that chose the data.",
    evidence="source: mapnik-omnivore, lib/utils.js",
)
SEVERAL = Rule(
    name="shapefile-several",
    format=_FORMAT,
    meaning="The archive contains several shapefiles.",
    remedy="Send each shapefile in a .zip of its own: it is unknown which one Mapbox uses.",
    evidence="none: what Mapbox does is unknown",
    refused=False,
)

RULES = (
    BROKEN_ZIP,
    UNSAFE_NAMES,
    DUPLICATE_NAMES,
    UNSUPPORTED,
    TOO_MANY_MEMBERS,
    MISSING,
    PARTS,
    NO_PROJECTION,
    PROJECTION,
    TOO_LARGE,
    NOT_SHAPEFILE,
    HEADER,
    CUT_OFF,
    MISMATCH,
    RANGE,
    SOME_OUT_OF_RANGE,
    EMPTY,
    SEVERAL,
)

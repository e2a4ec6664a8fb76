"""Rules for KML and GPX."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import EXPORT, FILTER, WRITER
from airflow_mapbox.rules.rule import Rule

_KML = "source: mapbox-upload-validate, lib/validators/kml.js"
_OMNIVORE = "seen; source: mapnik-omnivore, lib/ogr.js"

NOT_XML = Rule(
    name="xml-malformed",
    format="KML, GPX",
    meaning="The file is not well-formed XML: it is cut off or broken.",
    message="Error opening dataset",
    remedy=WRITER,
    evidence=f"{_KML}, with GDAL; for GPX, mapnik-omnivore says that it could not open the file",
)
DOCTYPE = Rule(
    name="xml-doctype",
    format="KML, GPX",
    meaning="The file names a document type, which neither KML nor GPX needs.",
    remedy=f"Write it without <!DOCTYPE …>. {WRITER}",
    evidence="none: GDAL ignores it",
    refused=False,
)
ENTITIES = Rule(
    name="xml-entities",
    format="KML, GPX",
    meaning="The file declares entities. They can make a small file huge, or read other files.",
    remedy=f"Write it without <!DOCTYPE …>; neither KML nor GPX needs one. {WRITER}",
    evidence="none: the preflight refuses it for safety",
)
TOO_DEEP = Rule(
    name="xml-depth",
    format="KML, GPX",
    meaning="Elements are nested more than 256 levels deep.",
    remedy=f"{WRITER} No valid KML or GPX needs more than a few levels.",
    evidence="none: the preflight refuses it for safety",
)
TOKEN_TOO_LONG = Rule(
    name="xml-token",
    format="KML, GPX",
    meaning="A tag, comment or attribute has more than 16 MiB.",
    remedy=WRITER,
    evidence="none: the preflight refuses it for safety",
)
NO_LAYERS = Rule(
    name="kml-layers-none",
    format="KML",
    meaning="The file has neither a Document nor a Folder with features.",
    message="KML does not contain any layers.",
    remedy=FILTER,
    evidence=f"seen; {_KML}",
)
TOO_MANY_LAYERS = Rule(
    name="kml-layers-max",
    format="KML",
    meaning=(
        "The file has more than 15 layers. Each Document or Folder that directly holds a Placemark with a geometry is "
        "a layer."
    ),
    message="{count} layers found. Maximum of {maximum} layers allowed.",
    remedy=f"Put the features into fewer folders, or split the file. {EXPORT}",
    evidence=f"documented; {_KML}",
)
DUPLICATE_LAYERS = Rule(
    name="kml-layers-duplicate",
    format="KML",
    meaning="Two layers have the same name.",
    message="Duplicate layer names: {names}",
    remedy="Give each Document and Folder that holds features its own name.",
    evidence=f"seen; {_KML}",
)
KML_EMPTY = Rule(
    name="kml-empty",
    format="KML",
    meaning="No feature has coordinates.",
    message="KML does not contain any valid features",
    remedy=FILTER,
    evidence=_OMNIVORE,
)
GPX_EMPTY = Rule(
    name="gpx-empty",
    format="GPX",
    meaning="The file has no waypoint, route point or track point.",
    message="GPX does not contain any valid features.",
    remedy=FILTER,
    evidence=_OMNIVORE,
)
RANGE = Rule(
    name="xml-range",
    format="KML, GPX",
    meaning="Positions lie outside ±180 degrees of longitude or ±85.0511 degrees of latitude.",
    remedy="Write longitude, latitude in degrees on WGS 84, as KML and GPX require.",
    evidence="none: whether one such position is enough to be refused is unknown",
    refused=False,
)

RULES = (
    NOT_XML,
    DOCTYPE,
    ENTITIES,
    TOO_DEEP,
    TOKEN_TOO_LONG,
    NO_LAYERS,
    TOO_MANY_LAYERS,
    DUPLICATE_LAYERS,
    KML_EMPTY,
    GPX_EMPTY,
    RANGE,
)

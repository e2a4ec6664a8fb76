"""All rules, and the search for the rule of a message."""

from __future__ import annotations

from airflow_mapbox.rules import csv, files, geojson, mbtiles, shapefile, tiff, xml
from airflow_mapbox.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *files.RULES,
    *geojson.RULES,
    *csv.RULES,
    *xml.RULES,
    *shapefile.RULES,
    *mbtiles.RULES,
    *tiff.RULES,
)


def rule_of_message(message: str) -> Rule | None:
    """
    Return the rule of a message; None if it is unknown.

    Several rules can have the same message, because Mapbox's messages are less exact than the preflight's. The result
    is then the first of them.

    :param message: the ``error`` field of an upload.
    """
    return next((rule for rule in RULES if rule.matches(message)), None)

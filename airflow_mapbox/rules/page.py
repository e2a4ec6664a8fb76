"""Make the documentation's page of rules: ``python -m airflow_mapbox.rules.page > docs/reference/refusals.md``."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import relpath

from airflow_mapbox.rules.rule import Rule
from airflow_mapbox.rules.table import RULES

_HEAD = """# Refusals

Each rule is a reason for which a file is refused, or a warning of a probable mistake.

- The preflight checks a file by these rules before a byte is sent: [Know before you send]({preflight}).
- The same rules explain the messages of failed processing: [Errors]({errors}#failed-processing).
- A rule is a warning if Mapbox is not known to refuse such a file. A few rules are the preflight's own: for safety, or
  because no program can read the file correctly.
- "Evidence" says where the rule comes from: *seen* in Mapbox's replies, *documented* by Mapbox, or the *source* code
  or specification that has it. Mapbox may run other code than it publishes. With *none*, no such refusal is known.

This page is made from the table of rules in `airflow_mapbox/rules/`. To change it, change the table and run
`make docs`.
"""
_PAGES = {"preflight": "docs/how-to/preflight.md", "errors": "docs/reference/errors.md"}
_ORDER = ("any", "dataset", "GeoJSON", "CSV", "KML", "GPX", "KML, GPX", "zipped shapefile", "MBTiles", "TIFF")
_TITLES = {
    "any": "Files of any format",
    "dataset": "Datasets",
    "KML, GPX": "KML and GPX",
    "zipped shapefile": "Zipped shapefiles",
}


def page() -> str:
    """Return the page as Markdown."""
    formats = sorted({rule.format for rule in RULES}, key=_ORDER.index)
    links = {name: relpath(page, "docs/reference") for name, page in _PAGES.items()}
    return "\n".join((_HEAD.format(**links), *(line for name in formats for line in _section(name))))


def _section(name: str) -> Iterator[str]:
    yield f"## {_TITLES.get(name, name)}"
    yield ""
    for rule in (rule for rule in RULES if rule.format == name):
        yield from _entry(rule)


def _entry(rule: Rule) -> Iterator[str]:
    yield f"### `{rule.name}`"
    yield ""
    yield rule.meaning
    yield ""
    if not rule.refused:
        yield "- This is a warning."
    if rule.message is not None:
        yield f"- Mapbox says: `{rule.message}`"
    yield f"- What to do: {rule.remedy}"
    if not rule.checked:
        yield "- The preflight does not find it, only Mapbox's processing does."
    if rule.retry_helps:
        yield "- A new upload of the same data may succeed."
    yield f"- Evidence: {rule.evidence}."
    yield ""


if __name__ == "__main__":
    print(page(), end="")

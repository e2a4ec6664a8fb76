"""The report of a check: for a log, for a person who approves, for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight.findings import Finding
from airflow_mapbox.preflight.formats import MBTILES

# A report in Markdown has at most this many problems, warnings, layers and notes each, so that it fits into an XCom.
_MAX_LISTED = 20
_MAX_CHARACTERS = 300


@dataclass(frozen=True)
class SourceReport:
    """
    The result of a check.

    :param description: the file or URL.
    :param format: the format that Mapbox would recognise, or None.
    :param bytes: the size in bytes, or None if it is unknown before the source is read.
    :param limit: Mapbox's limit for this format in bytes, or None.
    :param counted_bytes: the size that Mapbox compares with the limit. For a zipped shapefile it is the size of the
        unzipped .shp and .dbf.
    :param problems: each reason to refuse the file, the most useful first. Empty if Mapbox should accept it.
    :param warnings: probable mistakes that Mapbox is not known to refuse.
    :param notes: what was not checked, and why, in whole sentences.
    :param layers: names of the layers, or None if they are unknown.
    :param features: number of features, rows or tiles, or None if it is unknown.
    :param bounds: west, south, east, north in degrees, or None if they are unknown.
    :param minzoom: lowest zoom of tiles, or None.
    :param maxzoom: highest zoom of tiles, or None.
    :param bill: the size, area and price tier that the bill of the upload depends on.
    :param tileset: the tileset that the file is for, as given to the check.
    :param name: the display name, as given to the check.
    :param is_complete: whether the whole file was checked. Only parts of a remote source are read.
    """

    description: str
    format: str | None
    bytes: int | None
    limit: int | None
    counted_bytes: int | None
    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    notes: tuple[str, ...]
    bill: Bill
    layers: tuple[str, ...] | None = None
    features: int | None = None
    bounds: tuple[float, float, float, float] | None = None
    minzoom: int | None = None
    maxzoom: int | None = None
    tileset: str | None = None
    name: str | None = None
    is_complete: bool = False

    @property
    def ok(self) -> bool:
        """Whether the file has no problems. It may have warnings."""
        return not self.problems

    def raise_for_problems(self) -> None:
        """
        Raise an error if the file has problems.

        :raises SourceError: with all problems, each on its own line and followed by its remedy.
        """
        if self.problems:
            raise SourceError("\n".join((f"{self.description} was not sent.", *map(str, self.problems))))

    def __str__(self) -> str:
        facts = dict(self.facts())
        file, format, size = facts.pop("File"), facts.pop("Format"), facts.pop("Size")
        told = ("Bill", "Savings")
        rest = "".join(f", {name.lower()} {value}" for name, value in facts.items() if name not in told)
        lines = [f"{file}: {format}, {size}{rest}", *(facts[name] for name in told if name in facts)]
        for kind, findings in (("Problem", self.problems), ("Warning", self.warnings)):
            for found in findings:
                says = f' Mapbox says: "{found.message}"' if found.message else ""
                lines.append(f"{kind} {found.name}: {found}{says}")
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)

    def source_facts(self) -> dict[str, Any]:
        """Return the facts about the content that travel with an upload, as JSON types."""
        is_tiled = self.format == MBTILES.name
        facts: dict[str, Any] = {
            "features": None if is_tiled else self.features,  # of MBTiles it is the number of tiles
            "bounds": None if self.bounds is None else list(self.bounds),
            "bill": self.bill.to_json(),
        }
        if is_tiled:
            layers = None if self.layers is None else list(self.layers)
            facts |= {"layers": layers, "minzoom": self.minzoom, "maxzoom": self.maxzoom}
        return {name: value for name, value in facts.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "source": self.description,
            "ok": self.ok,
            "format": self.format,
            "bytes": self.bytes,
            "limit": self.limit,
            "counted_bytes": self.counted_bytes,
            "problems": [found.to_json() for found in self.problems],
            "warnings": [found.to_json() for found in self.warnings],
            "notes": list(self.notes),
            "layers": None if self.layers is None else list(self.layers),
            "features": self.features,
            "bounds": None if self.bounds is None else list(self.bounds),
            "minzoom": self.minzoom,
            "maxzoom": self.maxzoom,
            "bill": self.bill.to_json(),
            "tileset": self.tileset,
            "name": self.name,
            "is_complete": self.is_complete,
        }

    def to_markdown(self, *, replaces: str | None = None) -> str:
        """
        Return the report for a person who has to approve the upload. It is small enough for an XCom.

        :param replaces: what the upload replaces, such as ``"the tileset of 2026-11-29"``; None if that is unknown.

        Example::

            print(check_source("parcels.geojson", tileset="parcels").to_markdown())
        """
        rows = list(self.facts())
        if self.tileset is not None:
            rows.append(("Replaces", replaces or "the tileset of this id, if there is one"))
        lines = ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows)]
        verdict = "Mapbox should accept this file." if self.ok else "**Mapbox would refuse this file.**"
        lines += ["", verdict]
        for title, findings in (("Problems", self.problems), ("Warnings", self.warnings)):
            if findings:
                lines += ["", f"**{title}**", ""]
                lines += [
                    f"- {_cell(f'{found.file} {found.what}')} {_cell(found.remedy)}" for found in findings[:_MAX_LISTED]
                ]
                lines += [f"- … and {len(findings) - _MAX_LISTED} more"] * (len(findings) > _MAX_LISTED)
        if self.notes:
            lines += ["", "**Notes**", "", *(f"- {_cell(note)}" for note in self.notes[:_MAX_LISTED])]
        return "\n".join(lines)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what is known about the file, each with its name, for a table."""
        yield "File", self.description
        if self.tileset is not None:
            yield "Tileset", f"{self.tileset}{f' ({self.name})' if self.name else ''}"
        yield "Format", self.format or "unknown"
        yield "Size", "unknown" if self.bytes is None else f"{self.bytes:,} bytes"
        if self.counted_bytes is not None and self.counted_bytes != self.bytes:
            yield "Unzipped", f"{self.counted_bytes:,} bytes"
        if self.features is not None:
            yield "Tiles" if self.format == "MBTiles" else "Features", f"{self.features:,}"
        if self.layers:
            more = f" and {len(self.layers) - _MAX_LISTED} more" if len(self.layers) > _MAX_LISTED else ""
            yield "Layers", ", ".join(self.layers[:_MAX_LISTED]) + more
        if self.bounds is not None:
            west, south, east, north = self.bounds
            yield "Bounds", f"west {west:.9g}, south {south:.9g}, east {east:.9g}, north {north:.9g}"
        if self.maxzoom is not None:
            yield "Zooms", f"{self.minzoom} to {self.maxzoom}"
        if self.bill.bytes is not None:
            yield "Bill", str(self.bill)
        if self.bill.savings is not None and (savings := str(self.bill.savings)):
            yield "Savings", savings


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _cell(text: str) -> str:
    """Return a string that stays in its cell and is no markup: names and values come from the file."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in _short(text))
    return " ".join(escaped.split())

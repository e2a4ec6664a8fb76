"""A table of tilesets for people: what each one is, how large it is, and when it last changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_mapbox.tilesets.models import Tileset

_COLUMNS = ("id", "name", "type", "visibility", "status", "size", "precision", "area", "CU", "age", "modified")
_TO_THE_RIGHT = frozenset({"size", "area", "CU", "age"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
# Characters that mean something in Markdown. Within a word, an underscore does not.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~#!&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class TilesetTotals:
    """
    The sums over some tilesets. Each sum leaves out the tilesets whose number Mapbox does not give.

    :param tilesets: number of tilesets.
    :param public: number of tilesets that others may see.
    :param filesize: bytes.
    :param cu: compute units.
    :param areas: processed area in km² for each tier of precision.
    :param without_filesize: number of tilesets of unknown size.
    :param without_cu: number of tilesets of unknown compute units.
    """

    tilesets: int = 0
    public: int = 0
    filesize: int = 0
    cu: float = 0.0
    areas: Mapping[str, float] | None = None
    without_filesize: int = 0
    without_cu: int = 0

    @classmethod
    def of(cls, tilesets: Sequence[Tileset]) -> TilesetTotals:
        """
        Return the sums over some tilesets.

        :param tilesets: the tilesets.
        """
        areas: dict[str, float] = {}
        for tileset in tilesets:
            for tier, area in tileset.precisions.items():
                areas[tier] = areas.get(tier, 0.0) + (area or 0.0)
        return cls(
            tilesets=len(tilesets),
            public=sum(tileset.is_public for tileset in tilesets),
            filesize=sum(tileset.filesize or 0 for tileset in tilesets),
            cu=sum(tileset.cu or 0.0 for tileset in tilesets),
            areas=areas,
            without_filesize=sum(tileset.filesize is None for tileset in tilesets),
            without_cu=sum(tileset.cu is None for tileset in tilesets),
        )

    def __str__(self) -> str:
        areas = self.areas or {}
        by_tier = ", ".join(f"{plain_line(tier)}: {_area(area)}" for tier, area in areas.items())
        count = "1 tileset" if self.tilesets == 1 else f"{self.tilesets} tilesets"
        return "; ".join(
            (
                f"{count} ({self.public} public)",
                _size(self.filesize) + self._unknown(self.without_filesize),
                f"{self.cu:,.1f} compute units" + self._unknown(self.without_cu),
                f"{_area(sum(areas.values()))}" + (f" ({by_tier})" if by_tier else ""),
            )
        )

    def _unknown(self, number: int) -> str:
        return f" (unknown for {number})" if number else ""


def tileset_row(tileset: Tileset, now: datetime) -> dict[str, str]:
    """
    Return the cells of one tileset, without control characters. An unknown number is an empty cell.

    :param tileset: the tileset.
    :param now: the time that ages are measured to.
    """
    created, changed = tileset.created_at, tileset.modified_at
    cells = (
        tileset.id,
        tileset.name or "",
        tileset.type or "",
        tileset.visibility or "",
        tileset.status or "",
        "" if tileset.filesize is None else _size(tileset.filesize),
        ", ".join(tileset.precisions),
        "" if tileset.area is None else _area(tileset.area),
        "" if tileset.cu is None else f"{tileset.cu:,.1f}",
        "" if created is None else _age(now - created),
        "" if changed is None else f"{changed:%Y-%m-%d %H:%M}",
    )
    return {name: plain_line(cell) for name, cell in zip(_COLUMNS, cells, strict=True)}


def tileset_table(tilesets: Iterable[Tileset], *, now: datetime | None = None) -> str:
    """
    Return a Markdown table of tilesets with the totals below it.

    :param tilesets: the tilesets, in the order of the rows.
    :param now: the time that ages are measured to; None for now.
    :return: the table, also of no tilesets. Names cannot break it.

    Example::

        print(tileset_table(client.list_tilesets(match="earthquakes-*")))
    """
    listed = list(tilesets)
    moment = now or datetime.now(UTC)
    lines = [
        _markdown_line(_COLUMNS),
        _markdown_line("---:" if column in _TO_THE_RIGHT else "---" for column in _COLUMNS),
    ]
    lines += [_markdown_line(map(escape_markdown, tileset_row(tileset, moment).values())) for tileset in listed]
    return "\n".join((*lines, "", escape_markdown(str(TilesetTotals.of(listed)))))


def plain_line(text: str) -> str:
    """
    Return a string on one line, without control characters.

    :param text: a string of a server.
    """
    return _CONTROL.sub(" ", text).strip()


def escape_markdown(text: str) -> str:
    """
    Return a string that Markdown shows unchanged, also in a table's cell.

    :param text: a string on one line.
    """
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", text)


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _size(number: float) -> str:
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def _area(square_kilometres: float) -> str:
    digits = f"{square_kilometres:.2g}" if 0 < square_kilometres < 0.05 else f"{square_kilometres:,.1f}"
    return f"{digits} km²"


def _age(age: timedelta) -> str:
    hours = max(0, int(age.total_seconds() // 3600))
    return f"{hours // 24} d" if hours >= 48 else f"{hours} h"

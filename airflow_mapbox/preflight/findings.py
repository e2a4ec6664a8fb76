"""What the checks of a file find: problems, warnings, and facts about its content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_mapbox.billing.bill import Savings
from airflow_mapbox.rules.rule import Rule


@dataclass(frozen=True)
class Finding:
    """
    A problem of a file, or a warning.

    :param rule: the broken rule.
    :param what: the rest of the sentence that begins with the file's name, with a full stop.
    :param where: the place in the file, such as ``"feature 7"`` or ``"roads.prj"``; empty for the whole file.
    :param remedy: what to do, in whole sentences.
    :param message: what Mapbox would say; None if that is unknown, or if Mapbox says nothing.
    :param file: the file's name.
    """

    rule: Rule
    what: str
    where: str
    remedy: str
    message: str | None
    file: str = "The file"

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.name

    @property
    def refused(self) -> bool:
        """Whether the file is refused, by Mapbox or by the preflight for safety. If not, the finding is a warning."""
        return self.rule.refused

    def __str__(self) -> str:
        return f"{self.file} {self.what}\n{self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return {
            "rule": self.name,
            "refused": self.refused,
            "what": f"{self.file} {self.what}",
            "where": self.where or None,
            "message": self.message,
            "remedy": self.remedy,
        }


def finding(
    rule: Rule,
    what: str,
    *,
    where: str = "",
    remedy: str | None = None,
    message: str | None = None,
    **values: object,
) -> Finding:
    """
    Return a finding.

    :param rule: the broken rule.
    :param what: the rest of the sentence that begins with the file's name, with a full stop.
    :param where: the place in the file; empty for the whole file.
    :param remedy: what to do; the rule's remedy by default.
    :param message: what Mapbox would say; the rule's message by default.
    :param values: the values of the placeholders in Mapbox's message.
    """
    return Finding(rule, what, where, remedy or rule.remedy, message or rule.message_with(**values))


@dataclass
class Content:
    """
    Facts about a file's content, as far as a check has read them.

    :param layers: names of the layers that Mapbox would make.
    :param features: number of features, rows or tiles.
    :param bounds: west, south, east, north in degrees.
    :param minzoom: lowest zoom of the tiles.
    :param maxzoom: highest zoom of the tiles.
    :param counted_bytes: the size that Mapbox compares with its limit, if it is not the file's own size.
    :param savings: what fewer decimals and attributes would save, by the first features.
    :param notes: what was not checked, and why, in whole sentences.
    """

    layers: tuple[str, ...] | None = None
    features: int | None = None
    bounds: tuple[float, float, float, float] | None = None
    minzoom: int | None = None
    maxzoom: int | None = None
    counted_bytes: int | None = None
    savings: Savings | None = None
    notes: list[str] = field(default_factory=list)

"""Counts of what happened to the features of one batch, which add up to the counts of the whole export."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.export.geometry.accuracy import EXACT, Accuracy
from airflow_mapbox.export.sample import Sample

Bounds = tuple[float, float, float, float]

NO_BOUNDS: Bounds = (float("inf"), float("inf"), float("-inf"), float("-inf"))
NO_HEIGHTS = (float("inf"), float("-inf"))


@dataclass
class Counts:
    """
    Counts and extremes.

    :ivar read: features in the source.
    :ivar written: features in the output.
    :ivar geometries: geometries in the output; each member of a collection counts.
    :ivar dropped: features that were dropped, by reason.
    :ivar changed: geometries that were changed, by the change.
    :ivar crs_from: reference systems of the source by name, and the accuracy of the transformation from each.
    :ivar edge_error: metres between the longest edges of projected systems and the same edges in longitude, latitude.
    :ivar bounds: west, south, east, north in degrees.
    :ivar heights: lowest and highest, if any feature has heights and boxes are written.
    :ivar unreadable: the first row with unreadable coordinates, from 0, and those coordinates.
    :ivar notes: notes for the report, each once, in order.
    :ivar cover: the tiles that features touch, if they are collected.
    :ivar sample: the bytes of the first features, if they are measured.
    """

    read: int = 0
    written: int = 0
    geometries: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    crs_from: dict[str, Accuracy] = field(default_factory=dict)
    edge_error: float = 0.0
    bounds: Bounds = NO_BOUNDS
    heights: tuple[float, float] = NO_HEIGHTS
    unreadable: tuple[int, str] | None = None
    notes: dict[str, None] = field(default_factory=dict)
    cover: Cover | None = None
    sample: Sample | None = None

    @property
    def accuracy(self) -> float | None:
        """The accuracy of the worst transformation in metres, or None if PROJ does not know it."""
        return reduce(or_, self.crs_from.values(), EXACT).metres

    def drop(self, reason: str, count: int) -> None:
        """Count features that were dropped."""
        if count:
            self.dropped[reason] += count

    def add(self, other: Counts) -> None:
        """Add the counts of further features."""
        self.read += other.read
        self.written += other.written
        self.geometries += other.geometries
        self.dropped.update(other.dropped)
        self.changed.update(other.changed)
        self.heights = min(self.heights[0], other.heights[0]), max(self.heights[1], other.heights[1])
        for name, accuracy in other.crs_from.items():
            self.crs_from[name] = self.crs_from.get(name, EXACT) | accuracy
        self.edge_error = max(self.edge_error, other.edge_error)
        west, south, east, north = zip(self.bounds, other.bounds, strict=True)
        self.bounds = min(west), min(south), max(east), max(north)
        self.unreadable = min(filter(None, (self.unreadable, other.unreadable)), default=None)
        self.notes |= other.notes
        self.sample = self.sample or other.sample
        if self.cover is None:
            self.cover = other.cover
        elif other.cover is not None:
            self.cover.update(other.cover)

"""What happened to the features of one slice, added up to what happened to all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from airflow_mapbox.export.geometry.accuracy import EXACT, Uncertainty

Bounds = tuple[float, float, float, float]

NO_BOUNDS: Bounds = (float("inf"), float("inf"), float("-inf"), float("-inf"))
# Reasons for which features are left out, and changes to them, that the report explains.
UNREADABLE = "coordinates that cannot be read"
BEYOND = "beyond ±85.0511 degrees"
CLIPPED = "clipped at ±85.0511 degrees"

NO_HEIGHTS = (float("inf"), float("-inf"))


@dataclass
class Tally:
    """
    Counts and extremes.

    :ivar read: features in the source.
    :ivar written: features in the output.
    :ivar geometries: in the output; a collection counts as many as it has.
    :ivar dropped: features left out, by reason.
    :ivar changed: features changed, by what was done to them.
    :ivar crs_from: reference systems of the source by name, and how far off the transformation from each may be.
    :ivar edge_error: metres between the longest edges and the same edges straight in longitude, latitude.
    :ivar bounds: west, south, east, north.
    :ivar heights: lowest and highest, where features have any and boxes are written.
    :ivar unreadable: the first row whose coordinates cannot be read, counted from 0, and those coordinates.
    :ivar notes: what the reader should know, each said once.
    """

    read: int = 0
    written: int = 0
    geometries: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    crs_from: dict[str, Uncertainty] = field(default_factory=dict)
    edge_error: float = 0.0
    bounds: Bounds = NO_BOUNDS
    heights: tuple[float, float] = NO_HEIGHTS
    unreadable: tuple[int, str] | None = None
    notes: dict[str, None] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """Metres by which the worst transformation may be off, or None where PROJ does not know."""
        return reduce(or_, self.crs_from.values(), EXACT).accuracy

    def drop(self, reason: str, count: int) -> None:
        """Count features that were left out."""
        if count:
            self.dropped[reason] += count

    def change(self, what: str, count: int) -> None:
        """Count features that were changed."""
        if count:
            self.changed[what] += count

    def add(self, other: Tally) -> None:
        """Add what happened to further features."""
        self.read += other.read
        self.written += other.written
        self.geometries += other.geometries
        self.dropped.update(other.dropped)
        self.changed.update(other.changed)
        self.heights = min(self.heights[0], other.heights[0]), max(self.heights[1], other.heights[1])
        for name, uncertainty in other.crs_from.items():
            self.crs_from[name] = self.crs_from.get(name, EXACT) | uncertainty
        self.edge_error = max(self.edge_error, other.edge_error)
        mine, theirs = self.bounds, other.bounds
        self.bounds = (
            min(mine[0], theirs[0]),
            min(mine[1], theirs[1]),
            max(mine[2], theirs[2]),
            max(mine[3], theirs[3]),
        )
        self.unreadable = min(filter(None, (self.unreadable, other.unreadable)), default=None)
        self.notes |= other.notes

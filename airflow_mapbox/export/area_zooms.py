"""Choose the zooms whose tiles an export collects for the bill, as its bounds become known."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from airflow_mapbox.billing.known import KnownTiles
from airflow_mapbox.billing.zooms import TIER_AREA_ZOOM, area_zoom, expected_maxzoom, tier_of
from airflow_mapbox.export.counts import NO_BOUNDS, Bounds
from airflow_mapbox.limits import GEOJSON_BYTES

# The maxzoom that Mapbox chooses is known only at the end. It is 16 at most, so the tier 1cm is never that of GeoJSON.
_OF_GEOJSON = (14, 11, 6)
# Guess the file's size when this share of the features is written. The others may be so many times as large on average.
_SHARE_WRITTEN, _MARGIN = 1 / 32, 1.5


class AreaZooms:
    """
    The zooms whose tiles are collected. Threads share it.

    Mapbox's maxzoom is lower, the more tiles the bounds have for each byte. Bounds only grow, and GeoJSON of more than
    1 GiB is not accepted. If the source has a known number of features, the first of them also tell the size of the
    file, within a factor. So the tiles of a tier are no longer collected when the bounds are too large for that tier.

    :param zooms: the zooms, from the highest to the lowest.
    :param chosen_by_mapbox: whether Mapbox chooses the maxzoom.
    """

    def __init__(self, zooms: Iterable[int], *, chosen_by_mapbox: bool = False) -> None:
        self._zooms = tuple(zooms)
        #: The tiles that batches have touched.
        self.known = KnownTiles(self._zooms)
        self._chosen_by_mapbox = chosen_by_mapbox
        self._bounds = NO_BOUNDS
        self._features = self._bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def of_geojson(cls) -> AreaZooms:
        """Return the zooms for a file whose maxzoom Mapbox chooses."""
        return cls(_OF_GEOJSON, chosen_by_mapbox=True)

    @classmethod
    def of_tileset(cls, maxzoom: int | None) -> AreaZooms:
        """
        Return the zooms for a tileset.

        :param maxzoom: its maxzoom, or None if tippecanoe guesses it.
        """
        if maxzoom is None:
            return cls(_OF_GEOJSON)
        zoom = area_zoom(tier_of(maxzoom))
        return cls(() if zoom is None else (zoom,))

    def add(self, features: int, size: int) -> None:
        """
        Count what is written.

        :param features: a number of features.
        :param size: their bytes in the file.
        """
        with self._lock:
            self._features += features
            self._bytes += size

    def within(self, bounds: Bounds, total: int | None = None) -> tuple[int, ...]:
        """
        Return the zooms that a batch needs.

        :param bounds: the bounds of the batch.
        :param total: the number of all features of the source, or None if it is unknown.
        """
        if not self._chosen_by_mapbox or len(self._zooms) == 1:
            return self._zooms
        with self._lock:
            west, south, east, north = zip(self._bounds, bounds, strict=True)
            self._bounds = min(west), min(south), max(east), max(north)
            maxzoom = expected_maxzoom(self._most_bytes(total), self._bounds)
            highest = TIER_AREA_ZOOM[tier_of(maxzoom)] or 0
            # The lowest zoom always stays, so that a cover has one.
            self._zooms = tuple(zoom for zoom in self._zooms if zoom <= highest) or self._zooms[-1:]
            return self._zooms

    def _most_bytes(self, total: int | None) -> int:
        """Return the most bytes that the file may have."""
        if total is None or self._features < total * _SHARE_WRITTEN:
            return GEOJSON_BYTES
        others = max(total - self._features, 0) * self._bytes / self._features * _MARGIN
        return min(GEOJSON_BYTES, self._bytes + round(others))


# Collects nothing.
NO_AREA = AreaZooms(())

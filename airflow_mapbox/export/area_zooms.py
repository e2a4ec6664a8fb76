"""Choose the zooms whose tiles an export collects for the bill, as its bounds become known."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from airflow_mapbox.billing.zooms import TIER_AREA_ZOOM, area_zoom, expected_maxzoom, tier_of
from airflow_mapbox.export.counts import NO_BOUNDS, Bounds
from airflow_mapbox.limits import GEOJSON_BYTES

# The maxzoom that Mapbox chooses is known only at the end. It is 16 at most, so the tier 1cm is never that of GeoJSON.
_OF_GEOJSON = (14, 11, 6)
# The features of a source may be so many times as large as those of one batch.
_MARGIN = 3


class AreaZooms:
    """
    The zooms whose tiles are collected. Threads share it.

    Mapbox's maxzoom is lower, the more tiles the bounds have for each byte. Bounds only grow, and GeoJSON of more than
    1 GiB is not accepted. If the source has a known number of features, a batch also tells the size of the file, within
    a factor. So the tiles of a tier are no longer collected when the bounds are too large for that tier.

    :param zooms: the zooms, from the highest to the lowest.
    :param chosen_by_mapbox: whether Mapbox chooses the maxzoom.
    """

    def __init__(self, zooms: Iterable[int], *, chosen_by_mapbox: bool = False) -> None:
        self._zooms = tuple(zooms)
        self._narrows = chosen_by_mapbox and len(self._zooms) > 1
        self._bounds = NO_BOUNDS
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

    def within(self, bounds: Bounds, size: int | None = None) -> tuple[int, ...]:
        """
        Return the zooms that a batch needs.

        :param bounds: the bounds of the batch.
        :param size: the size of the file in bytes by the features of this batch, or None if it is unknown.
        """
        if not self._narrows:
            return self._zooms
        with self._lock:
            west, south, east, north = zip(self._bounds, bounds, strict=True)
            grown = min(west), min(south), max(east), max(north)
            if grown != self._bounds or size is not None:
                self._bounds = grown
                highest = (
                    TIER_AREA_ZOOM[
                        tier_of(expected_maxzoom(min(GEOJSON_BYTES, (size or GEOJSON_BYTES) * _MARGIN), grown))
                    ]
                    or 0
                )
                # The lowest zoom always stays, so that a cover has one.
                self._zooms = tuple(zoom for zoom in self._zooms if zoom <= highest) or self._zooms[-1:]
            return self._zooms


# Collects nothing.
NO_AREA = AreaZooms(())

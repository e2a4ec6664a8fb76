"""Build the bill of an export from its counts, its tiles and a sample of its features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_mapbox.billing.bill import Bill, Savings
from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.billing.zooms import area_zoom, expected_maxzoom, tier_of
from airflow_mapbox.export.counts import Counts


def geojson_bill(counts: Counts, size: int) -> Bill:
    """
    Return the bill of a GeoJSON file.

    :param counts: the counts of all features.
    :param size: its size in bytes.
    """
    maxzoom = expected_maxzoom(size, counts.bounds)
    area, note = _area([counts.cover], tier_of(maxzoom))
    return Bill(
        bytes=size,
        maxzoom=maxzoom,
        maxzoom_is_expected=True,
        tier=tier_of(maxzoom),
        area_km2=area,
        area_note=note,
        savings=_savings(counts, size),
    )


def tileset_bill(covers: Sequence[Cover | None], maxzoom: int, size: int) -> Bill:
    """
    Return the bill of an MBTiles file.

    :param covers: the tiles of each layer.
    :param maxzoom: the maxzoom of the tileset.
    :param size: its size in bytes.
    """
    area, note = _area(covers, tier_of(maxzoom))
    return Bill(bytes=size, maxzoom=maxzoom, tier=tier_of(maxzoom), area_km2=area, area_note=note, mbtiles_bytes=size)


def _area(covers: Iterable[Cover | None], tier: str) -> tuple[float | None, str | None]:
    """Return the area at the zoom of a tier, or a note on why it is unknown."""
    zoom = area_zoom(tier)
    if zoom is None:
        return 0.0, None
    united: Cover | None = None
    for cover in covers:
        if cover is None or zoom not in cover.zooms:
            return None, (
                f"The area of tiles of zoom {zoom} was not computed on the way. Call "
                f'airflow_mapbox.preflight.estimate_area(…, tier="{tier}").'
            )
        if united is None:
            united = cover
        else:
            united.update(cover)
    return 0.0 if united is None else united.area_km2(zoom), None


def _savings(counts: Counts, size: int) -> Savings | None:
    sample = counts.sample
    if sample is None:
        return None
    times = size / sample.bytes
    return Savings(
        sampled_features=sample.features,
        coordinates=round(sample.coordinates * times),
        decimals={decimals: round(saved * times) for decimals, saved in sample.decimals.items() if saved > 0},
        attributes={name: round(taken * times) for name, taken in sample.attributes.items()},
    )

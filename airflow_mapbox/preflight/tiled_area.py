"""The area of the tiles in an MBTiles file."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from airflow_mapbox.billing.area import tile_areas
from airflow_mapbox.billing.zooms import area_zoom
from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight.database import Database, TooSlowError, UncheckableError

_SECONDS = 60.0


def estimate_tiled_area(path: Path, *, tier: str) -> float:
    """
    Return the area of the tiles at the zoom of a price tier, in km².

    :param path: a local MBTiles file, whose maxzoom has that tier.
    :param tier: the price tier.
    :raises SourceError: if the tiles cannot be counted.
    """
    import numpy as np

    zoom = area_zoom(tier)
    if zoom is None:
        return 0.0
    query = "SELECT tile_row, count(*) FROM tiles WHERE zoom_level = ? GROUP BY tile_row"
    problem = ""
    try:
        with Database(path, _SECONDS, time.monotonic) as database:
            counts = list(database.rows(query, zoom))
    except TooSlowError:
        problem = f"counting them took more than {_SECONDS:g} seconds"
    except (sqlite3.Error, UncheckableError) as error:
        problem = str(error)
    if problem:
        raise SourceError(f"The tiles of {path} cannot be counted: {problem}.")
    if not counts:
        return 0.0
    # MBTiles counts rows from the south.
    rows, tiles = np.array(counts, dtype=np.int64).T
    return float(tiles @ tile_areas((1 << zoom) - 1 - rows, zoom))

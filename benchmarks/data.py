"""Make the layers for the benchmarks: synthetic ones, equal on each machine, and one of real counties."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely

US_ATLAS = "us-atlas@3.0.1"  # counties of the US Census Bureau, in the public domain; package under ISC


def points(times: float) -> geopandas.GeoDataFrame:
    """Return 1,000,000 points, or a multiple or a part of them, with an integer, a string, a float and a time."""
    rng, count = np.random.default_rng(1), round(1_000_000 * times)
    places = np.array([f"place {number}" for number in range(5000)], dtype=object)
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(count),
            "name": places[np.arange(count) % 5000],
            "value": rng.normal(size=count) * 100,
            "seen": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**8, count), unit="s"),
        },
        geometry=shapely.points(rng.uniform(-179, 179, count), rng.uniform(-80, 80, count)),
        crs="EPSG:4326",
    )


def polygons(times: float) -> geopandas.GeoDataFrame:
    """Return 200,000 irregular polygons of 33 vertices in metres (EPSG:5070)."""
    rng, count = np.random.default_rng(2), round(200_000 * times)
    centre = np.stack([rng.uniform(-2e6, 2e6, count), rng.uniform(4e5, 2.9e6, count)], axis=1)
    turn = np.linspace(0, -2 * np.pi, 33)
    radius = rng.uniform(100, 3000, (count, 1)) * rng.uniform(0.8, 1.2, (count, 33))
    radius[:, -1] = radius[:, 0]
    rings = np.stack([centre[:, :1] + radius * np.cos(turn), centre[:, 1:] + radius * np.sin(turn)], axis=2)
    rings[:, -1] = rings[:, 0]
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(count),
            "name": [f"parcel {number}" for number in range(count)],
            "value": rng.normal(size=count),
            "kind": rng.choice(["forest", "field", "water"], count),
        },
        geometry=shapely.polygons(rings),
        crs="EPSG:5070",
    )


def lines(times: float) -> geopandas.GeoDataFrame:
    """Return 10,000 lines of 1,000 vertices."""
    rng, count = np.random.default_rng(3), round(10_000 * times)
    start = np.stack([rng.uniform(-150, 150, count), rng.uniform(-60, 60, count)], axis=1)
    steps = rng.normal(scale=0.005, size=(count, 1000, 2))
    tracks = start[:, None, :] + np.cumsum(steps, axis=1, out=steps)
    return geopandas.GeoDataFrame(
        {"id": np.arange(count), "name": [f"track {number}" for number in range(count)]},
        geometry=shapely.linestrings(tracks),
        crs="EPSG:4326",
    )


def counties(times: int, folder: Path) -> geopandas.GeoDataFrame:
    """
    Return 20 copies of the counties of the United States, as the source has them.

    :param times: a factor for the number of copies.
    :param folder: the folder into which npm installs the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", US_ATLAS], cwd=folder, check=True)
    atlas = folder / "node_modules" / "us-atlas" / "counties-10m.json"
    frame = geopandas.read_file(atlas, layer="counties").set_crs("EPSG:4326", allow_override=True)
    return pd.concat([frame] * 20 * times, ignore_index=True)


SYNTHETIC: dict[str, Callable[[float], geopandas.GeoDataFrame]] = {
    "points": points,
    "polygons": polygons,
    "lines": lines,
}


def make(name: str, times: int, folder: Path) -> Path | None:
    """
    Write a layer as GeoParquet with one row group, unless the file exists.

    :param name: the layer.
    :param times: a factor for the number of features.
    :param folder: the folder of the file.
    :return: the file, or None if the layer needs npm and npm is missing.
    """
    path = folder / f"{name}-{times}.parquet"
    if path.is_file():
        return path
    if name == "counties" and shutil.which("npm") is None:
        return None
    frame = counties(times, folder / "us-atlas") if name == "counties" else SYNTHETIC[name](times)
    part = path.with_suffix(".part")
    frame.to_parquet(part, row_group_size=max(len(frame), 1))
    part.rename(path)
    return path

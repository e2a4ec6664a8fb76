"""Shapefiles, KML and GPX read with GDAL and brought to longitude and latitude."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely

from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.features import Feature
from airflow_mapbox.emulator.sniff import Formats, check_size

KML_LAYERS = 15
GPX_LAYERS = ("waypoints", "routes", "tracks")
ROWS = 1000
UNREADABLE = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
# What GDAL makes of a second layer of the same name.
REPEATED = re.compile(r"(.+) \(#\d+\)\Z")


@dataclass(frozen=True)
class Shapefile:
    """An unpacked shapefile.

    :param size: bytes of .shp and .dbf.
    """

    name: str
    file: Path
    size: int


def unpack_shapefile(archive: Path, work: Path) -> Shapefile:
    """Unpack the first shapefile of a zip.

    :raises DataError: where there is none, it is too large, or its projection is missing or not understood.
    """
    try:
        with zipfile.ZipFile(archive) as files:
            members = {
                name.lower(): info
                for info in files.infolist()
                if not (name := info.filename).startswith("__MACOSX/") and not info.is_dir()
            }
            found = sorted(name for name in members if name.endswith(".shp"))
            if not found:
                raise DataError(Failed.NO_SHAPEFILE)
            stem = found[0].removesuffix(".shp")
            parts = {suffix: members.get(f"{stem}.{suffix}") for suffix in ("shp", "dbf", "shx", "prj", "cpg")}
            if any(parts[suffix] is None for suffix in ("shp", "dbf", "shx")):
                raise DataError(Failed.NO_SHAPEFILE)
            if parts["prj"] is None:
                raise DataError(Failed.SHAPEFILE_NO_PROJECTION)
            size = sum(info.file_size for suffix in ("shp", "dbf") if (info := parts[suffix]) is not None)
            check_size(Formats.SHAPEFILE, size)
            for suffix, info in parts.items():
                if info is not None:
                    check_size(Formats.SHAPEFILE, info.file_size)
                    with files.open(info) as source, (work / f"data.{suffix}").open("wb") as target:
                        shutil.copyfileobj(source, target)
            name = PurePosixPath(members[found[0]].filename).name
    # zipfile's own for a compression that it does not know, and for an encrypted member.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError):
        raise DataError(Failed.NO_SHAPEFILE) from None
    try:
        pyproj.CRS.from_wkt((work / "data.prj").read_text(encoding="utf-8", errors="replace"))
    except pyproj.exceptions.CRSError:
        raise DataError(Failed.SHAPEFILE_BAD_PROJECTION) from None
    return Shapefile(name[: -len(".shp")], work / "data.shp", size)


def kml_layers(file: Path) -> list[str]:
    """Return a KML file's layers.

    :raises DataError: where there is none, or more than Mapbox takes, or two of one name.
    """
    names = _layers(file, Failed.KML_NO_LAYERS)
    if not names:
        raise DataError(Failed.KML_NO_LAYERS)
    if len(names) > KML_LAYERS:
        raise DataError(Failed.KML_TOO_MANY_LAYERS.format(len(names), KML_LAYERS))
    repeated = sorted({matched[1] for name in names if (matched := REPEATED.match(name)) and matched[1] in names})
    if repeated:
        raise DataError(Failed.KML_DUPLICATE_LAYERS.format(", ".join(repeated)))
    return names


def gpx_layers(file: Path) -> list[str]:
    """Return the layers of a GPX file that are drawn: waypoints, routes and tracks, not the points of the latter."""
    names = _layers(file, Failed.GPX_EMPTY)
    return [name for name in GPX_LAYERS if name in names]


def read_layer(file: Path, layer: str | None) -> Iterator[Feature]:
    """Yield a layer's features in longitude and latitude.

    :raises DataError: where the coordinates can't be brought there.
    """
    try:
        crs = pyogrio.read_info(file, layer=layer)["crs"]
        transformer = (
            pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
            if crs and not pyproj.CRS(crs).equals("EPSG:4326", ignore_axis_order=True)
            else None
        )
        with pyogrio.open_arrow(file, layer=layer, batch_size=ROWS, use_pyarrow=True) as (about, reader):
            column = about["geometry_name"] or "wkb_geometry"
            for batch in reader:
                geometries = _transformed(
                    shapely.from_wkb(batch.column(column).to_numpy(zero_copy_only=False)), transformer
                )
                rows = batch.drop_columns([column]).to_pylist()
                texts = shapely.to_geojson(geometries)
                for text, properties in zip(texts, rows, strict=True):
                    geometry = None if text is None else json.loads(text)
                    kept = {name: _plain(value) for name, value in properties.items() if name != "OGC_FID"}
                    yield geometry, kept
    except (*UNREADABLE, shapely.errors.ShapelyError, OSError) as error:
        raise DataError(Failed.UNKNOWN_FILETYPE) from error
    except pyproj.exceptions.ProjError as error:
        raise DataError(Failed.NO_REPROJECTION.format("The projection is not supported.")) from error


def _layers(file: Path, otherwise: Failed) -> list[str]:
    try:
        return [str(name) for name, _ in pyogrio.list_layers(file)]
    except UNREADABLE:
        raise DataError(otherwise) from None


def _transformed(geometries: Any, transformer: pyproj.Transformer | None) -> Any:
    geometries = shapely.force_2d(geometries)
    if transformer is None:
        return geometries

    def change(coordinates: Any) -> Any:
        x, y = transformer.transform(coordinates[:, 0], coordinates[:, 1])
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise DataError(Failed.NO_REPROJECTION.format("Coordinates are outside of the projection's area."))
        return np.column_stack([x, y])

    return shapely.transform(geometries, change)


def _plain(value: object) -> object:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value

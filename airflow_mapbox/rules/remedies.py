"""Advice that several rules share."""

from __future__ import annotations

# The same advice for every format that the export reads.
EXPORT = (
    'Upload it with format="auto", which exports it to a format that Mapbox accepts; export={…} takes the export\'s '
    "options. Or write it with airflow_mapbox.export.write_geojson."
)
REPROJECT = (
    'If the file names its reference system, upload it with format="auto", which reprojects to longitude, latitude. '
    "If not, read it with geopandas, name the system as in "
    'frame.set_crs("EPSG:25832", allow_override=True), and write it with airflow_mapbox.export.write_geojson.'
)
# GeoJSON may name its system, and CSV cannot.
REPROJECT_CSV = (
    'Upload it with format="auto" and export={"crs": "EPSG:25832"}, the reference system of its coordinates. The '
    "export reprojects it to longitude, latitude."
)
WRITER = "Check the task that wrote it."
FILTER = "Check the query or filter that chose the data."
SMALLER = f"Send fewer features or attributes, or make vector tiles (MBTiles). {EXPORT}"

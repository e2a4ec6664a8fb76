"""Try an installed provider: import every module, ask Airflow for it, and upload one file to the emulator."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

DISTRIBUTION = "airflow-provider-mapbox"
_SHOWN = ("apache-airflow", "apache-airflow-providers-amazon", "pandas", "pyarrow", "numpy")
# pytest imports this module, and a user of the wheel may have no pytest.
_NEEDS_PYTEST = "airflow_mapbox.emulator.pytest_plugin"


def import_every_module() -> int:
    """Import each module of the package; return how many there are."""
    import airflow_mapbox

    found = [module.name for module in pkgutil.walk_packages(airflow_mapbox.__path__, "airflow_mapbox.")]
    for name in found:
        if name != _NEEDS_PYTEST:
            importlib.import_module(name)
    return len(found)


def airflow_knows_the_provider() -> None:
    """Ask Airflow's own command for the provider; raise if it does not answer with it."""
    command = [sys.executable, "-m", "airflow", "providers", "get", DISTRIBUTION, "--output", "json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (provider,) = json.loads(answer[answer.index("[") :])
    if provider["Version"] != importlib.metadata.version(DISTRIBUTION):
        raise AssertionError(f"Airflow lists another version: {provider}.")


def upload_one_file(folder: Path) -> str:
    """
    Export two points, upload them to an emulator, and wait for the tileset; return its name.

    :param folder: a folder for the file and the emulator.
    """
    import geopandas
    import pandas as pd
    import pyarrow as pa

    from airflow_mapbox.emulator import Emulator, EmulatorSettings
    from airflow_mapbox.export import write_geojson
    from airflow_mapbox.hooks.uploads import MapboxUploadsHook

    # Old versions of pyarrow know views, but not all that can be asked of them.
    names = pd.array(["a", "b"], dtype=pd.ArrowDtype(pa.string_view()))
    points = geopandas.points_from_xy([7, 8], [50, 51])
    places = geopandas.GeoDataFrame({"name": names}, geometry=points, crs=4326)
    report = write_geojson(places.to_crs(3857), folder / "places.geojson")
    with Emulator(folder / "emulator", settings=EmulatorSettings(processing_seconds=0)) as emulator:
        os.environ["AIRFLOW_CONN_MAPBOX_DEFAULT"] = emulator.airflow_connection()
        hook = MapboxUploadsHook()
        finished = hook.wait(hook.upload(report.path, "places"), poll_interval=0.2, timeout=60)
    if not finished.complete or report.features != 2:
        raise AssertionError(f"The upload is not complete: {finished}, {report}.")
    return finished.tileset


def main() -> None:
    """Run the three steps; print one line."""
    modules = import_every_module()
    airflow_knows_the_provider()
    with tempfile.TemporaryDirectory() as folder:
        tileset = upload_one_file(Path(folder))
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _SHOWN]
    print(f"{modules} modules, tileset {tileset}; {', '.join(versions)}")


if __name__ == "__main__":
    main()

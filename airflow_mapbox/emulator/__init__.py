"""The Mapbox Uploads API on this machine: real HTTP, real S3, real tiles, for demos and tests of DAGs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mapbox.emulator.server import Emulator
    from airflow_mapbox.emulator.settings import EmulatorSettings

__all__ = ["Emulator", "EmulatorSettings"]


def __getattr__(name: str) -> object:
    """Import a public name at its first use: importing the servers takes a second, the settings take no time."""
    if name == "Emulator":
        try:
            from airflow_mapbox.emulator.server import Emulator
        except ImportError as error:
            raise ImportError(
                f"The emulator needs more packages ({error}): pip install 'airflow-provider-mapbox[emulator]'."
            ) from error
        return Emulator
    if name == "EmulatorSettings":
        from airflow_mapbox.emulator.settings import EmulatorSettings

        return EmulatorSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The demo: run Airflow and the emulator on this machine, and check the tileset."""

from __future__ import annotations

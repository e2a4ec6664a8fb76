"""The demo: a real Airflow and the emulator on this machine, and a check of what came out."""

from __future__ import annotations

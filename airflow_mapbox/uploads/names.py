"""The names of uploads: the rules are in airflow_mapbox.names, which all of Mapbox's APIs share."""

from __future__ import annotations

from airflow_mapbox.names import (
    TilesetId,
    account_of_token,
    check_account,
    check_display_name,
    check_tileset,
    check_tileset_part,
    is_tileset_id,
)

__all__ = (
    "TilesetId",
    "account_of_token",
    "check_account",
    "check_display_name",
    "check_tileset",
    "check_tileset_part",
    "is_tileset_id",
)

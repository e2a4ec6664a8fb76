"""Mapbox's undocumented behaviour, in every plausible form. The provider must work with each of them."""

from __future__ import annotations

from typing import Any

# Fields of EmulatorSettings; the emulator's own choice is the first.
PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "failed_complete": (False, True),
    "early_delete_status": (400, 409, 422),
    "name_status": (422, 400),
    "create_looks_first": ("used", "staged", "active"),
    "tileset_costs": (True, False),
    "tilesets_default_sort": ("created", "modified"),
    "tilesets_show_pending": (False, True),
    "start_keeps_deleted": (True, False),
    "tileset_delete_status": (200, 204),
    "active_delete_status": (None, 409, 400),
    "missing_tileset_message": ("Not Found", "Cannot find tileset"),
    "update_refused_status": (None, 400, 422),
    "update_changes_modified": (True, False),
}
# So many test runs cover each value.
ANSWERS: list[dict[str, Any]] = [
    {name: values[run % len(values)] for name, values in PLAUSIBLE.items()}
    for run in range(max(map(len, PLAUSIBLE.values())))
]

"""Find out which of the tilesets' scopes a token has, with requests that change nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from airflow_mapbox.errors import ApiError, MapboxError
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.models import Tileset

# What each scope is for, as the end of "needed to …".
PURPOSES: Mapping[str, str] = {
    "tilesets:list": "list, verify and delete tilesets",
    "tilesets:read": "verify tilesets by their TileJSON and tiles",
    "tilesets:write": "delete tilesets and to change their name and visibility",
}
# The newest tilesets, one of which is probably finished and can be read.
_LISTED = 10
_REFUSED = frozenset({401, 403})


def probe_scopes(client: TilesetsClient) -> dict[str, bool | None]:
    """
    Check each scope with one request, three in all. No error is raised: what a request does not show is unknown.

    tilesets:write is checked by deleting a tileset with a random name, which cannot exist.

    :param client: a client of the account.
    :return: for each scope True, False or None for unknown.
    """
    newest: list[Tileset] = []

    def read_list() -> None:
        newest.extend(client.list_tilesets(limit=_LISTED))

    def delete_nothing() -> None:
        client.delete_tileset(f"connection-test-{secrets.token_hex(8)}")

    # A list always exists, so a 404 can only hide a missing scope.
    states: dict[str, bool | None] = {"tilesets:list": _is_allowed(read_list, refused=_REFUSED | {404})}
    available = [tileset.id for tileset in newest if tileset.status in (None, "available")]
    states["tilesets:read"] = _is_allowed(lambda: client.get_tilejson(available[0])) if available else None
    states["tilesets:write"] = _is_allowed(delete_nothing)
    return states


def describe_scopes(states: Mapping[str, bool | None]) -> str:
    """
    Return a sentence about the tilesets' scopes, and what each missing one is for.

    :param states: the result of :func:`probe_scopes`.
    """
    parts = []
    for scope, state in states.items():
        if state:
            parts.append(f"{scope} works")
        elif state is None:
            parts.append(f"{scope} is unknown")
        else:
            parts.append(f"{scope} is missing: needed to {PURPOSES[scope]}")
    return f"For tilesets that exist (uploads do not need these): {'; '.join(parts)}."


def _is_allowed(request: Callable[[], object], *, refused: frozenset[int] = _REFUSED) -> bool | None:
    try:
        request()
    except ApiError as error:
        return False if error.status in refused else None
    except MapboxError:
        return None
    return True

"""Which tilesets of an account changed last, read with as few requests as possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_mapbox.limits import TILESETS_PAGE

if TYPE_CHECKING:
    from airflow_mapbox.tilesets.client import TilesetsClient
    from airflow_mapbox.tilesets.models import Tileset

_IN_PROCESSING = "pending"


@dataclass(frozen=True)
class Changes:
    """
    The tilesets of an account that changed last.

    :param account: the account.
    :param tilesets: the tilesets by id, in lower case.
    :param since: every tileset that changed after this time is among them; None if all of the account are.
    """

    account: str
    tilesets: Mapping[str, Tileset] = field(default_factory=dict)
    since: datetime | None = None

    def find(self, tileset: str) -> Tileset | None:
        """
        Return a tileset; None if it is not among them, or an upload of it is being processed.

        :param tileset: ``name`` or ``account.name``.
        """
        found = self.tilesets.get(self.id_of(tileset))
        return None if found is None or found.status == _IN_PROCESSING else found

    def id_of(self, tileset: str) -> str:
        """
        Return the id of a tileset in lower case.

        :param tileset: ``name`` or ``account.name``.
        """
        return (tileset if "." in tileset else f"{self.account}.{tileset}").lower()

    @property
    def newest(self) -> datetime | None:
        """The time of the last change, or None if it is unknown."""
        times = [tileset.modified_at for tileset in self.tilesets.values()]
        return max((time for time in times if time is not None), default=None)


def recent_changes(client: TilesetsClient, since: datetime | None = None, *, only: str | None = None) -> Changes:
    """
    Read which tilesets of the account changed last (scope tilesets:list).

    The list is read with the last change first, so one request is enough unless 500 tilesets changed since then.

    :param client: client of the account.
    :param since: read all tilesets that changed at or after this time; None for the last 500.
    :param only: read no further than this tileset, ``name`` or ``account.name``.
    :raises MapboxError: for every error of the API or the network.
    """
    tilesets: dict[str, Tileset] = {}
    wanted = None if only is None else Changes(client.username).id_of(only)
    for number, tileset in enumerate(client.list_tilesets(sortby="modified")):
        modified = tileset.modified_at
        if since is None and number == TILESETS_PAGE:
            return Changes(client.username, tilesets, modified)
        if since is not None and modified is not None and modified < since:
            return Changes(client.username, tilesets, since)
        tilesets.setdefault(tileset.id.lower(), tileset)
        if tileset.id.lower() == wanted:
            return Changes(client.username, tilesets, modified)
    return Changes(client.username, tilesets)

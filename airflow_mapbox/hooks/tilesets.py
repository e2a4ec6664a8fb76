"""The hook of the account's tilesets, through the same Airflow connection as the uploads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from airflow.sdk import BaseHook

from airflow_mapbox import defaults
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.tasks.connection import CONN_TYPE, client_for
from airflow_mapbox.tilesets.client import SortBy, TilesetsClient, TilesetType, Visibility
from airflow_mapbox.tilesets.models import TileJson, Tileset


class MapboxTilesetsHook(BaseHook):
    """
    The tilesets of a Mapbox account through an Airflow connection of type ``mapbox``.

    The connection is that of :class:`~airflow_mapbox.hooks.uploads.MapboxUploadsHook`. Its token needs the scopes of
    the methods that are used: tilesets:list, tilesets:write, tilesets:read.

    :param mapbox_conn_id: the connection.
    :param retry: how long one call may take. By default the hook waits out every rate limit.

    Example::

        hook = MapboxTilesetsHook()
        for tileset in hook.list_tilesets(match="earthquakes-*"):
            print(tileset.id, tileset.filesize, tileset.visibility)
    """

    conn_name_attr = "mapbox_conn_id"
    default_conn_name = defaults.CONN_ID
    conn_type = CONN_TYPE
    hook_name = "Mapbox"

    def __init__(self, mapbox_conn_id: str = default_conn_name, *, retry: RetryPolicy | None = None) -> None:
        super().__init__()
        self.mapbox_conn_id = mapbox_conn_id
        self._retry = retry

    @cached_property
    def _client(self) -> TilesetsClient:
        return TilesetsClient.sharing(client_for(self.mapbox_conn_id, self._retry))

    def get_conn(self) -> TilesetsClient:
        """
        Return the client of the connection.

        :raises ConfigurationError: if the connection is missing, has no token, or has an address that cannot be used.
        """
        return self._client

    def list_tilesets(
        self,
        *,
        type: TilesetType | None = None,
        visibility: Visibility | None = None,
        sortby: SortBy = "created",
        limit: int | None = None,
        match: str | None = None,
    ) -> Iterator[Tileset]:
        """
        Yield the account's tilesets, newest first; see :meth:`.TilesetsClient.list_tilesets`.

        :param type: only ``"vector"`` or ``"raster"`` tilesets.
        :param visibility: only ``"public"`` or ``"private"`` tilesets.
        :param sortby: ``"created"`` or ``"modified"``: the time that decides which is newest.
        :param limit: number of tilesets at most; None for all.
        :param match: a shell pattern for the part of the id after the account's dot.
        :raises OptionError: if a parameter has an unknown value. No request is sent.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().list_tilesets(type=type, visibility=visibility, sortby=sortby, limit=limit, match=match)

    def get_tileset(self, tileset: str) -> Tileset:
        """
        Return one tileset of the account, from its list; see :meth:`.TilesetsClient.get_tileset`.

        :param tileset: ``name`` or ``account.name``.
        :raises NotFoundError: if the account's list does not show it.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().get_tileset(tileset)

    def update_tileset(
        self,
        tileset: str,
        *,
        name: str | None = None,
        description: str | None = None,
        private: bool | None = None,
        attribution: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """
        Change a tileset of the account. A field that is None stays as it is; see
        :meth:`.TilesetsClient.update_tileset`.

        :param tileset: ``name`` or ``account.name``.
        :param name: the new display name, at most 64 characters.
        :param description: the new description.
        :param private: True for the account's own tokens only, False for everybody.
        :param attribution: the new attributions, each with ``text`` and ``link``.
        :raises NotUpdatableError: if Mapbox does not let this tileset be changed.
        :raises MapboxError: for every error of the API or the network.
        """
        self.get_conn().update_tileset(
            tileset, name=name, description=description, private=private, attribution=attribution
        )

    def delete_tileset(self, tileset: str) -> bool:
        """
        Delete a tileset of the account for good; see :meth:`.TilesetsClient.delete_tileset`.

        :param tileset: ``name`` or ``account.name``.
        :return: True if it was deleted, False if it was gone already.
        :raises InvalidTilesetError: if it cannot be a tileset of the account. No request is sent.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().delete_tileset(tileset)

    def get_tilejson(self, tileset: str) -> TileJson:
        """
        Return the TileJSON of a tileset; see :meth:`.TilesetsClient.get_tilejson`.

        :param tileset: ``name`` or ``account.name``; public tilesets of other accounts too.
        :raises NotFoundError: if it does not exist, or the token may not read it.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().get_tilejson(tileset)

    def get_tile(self, tileset: str, z: int, x: int, y: int) -> bytes | None:
        """
        Return one vector tile, decompressed; None if the tileset has no tile there. See
        :meth:`.TilesetsClient.get_tile`.

        :param tileset: ``name`` or ``account.name``; public tilesets of other accounts too.
        :param z: the zoom.
        :param x: the column, from 0 in the west.
        :param y: the row, from 0 in the north.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().get_tile(tileset, z, x, y)

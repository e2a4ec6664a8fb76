"""The client of an account's tilesets: list, read, update and delete them, one method for each action."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from airflow_mapbox.errors import (
    ApiError,
    InvalidAnswerError,
    InvalidRequestError,
    InvalidTilesetError,
    NotFoundError,
    OptionError,
)
from airflow_mapbox.http.api import ApiClient, Call, Refusal
from airflow_mapbox.limits import TILESETS_PAGE
from airflow_mapbox.names import TilesetId, check_display_name
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tilesets.errors import NotUpdatableError, TilesetActiveError
from airflow_mapbox.tilesets.match import compile_match
from airflow_mapbox.tilesets.models import TileJson, Tileset

log = logging.getLogger(__name__)

TilesetType = Literal["vector", "raster"]
Visibility = Literal["public", "private"]
SortBy = Literal["created", "modified"]

_CHOICES = {
    "type": ("vector", "raster"),
    "visibility": ("public", "private"),
    "sortby": ("created", "modified"),
}
_ACTIVE_ADVICE = "Mapbox is probably processing an upload of this tileset. Wait until it has ended, then try again."
_REFUSALS = (
    # The status is undocumented.
    Refusal(
        NotUpdatableError,
        "The Uploads API made this tileset, and Mapbox does not let such a tileset be changed.\nChange it in Mapbox "
        "Studio.",
        method="PATCH",
        message="was not created with the /tilesets/v1 endpoint",
    ),
    # Documented for the sources of the Tiling Service. For tilesets, message and status are undocumented.
    Refusal(TilesetActiveError, _ACTIVE_ADVICE, message="is locked"),
    Refusal(TilesetActiveError, _ACTIVE_ADVICE, method="DELETE", status=409),
)
_MAX_ZOOM = 30
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS
_MAX_TILE_BYTES = 64 * 2**20  # decompressed


class TilesetsClient(ApiClient):
    """
    A client of the tilesets of a Mapbox account.

    It waits out rate limits, and retries 5xx replies and broken connections. It logs each wait at INFO. It sends the
    token to ``base_url`` only, and never writes it into a message, a log line or an exception. It imports nothing of
    Airflow.

    :param access_token: a secret token (``sk.…``). Each method names the scope that it needs.
    :param username: the account; None to read it from the token.
    :param base_url: base URL of the API. Plain http is allowed for this machine (loopback) only.
    :raises ConfigurationError: if the token is missing or names no account, or the address cannot be used.

    The other parameters are those of :class:`~airflow_mapbox.http.api.ApiClient`.

    Example::

        with TilesetsClient(access_token) as client:
            for tileset in client.list_tilesets(match="earthquakes-*", limit=5):
                print(tileset.id, tileset.filesize, tileset.visibility)
    """

    api = "tilesets API"
    purpose = "list and change tilesets"
    scopes = ("tilesets:list", "tilesets:write", "tilesets:read")
    refusals = _REFUSALS

    def own_id(self, tileset: str) -> str:
        """
        Complete ``name`` to ``account.name`` and check it.

        :param tileset: ``name`` or ``account.name``.
        :raises InvalidTilesetError: if Mapbox would refuse it, or it belongs to another account.
        """
        identifier = self._any(tileset)
        if identifier.owner != self.username:
            raise InvalidTilesetError(
                f"Tileset {redact(tileset)!r} belongs to account {identifier.owner!r}, the connection to "
                f"{self.username!r}.\nUse a connection of account {identifier.owner!r}."
            )
        return str(identifier)

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
        Yield the account's tilesets, newest first (scope tilesets:list). Pages are requested as they are needed.

        :param type: only ``"vector"`` or ``"raster"`` tilesets.
        :param visibility: only ``"public"`` or ``"private"`` tilesets.
        :param sortby: ``"created"`` or ``"modified"``: the time that decides which is newest. With ``"modified"``, a
            tileset that changes during the reading may be missed or come twice.
        :param limit: number of tilesets at most; None for all.
        :param match: only tilesets with such names: a shell pattern for the part after the account's dot. Mapbox
            cannot filter by name, so the client reads the list and filters it.
        :raises OptionError: if a parameter has an unknown value. No request is sent.
        :raises MissingScopeError: if the token lacks tilesets:list.
        :raises InvalidAnswerError: if a page links to another host, or to an earlier page.
        :raises MapboxError: for every error of the API or the network.
        """
        wanted = {"type": type, "visibility": visibility, "sortby": sortby}
        for name, value in wanted.items():
            if value is not None and value not in _CHOICES[name]:
                raise OptionError(f'`{name}` must be "{_CHOICES[name][0]}" or "{_CHOICES[name][1]}", got {value!r}.')
        if limit is not None and limit < 0:
            raise OptionError(f"`limit` must be 0 or greater, got {limit}.")
        names = None if match is None else compile_match(match, self.username)
        size = TILESETS_PAGE if limit is None or names is not None else min(limit, TILESETS_PAGE)
        query = {name: value for name, value in wanted.items() if value is not None} | {"limit": size}

        def tilesets() -> Iterator[Tileset]:
            remaining = math.inf if limit is None else limit
            if remaining <= 0:
                return
            for tileset in self._listed(query):
                # A server that ignores a filter must not bring tilesets that were not asked for.
                if _differs(tileset.type, type) or _differs(tileset.visibility, visibility):
                    continue
                if names is not None and not names.fullmatch(tileset.own_name):
                    continue
                yield tileset
                remaining -= 1
                if remaining <= 0:
                    return

        return tilesets()

    def get_tileset(self, tileset: str) -> Tileset:
        """
        Return one tileset of the account (scope tilesets:list).

        Mapbox has no endpoint for one tileset. This method reads the account's list, newest first, until it finds the
        tileset: one request for each 500 tilesets.

        :param tileset: ``name`` or ``account.name``.
        :raises InvalidTilesetError: if it cannot be a tileset of the account. No request is sent.
        :raises NotFoundError: if the account's list does not show it.
        :raises MapboxError: for every error of the API or the network.
        """
        wanted = self.own_id(tileset)
        for found in self.list_tilesets():
            if found.id.lower() == wanted.lower():
                return found
        message = f"The list of account {self.username} shows no tileset {wanted}."
        raise NotFoundError(
            f"{message}\nCheck the name. A tileset appears after its first upload was processed.",
            status=404,
            message=message,
        )

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
        Change a tileset of the account (scope tilesets:write). A field that is None stays as it is.

        It is undocumented whether Mapbox allows changes of a tileset that the Uploads API made.

        :param tileset: ``name`` or ``account.name``.
        :param name: the new display name, at most 64 characters.
        :param description: the new description.
        :param private: True for the account's own tokens only, False for everybody.
        :param attribution: the new attributions, each with ``text`` and ``link``.
        :raises InvalidTilesetError: if it cannot be a tileset of the account, or Mapbox would refuse the display name.
            No request is sent.
        :raises OptionError: if there is nothing to change. No request is sent.
        :raises NotUpdatableError: if Mapbox does not let this tileset be changed.
        :raises MissingScopeError: if the token lacks tilesets:write.
        :raises MapboxError: for every error of the API or the network.
        """
        check_display_name(name)
        changes: dict[str, object] = {
            "name": name,
            "description": description,
            "private": private,
            "attribution": None if attribution is None else [dict(item) for item in attribution],
        }
        body = {key: value for key, value in changes.items() if value is not None}
        call = Call("PATCH", f"/tilesets/v1/{self.own_id(tileset)}", "tilesets:write")
        if not body:
            raise OptionError("Nothing to change: give `name`, `description`, `private` or `attribution`.")
        self._request(call, body=body)

    def delete_tileset(self, tileset: str, *, before_sending: Callable[[], None] | None = None) -> bool:
        """
        Delete a tileset of the account for good (scope tilesets:write). Maps that use it lose its data.

        :param tileset: ``name`` or ``account.name``.
        :param before_sending: called immediately before each attempt. An exception aborts the call.
        :return: True if it was deleted, False if Mapbox does not know it: it was gone already.
        :raises InvalidTilesetError: if it cannot be a tileset of the account. No request is sent.
        :raises MissingScopeError: if the token lacks tilesets:write.
        :raises TilesetActiveError: if Mapbox refuses because an upload of it is being processed.
        :raises NotFoundError: if Mapbox does not know it, and the token belongs to another account than the login.
        :raises MapboxError: for every error of the API or the network.
        """
        call = Call("DELETE", f"/tilesets/v1/{self.own_id(tileset)}", "tilesets:write")
        try:
            self._request(call, missing_is_success=True, before_sending=before_sending)
        except NotFoundError:
            if self._login_hint:
                raise  # the account of the path is not the token's, so the tileset may exist
            return False
        return True

    def get_tilejson(self, tileset: str) -> TileJson:
        """
        Return the TileJSON of a tileset: its layers, zooms and bounds (scope tilesets:read).

        Mapbox's CDN caches it for five minutes. For that time, TileJSON shows a replaced tileset as it was before.

        :param tileset: ``name`` or ``account.name``; public tilesets of other accounts too.
        :raises InvalidTilesetError: if it cannot be a tileset. No request is sent.
        :raises NotFoundError: if it does not exist, or the token may not read it.
        :raises MapboxError: for every error of the API or the network.
        """
        call = Call("GET", f"/v4/{self._any(tileset)}.json", "tilesets:read")
        answer = self._request(call, url=f"{self.base_url}{call.path}?secure")
        return TileJson.from_json(self._json(call, answer))

    def get_tile(self, tileset: str, z: int, x: int, y: int) -> bytes | None:
        """
        Return one vector tile, decompressed (scope tilesets:read).

        :param tileset: ``name`` or ``account.name``; public tilesets of other accounts too.
        :param z: the zoom.
        :param x: the column, from 0 in the west.
        :param y: the row, from 0 in the north.
        :return: the tile; None if the tileset has none there.
        :raises InvalidTilesetError: if it cannot be a tileset. No request is sent.
        :raises OptionError: if the zoom has no such tile. No request is sent.
        :raises NotFoundError: if Mapbox says that the tileset is missing. Some replies do not say whether the tileset
            or the tile is missing. The result is then None.
        :raises MapboxError: for every error of the API or the network.
        """
        if not (0 <= z <= _MAX_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
            raise OptionError(f"There is no tile {z}/{x}/{y}: at zoom `z`, `x` and `y` are 0 to 2**z - 1.")
        call = Call("GET", f"/v4/{self._any(tileset)}/{z}/{x}/{y}.mvt", "tilesets:read", accept="*/*")
        try:
            content = self._request(call).body or b""
        except NotFoundError as error:
            if "tileset" in error.message.lower():
                raise
            return None
        return _decompress(call, content) or None

    def _refusal(self, call: Call, status: int, message: str) -> tuple[type[ApiError], str]:
        error_class, advice = super()._refusal(call, status, message)
        if call.method == "PATCH" and error_class is InvalidRequestError:
            advice += "\nIt is undocumented whether Mapbox lets a tileset be changed that the Uploads API made."
        return error_class, advice

    def _listed(self, query: Mapping[str, str | int]) -> Iterator[Tileset]:
        call = Call("GET", f"/tilesets/v1/{self.username}", "tilesets:list")
        for items in self._pages(call, query, what="tilesets"):
            for item in items:
                try:
                    tileset = Tileset.from_json(item)
                except InvalidAnswerError as error:
                    log.warning("Skipping an unreadable item of the account's list. %s", error)
                else:
                    yield tileset

    def _any(self, tileset: str) -> TilesetId:
        account, dot, name = tileset.rpartition(".")
        return TilesetId(account if dot else self.username, name)


def _differs(actual: str | None, wanted: str | None) -> bool:
    return wanted is not None and actual is not None and actual != wanted


def _decompress(call: Call, content: bytes) -> bytes:
    """Return a tile that a server sends as it stores it, compressed without saying so."""
    if not content.startswith(_GZIP_MAGIC):
        return content
    gunzip = zlib.decompressobj(_GZIP)
    tile = None
    with suppress(zlib.error):
        tile = gunzip.decompress(content, _MAX_TILE_BYTES)
    if tile is None or not gunzip.eof:
        raise InvalidAnswerError(f"The reply to {call} is not a whole gzip stream.")
    return tile

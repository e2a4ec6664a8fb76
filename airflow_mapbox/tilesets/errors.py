"""The errors of tilesets that the other APIs do not have."""

from __future__ import annotations

from airflow_mapbox.errors import ApiError, MapboxError


class NotUpdatableError(ApiError):
    """Mapbox does not let this tileset be changed, because the Uploads API made it. A retry cannot help."""


class TilesetDiffersError(MapboxError):
    """The published tileset is not as expected. A retry would find the same."""


class TilesetActiveError(ApiError):
    """Mapbox does not let the tileset be changed or deleted now, because an upload of it is being processed."""

    retryable = True


class CeilingExceededError(MapboxError):
    """More tilesets would be deleted than a ceiling allows. None was deleted."""


class NotDeletedError(MapboxError):
    """
    Mapbox did not delete some tilesets.

    :param description: the whole message, with a line for each of them.
    :param retryable: whether a retry may succeed.
    """

    def __init__(self, description: str, *, retryable: bool) -> None:
        super().__init__(description)
        self.retryable = retryable

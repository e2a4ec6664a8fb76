"""Compare a source with what its tileset was last made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from airflow_mapbox.errors import InvalidAnswerError
from airflow_mapbox.sources.source import NOT_OF_CONTENT, Source
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.models import Upload

_TIMES = ("last-modified", "lastmodified", "last_modified", "modified", "mtime", "updated")


def is_same(source: Source, fingerprint: Mapping[str, str | int], sha256: str | None) -> bool:
    """
    Return whether a source has the same content as one that was sent before, as far as this is known without sending.

    The same path or URL with the same ETag is the same content. A modification time counts only together with the size.
    A local file of the same size with another time or path is read for its checksum, because that is faster than
    sending it.

    :param source: the source to upload.
    :param fingerprint: fingerprint of the source that was sent.
    :param sha256: its checksum, or None.
    """
    if source.fingerprint == dict(fingerprint) and _identifies_content(fingerprint):
        return True
    if source.path is None or sha256 is None or source.fingerprint.get("size") != fingerprint.get("size"):
        return False
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _identifies_content(fingerprint: Mapping[str, str | int]) -> bool:
    """Return whether equal fingerprints mean equal bytes: not with a weak ETag or a time alone (RFC 9110, 8.8)."""
    validators = {name: str(value) for name, value in fingerprint.items() if name not in NOT_OF_CONTENT}
    strong = [name for name, value in validators.items() if name not in _TIMES and not value.startswith("W/")]
    return bool(strong) or (bool(validators) and "size" in fingerprint)


def is_last_finished(client: UploadsClient, tileset: str, upload_id: str) -> bool:
    """
    Return whether an upload is the tileset's current content: the last finished one, and no newer one is active.

    :param client: client of the account.
    :param tileset: ``account.name``.
    :param upload_id: the upload.
    :return: False also if the account's list shows the upload no more.
    :raises MapboxError: for every error of the API or the network.
    """
    for item in client.list_items():  # newest first
        item_tileset = item.get("tileset") if isinstance(item, Mapping) else None
        if isinstance(item_tileset, str) and item_tileset != tileset:
            continue
        try:
            upload = Upload.from_json(item)
        except InvalidAnswerError:
            return False  # it may be a newer upload of this tileset
        if not upload.is_failed:
            return upload.id == upload_id and upload.is_successful
    return False

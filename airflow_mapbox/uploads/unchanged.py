"""Whether a source is what its tileset was last made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.sources import Source


def is_same(source: Source, fingerprint: Mapping[str, str | int], sha256: str | None) -> bool:
    """
    Say whether a source is what was sent before, as far as can be told without sending it.

    A size alone proves nothing. A local file that was written anew with the same size is read for its digest, which
    takes less than sending it.

    :param source: what is about to be uploaded.
    :param fingerprint: of what was sent.
    :param sha256: its digest, where it is known.
    """
    if set(source.fingerprint) - {"size"} and source.fingerprint == dict(fingerprint):
        return True
    if source.path is None or sha256 is None or source.fingerprint.get("size") != fingerprint.get("size"):
        return False
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def is_last_finished(client: UploadsClient, tileset: str, upload_id: str) -> bool:
    """
    Say whether an upload is the one that its tileset now shows.

    :param client: for the account.
    :param tileset: ``account.name``.
    :param upload_id: of the upload.
    :return: False also where the account's list no longer says so, or another upload of the tileset is on its way.
    :raises MapboxError: as the API or the network has it.
    """
    for upload in client.list_uploads():  # newest first
        if upload.tileset == tileset and not upload.is_failed:
            return upload.id == upload_id and upload.is_successful
    return False

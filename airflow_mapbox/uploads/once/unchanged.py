"""Whether a source is what its tileset was last made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from airflow_mapbox.errors import InvalidAnswerError
from airflow_mapbox.sources.source import NOT_OF_CONTENT, Source
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.models import Upload


def is_same(source: Source, fingerprint: Mapping[str, str | int], sha256: str | None) -> bool:
    """
    Tell whether a source is what was sent before, as far as can be told without sending it.

    The same path or URL with the same ETag is; a time of modification counts with a size only. A local file of the same
    size that was written again, or that has another path, is read for its digest, which takes less than sending it.

    :param source: what is about to be uploaded.
    :param fingerprint: of what was sent.
    :param sha256: its digest, where it is known.
    """
    if source.fingerprint == dict(fingerprint) and _identifies_content(fingerprint):
        return True
    if source.path is None or sha256 is None or source.fingerprint.get("size") != fingerprint.get("size"):
        return False
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _identifies_content(fingerprint: Mapping[str, str | int]) -> bool:
    """Tell whether equal fingerprints mean equal bytes: not by a size, a weak ETag or a time alone (RFC 9110, 8.8)."""
    validators = {name: str(value) for name, value in fingerprint.items() if name not in NOT_OF_CONTENT}
    times = ("last-modified", "lastmodified", "last_modified", "modified", "mtime", "updated")
    strong = [name for name, value in validators.items() if name not in times and not value.startswith("W/")]
    return bool(strong) or (bool(validators) and "size" in fingerprint)


def is_last_finished(client: UploadsClient, tileset: str, upload_id: str) -> bool:
    """
    Say whether an upload is the one that its tileset now shows.

    :param client: for the account.
    :param tileset: ``account.name``.
    :param upload_id: of the upload.
    :return: False also where the account's list no longer says so, or another upload of the tileset is on its way.
    :raises MapboxError: as the API or the network has it.
    """
    for item in client.list_items():  # newest first
        of = item.get("tileset") if isinstance(item, Mapping) else None
        if isinstance(of, str) and of != tileset:
            continue
        try:
            upload = Upload.from_json(item)
        except InvalidAnswerError:
            return False  # it may be a newer upload of this tileset
        if not upload.is_failed:
            return upload.id == upload_id and upload.is_successful
    return False

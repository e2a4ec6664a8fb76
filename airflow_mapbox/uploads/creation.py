"""One upload for one staged URL: creates it, or finds the one that an unanswered call has already created."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import StagedUrlUsedError
from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# The `Date` header has whole seconds, so the server's clock is known to that.
_CLOCK_STEP = 1.0


def create_or_adopt(client: UploadsClient, tileset: str, url: str, name: str | None, *, since: float) -> Upload:
    """
    Create an upload from a staged URL, exactly once.

    A create call that answers 409 has happened before: its upload is the newest of this tileset that is not older than
    the staged URL, since the API refuses a second upload of a tileset while one is active.

    :param client: for the account.
    :param tileset: ``name`` or ``account.name``.
    :param url: the ``url`` of the staging credentials.
    :param name: the display name.
    :param since: unix time by the server's clock at which the staged URL was issued.
    :raises StagedUrlUsedError: where the URL is used and the list has no such upload.
    :raises MapboxError: as the API or the network has it.
    """
    used: StagedUrlUsedError
    try:
        return client.create_upload(tileset, url, name)
    except StagedUrlUsedError as error:
        used = error
    wanted = str(client.tileset_id(tileset))
    earliest = datetime.fromtimestamp(since - _CLOCK_STEP, UTC)
    for upload in client.list_uploads():
        if upload.created_at is None:
            continue  # it may be older
        if upload.created_at < earliest:
            break  # newest first: all that follow are older
        if upload.tileset == wanted:
            log.info("The create call had taken effect before: adopting upload %s of %s", upload.id, wanted)
            return upload
    raise used

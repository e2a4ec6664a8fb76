"""One upload for one staged URL: creates it, or finds the one that an unanswered call has already created."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import MapboxError, StagedUrlUsedError
from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# The `Date` header has whole seconds, so the server's clock is known to that.
_CLOCK_STEP = 1.0


def create_or_adopt(client: UploadsClient, tileset: str, url: str, name: str | None, *, since: float) -> Upload:
    """
    Create an upload from a staged URL, exactly once.

    A create call may have taken effect although it ended in an error: an earlier one has where the answer is 409, and
    may have where an answer was lost, whatever a later try is told (which of its rules Mapbox looks at first is not
    known). Then the upload is looked for in the list: by tileset, and not older than the staged URL; of several the
    one of that display name, and of these the oldest, since the API takes no second one while the first is processed.

    :param client: for the account.
    :param tileset: ``name`` or ``account.name``.
    :param url: the ``url`` of the staging credentials.
    :param name: the display name.
    :param since: unix time by the server's clock at which the staged URL was issued.
    :raises MapboxError: as the API or the network has it, where there is no such upload.
    """
    uncertain: MapboxError
    try:
        return client.create_upload(tileset, url, name)
    except StagedUrlUsedError as error:
        uncertain = error
    except MapboxError as error:
        if not error.may_have_happened:
            raise
        uncertain = error
    found = _made_since(client, str(client.tileset_id(tileset)), since)
    if not found:
        raise uncertain
    upload = next((made for made in found if made.name == name), found[0])
    log.info("The create call had taken effect: adopting upload %s of tileset %s", upload.id, upload.tileset)
    return upload


def _made_since(client: UploadsClient, tileset: str, since: float) -> list[Upload]:
    """Give the tileset's uploads that are not older than a time, oldest first."""
    earliest = datetime.fromtimestamp(since - _CLOCK_STEP, UTC)
    found: list[Upload] = []
    for upload in client.list_uploads():
        if upload.created_at is None:
            continue  # it may be older
        if upload.created_at < earliest:
            break  # newest first: all that follow are older
        if upload.tileset == tileset:
            found.insert(0, upload)
    return found

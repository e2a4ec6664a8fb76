"""Waits for an upload in this process; the sensor waits without one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import UploadFailedError, WaitTimeoutError
from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)


def require_success(upload: Upload) -> Upload:
    """
    Let a successful or unfinished upload pass.

    :param upload: as the API gave it.
    :raises UploadFailedError: with Mapbox's message and a hint.
    """
    if upload.is_failed:
        raise UploadFailedError(upload)
    return upload


def wait_for_upload(
    client: UploadsClient,
    upload_id: str,
    *,
    timeout: float,
    poll_interval: float,
    progress: Callable[[Upload], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Upload:
    """
    Ask for an upload again and again until it has ended.

    :param client: for the account.
    :param upload_id: the upload.
    :param timeout: seconds to wait at most.
    :param poll_interval: seconds between two looks; each is a request of the account's limit.
    :param progress: called with the upload after each look.
    :param sleep: called with the seconds to wait.
    :param clock: gives seconds.
    :return: the successful upload.
    :raises UploadFailedError: where processing failed.
    :raises WaitTimeoutError: where it has not ended in time.
    """
    deadline = clock() + timeout
    while True:
        upload = require_success(client.get_upload(upload_id))
        log.info("Upload %s of %s: %.0f %%", upload.id, upload.tileset, upload.progress * 100)
        if progress is not None:
            progress(upload)
        if upload.is_successful:
            return upload
        left = deadline - clock()
        if left <= 0:
            raise WaitTimeoutError(
                f"Upload {upload.id} of tileset {upload.tileset} was at {upload.progress:.0%} after {timeout:g} s. "
                "It goes on at Mapbox: wait again with the same upload id, or with a longer timeout."
            )
        sleep(min(poll_interval, left))

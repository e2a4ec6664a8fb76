"""Waits for an upload in this process; the sensor waits without one."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.decide import Terms, Watch, look

log = logging.getLogger(__name__)

# What the last look, at the end of the time, may take.
_LAST_LOOK_SECONDS = 5.0


def wait_for_upload(
    client: UploadsClient,
    upload_id: str,
    *,
    timeout: float,
    poll_interval: float,
    stall_timeout: float | None = None,
    progress: Callable[[Upload], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Upload:
    """
    Ask for an upload again and again until it has ended.

    :param client: for the account.
    :param upload_id: the upload.
    :param timeout: seconds to wait at most.
    :param poll_interval: seconds between two looks; each is a request of the account's limit.
    :param stall_timeout: seconds without progress that end the wait; None for any number.
    :param progress: called with the upload after each look.
    :param sleep: called with the seconds to wait.
    :param clock: gives the unix time.
    :return: the successful upload.
    :raises UploadFailedError: where processing failed.
    :raises UploadStalledError: where the progress has not moved for too long.
    :raises UploadGoneError: where Mapbox does not know the upload.
    :raises WaitTimeoutError: where it has not ended in time.
    """
    rng = random.Random()  # noqa: S311 - jitter, no secret
    watch = Watch(upload_id, since=clock())
    deadline = clock() + timeout
    terms = Terms(poll_interval, poll_interval, stall_timeout, deadline)
    while True:
        # The client must neither wait out a rate limit nor hang for longer than the wait may take.
        impatient = client.with_one_try(max(deadline - clock(), _LAST_LOOK_SECONDS))
        seen, following = look(impatient, watch, terms, rng=rng, clock=clock)
        watch = following.watch
        log.info("%s", following)
        if progress is not None and seen is not None:
            progress(seen)
        if following.upload is not None:
            return following.upload
        log.info("Looking again in %.0f s", following.pause)
        sleep(following.pause)

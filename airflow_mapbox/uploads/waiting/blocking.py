"""Wait for an upload in this process."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.decide import poll
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState

log = logging.getLogger(__name__)

# The last poll, at the deadline, may take this many seconds.
_LAST_POLL_SECONDS = 5.0


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
    Poll an upload until Mapbox has processed it.

    :param client: client of the account.
    :param upload_id: the upload.
    :param timeout: seconds to wait at most.
    :param poll_interval: seconds between two polls. Each poll counts towards the account's rate limit.
    :param stall_timeout: end the wait after this many seconds without progress; None for never.
    :param progress: called with the upload after each poll.
    :param sleep: called with the seconds until the next poll.
    :param clock: returns the Unix time.
    :return: the successful upload.
    :raises UploadFailedError: if processing failed.
    :raises UploadStalledError: if the progress has not changed for ``stall_timeout``.
    :raises UploadGoneError: if Mapbox does not know the upload.
    :raises WaitTimeoutError: if the timeout has passed.
    """
    rng = random.Random()  # noqa: S311 - jitter, no secret
    state = WaitState(upload_id, started=clock())
    deadline = clock() + timeout
    policy = WaitPolicy(poll_interval, poll_interval, stall_timeout, deadline)
    while True:
        # The client must not wait out a rate limit, nor hang for longer than the wait may take.
        one_try = client.with_one_try(max(deadline - clock(), _LAST_POLL_SECONDS))
        upload, decision = poll(one_try, state, policy, rng=rng, clock=clock)
        state = decision.state
        log.info("%s", decision)
        if progress is not None and upload is not None:
            progress(upload)
        if decision.upload is not None:
            return decision.upload
        log.info("Polling again in %.0f s", decision.delay)
        sleep(decision.delay)

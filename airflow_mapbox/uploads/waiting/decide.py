"""Poll an upload once and decide: done, failed, or poll again after a delay."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mapbox.errors import MapboxError, NotSentError
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import (
    ApiError,
    NotFoundError,
    ThrottledError,
    TokenRejectedError,
    UploadFailedError,
    UploadGoneError,
    UploadStalledError,
    WaitTimeoutError,
)
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.interval import interval_by_progress, spread_after_rate_limit, with_jitter

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import TokenState
    from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState

# A refusal is final only if it repeats after this many seconds. A lagging replica may not know a new upload yet, and a
# gateway or a deployment can answer a single 401 or 404 for an upload that exists.
REFUSAL_SECONDS = 60.0
# Poll again after this many seconds when the server had a fault.
_SECONDS_AFTER_FAULT = 30.0


@dataclass(frozen=True)
class Decision:
    """
    What to do after a poll.

    :param state: the state for the next poll.
    :param upload: the finished upload; None if the wait continues.
    :param delay: seconds until the next poll.
    :param min_delay: lower bound of the delay: the shortest interval, or a rate limit's reset.
    :param max_delay: upper bound of the delay: the time until the wait ends.
    :param error: transient error of this poll, or None.
    """

    state: WaitState
    upload: Upload | None = None
    delay: float = 0.0
    min_delay: float = 0.0
    max_delay: float = math.inf
    error: MapboxError | None = None

    def __str__(self) -> str:
        return f"{self.state}: {self.error or format(self.state.progress or 0, '.0%')}"


def decide(
    reply: Upload | MapboxError,
    state: WaitState,
    policy: WaitPolicy,
    *,
    now: float,
    server_now: float,
    rng: random.Random,
) -> Decision:
    """
    Decide what to do after a poll.

    A rate limit, a server fault, a lost reply and a first refusal do not end the wait.

    :param reply: the upload, or the error of the poll.
    :param state: the state before this poll.
    :param policy: how often to poll, and what ends the wait.
    :param now: Unix time by the clock of the waiting machine.
    :param server_now: Unix time by the server's clock. The upload's own times are by this clock.
    :param rng: the source of the jitter.
    :raises UploadFailedError: if processing failed.
    :raises UploadStalledError: if the progress has not changed for ``stall_timeout``.
    :raises UploadGoneError: if the upload is missing, and was missing :data:`REFUSAL_SECONDS` ago.
    :raises WaitTimeoutError: if the deadline has passed.
    :raises MapboxError: for an error that another poll cannot fix.
    """
    if isinstance(reply, Upload):
        decision = _after_upload(reply, state, policy, now=now, server_now=server_now, rng=rng)
    else:
        decision = _after_error(reply, state, policy, now=now, rng=rng)
    if decision.upload is not None:
        return decision
    max_delay = decision.max_delay
    if policy.deadline is not None:
        if now >= policy.deadline:
            raise timed_out(decision.state, now, decision.error)
        max_delay = min(max_delay, policy.deadline - now)
    # A rate limit does not move the last poll beyond the deadline.
    min_delay = min(decision.min_delay, max(policy.min_interval, max_delay))
    return replace(decision, delay=min(decision.delay, max_delay), min_delay=min_delay, max_delay=max_delay)


def _after_upload(
    upload: Upload, state: WaitState, policy: WaitPolicy, *, now: float, server_now: float, rng: random.Random
) -> Decision:
    if upload.is_failed:
        raise UploadFailedError(upload)
    state = state.with_progress(upload, now)
    if upload.is_successful:
        return Decision(state, upload)
    bounds = _bounds(policy)
    delay = with_jitter(interval_by_progress(upload, server_now, **bounds), rng, **bounds)
    max_delay = math.inf
    if policy.stall_timeout is not None and state.progress_since is not None:
        stalled_at = state.progress_since + policy.stall_timeout
        if now >= stalled_at:
            raise _stalled(state, state.progress_since, now)
        max_delay = max(policy.min_interval, stalled_at - now)
    return Decision(state, delay=delay, min_delay=policy.min_interval, max_delay=max_delay)


def _after_error(
    error: MapboxError, state: WaitState, policy: WaitPolicy, *, now: float, rng: random.Random
) -> Decision:
    min_delay, bounds = policy.min_interval, _bounds(policy)
    if isinstance(error, ThrottledError):
        reset = error.retry_after + spread_after_rate_limit(state.throttled, rng)
        delay = min_delay = max(policy.min_interval, reset)
        state = replace(state, throttled=state.throttled + 1)
        return Decision(state, delay=delay, min_delay=min_delay, error=error)
    state = replace(state, throttled=0)
    if is_refusal(error):
        if is_repeated_refusal(error, state, now):
            raise _missing(state, error) if isinstance(error, NotFoundError) else error
        state = replace(state, refused_since=now if state.refused_since is None else state.refused_since)
        delay = with_jitter(policy.min_interval, rng, **bounds)
    elif error.retryable:
        delay = with_jitter(max(policy.min_interval, _SECONDS_AFTER_FAULT), rng, **bounds)
        if error.retry_after is not None:
            delay = min_delay = max(delay, error.retry_after)
    else:
        raise error
    return Decision(state, delay=delay, min_delay=min_delay, error=error)


def _bounds(policy: WaitPolicy) -> dict[str, float]:
    longest = math.inf if policy.max_interval is None else max(policy.min_interval, policy.max_interval)
    return {"min_interval": policy.min_interval, "max_interval": longest}


def is_refusal(reply: Upload | MapboxError) -> bool:
    """
    Return whether the poll was refused: 401, 403, 404 or an invalid certificate. If this repeats, a person must act.

    :param reply: the upload, or the error of the poll.
    """
    return isinstance(reply, ApiError | NotSentError) and not reply.retryable


def is_repeated_refusal(reply: Upload | MapboxError, state: WaitState, now: float) -> bool:
    """
    Return whether polls have been refused for :data:`REFUSAL_SECONDS`.

    :param reply: the upload, or the error of the poll.
    :param state: the state before this poll.
    :param now: Unix time.
    """
    return is_refusal(reply) and state.refused_since is not None and now - state.refused_since >= REFUSAL_SECONDS


def explain_refusal(refusal: MapboxError, check_token: Callable[[], TokenState]) -> MapboxError:
    """
    Check the token before a refusal is believed, because Mapbox also answers 404 for a revoked token.

    :param refusal: the error of the poll.
    :param check_token: asks Mapbox for the token's state.
    :return: the refusal, or the error that explains it.
    """
    try:
        token = check_token()
    except MapboxError as error:
        return error if error.retryable else refusal
    if token.is_valid:
        return refusal
    return TokenRejectedError(
        f"Mapbox answers {token.code} for the connection's token, so the upload's state is unknown.\nPut a valid "
        "secret token into the connection's password, then clear this task. The upload itself is not affected.",
        status=401,
        message=token.code,
    )


def poll(
    client: UploadsClient,
    state: WaitState,
    policy: WaitPolicy,
    *,
    rng: random.Random,
    clock: Callable[[], float] = time.time,
) -> tuple[Upload | None, Decision]:
    """
    Request the upload once and decide what to do next.

    :param client: client of the account; its retry policy bounds the number of requests.
    :param state: the state before this poll.
    :param policy: how often to poll, and what ends the wait.
    :param rng: the source of the jitter.
    :param clock: returns the Unix time of the waiting machine.
    :return: the upload, or None if the poll met an error; and the decision.
    :raises MapboxError: as :func:`decide` does.
    """
    reply: Upload | MapboxError
    try:
        reply = client.get_upload(state.upload_id)
    except MapboxError as error:
        repeated = is_repeated_refusal(error, state, clock())
        reply = explain_refusal(error, client.check_token) if repeated else error
    decision = decide(reply, state, policy, now=clock(), server_now=client.server_now(), rng=rng)
    return (reply if isinstance(reply, Upload) else None), decision


def timed_out(state: WaitState, now: float, problem: Exception | None = None) -> WaitTimeoutError:
    """
    Return the error for a wait that has reached its deadline.

    :param state: the last known state.
    :param now: Unix time of the waiting machine.
    :param problem: the error of the last poll, or None.
    """
    waited = f"{now - state.started:.0f} s"
    why = "" if problem is None else f"\nThe last status request failed: {redact(str(problem))}"
    if state.progress is None:
        return WaitTimeoutError(
            f"{state} was not seen within {waited}: no status request returned it.{why}\nCheck the upload's id, and "
            "look in the log for the reason. Then wait again, or with a longer timeout."
        )
    return WaitTimeoutError(
        f"{state} was at {state.progress:.0%} after {waited}.{why}\nMapbox is still processing it: wait again with the "
        "same upload id, or with a longer timeout."
    )


def _stalled(state: WaitState, progress_since: float, now: float) -> UploadStalledError:
    since = datetime.fromtimestamp(progress_since, UTC)
    return UploadStalledError(
        f"{state} has stayed at {state.progress:.0%} since {since:%Y-%m-%d %H:%M:%S} UTC, for "
        f"{now - progress_since:.0f} s.\nMapbox may never finish it, and accepts no other upload of the tileset while "
        "it is active. Look at it in Mapbox Studio. Then wait with a longer `stall_timeout`; or, to upload again, "
        "clear the task that created it."
    )


def _missing(state: WaitState, error: NotFoundError) -> UploadGoneError:
    if state.progress_since is None:
        return UploadGoneError(f"{state} is unknown to Mapbox. {error}")
    return UploadGoneError(
        f"{state} was at {state.progress:.0%} and is missing now: {error}\nIts status may have been deleted. Check "
        "whether the tileset was made. If not, clear the task that created the upload: it then uploads again."
    )

"""What follows from a look at an upload: it has ended, well or badly, or it is looked at again, and when."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

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
from airflow_mapbox.uploads.waiting.interval import seconds_to_next_look, spread, spread_after_throttles

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import TokenState

# A refusal counts once it is repeated after so many seconds. A new upload may be unknown for a moment while a replica
# lags behind, and a gateway or a deployment can answer a single 401 or 404 for an upload that is there.
REFUSAL_SECONDS = 60.0
# Seconds before a server that failed is asked again.
_SECONDS_AFTER_FAULT = 30.0


@dataclass(frozen=True)
class Terms:
    """
    How one wait goes on, and what ends it.

    :param floor: seconds between two looks, at least.
    :param ceiling: seconds between two looks, at most, but for a rate limit; None for no bound.
    :param stall_timeout: seconds without progress that end the wait; None for any number.
    :param deadline: unix time that ends the wait; None for never.
    """

    floor: float
    ceiling: float | None = 120.0
    stall_timeout: float | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Watch:
    """
    What a wait remembers from one look to the next; small, JSON, no secret.

    All times are unix times of the side that waits.

    :param upload_id: the upload.
    :param since: when the wait began.
    :param progress: as last seen, from 0 to 1; None where the upload has not been seen yet.
    :param moved: when the progress was first seen to be what it is.
    :param tileset: of the upload, once it has been seen.
    :param throttled: looks in a row that met a rate limit.
    :param refused_since: when the first of the refusals (401, 404) in a row was; None if the last look was answered.
    """

    upload_id: str
    since: float
    progress: float | None = None
    moved: float | None = None
    tileset: str | None = None
    throttled: int = 0
    refused_since: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], upload_id: str) -> Self | None:
        """
        Read what :meth:`to_json` gave.

        :param document: the decoded JSON.
        :param upload_id: the upload that is waited for now.
        :return: None where the document is about another upload, or of another version of this package.
        """
        if document.get("upload_id") != upload_id:
            return None
        try:
            return cls(**document)
        except TypeError:
            return None

    def is_refused_again(self, seen: Upload | MapboxError, now: float) -> bool:
        """
        Tell whether a look is refused that was refused before, some time ago.

        :param seen: what the look has led to.
        :param now: unix time.
        """
        return is_refusal(seen) and self.refused_since is not None and now - self.refused_since >= REFUSAL_SECONDS

    def __str__(self) -> str:
        return f"Upload {self.upload_id} of tileset {self.tileset}" if self.tileset else f"Upload {self.upload_id}"


@dataclass(frozen=True)
class Next:
    """
    What a look has led to.

    :param watch: what the next look needs to know.
    :param upload: the finished upload; None where the wait goes on.
    :param pause: seconds to the next look.
    :param least: seconds below which a look would come too soon: the floor, or a rate limit's reset.
    :param most: seconds beyond which it would come too late: the wait is to end before.
    :param error: what stood in the way of this look and may be gone at the next; None for none.
    """

    watch: Watch
    upload: Upload | None = None
    pause: float = 0.0
    least: float = 0.0
    most: float = math.inf
    error: MapboxError | None = None

    def __str__(self) -> str:
        return f"{self.watch}: {self.error or format(self.watch.progress or 0, '.0%')}"


def judge(
    seen: Upload | MapboxError, watch: Watch, terms: Terms, *, now: float, server_now: float, rng: random.Random
) -> Next:
    """
    Say what follows from a look.

    A rate limit, a server's fault, a lost answer and a first refusal leave the wait as it was.

    :param seen: the upload, or the error in its place.
    :param watch: what was known before.
    :param terms: how the wait goes on.
    :param now: unix time of the side that waits.
    :param server_now: unix time by the server's clock, by which the upload's own times are.
    :param rng: the source of the jitter.
    :return: what to do next.
    :raises UploadFailedError: where processing failed.
    :raises UploadStalledError: where the progress has not moved for as long as the terms allow.
    :raises UploadGoneError: if the upload is missing, and was :data:`REFUSAL_SECONDS` ago.
    :raises WaitTimeoutError: where the deadline has passed.
    :raises MapboxError: what no further look would mend.
    """
    ceiling = math.inf if terms.ceiling is None else max(terms.floor, terms.ceiling)
    least, most, error, throttled, refused_since = terms.floor, math.inf, None, 0, watch.refused_since
    if isinstance(seen, Upload):
        refused_since = None
        if seen.is_failed:
            raise UploadFailedError(seen)
        if watch.moved is None:
            moved = now if seen.progress > 0 else watch.since  # of no progress at all it is known since when
        else:
            moved = now if seen.progress != watch.progress else watch.moved
        watch = replace(watch, progress=seen.progress, moved=moved, tileset=seen.tileset)
        if seen.is_successful:
            return Next(watch, seen)
        pause = seconds_to_next_look(seen, server_now, floor=terms.floor, ceiling=ceiling)
        pause = spread(pause, rng, floor=terms.floor, ceiling=ceiling)
        if terms.stall_timeout is not None:
            if now - moved >= terms.stall_timeout:
                raise _stalled(watch, moved, now)
            most = max(terms.floor, moved + terms.stall_timeout - now)
    else:
        error = seen
        if isinstance(seen, ThrottledError):
            pause = least = max(terms.floor, seen.retry_after + spread_after_throttles(watch.throttled, rng))
            throttled = watch.throttled + 1
        elif is_refusal(seen):
            if watch.is_refused_again(seen, now):
                raise _gone(watch, seen) if isinstance(seen, NotFoundError) else seen
            refused_since = now if refused_since is None else refused_since
            pause = spread(terms.floor, rng, floor=terms.floor, ceiling=ceiling)
        elif seen.retryable:
            pause = spread(max(terms.floor, _SECONDS_AFTER_FAULT), rng, floor=terms.floor, ceiling=ceiling)
            if seen.retry_after is not None:
                pause = least = max(pause, seen.retry_after)
        else:
            raise seen
    if terms.deadline is not None:
        if now >= terms.deadline:
            raise timed_out(watch, now, error)
        most = min(most, terms.deadline - now)
    watch = replace(watch, throttled=throttled, refused_since=refused_since)
    # A rate limit does not move the last look beyond the time that the wait may take.
    least = min(least, max(terms.floor, most))
    return Next(watch, pause=min(pause, most), least=least, most=most, error=error)


def is_refusal(seen: Upload | MapboxError) -> bool:
    """
    Tell whether a look met what a person has to mend, if it stays: 401, 403, 404 and their like, or a certificate.

    :param seen: what the look has led to.
    """
    return isinstance(seen, ApiError | NotSentError) and not seen.retryable


def explain_refusal(seen: MapboxError, check_token: Callable[[], TokenState]) -> MapboxError:
    """
    Ask for the state of the token before a refusal is believed, since Mapbox answers 404 for a revoked token as well.

    :param seen: the refusal.
    :param check_token: asks Mapbox.
    :return: the refusal, or the error that explains it.
    """
    try:
        state = check_token()
    except MapboxError as error:
        return error if error.retryable else seen
    if state.is_valid:
        return seen
    return TokenRejectedError(
        f"Mapbox answers {state.code} for the connection's token, so it tells nothing about the upload.\nPut a valid "
        "secret token into the connection's password, then clear this task: the upload itself is not affected.",
        status=401,
        message=state.code,
    )


def look(
    client: UploadsClient, watch: Watch, terms: Terms, *, rng: random.Random, clock: Callable[[], float] = time.time
) -> tuple[Upload | None, Next]:
    """
    Ask for the upload once and say what follows.

    :param client: for the account; its retry policy says how many requests a look may be.
    :param watch: what was known before.
    :param terms: how the wait goes on.
    :param rng: the source of the jitter.
    :param clock: gives the unix time of the side that waits.
    :return: the upload as it is now, where it was seen, and what to do next.
    :raises MapboxError: as for :func:`judge`.
    """
    seen: Upload | MapboxError
    try:
        seen = client.get_upload(watch.upload_id)
    except MapboxError as error:
        seen = explain_refusal(error, client.check_token) if watch.is_refused_again(error, clock()) else error
    following = judge(seen, watch, terms, now=clock(), server_now=client.server_now(), rng=rng)
    return (seen if isinstance(seen, Upload) else None), following


def timed_out(watch: Watch, now: float, problem: Exception | None = None) -> WaitTimeoutError:
    """
    Return the error for a wait that has come to its deadline.

    :param watch: as last known.
    :param now: unix time of the side that waits.
    :param problem: of the last look, if it met one.
    """
    after = f"after {now - watch.since:.0f} s"
    why = "" if problem is None else f"\nThe last status request failed: {redact(str(problem))}"
    if watch.progress is None:
        return WaitTimeoutError(
            f"{watch} had not been seen {after}: no status request was answered.{why}\nCheck the upload's id, and in "
            "the log why; then wait again, or with a longer timeout."
        )
    return WaitTimeoutError(
        f"{watch} was at {watch.progress:.0%} {after}.{why}\nMapbox is still processing it: wait again with the same "
        "upload id, or with a longer timeout."
    )


def _stalled(watch: Watch, moved: float, now: float) -> UploadStalledError:
    since = datetime.fromtimestamp(moved, UTC)
    return UploadStalledError(
        f"{watch} has stood at {watch.progress:.0%} since {since:%Y-%m-%d %H:%M:%S} UTC, which is {now - moved:.0f} s."
        "\nMapbox may never end it, and while it is active takes no other upload of the tileset: look at it in Mapbox "
        "Studio, then clear the task that created it to upload again, or wait with a longer `stall_timeout`."
    )


def _gone(watch: Watch, error: NotFoundError) -> UploadGoneError:
    if watch.moved is None:
        return UploadGoneError(f"{watch} is not known. {error}")
    return UploadGoneError(
        f"{watch} was at {watch.progress:.0%} and is missing now: {error}\nIts status may have been deleted; look "
        "whether the tileset was made, and clear the task that created the upload to upload again."
    )

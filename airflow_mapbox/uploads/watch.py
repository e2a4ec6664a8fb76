"""What follows from a look at an upload: it has ended, well or badly, or it is looked at again, and when."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from airflow_mapbox.uploads.errors import (
    MapboxError,
    NotFoundError,
    ThrottledError,
    UploadFailedError,
    UploadGoneError,
    UploadStalledError,
    WaitTimeoutError,
)
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.pacing import seconds_to_next_look, spread, spread_after_throttles

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient

# An upload that has just been created may be unknown for a moment, as where a replica lags behind.
FRESH_SECONDS = 60.0
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
    """

    upload_id: str
    since: float
    progress: float | None = None
    moved: float | None = None
    tileset: str | None = None
    throttled: int = 0

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

    A rate limit, a server's fault, a lost answer and a fresh upload that is not known yet leave the wait as it was.

    :param seen: the upload, or the error in its place.
    :param watch: what was known before.
    :param terms: how the wait goes on.
    :param now: unix time of the side that waits.
    :param server_now: unix time by the server's clock, by which the upload's own times are.
    :param rng: the source of the jitter.
    :return: what to do next.
    :raises UploadFailedError: where processing failed.
    :raises UploadStalledError: where the progress has not moved for as long as the terms allow.
    :raises UploadGoneError: where the upload is not known, or no longer.
    :raises WaitTimeoutError: where the deadline has passed.
    :raises MapboxError: what no further look would mend.
    """
    ceiling = math.inf if terms.ceiling is None else max(terms.floor, terms.ceiling)
    least, most, error, throttled = terms.floor, math.inf, None, 0
    if isinstance(seen, Upload):
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
        elif isinstance(seen, NotFoundError):
            if watch.moved is not None or now - watch.since >= FRESH_SECONDS:
                raise _gone(watch, seen)
            pause = spread(terms.floor, rng, floor=terms.floor, ceiling=ceiling)
        elif seen.retryable:
            pause = spread(max(terms.floor, _SECONDS_AFTER_FAULT), rng, floor=terms.floor, ceiling=ceiling)
        else:
            raise seen
    if terms.deadline is not None:
        if now >= terms.deadline:
            raise timed_out(watch, now)
        most = min(most, terms.deadline - now)
    watch = replace(watch, throttled=throttled)
    return Next(watch, pause=min(pause, most), least=least, most=most, error=error)


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
        seen = error
    following = judge(seen, watch, terms, now=clock(), server_now=client.server_now(), rng=rng)
    return (seen if isinstance(seen, Upload) else None), following


def timed_out(watch: Watch, now: float) -> WaitTimeoutError:
    """
    Make the error of a wait that has come to its deadline.

    :param watch: as last known.
    :param now: unix time of the side that waits.
    """
    after = f"after {now - watch.since:.0f} s"
    if watch.progress is None:
        return WaitTimeoutError(
            f"{watch} had not been seen {after}: no look at it was answered with its state. Check the upload's id, "
            "and in the log why; then wait again, or with a longer timeout."
        )
    return WaitTimeoutError(
        f"{watch} was at {watch.progress:.0%} {after}. It goes on at Mapbox: wait again with the same upload id, or "
        "with a longer timeout."
    )


def _stalled(watch: Watch, moved: float, now: float) -> UploadStalledError:
    since = datetime.fromtimestamp(moved, UTC)
    return UploadStalledError(
        f"{watch} has stood at {watch.progress:.0%} since {since:%Y-%m-%d %H:%M:%S} UTC, which is {now - moved:.0f} s. "
        "Mapbox may never end it, and while it is active takes no other upload of the tileset: look at it in Mapbox "
        "Studio, then clear the task that created it to upload again, or wait with a longer stall_timeout."
    )


def _gone(watch: Watch, error: NotFoundError) -> UploadGoneError:
    if watch.moved is None:
        return UploadGoneError(f"{watch} is not known. {error}")
    return UploadGoneError(
        f"{watch} was there at {watch.progress:.0%} and is gone: {error} Somebody may have deleted its status; look "
        "whether the tileset was made, and clear the task that created the upload to upload again."
    )

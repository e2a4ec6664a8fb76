"""How one wait for an upload polls, what ends it, and what it remembers from one poll to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_mapbox.defaults import MAX_POLL_INTERVAL

if TYPE_CHECKING:
    from airflow_mapbox.uploads.models import Upload


@dataclass(frozen=True)
class WaitPolicy:
    """
    How often one wait polls, and what ends it.

    :param min_interval: shortest time between two polls, in seconds.
    :param max_interval: longest time between two polls, in seconds. A rate limit may make it longer. None for no bound.
    :param stall_timeout: end the wait after this many seconds without progress; None for never.
    :param deadline: Unix time at which the wait ends; None for never.
    """

    min_interval: float
    max_interval: float | None = MAX_POLL_INTERVAL
    stall_timeout: float | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class WaitState:
    """
    What a wait remembers from one poll to the next: small, JSON, no secret.

    All times are Unix times by the clock of the waiting machine.

    :param upload_id: the upload.
    :param started: when the wait started.
    :param progress: the progress at the last poll, from 0 to 1; None before the first reply.
    :param progress_since: when this progress was first seen.
    :param tileset: the upload's tileset; None before the first reply.
    :param throttled: number of polls in a row that met a rate limit.
    :param refused_since: when the first of several refusals (401, 404) in a row came; None after a reply.
    """

    upload_id: str
    started: float
    progress: float | None = None
    progress_since: float | None = None
    tileset: str | None = None
    throttled: int = 0
    refused_since: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], upload_id: str) -> Self | None:
        """
        Read the result of :meth:`to_json`.

        :param document: the decoded JSON.
        :param upload_id: the upload to wait for.
        :return: None if the document is about another upload, or comes from another version of this package.
        """
        if document.get("upload_id") != upload_id:
            return None
        try:
            return cls(**document)
        except TypeError:
            return None

    def with_progress(self, upload: Upload, now: float) -> Self:
        """
        Return the state after a poll that returned the upload.

        :param upload: the upload at this poll.
        :param now: Unix time.
        """
        if self.progress_since is None:
            # An upload without any progress has had none since the wait started.
            since = now if upload.progress > 0 else self.started
        else:
            since = now if upload.progress != self.progress else self.progress_since
        return type(self)(self.upload_id, self.started, upload.progress, since, upload.tileset)

    def __str__(self) -> str:
        return f"Upload {self.upload_id} of tileset {self.tileset}" if self.tileset else f"Upload {self.upload_id}"

"""Select uploads of the account's list, and detect when the rest of the list has no more of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_mapbox.errors import OptionError

if TYPE_CHECKING:
    from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# A time with a time zone, the same as an ISO 8601 string, or an age by the server's clock.
Moment: TypeAlias = datetime | str | timedelta
UploadState = Literal["processing", "done", "failed"]
STATES: tuple[UploadState, ...] = ("processing", "done", "failed")

# Mapbox's servers may set `created` by clocks that differ, so neighbours in the list may be in the wrong order. Only an
# upload that is outside the period by more than this ends the reading.
_DISORDER = timedelta(seconds=60)


@dataclass(frozen=True)
class UploadSelection:
    """
    The conditions for uploads of the account's list. The defaults select all.

    :param since: created at this time or later.
    :param until: created before this time.
    :param tileset: id of their tileset, ``account.name``.
    :param state: their state.
    """

    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    tileset: str | None = None
    state: UploadState | None = None

    @classmethod
    def parse(
        cls, since: Moment | None, until: Moment | None, tileset: str | None, state: UploadState | None
    ) -> UploadSelection:
        """
        Check the parameters of a caller.

        :param since: created at this time or later.
        :param until: created before this time.
        :param tileset: id of their tileset, ``account.name``, checked.
        :param state: ``"processing"``, ``"done"`` or ``"failed"``.
        :raises OptionError: if a time has no time zone or cannot be read, the period is empty, or the state is unknown.
        """
        if state is not None and state not in STATES:
            raise OptionError(f'`state` must be "processing", "done" or "failed", got {state!r}.')
        start = None if since is None else parse_moment(since, "since")
        end = None if until is None else parse_moment(until, "until")
        both_times = isinstance(start, datetime) and isinstance(end, datetime) and start >= end
        both_ages = isinstance(start, timedelta) and isinstance(end, timedelta) and start <= end
        if both_times or both_ages:
            raise OptionError(f"The period is empty: `since` ({since}) must be before `until` ({until}).")
        return cls(start, end, tileset, state)

    @property
    def is_everything(self) -> bool:
        """Whether no upload is left out."""
        return self == UploadSelection()

    def at(self, now: float) -> UploadSelection:
        """
        Return the same selection with times instead of ages.

        :param now: Unix time by the server's clock.
        """
        return UploadSelection(_time(self.since, now), _time(self.until, now), self.tileset, self.state)

    def has(self, upload: Upload) -> bool:
        """
        Return whether an upload is selected. With a period, an upload without a readable time of creation is not.

        :param upload: an upload of the list.
        """
        if self.tileset is not None and upload.tileset.lower() != self.tileset.lower():
            return False
        if self.state is not None and upload.state != self.state:
            return False
        if self.since is None and self.until is None:
            return True
        created = upload.created_at
        if created is None:
            log.warning("Leaving out upload %s: its time of creation cannot be read.", upload.id)
            return False
        return not (_is_before(created, self.since) or not _is_before(created, self.until, default=True))

    def ends_at(self, upload: Upload, *, reverse: bool) -> bool:
        """
        Return whether no upload after this one in the list is selected.

        :param upload: an upload of the list.
        :param reverse: whether the list begins with the oldest.
        """
        created = upload.created_at
        if created is None:
            return False
        if reverse:
            return not _is_before(created - _DISORDER, self.until, default=True)
        return _is_before(created + _DISORDER, self.since)


def parse_moment(value: Moment, name: str) -> datetime | timedelta:
    """
    Return a time with a time zone, or an age.

    :param value: the time, an ISO 8601 string, or an age.
    :param name: the parameter, for the message.
    :raises OptionError: if it cannot be read, has no time zone, or is a negative age.
    """
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise OptionError(f"`{name}` is an age of {value}: an age must be 0 or greater.")
        return value
    moment = value if isinstance(value, datetime) else _from_iso(value)
    if moment is None:
        raise OptionError(
            f"`{name}` is {value!r}, which is not a time.\nGive a datetime with a time zone or ISO 8601, such as "
            "2026-01-31T12:00:00Z."
        )
    if moment.utcoffset() is None:
        raise OptionError(
            f"`{name}` is {moment.isoformat()}, which has no time zone, so the time is ambiguous.\nFor UTC give "
            f"{moment.isoformat()}+00:00."
        )
    return moment


def _from_iso(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _time(moment: datetime | timedelta | None, now: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(now, UTC) - moment if isinstance(moment, timedelta) else moment
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _is_before(time: datetime, bound: datetime | timedelta | None, *, default: bool = False) -> bool:
    return time < bound if isinstance(bound, datetime) else default

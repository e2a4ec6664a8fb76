"""Read an account for a retention policy, and delete what a plan says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import (
    ApiError,
    InvalidAnswerError,
    NotFoundError,
    ServerError,
    ThrottledError,
    TokenRejectedError,
)
from airflow_mapbox.tilesets.errors import NotDeletedError
from airflow_mapbox.tilesets.retention import Plan, RetentionPolicy, active_tilesets, make_plan

if TYPE_CHECKING:
    from airflow_mapbox.tilesets.client import TilesetsClient

log = logging.getLogger(__name__)

# The account is read again before a deletion if the last reading is older. Uploads can start meanwhile.
RECHECK_SECONDS = 30.0
# Errors that concern every deletion. Another refusal concerns one tileset.
_ENDS = (NotFoundError, ServerError, ThrottledError, TokenRejectedError)
_MAX_QUOTED = 20


class _OutdatedError(Exception):
    """The account was read too long ago, for example because the call has waited for a rate limit."""


@dataclass
class Progress:
    """
    How far the deletions of a plan are.

    :param deleted: ids of the tilesets that were deleted.
    :param gone: ids of the tilesets that another task, a person or an earlier try had deleted.
    :param skipped: tilesets of the plan that stay, each with the reason.
    """

    deleted: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


class Retention:
    """
    The retention of an account's tilesets.

    :param client: client of the account (scopes tilesets:list, and tilesets:write to delete).
    :param list_uploads: returns the account's uploads as Mapbox sends them, newest first (scope uploads:list).
    :param monotonic: returns seconds by a clock that cannot be set.

    Example::

        retention = Retention(TilesetsClient.sharing(uploads), uploads.list_items)
        print(retention.plan(RetentionPolicy("earthquakes-*", keep=8)))
    """

    def __init__(
        self,
        client: TilesetsClient,
        list_uploads: Callable[[], Iterator[object]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._list_uploads = list_uploads
        self._monotonic = monotonic

    def plan(self, policy: RetentionPolicy) -> Plan:
        """
        Read the account, and decide which of its tilesets are deleted.

        :param policy: the policy.
        :raises OptionError: if the policy's pattern is for another account. No request is sent.
        :raises InvalidAnswerError: if Mapbox does not tell its clock or the tileset of an active upload.
        :raises MapboxError: for every error of the API or the network.
        """
        policy.compile(self._client.username)
        # One request, for Mapbox's clock: ages must not follow this machine's.
        next(self._client.list_tilesets(limit=1), None)
        if not self._client.knows_server_time:
            raise InvalidAnswerError(
                "Mapbox's reply has no `Date`, so the age of tilesets and uploads is unknown. Nothing was deleted.\n"
                "Try again later, or check what changes the replies on their way (a proxy)."
            )
        now = datetime.fromtimestamp(self._client.server_now(), UTC)
        # The uploads first: one that ends before the tilesets are read is then either active here or its change there.
        active = active_tilesets(self._list_uploads(), now)
        tilesets = self._client.list_tilesets(match=policy.pattern)
        return make_plan(policy, self._client.username, tilesets, active, now)

    def carry_out(self, plan: Plan, progress: Progress, *, is_fresh: bool = False) -> Plan:
        """
        Delete the tilesets of a plan, unless they have changed since. What is gone already is done.

        An error leaves ``progress`` as far as the deletions are. The next call continues with the others.

        :param plan: the plan.
        :param progress: how far the deletions are. It is changed.
        :param is_fresh: whether the plan was made just now, so that the account need not be read again.
        :return: the account's last plan by the same policy.
        :raises NotDeletedError: if Mapbox did not delete some tilesets. All others were deleted.
        :raises MapboxError: for every other error of the API or the network.
        """
        fresh = plan if is_fresh else self.plan(plan.policy)
        checked_at = self._monotonic()
        todo = self._recheck(plan, fresh, progress)
        refused: dict[str, ApiError] = {}
        missing: list[str] = []

        def refuse_outdated() -> None:
            if self._monotonic() - checked_at > RECHECK_SECONDS:
                raise _OutdatedError

        while todo.delete:
            identifier = todo.delete[0].id
            try:
                found = self._client.delete_tileset(identifier, before_sending=refuse_outdated)
            except _OutdatedError:
                fresh, checked_at = self.plan(plan.policy), self._monotonic()
                todo = self._recheck(todo, fresh, progress)
                continue
            except ApiError as error:
                if isinstance(error, _ENDS):
                    raise
                refused[identifier] = error
            else:
                (progress.deleted if found else missing).append(identifier)
                log.info("Tileset %s %s", identifier, "was deleted" if found else "is gone already")
            todo = replace(todo, delete=todo.delete[1:])
        if refused or missing:
            fresh = self._settle(plan, refused, missing, progress)
        return fresh

    def _recheck(self, plan: Plan, fresh: Plan, progress: Progress) -> Plan:
        """Return what is still to be deleted, and note in the progress what is not."""
        checked = plan.recheck(fresh)
        left = {deletion.id for deletion in checked.delete}
        for deletion in plan.delete:
            if deletion.id in checked.skipped:
                progress.skipped[deletion.id] = checked.skipped[deletion.id]
                log.info("Tileset %s is not deleted: %s", deletion.id, checked.skipped[deletion.id])
            elif deletion.id not in left and deletion.id not in (*progress.deleted, *progress.gone):
                progress.gone.append(deletion.id)
                log.info("Tileset %s is gone already", deletion.id)
        return checked

    def _settle(self, plan: Plan, refused: Mapping[str, ApiError], missing: list[str], progress: Progress) -> Plan:
        """Read the account again, for the tilesets that Mapbox refused to delete or did not find."""
        fresh = self.plan(plan.policy)
        due = {deletion.id for deletion in fresh.delete}
        problems, retryable = [], True
        for identifier, error in refused.items():
            if identifier in fresh.skipped:  # such as an upload that has started
                progress.skipped[identifier] = fresh.skipped[identifier]
            elif identifier in due or identifier in fresh.kept:
                problems.append(f"{identifier}: Mapbox answered {error.status} {error.message}")
                retryable &= error.retryable
            else:
                progress.gone.append(identifier)
        listed = [identifier for identifier in missing if identifier in due]
        progress.gone += [identifier for identifier in missing if identifier not in due]
        problems += [f"{identifier}: Mapbox answers Not Found, and still lists it" for identifier in listed]
        if problems:
            more = [f"and {len(problems) - _MAX_QUOTED} more"] if len(problems) > _MAX_QUOTED else []
            advice = ["Delete them in Mapbox Studio, or exclude them by `match`."]
            if retryable:
                advice = ["Try again later: an upload of them may be in processing."]
            advice += ["Check that the token has the scope tilesets:write."] if listed else []
            raise NotDeletedError(
                "\n".join(["Mapbox did not delete these tilesets:", *problems[:_MAX_QUOTED], *more, *advice]),
                retryable=retryable,
            )
        return fresh


def result_of(plan: Plan, latest: Plan, progress: Progress, *, dry_run: bool) -> dict[str, Any]:
    """
    Return the result of a retention as JSON types. It names at most 100 tilesets that are kept, and 100 skipped.

    :param plan: the plan.
    :param latest: the last plan that was made by the same policy.
    :param progress: how far the deletions are.
    :param dry_run: whether nothing should be deleted.
    """
    skipped = {**latest.skipped, **progress.skipped}
    shown = replace(plan, kept=latest.kept, skipped=skipped)
    return {
        **shown.to_json(),
        "dry_run": dry_run,
        "deleted": list(dict.fromkeys(progress.deleted)),
        "gone": list(dict.fromkeys(progress.gone)),
        "markdown": shown.to_markdown(),
    }

"""The task that deletes tilesets by a retention policy."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseOperator

from airflow_mapbox import defaults
from airflow_mapbox.errors import ConfigurationError, MapboxError, NotFoundError, OptionError, TokenRejectedError
from airflow_mapbox.exceptions import MapboxFailError, airflow_errors
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tasks.parameters import constant, is_missing, is_template
from airflow_mapbox.tasks.rescheduling import reschedule_in
from airflow_mapbox.tilesets.retention import DEFAULT_MAX_DELETIONS, MAX_DELETIONS, Plan, RetentionPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_mapbox.tasks.state import MemoryValue, StoredValue
    from airflow_mapbox.tilesets.deleting import Progress, Retention
    from airflow_mapbox.uploads.client import UploadsClient

# The key of the plan in the task state store.
_PLAN_KEY = "mapbox_retention"
# Stands for a template in the checks of the other parameters when the DAG is parsed.
_ANY_MATCH = "x"


class DeleteTilesetsOperator(BaseOperator):
    """
    Delete old tilesets of the connection's account for good.

    The task decides once which tilesets it deletes. It writes this plan to the log as a table, and keeps it in its
    state. If anything crashes, the retry continues with the same plan. If you clear the task, it makes a new plan.
    Before each deletion, the plan is compared with the account as it was at most half a minute before. A tileset stays
    if it has changed, is public now, or has an upload in processing. A tileset that is gone already counts as done.

    The token needs the scopes tilesets:list, uploads:list, and unless ``dry_run`` tilesets:write.

    The result has ``deleted``, ``gone`` and ``kept`` with ids, and ``skipped`` with ids and reasons. It also has
    ``delete`` with the tilesets of the plan, and ``markdown`` with a table for a person. ``kept`` and ``skipped`` name
    at most 100 tilesets each; ``kept_count`` and ``skipped_count`` are the numbers. It has multiple outputs.

    To ask a person first, make a plan with ``dry_run=True``, show its ``markdown``, and give it to a second task as
    ``plan``.

    These parameters are templated: ``match``, ``created_by``, ``plan`` and ``mapbox_conn_id``. The other parameters are
    checked when the DAG is parsed.

    :param match: delete only tilesets with such names: a shell pattern with ``*``, ``?`` and ``[…]`` for the name after
        the account's dot, such as ``"earthquakes-*"``.
    :param keep: number of newest tilesets to keep. Tilesets with the same date, number or time count once.
    :param older_than: delete tilesets that are older, by Mapbox's clock. Give ``keep`` or this.
    :param by: what decides which tileset is newer. ``"name"``: the date in the name, or else its last number. Names
        that differ only in it are one series. ``keep`` tilesets of each series are kept, in whatever order they were
        made. ``"created"`` or ``"modified"``: the time. The default is ``"name"`` with ``keep``, and
        ``"modified"`` with ``older_than``.
    :param dry_run: only make the plan.
    :param max_deletions: fail if more tilesets would be deleted, and delete none; at most 1,000.
    :param created_by: delete only tilesets that have this ``created_by_client`` in Mapbox's list. If Mapbox does not
        tell what made a tileset, the tileset stays.
    :param include_public: delete public tilesets too.
    :param allow_all: allow a ``match`` without a letter or digit, such as ``"*"``.
    :param allow_empty: allow ``keep=0``.
    :param plan: the result of a task with ``dry_run=True``: delete exactly its tilesets. Of the parameters above, only
        ``max_deletions`` can then be given.
    :param mapbox_conn_id: the connection.
    :raises ValueError: when the DAG is parsed, if a parameter is invalid. The message has a line for each problem.
    :raises MapboxFailError: if a person must act: a parameter, the connection or the token's scopes must be changed, or
        more tilesets would be deleted than ``max_deletions``. It is not retried.
    :raises MapboxTaskError: if Mapbox or the network failed. The task's ``retries`` apply.

    Example::

        DeleteTilesetsOperator(task_id="retention", match="earthquakes-*", keep=8)
    """

    template_fields: Sequence[str] = ("match", "created_by", "plan", "mapbox_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json"}
    ui_color = "#f6e3df"

    def __init__(
        self,
        *,
        match: str | None = None,
        keep: int | None = None,
        older_than: timedelta | None = None,
        by: str | None = None,
        dry_run: bool = False,
        max_deletions: int = DEFAULT_MAX_DELETIONS,
        created_by: str | None = None,
        include_public: bool = False,
        allow_all: bool = False,
        allow_empty: bool = False,
        plan: Mapping[str, Any] | str | None = None,
        mapbox_conn_id: str = defaults.CONN_ID,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.match = match
        self.keep, self.older_than, self.by = keep, older_than, by
        # BaseOperator has a method `dry_run`.
        self.is_dry_run = constant(dry_run, bool, "dry_run")
        self.max_deletions = constant(max_deletions, int, "max_deletions")
        self.created_by = created_by
        self.include_public, self.allow_all, self.allow_empty = include_public, allow_all, allow_empty
        self.plan = plan
        self.has_plan = plan is not None  # a template may render to nothing, which is an error then
        self.mapbox_conn_id = mapbox_conn_id
        if not 1 <= max_deletions <= MAX_DELETIONS:
            raise ValueError(f"max_deletions must be 1 to {MAX_DELETIONS:,}, got {max_deletions}")
        self._check(rendered=False)

    def _check(self, *, rendered: bool) -> RetentionPolicy | None:
        """
        Check the policy's parameters, and return the policy; None with ``plan``.

        :param rendered: whether the templates are rendered. When the DAG is parsed, a template cannot be checked.
        """
        if self.has_plan:
            others = ("match", "keep", "older_than", "by", "created_by", "include_public", "allow_all", "allow_empty")
            given = [name for name in others if getattr(self, name) is not None and getattr(self, name) is not False]
            given += ["dry_run"] * self.is_dry_run
            if given:
                raise ValueError(
                    f"plan says what is deleted, so these cannot be given: {', '.join(given)}.\nGive them to "
                    "the task that makes the plan."
                )
            return None
        return RetentionPolicy(
            match=_value(self.match, rendered=rendered),
            keep=self.keep,
            older_than=self.older_than,
            by=self.by,
            created_by=_value(self.created_by, rendered=rendered),
            include_public=self.include_public,
            allow_all=self.allow_all,
            allow_empty=self.allow_empty,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Make the plan, or continue with that of an earlier try, and delete its tilesets.

        :param context: the task's context.
        :return: what was deleted, kept and skipped.
        """
        try:
            policy = self._check(rendered=True)
            given = _read_plan(self.plan) if self.has_plan else None
            with airflow_errors():
                try:
                    return self._run(context, policy, given)
                except MapboxError as error:
                    if error.retry_after is None or not error.retryable:
                        raise
                    self.log.info("%s\nThe worker slot is free until then.", error)
                    raise reschedule_in(error.retry_after) from None
        except OptionError as error:
            failure = MapboxFailError(str(error))
        raise failure

    def _run(self, context: Context, policy: RetentionPolicy | None, given: Plan | None) -> dict[str, Any]:
        """
        Plan and delete.

        :param policy: the policy; None if the plan is given.
        :param given: the given plan, or None.
        """
        from airflow_mapbox.tasks.state import stored_value
        from airflow_mapbox.tilesets.deleting import Progress, result_of

        retention, account = self._make_retention()
        store = stored_value(context, _PLAN_KEY)
        stored = None if self.is_dry_run else store.read()
        plan, progress = (given, Progress()) if stored is None else _stored(stored)
        is_fresh = plan is None and policy is not None
        if plan is None and policy is not None:
            plan = retention.plan(policy)
        if plan is None:
            raise OptionError("plan is empty.")
        _check_account(plan, account)
        if stored is None:
            self.log.info("%s", plan)
            plan.check_ceiling(self.max_deletions)
        else:
            self.log.info("Continuing with the plan of %s. It deletes %d tilesets.", plan.planned_at, len(plan.delete))
        if self.is_dry_run:
            return result_of(plan, plan, progress, dry_run=True)
        latest = self._delete(retention, plan, progress, store, is_fresh=is_fresh)
        self.log.info(
            "Tilesets deleted: %d, gone already: %d, kept: %d.",
            len(progress.deleted),
            len(progress.gone),
            len(latest.kept),
        )
        return result_of(plan, latest, progress, dry_run=False)

    def _delete(
        self,
        retention: Retention,
        plan: Plan,
        progress: Progress,
        store: StoredValue | MemoryValue,
        *,
        is_fresh: bool,
    ) -> Plan:
        """Delete the plan's tilesets, and keep the progress in the task's state."""

        def save() -> None:
            if plan.delete:
                store.write({"plan": plan.to_json(), "deleted": progress.deleted, "gone": progress.gone})

        save()  # before the first deletion, so that a retry deletes nothing else
        try:
            return retention.carry_out(plan, progress, is_fresh=is_fresh)
        except MapboxError:
            self.log.info("%d of %d tilesets were deleted so far.", len(progress.deleted), len(plan.delete))
            save()
            raise

    def _make_retention(self) -> tuple[Retention, str]:
        """Return the retention of the connection's account, and the account."""
        from airflow_mapbox.http.retry import RetryPolicy
        from airflow_mapbox.tasks.connection import client_for
        from airflow_mapbox.tilesets.client import TilesetsClient
        from airflow_mapbox.tilesets.deleting import Retention

        uploads = client_for(self.mapbox_conn_id, RetryPolicy(max_throttle_wait=defaults.MAX_RATE_LIMIT_WAIT_IN_SLOT))
        tilesets = TilesetsClient.sharing(uploads)
        return Retention(tilesets, lambda: _items(uploads)), tilesets.username


def _check_account(plan: Plan, account: str) -> None:
    """Refuse a plan for another account than the connection's."""
    if plan.account != account:
        raise ConfigurationError(
            f"The plan is for account {redact(plan.account)!r}, the connection to {account!r}.\nUse the same "
            "connection for the plan and the deletion."
        )


def _items(uploads: UploadsClient) -> Iterator[object]:
    """Yield the account's uploads. Without the scope, say why it is needed."""
    try:
        yield from uploads.list_items()
    except (NotFoundError, TokenRejectedError) as error:
        failure = ConfigurationError(
            f"{error}\nThe token needs the scope uploads:list, which shows the tilesets with uploads in processing. "
            "Without it, nothing is deleted."
        )
    else:
        return
    raise failure


def _value(value: str | None, *, rendered: bool) -> Any:
    """Return a parameter; when the DAG is parsed, a valid value in the place of a template or of a task's output."""
    if rendered or value is None or (isinstance(value, str) and not is_template(value)):
        return value
    return _ANY_MATCH if isinstance(value, str) or hasattr(value, "resolve") else value


def _stored(value: Mapping[str, Any] | None) -> tuple[Plan | None, Progress]:
    """Return the plan of an earlier try of this task, and how far its deletions are."""
    from airflow_mapbox.tilesets.deleting import Progress

    if value is None:
        return None, Progress()
    progress = Progress(deleted=list(value.get("deleted", ())), gone=list(value.get("gone", ())))
    return _read_plan(value.get("plan")), progress


def _read_plan(document: object) -> Plan:
    """
    Read a plan: the result of a task, or its text in a template.

    :raises ValueError: if it is no plan.
    """
    if is_missing(document):
        raise OptionError(
            "plan is empty: the task that makes the plan has left no result.\nGive the whole result of a "
            "DeleteTilesetsOperator with dry_run=True, such as `plan.output`."
        )
    if isinstance(document, str):
        document = _read_text(document)
    try:
        return Plan.from_json(document)
    except OptionError as error:
        problem = str(error)
    raise OptionError(
        f"plan is not the result of a DeleteTilesetsOperator.\n{problem}\nGive its whole result, such as `plan.output` "
        "of the task with dry_run=True."
    )


def _read_text(text: str) -> object:
    """Return the value of JSON, or of a dictionary as a template writes it; the text itself if it is neither."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return cast("object", read(text))
    return text

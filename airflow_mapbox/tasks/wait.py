"""One task's wait for one upload, every look of which may be in another process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferralTimeout

from airflow_mapbox.exceptions import MapboxUploadTimeoutError
from airflow_mapbox.uploads.waiting.decide import Terms, Watch, look

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.tasks.state import MemoryNote, TaskNote
    from airflow_mapbox.triggers.uploads import UploadCompleteTrigger
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.waiting.decide import Next

KEY = "mapbox_wait"
# Seconds in which what a trigger has fired reaches its task.
_SECONDS_TO_BE_HEARD = 60.0


class TaskWait:
    """
    What a task knows of its wait, kept in the task state store from one look to the next.

    :param upload_id: the upload.
    :param note: where it is kept; what is there about another upload is no longer true.
    :param clock: gives the unix time.
    :param rng: the source of the jitter.
    """

    def __init__(
        self,
        upload_id: str,
        note: TaskNote | MemoryNote,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._note = note
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._kept = Watch.from_json(note.read() or {}, upload_id)
        self.watch = self._kept or Watch(upload_id, since=clock())

    def look(self, client: UploadsClient, terms: Terms) -> Next:
        """
        Ask for the upload once, and remember what the next look needs to know.

        :param client: for the account.
        :param terms: how the wait goes on.
        :raises MapboxError: as :func:`~airflow_mapbox.uploads.waiting.decide.judge` has it.
        """
        following = look(client, self.watch, terms, rng=self._rng, clock=self._clock)[1]
        if following.upload is None:  # else there is no next look, and a store that fails is no reason to
            self._keep(following.watch)
        return following

    def trigger(self, mapbox_conn_id: str, terms: Terms) -> UploadCompleteTrigger:
        """
        Make the trigger that goes on with this wait.

        :param mapbox_conn_id: the connection.
        :param terms: how the wait goes on.
        """
        from airflow_mapbox.tasks.rescheduling import seconds_until_exit_is_noticed
        from airflow_mapbox.triggers.uploads import UploadCompleteTrigger

        self._keep(self.watch)
        return UploadCompleteTrigger(
            self.watch.upload_id,
            mapbox_conn_id,
            poll_interval=terms.floor,
            max_wait=terms.ceiling,
            stall_timeout=terms.stall_timeout,
            deadline=terms.deadline,
            not_before=self._clock() + seconds_until_exit_is_noticed(),
            watch=self.watch.to_json(),
        )

    def patience(self, terms: Terms) -> timedelta | None:
        """
        Give how long Airflow is to leave a deferred wait alone, so that the trigger's own deadline ends it first.

        :param terms: how the wait goes on.
        """
        from airflow_mapbox.uploads.waiting.poller import LAST_LOOK

        if terms.deadline is None:
            return None
        return timedelta(seconds=max(0.0, terms.deadline - self._clock()) + LAST_LOOK + _SECONDS_TO_BE_HEARD)

    def _keep(self, watch: Watch) -> None:
        if watch != self._kept:
            self._note.write(watch.to_json())
        self.watch = self._kept = watch


@contextmanager
def timeouts_told(which: Callable[[], object]) -> Iterator[None]:
    """
    Say which upload it was that Airflow's own timeout ended the wait for.

    :param which: gives what is known of the upload.
    :raises MapboxUploadTimeoutError: in place of Airflow's errors.
    """
    try:
        yield
    except MapboxUploadTimeoutError:
        raise
    except (AirflowSensorTimeout, TaskDeferralTimeout) as error:
        raise MapboxUploadTimeoutError(
            f"{which()}. {error}.\nMapbox is still processing it: wait again with the same upload id, or with a longer "
            "timeout."
        ) from None


def is_nothing(upload: object) -> bool:
    """
    Tell whether a task was given nothing to wait for: the task that creates the upload has left no result.

    :param upload: what the task was given, after templating: of a missing result a template makes ``"None"`` or ``""``.
    """
    if isinstance(upload, str | Mapping):
        return upload in ("", "None", {})
    return upload is None or (isinstance(upload, Sequence) and not len(upload))


def id_of(upload: object) -> str:
    """
    Return the id of the upload that a task was given to wait for.

    :param upload: an id, or the whole result of the task that created the upload.
    :raises InvalidUploadIdError: if it contains no id.
    """
    from airflow_mapbox.errors import InvalidUploadIdError

    upload_id = upload.get("id") if isinstance(upload, Mapping) else upload
    if isinstance(upload_id, str) and not is_nothing(upload_id):
        return upload_id
    if isinstance(upload_id, Sequence) and not isinstance(upload_id, str):
        raise InvalidUploadIdError(
            f"`upload_id` is a list of {len(upload_id)} results, as a mapped task leaves them; a sensor waits for "
            "one.\n"
            "Map the sensor too: UploadCompleteSensor.partial(task_id=…).expand(upload_id=upload.output)."
        )
    found = "a mapping without an id" if isinstance(upload, Mapping) else repr(upload)
    raise InvalidUploadIdError(
        f"`upload_id` is {found}.\nGive it the id of an upload, or the whole result of the task that creates it: "
        "`upload.output` of a StageAndCreateUploadOperator."
    )


def source_of(upload: object) -> Mapping[str, Any]:
    """
    Give what the creating task's result tells of the source, where all of it was given.

    :param upload: an id, or the whole result.
    """
    source = upload.get("source") if isinstance(upload, Mapping) else None
    return source if isinstance(source, Mapping) else {}


def seconds(span: timedelta | float | None, name: str) -> float | None:
    """
    Read a parameter that is a time span, while the DAG is parsed.

    :param span: seconds, a timedelta, or None.
    :param name: of the parameter.
    :raises ValueError: if it is something else, such as a template, or not greater than 0.
    """
    if isinstance(span, timedelta):
        span = span.total_seconds()
    if span is not None and (isinstance(span, bool) or not isinstance(span, int | float)):
        raise ValueError(f"{name} must be a number of seconds or a timedelta, got {span!r}; it cannot be templated")
    if span is not None and not span > 0:
        raise ValueError(f"{name} must be greater than 0 seconds, got {span:g}")
    return span


def name_map_index(context: Context, tileset: str) -> None:
    """
    Call a mapped task by its tileset in the UI, unless the DAG names it.

    :param context: of the task.
    :param tileset: ``name`` or ``account.name``.
    """
    values = cast("dict[str, Any]", context)
    if getattr(values.get("ti"), "map_index", -1) >= 0 and values.get("map_index_template") is None:
        values |= {"mapbox_tileset": tileset, "map_index_template": "{{ mapbox_tileset }}"}

"""Give the worker slot back, and run the task again later without using a retry."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import conf, timezone
from airflow.sdk.exceptions import AirflowRescheduleException


def min_reschedule_delay() -> float:
    """
    Return the seconds after which a task can safely be queued again.

    The supervisor reports a task's exit up to one heartbeat late, and a busy scheduler takes seconds to read it. A task
    that is queued before that is marked as failed: with a delay of two heartbeats of 1 s, one task of 16 failed. A
    trigger's event queues a task too: without this delay, 4 of 200 deferred waits failed on a busy machine.
    """
    return conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0) + 5.0


def reschedule_in(seconds: float) -> AirflowRescheduleException:
    """
    Return the exception that a task raises to run again later. It uses no retry.

    :param seconds: the delay; :func:`min_reschedule_delay` if that is longer.
    """
    delay = max(seconds, min_reschedule_delay())
    return AirflowRescheduleException(timezone.utcnow() + timedelta(seconds=delay))  # type: ignore[no-untyped-call]

"""Giving the worker slot back: how soon a task may come again."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import conf, timezone
from airflow.sdk.exceptions import AirflowRescheduleException


def seconds_until_exit_is_noticed() -> float:
    """
    Give the seconds after which a task may safely be queued again.

    The supervisor reports a task's exit up to one heartbeat late, and a busy scheduler takes seconds to read the
    report: at twice a heartbeat of 1 s, one task of 16 was queued again before that and failed. What a trigger fires
    queues a task again too: without this pause 4 deferred waits of 200 failed on a busy machine.
    """
    return conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0) + 5.0


def come_again(seconds: float) -> AirflowRescheduleException:
    """
    Give what a task raises to be run again later, without using up a retry.

    :param seconds: until then; never sooner than is safe.
    """
    pause = max(seconds, seconds_until_exit_is_noticed())
    return AirflowRescheduleException(timezone.utcnow() + timedelta(seconds=pause))  # type: ignore[no-untyped-call]

"""What Mapbox's messages about failed processing mean, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FailureCause:
    """
    The cause of failed processing.

    :param data_at_fault: whether the same data would fail again.
    :param hint: what the message means, if it is known, and what to do next.
    :param rule: name of the rule in docs/reference/refusals.md; None for an unknown message.
    """

    data_at_fault: bool
    hint: str
    rule: str | None = None


_UNKNOWN = FailureCause(
    False, "The cause may not be the data. To upload again, clear the task that created the upload."
)


def explain_failure(message: str) -> FailureCause:
    """
    Return the cause of a failed upload, and what to do.

    :param message: the ``error`` field of the upload.
    :return: the cause. For an undocumented message it is not the data.
    """
    # Imported here: few uploads fail, and every poll imports this module.
    from airflow_mapbox.rules.table import rule_of_message

    rule = rule_of_message(message)
    if rule is None:
        return _UNKNOWN
    return FailureCause(not rule.retry_helps, f"{rule.meaning} {rule.remedy}", rule.name)

"""One task's wait for one upload. Each poll may run in another process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferralTimeout

from airflow_mapbox.exceptions import MapboxUploadTimeoutError
from airflow_mapbox.uploads.waiting.decide import poll
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState

if TYPE_CHECKING:
    from airflow_mapbox.tasks.state import MemoryValue, StoredValue
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.waiting.decide import Decision

# The key of the wait's state in the task state store.
WAIT_KEY = "mapbox_wait"
# The event of a trigger reaches its task within this many seconds.
_EVENT_SECONDS = 60.0


class TaskWait:
    """
    The wait of a task. Its state is kept in the task state store from one poll to the next.

    :param upload_id: the upload. A stored state of another upload is ignored.
    :param store: where the state is kept.
    :param clock: returns the Unix time.
    :param rng: the source of the jitter.
    """

    def __init__(
        self,
        upload_id: str,
        store: StoredValue | MemoryValue,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._saved = WaitState.from_json(store.read() or {}, upload_id)
        self.state = self._saved or WaitState(upload_id, started=clock())

    def poll(self, client: UploadsClient, policy: WaitPolicy) -> Decision:
        """
        Request the upload once, and save the state for the next poll.

        :param client: client of the account.
        :param policy: how often to poll, and what ends the wait.
        :raises MapboxError: as :func:`~airflow_mapbox.uploads.waiting.decide.decide` does.
        """
        decision = poll(client, self.state, policy, rng=self._rng, clock=self._clock)[1]
        if decision.upload is None:  # after the last poll, a store that fails does not matter
            self.save(decision.state)
        return decision

    def now(self) -> float:
        """Return the Unix time."""
        return self._clock()

    def deferral_timeout(self, policy: WaitPolicy) -> timedelta | None:
        """
        Return the timeout for Airflow's deferral. It is so long that the trigger's own deadline comes first.

        :param policy: the policy of the wait.
        """
        from airflow_mapbox.uploads.waiting.poller import LAST_POLL_SECONDS

        if policy.deadline is None:
            return None
        return timedelta(seconds=max(0.0, policy.deadline - self._clock()) + LAST_POLL_SECONDS + _EVENT_SECONDS)

    def save(self, state: WaitState) -> None:
        """
        Save the state, if it has changed.

        :param state: the new state.
        """
        if state != self._saved:
            self._store.write(state.to_json())
        self.state = self._saved = state


@contextmanager
def upload_named_in_timeouts(describe: Callable[[], object]) -> Iterator[None]:
    """
    Add the upload to the message of Airflow's own timeouts.

    :param describe: returns the upload's last known state.
    :raises MapboxUploadTimeoutError: instead of Airflow's error.
    """
    try:
        yield
    except MapboxUploadTimeoutError:
        raise
    except (AirflowSensorTimeout, TaskDeferralTimeout) as error:
        raise MapboxUploadTimeoutError(
            f"{describe()}. {error}.\nMapbox is still processing it: wait again with the same upload id, or with a "
            "longer timeout."
        ) from None

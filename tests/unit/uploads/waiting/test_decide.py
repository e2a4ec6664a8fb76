"""What follows from a look, with no clock, no network and no Airflow."""

from __future__ import annotations

import random
import secrets
from typing import Any

import pytest

from airflow_mapbox.uploads.errors import (
    InvalidRequestError,
    MapboxError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    ServerError,
    ThrottledError,
    TokenRejectedError,
    UploadFailedError,
    UploadGoneError,
    UploadStalledError,
    WaitTimeoutError,
)
from airflow_mapbox.uploads.models import TokenState, Upload
from airflow_mapbox.uploads.waiting.decide import REFUSAL_SECONDS, Decision, decide, explain_refusal
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState
from tests.unit.support import upload_json

CREATED = 1_700_000_000.0
NOT_FOUND = NotFoundError("GET answered 404.", status=404, message="Not Found")
ID = upload_json()["id"]


def seen(progress: float = 0.5, **changed: Any) -> Upload:
    return Upload.from_json(upload_json(progress=progress, **changed))


def after(
    outcome: Upload | MapboxError,
    state: WaitState | None = None,
    *,
    at: float = 100,
    seed: int | None = None,
    **policy: Any,
) -> Decision:
    """What follows from a look, `at` seconds after the upload was created and the wait began."""
    return decide(
        outcome,
        state or WaitState(ID, started=CREATED),
        WaitPolicy(**{"min_interval": 10, **policy}),
        now=CREATED + at,
        server_now=CREATED + at,
        rng=random.Random(seed),
    )


def test_a_finished_upload_ends_the_wait() -> None:
    assert after(seen(1, complete=True)).upload == seen(1, complete=True)


@pytest.mark.parametrize("complete", [True, False])
def test_a_failed_upload_ends_the_wait_with_either_value_of_complete(complete: bool) -> None:
    with pytest.raises(UploadFailedError, match="Tileset is empty"):
        after(seen(error="Tileset is empty.", complete=complete))


def test_the_next_poll_is_chosen_from_progress_and_the_time_so_far() -> None:
    assert 40 <= after(seen(0.5), at=100).delay <= 60
    assert after(seen(0.99), at=100).delay == pytest.approx(11, abs=1)


def test_a_hundred_waits_that_poll_at_the_same_time_do_not_come_again_together() -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    for upload in (seen(0.5), seen(0.999), seen(0.001)):  # in between, at the floor, at the ceiling
        pauses = [after(upload, at=200, seed=seed + number).delay for number in range(100)]
        assert all(10 <= pause <= 120 for pause in pauses)
        assert max(pauses) - min(pauses) > 1.5
        assert len(set(pauses)) > 90


def test_a_rate_limit_moves_the_next_poll_to_the_reset_also_beyond_the_ceiling() -> None:
    throttled = ThrottledError("429.", status=429, message="", retry_after=400)

    decision = after(throttled)

    assert (decision.delay, decision.min_delay) == (400, 400)
    assert decision.state == WaitState(ID, started=CREATED, throttled=1)


def test_polls_that_are_refused_again_and_again_part_more_widely_and_no_longer_once_one_is_let_pass() -> None:
    throttled = ThrottledError("429.", status=429, message="", retry_after=60)
    state, pauses = WaitState(ID, started=CREATED), []

    for _ in range(12):
        drawn = [after(throttled, state, seed=seed) for seed in range(200)]
        pauses.append(max(one.delay for one in drawn))
        assert min(one.delay for one in drawn) < 70
        state = drawn[0].state

    assert pauses[0] == 60
    assert 85 < pauses[1] <= 90
    assert 110 < pauses[2] <= 120
    assert 110 < pauses[-1] <= 120
    assert after(seen(0.5), state).state.throttled == 0


@pytest.mark.parametrize("error", [ServerError("503.", status=503, message=""), NoAnswerError("The connection broke.")])
def test_a_fault_that_may_pass_leaves_the_wait_as_it_was(error: MapboxError) -> None:
    decision = after(error)

    assert 10 <= decision.delay <= 120
    assert decision.state == WaitState(ID, started=CREATED)


def _cause(error: MapboxError) -> str:
    return str(getattr(error, "status", "certificate"))


REFUSALS = [
    TokenRejectedError("401.", status=401, message=""),
    InvalidRequestError("403.", status=403, message=""),
    InvalidRequestError("400.", status=400, message=""),
    NotSentError("The certificate could not be verified.", retryable=False),
]


@pytest.mark.parametrize("refusal", [NOT_FOUND, *REFUSALS], ids=_cause)
def test_one_refusal_between_two_answers_leaves_the_wait_as_it_was(refusal: MapboxError) -> None:
    first = after(seen(0.3), at=0)

    refused = after(refusal, first.state, at=1000)
    answered = after(seen(0.4), refused.state, at=1010)
    refused_later = after(refusal, answered.state, at=2000)

    assert refused.error is refusal
    assert answered.state.refused_since is None
    assert refused_later.upload is None


@pytest.mark.parametrize("refusal", REFUSALS, ids=_cause)
def test_a_refusal_that_is_repeated_some_time_later_ends_the_wait(refusal: MapboxError) -> None:
    first = after(refusal, at=0)
    soon = after(refusal, first.state, at=REFUSAL_SECONDS - 1)

    with pytest.raises(type(refusal)) as caught:
        after(refusal, soon.state, at=REFUSAL_SECONDS)
    assert caught.value is refusal


def test_a_fault_between_two_refusals_does_not_make_them_one() -> None:
    first = after(NOT_FOUND, at=0)
    fault = after(NoAnswerError("The connection broke."), first.state, at=30)

    with pytest.raises(UploadGoneError):
        after(NOT_FOUND, fault.state, at=REFUSAL_SECONDS)


class TestExplainRefusal:
    def test_a_token_that_is_no_longer_valid_is_named_and_the_upload_is_left_alone(self) -> None:
        explained = explain_refusal(NOT_FOUND, lambda: TokenState("TokenRevoked"))

        assert isinstance(explained, TokenRejectedError)
        assert "TokenRevoked" in str(explained)
        assert "clear this task" in str(explained)

    def test_the_refusal_of_a_valid_token_stays_unchanged(self) -> None:
        assert explain_refusal(NOT_FOUND, lambda: TokenState("TokenValid")) is NOT_FOUND

    def test_the_wait_continues_while_mapbox_does_not_tell_the_state_of_the_token(self) -> None:
        def broken() -> TokenState:
            raise NoAnswerError("The connection broke.")

        assert explain_refusal(NOT_FOUND, broken).retryable


def test_a_server_that_asks_for_time_is_given_it() -> None:
    busy = ServerError("503.", status=503, message="")
    busy.retry_after = 300

    decision = after(busy)

    assert (decision.delay, decision.min_delay) == (300, 300)


class TestStall:
    def test_progress_that_stalls_too_long_ends_the_wait_with_the_time(self) -> None:
        first = after(seen(0.3), at=0, stall_timeout=900)
        again = after(seen(0.3), first.state, at=899, stall_timeout=900)

        with pytest.raises(UploadStalledError, match=r"stayed at 30% since 2023-11-14 22:13:20 UTC, for 900 s"):
            after(seen(0.3), again.state, at=900, stall_timeout=900)

    @pytest.mark.parametrize("progress", [0.31, 0.29])
    def test_progress_that_moves_either_way_starts_the_time_anew(self, progress: float) -> None:
        first = after(seen(0.3), at=0, stall_timeout=900)
        moved = after(seen(progress), first.state, at=899, stall_timeout=900)

        assert after(seen(progress), moved.state, at=1798, stall_timeout=900).upload is None

    def test_a_stall_counts_from_the_first_poll_without_progress(self) -> None:
        with pytest.raises(UploadStalledError, match="stayed at 0% since"):
            after(seen(0), at=100, stall_timeout=100)
        assert after(seen(0.1), at=100, stall_timeout=100).upload is None

    def test_a_poll_comes_when_the_time_is_over(self) -> None:
        first = after(seen(0.01), at=1000, stall_timeout=60, max_interval=600)

        assert first.delay == 60

    def test_a_server_that_does_not_answer_is_not_a_stall(self) -> None:
        first = after(seen(0.3), at=0, stall_timeout=900)

        assert after(NoAnswerError("no answer"), first.state, at=5000, stall_timeout=900).upload is None

    def test_without_a_stall_timeout_an_upload_may_stall(self) -> None:
        first = after(seen(0.3), at=0)

        assert after(seen(0.3), first.state, at=1e6).upload is None


class TestNotFound:
    def test_a_fresh_upload_that_is_not_known_for_a_moment_is_forgiven(self) -> None:
        decision = after(NOT_FOUND, at=0)

        assert 10 <= decision.delay <= 12
        assert after(NOT_FOUND, decision.state, at=REFUSAL_SECONDS - 1).upload is None

    def test_an_upload_that_stays_unknown_ends_the_wait(self) -> None:
        first = after(NOT_FOUND, at=0)

        with pytest.raises(UploadGoneError, match="is unknown to Mapbox"):
            after(NOT_FOUND, first.state, at=REFUSAL_SECONDS)

    def test_a_known_upload_that_stays_missing_ends_the_wait(self) -> None:
        first = after(seen(0.3), at=0)
        missing = after(NOT_FOUND, first.state, at=100)

        with pytest.raises(UploadGoneError, match="was at 30% and is missing now"):
            after(NOT_FOUND, missing.state, at=100 + REFUSAL_SECONDS)


class TestDeadline:
    def test_the_deadline_ends_the_wait_with_the_last_state(self) -> None:
        with pytest.raises(WaitTimeoutError, match=r"(?s)of tileset .* was at 50% after 100 s"):
            after(seen(0.5), deadline=CREATED + 100)

    def test_the_deadline_ends_the_wait_also_while_the_limit_is_spent(self) -> None:
        with pytest.raises(WaitTimeoutError, match="was not seen within"):
            after(ThrottledError("429.", status=429, message="", retry_after=9), deadline=CREATED + 99)

    def test_an_upload_that_is_done_is_done_however_late(self) -> None:
        assert after(seen(1, complete=True), deadline=CREATED).upload is not None

    def test_the_deadline_ends_the_wait_with_the_problem_of_the_last_poll(self) -> None:
        with pytest.raises(WaitTimeoutError, match="status request failed: The connection broke"):
            after(NoAnswerError("The connection broke."), deadline=CREATED + 99)

    @pytest.mark.parametrize("retry_after", [50, 5000])
    def test_a_rate_limit_does_not_move_the_last_poll_beyond_it(self, retry_after: float) -> None:
        throttled = ThrottledError("429.", status=429, message="", retry_after=retry_after)

        decision = after(throttled, deadline=CREATED + 130)

        assert (decision.delay, decision.min_delay) == (30, 30)

    def test_no_pause_goes_beyond_it(self) -> None:
        assert after(seen(0.5), deadline=CREATED + 103).delay == 3


class TestWatch:
    def test_a_watch_survives_json(self) -> None:
        state = after(seen(0.3)).state

        assert WaitState.from_json(state.to_json(), ID) == state

    @pytest.mark.parametrize("note", [{}, {"upload_id": "another", "started": 1}, {"upload_id": ID, "from": 1}])
    def test_a_note_about_something_else_is_none(self, note: dict[str, Any]) -> None:
        assert WaitState.from_json(note, ID) is None

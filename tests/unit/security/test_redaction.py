from __future__ import annotations

import logging

import pytest

from airflow_mapbox.security.redaction import guard_loggers, redact, register_secret
from tests.unit.support import everything_logged, make_token


@pytest.mark.parametrize("kind", ["sk", "pk", "tk"])
def test_a_token_is_recognised_by_its_shape_anywhere(kind: str) -> None:
    token = make_token(kind=kind)

    for text in (token, f"<{token}>", f'"{token}"', f"({token}),", f"a {token}\nb", f"/v4/x?access_token={token}&y=1"):
        assert token.split(".")[1] not in redact(text)
        assert token.split(".")[2] not in redact(text)


@pytest.mark.parametrize(
    "form", ["access_token={}", "access_token%3D{}", "ACCESS_TOKEN={}", "?a=b&access_token={}&c=d"]
)
def test_whatever_an_access_token_parameter_has_is_replaced(form: str) -> None:
    assert "anything" not in redact(form.format("anything+but/a=token"))


def test_a_registered_secret_is_replaced_and_a_longer_one_that_contains_it_whole() -> None:
    register_secret("canary-one", "canary-one-and-more", "")

    assert redact("x canary-one-and-more y canary-one z") == "x *** y *** z"


def test_strings_without_secrets_stay_unchanged() -> None:
    for text in ("", "task.example", "risk.assessment is fine", "Häfen 100 %", "sk.short"):
        assert redact(text) == text


def test_records_of_the_http_and_s3_libraries_are_rewritten_for_every_handler() -> None:
    secret = make_token()
    logger = logging.getLogger("botocore.canary")
    guard_loggers()

    with everything_logged() as log:
        logger.debug("headers %s and %d", {"X-Amz-Security-Token": secret}, 5)
        logger.debug("nothing secret in %s", "this")

    assert secret.split(".")[2] not in log.getvalue()
    assert "and 5" in log.getvalue()
    assert "nothing secret in this" in log.getvalue()


def test_the_traceback_of_a_record_is_rewritten_too() -> None:
    secret = make_token()
    logger = logging.getLogger("s3transfer.canary")
    guard_loggers()

    with everything_logged() as log:
        try:
            try:
                raise KeyError(secret)
            except KeyError as error:
                raise ValueError(f"refused {secret}") from error
        except ValueError:
            logger.debug("Exception raised.", exc_info=True)

    assert secret.split(".")[2] not in log.getvalue()
    assert "ValueError: refused ***" in log.getvalue()


def test_guarding_twice_adds_one_filter() -> None:
    guard_loggers()
    before = list(logging.getLogger("urllib3").filters)

    guard_loggers()

    assert logging.getLogger("urllib3").filters == before


@pytest.mark.parametrize(
    "parameter",
    ["X-Amz-Signature", "X-Amz-Security-Token", "sig", "Signature", "X-Goog-Signature", "api_key", "password"],
)
def test_a_signature_in_a_url_is_replaced_and_the_rest_stays(parameter: str) -> None:
    shown = redact(f"403 for https://store.example/x.parquet?a=1&{parameter}=c4nary%2F7&b=2 (try 1)")

    assert shown == f"403 for https://store.example/x.parquet?a=1&{parameter}=***&b=2 (try 1)"

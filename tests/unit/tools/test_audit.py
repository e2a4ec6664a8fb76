"""An audit that was not possible never reads like one that found nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tools.audit import verdict

SAFE = {"name": "requests", "version": "2.34.2", "vulns": []}
SKIPPED = {"name": "attrs", "skip_reason": "Dependency not found and could not be audited: attrs (26.1.0)"}
VULNERABLE = {
    "name": "urllib3",
    "version": "2.0.0",
    "vulns": [{"id": "PYSEC-2023-212", "fix_versions": ["2.0.7"]}, {"id": "PYSEC-2024-1", "fix_versions": []}],
}


def test_packages_without_vulnerabilities_pass() -> None:
    assert verdict({"dependencies": [SAFE]}, required=True) == (
        0,
        "1 packages were audited, 0 have known vulnerabilities.",
    )


def test_a_vulnerability_fails_and_names_the_version_that_has_the_fix() -> None:
    status, text = verdict({"dependencies": [SAFE, VULNERABLE]}, required=False)

    assert status == 1
    assert text.splitlines()[:2] == [
        "urllib3 2.0.0: PYSEC-2023-212, fixed in 2.0.7",
        "urllib3 2.0.0: PYSEC-2024-1, fixed in no version yet",
    ]


@pytest.mark.parametrize(("required", "expected"), [(False, 0), (True, 1)])
def test_a_package_that_could_not_be_audited_is_told_and_fails_where_it_must(required: bool, expected: int) -> None:
    status, text = verdict({"dependencies": [SAFE, SKIPPED]}, required=required)

    assert status == expected
    assert text.startswith("NOT AUDITED: 1 of 2 packages.")


def test_a_vulnerability_fails_also_if_other_packages_could_not_be_audited() -> None:
    status, text = verdict({"dependencies": [SKIPPED, VULNERABLE]}, required=False)

    assert status == 1
    assert "NOT AUDITED" in text


def test_a_report_without_packages_fails() -> None:
    report: dict[str, Any] = {"dependencies": []}

    assert verdict(report, required=False)[0] == 1

"""The table of rules, and the page that is made from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mapbox.rules.page import page
from airflow_mapbox.rules.rule import Rule
from airflow_mapbox.rules.table import RULES, rule_of_message

PAGE = Path(__file__).parents[3] / "docs/reference/refusals.md"


def test_the_documentations_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == page(), "run: make docs"


def test_each_name_is_used_once() -> None:
    names = [rule.name for rule in RULES]

    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.refused and rule.evidence.startswith("none")], ids=lambda rule: rule.name
)
def test_a_refusal_that_mapbox_is_not_known_for_says_whose_it_is(rule: Rule) -> None:
    assert "the preflight refuses it for safety" in rule.evidence or "the preflight's own rule" in rule.evidence


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_says_what_is_wrong_what_to_do_and_how_it_is_known(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name)
    assert rule.meaning.endswith(".")
    assert rule.remedy.endswith((".", "…"))
    assert rule.evidence
    assert not rule.refused or rule.message is None or rule.message_with() != ""


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.message], ids=lambda rule: rule.name)
def test_the_message_of_each_rule_is_recognised(rule: Rule) -> None:
    recognised = rule_of_message(str(rule.message_with(count=16, zoom=4, id="roads", limit="1 GB", names="a (2)")))

    assert recognised is not None
    assert recognised.message is not None
    assert rule.matches(str(rule.message_with()))


@pytest.mark.parametrize("message", ["", "Something new", "Internal error", "tile", "Unknown"])
def test_an_unknown_message_has_no_rule(message: str) -> None:
    assert rule_of_message(message) is None

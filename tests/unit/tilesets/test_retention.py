"""Which tilesets a policy deletes. Nothing that should stay is ever in a plan."""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

from airflow_mapbox.errors import InvalidAnswerError, OptionError
from airflow_mapbox.tilesets.errors import CeilingExceededError
from airflow_mapbox.tilesets.models import Tileset
from airflow_mapbox.tilesets.retention import Plan, RetentionPolicy, active_tilesets, make_plan
from tests.unit.support import ACCOUNT, upload_json
from tests.unit.tilesets.accounts import Made, may_go, random_account, random_policy

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def days(*numbers: int, **fields: Any) -> list[Tileset]:
    """Return private tilesets of days of January 2018, each made at the same time."""
    stamp = NOW.isoformat()
    usual = {"visibility": "private", "status": "available", "created": stamp, "modified": stamp}
    return [Tileset(f"{ACCOUNT}.quakes-201801{day:02}", **(usual | fields)) for day in numbers]


def plan(policy: RetentionPolicy, tilesets: list[Tileset], active: tuple[str, ...] = ()) -> Plan:
    return make_plan(policy, ACCOUNT, tilesets, active, NOW)


def deleted(made: Plan) -> list[str]:
    return [deletion.id.rpartition("-")[2][-2:] for deletion in made.delete]


class TestRandomAccounts:
    def test_nothing_that_should_stay_is_deleted_and_all_else_is(self) -> None:
        seed = secrets.randbits(32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        planned = kept = 0
        for number in range(500):
            account = random_account(rng, ACCOUNT, NOW)
            policy = random_policy(rng)

            made = make_plan(policy, ACCOUNT, [tileset.listed for tileset in account.tilesets], account.active, NOW)

            due = {tileset.listed.id for tileset in account.tilesets if may_go(tileset, account, policy, NOW)}
            found = [deletion.id for deletion in made.delete]
            assert set(found) <= due, f"seed {seed}, account {number}: {policy} must keep {set(found) - due}"
            assert set(found) == due, f"seed {seed}, account {number}: {policy} leaves {due - set(found)}"
            assert len(found) == len(due)
            planned, kept = planned + len(found), kept + len(account.tilesets) - len(found)
        assert planned > 500, "the table must have something to delete"
        assert kept > 500

    def test_a_plan_that_is_checked_again_deletes_nothing_that_should_stay_now(self) -> None:
        seed = secrets.randbits(32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        for number in range(200):
            before = random_account(rng, ACCOUNT, NOW)
            policy = random_policy(rng)
            made = make_plan(policy, ACCOUNT, [tileset.listed for tileset in before.tilesets], before.active, NOW)
            later = NOW + timedelta(hours=rng.randrange(48))
            after = before.changed(rng, later)
            fresh = make_plan(policy, ACCOUNT, [tileset.listed for tileset in after.tilesets], after.active, later)

            checked = {deletion.id for deletion in Plan.from_json(json_of(made)).recheck(fresh).delete}

            unchanged = {tileset.listed.id: tileset.listed.modified for tileset in before.tilesets}
            due = {
                tileset.listed.id
                for tileset in after.tilesets
                if may_go(tileset, after, policy, later) and unchanged.get(tileset.listed.id) == tileset.listed.modified
            }
            planned = {deletion.id for deletion in made.delete}
            assert checked <= planned & due, f"seed {seed}, account {number}: {policy}"


def json_of(made: Plan) -> Any:
    return json.loads(json.dumps(made.to_json()))


class TestKeep:
    def test_the_newest_days_stay_in_whatever_order_they_were_made(self) -> None:
        seed = secrets.randbits(32)
        print(f"seed {seed}")
        numbers = list(range(1, 20))
        random.Random(seed).shuffle(numbers)
        listed = [
            replace(
                tileset, created=f"2026-11-{20 - place:02}T00:00:00Z", modified=f"2026-11-{20 - place:02}T00:00:00Z"
            )
            for place, tileset in enumerate(days(*numbers))
        ]

        made = plan(RetentionPolicy("quakes-*", keep=8), listed)

        assert deleted(made) == [f"{day:02}" for day in range(1, 12)]
        assert len(made.kept) == 8

    def test_each_series_keeps_its_own(self) -> None:
        stamp = NOW.isoformat()
        names = [f"quakes-{land}-2018010{day}" for land in ("de", "fr") for day in range(1, 5)]
        listed = [
            Tileset(f"{ACCOUNT}.{name}", visibility="private", created=stamp, modified=stamp)
            for name in (*names, "quakes-strong")
        ]

        made = plan(RetentionPolicy("quakes-*", keep=3), listed)

        assert [deletion.id for deletion in made.delete] == [
            f"{ACCOUNT}.quakes-de-20180101",
            f"{ACCOUNT}.quakes-fr-20180101",
        ]
        assert made.skipped == {f"{ACCOUNT}.quakes-strong": "its name has no date and no number"}

    @pytest.mark.parametrize("status", ["pending", "invalid"])
    def test_a_tileset_that_is_not_ready_takes_no_place(self, status: str) -> None:
        made = plan(RetentionPolicy("quakes-*", keep=2), [*days(1, 2, 3), *days(4, status=status)])

        assert deleted(made) == ["01"]

    def test_a_public_one_takes_a_place_and_stays(self) -> None:
        made = plan(RetentionPolicy("quakes-*", keep=2), [*days(1, 2, 3), *days(4, visibility="public")])

        assert deleted(made) == ["01", "02"]

    def test_equal_times_stay_together(self) -> None:
        made = plan(RetentionPolicy("quakes-*", keep=2, by="created"), days(1, 2, 3))

        assert deleted(made) == []

    def test_none_are_kept_with_a_confirmation(self) -> None:
        assert deleted(plan(RetentionPolicy("quakes-*", keep=0, allow_empty=True), days(1, 2))) == ["01", "02"]


class TestStays:
    POLICY = RetentionPolicy("quakes-*", older_than=timedelta(days=1))
    OLD = "2026-01-01T00:00:00Z"

    def test_an_old_one_goes(self) -> None:
        assert deleted(plan(self.POLICY, days(1, modified=self.OLD))) == ["01"]

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"visibility": "public"}, "it is public"),
            ({"visibility": None}, "its visibility is unknown"),
            ({"modified": None}, "its time (modified) is missing or unreadable"),
            ({"modified": "last week"}, "its time (modified) is missing or unreadable"),
            ({"status": "pending"}, "it has an upload in processing"),
        ],
    )
    def test_one_that_is_not_safe_to_delete_stays_and_its_reason_is_told(
        self, fields: dict[str, Any], reason: str
    ) -> None:
        made = plan(self.POLICY, days(1, **({"modified": self.OLD} | fields)))

        assert made.delete == ()
        assert made.skipped == {f"{ACCOUNT}.quakes-20180101": reason}

    @pytest.mark.parametrize("change", [str, str.upper])
    def test_one_that_an_upload_is_being_made_of_stays(self, change: Callable[[str], str]) -> None:
        made = plan(self.POLICY, days(1, modified=self.OLD), (change(f"{ACCOUNT}.quakes-20180101"),))

        assert made.skipped == {f"{ACCOUNT}.quakes-20180101": "it has an upload in processing"}

    def test_one_of_another_account_or_name_stays(self) -> None:
        (old,) = days(1, modified=self.OLD)
        others = [replace(old, id=identifier) for identifier in (f"other.{old.own_name}", f"{ACCOUNT}.xquakes-1")]

        made = plan(self.POLICY, others)

        assert (made.delete, made.kept, dict(made.skipped)) == ((), (), {})

    def test_one_of_another_client_or_of_none_stays(self) -> None:
        policy = replace(self.POLICY, created_by="airflow")
        listed = [
            *days(1, modified=self.OLD, created_by_client="airflow"),
            *days(2, modified=self.OLD, created_by_client="studio"),
            *days(3, modified=self.OLD),
        ]

        assert deleted(plan(policy, listed)) == ["01"]

    @pytest.mark.parametrize(("seconds", "found"), [(-1, []), (0, []), (1, ["01"])])
    def test_it_goes_when_it_is_older_and_not_before(self, seconds: int, found: list[str]) -> None:
        modified = NOW - timedelta(days=1, seconds=seconds)

        assert deleted(plan(self.POLICY, days(1, modified=modified.isoformat()))) == found

    def test_a_time_in_the_future_is_not_old(self) -> None:
        assert deleted(plan(self.POLICY, days(1, modified="2027-01-01T00:00:00Z"))) == []


class TestActive:
    def test_only_uploads_in_processing_are_active(self) -> None:
        listed = [
            upload_json(tileset="a.running", created=NOW.isoformat()),
            upload_json(tileset="a.done", created=NOW.isoformat(), complete=True),
            upload_json(tileset="a.failed", created=NOW.isoformat(), error="Unknown filetype"),
            upload_json(tileset="a.Unreadable", created="?"),
        ]

        assert active_tilesets(listed, NOW) == {"a.running", "a.unreadable"}

    def test_older_uploads_are_not_read(self) -> None:
        def listed() -> Any:
            yield upload_json(tileset="a.stuck", created=(NOW - timedelta(days=6)).isoformat())
            yield upload_json(tileset="a.old", created=(NOW - timedelta(days=8)).isoformat())
            pytest.fail("a page too many")

        assert active_tilesets(listed(), NOW) == {"a.stuck"}

    @pytest.mark.parametrize("upload", [None, {}, {"created": "?", "tileset": 3}])
    def test_an_upload_of_an_unknown_tileset_stops_everything(self, upload: Any) -> None:
        with pytest.raises(InvalidAnswerError, match="names no tileset"):
            active_tilesets([upload], NOW)


BAD = [
    ({"match": ""}, "`match` is empty"),
    ({"match": "  "}, "`match` is empty"),
    ({"match": "*"}, "allow_all"),
    ({"match": "**"}, "allow_all"),
    ({"match": "?*"}, "allow_all"),
    ({"match": "*-*"}, "allow_all"),
    ({"match": "[a-z]*"}, "allow_all"),
    ({"match": "[!x]*[0-9]"}, "allow_all"),
    ({"match": "acme.*"}, "allow_all"),
    ({"match": "quakes/*"}, "no tileset can have such a name"),
    ({"match": "*.quakes-*"}, "no tileset can have such a name"),
    ({"match": "a.b.quakes-*"}, "no tileset can have such a name"),
    ({"keep": 0}, "allow_empty"),
    ({"keep": -1}, "whole number"),
    ({"keep": True}, "whole number"),
    ({"keep": "8"}, "whole number"),
    ({"keep": 8.5}, "whole number"),
    ({"keep": None}, "neither is given"),
    ({"older_than": timedelta(days=1)}, "both are given"),
    ({"keep": None, "older_than": timedelta(0)}, "timedelta greater than 0"),
    ({"keep": None, "older_than": timedelta(days=-1)}, "timedelta greater than 0"),
    ({"keep": None, "older_than": 90}, "such as timedelta(days=90)"),
    ({"keep": None, "older_than": timedelta(days=1), "by": "name"}, "no effect"),
    ({"by": "size"}, "`by` must be one of name, created, modified"),
    ({"created_by": " "}, "`created_by` is empty"),
    ({"include_public": "no"}, "`include_public` must be True or False"),
    ({"allow_all": 1, "match": "*"}, "`allow_all` must be True or False"),
]


class TestPolicy:
    @pytest.mark.parametrize(("fields", "message"), BAD)
    def test_a_bad_value_is_an_error(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=re.escape(message)):
            RetentionPolicy(**({"match": "quakes-*", "keep": 8} | fields))

    def test_all_problems_are_told_a_line_each(self) -> None:
        with pytest.raises(OptionError) as caught:
            RetentionPolicy("*", keep=-1, by="size")

        assert len(str(caught.value).splitlines()) == 3

    @pytest.mark.parametrize("match", ["quakes-*", "*-quakes", f"{ACCOUNT}.q*", "q?[0-9]", "20*"])
    def test_a_match_with_a_letter_or_digit_is_fine(self, match: str) -> None:
        RetentionPolicy(match, keep=1).compile(ACCOUNT)

    def test_a_match_of_another_account_is_an_error(self) -> None:
        with pytest.raises(OptionError, match="is for account 'other'"):
            plan(RetentionPolicy("other.quakes-*", keep=1), [])

    def test_everything_goes_with_a_confirmation(self) -> None:
        assert len(plan(RetentionPolicy("*", keep=1, allow_all=True), days(1, 2, 3)).delete) == 2


class TestPlan:
    def test_it_survives_json(self) -> None:
        for policy in (
            RetentionPolicy("quakes-*", keep=1),
            RetentionPolicy("quakes-*", older_than=timedelta(days=1, hours=3), by="created", created_by="x"),
        ):
            made = plan(policy, days(1, 2, created="2026-01-01T00:00:00Z", created_by_client="x"))
            read = Plan.from_json(json_of(made))

            assert (read.account, read.policy, read.planned_at) == (ACCOUNT, policy, made.planned_at)
            assert read.delete == made.delete
            assert made.delete

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda document: [],
            lambda document: document | {"account": None},
            lambda document: document | {"delete": None},
            lambda document: document | {"delete": ["acme.quakes"]},
            lambda document: document | {"delete": [{"id": "acme.quakes"}]},
            lambda document: document | {"delete": [document["delete"][0] | {"modified": None}]},
            lambda document: document | {"delete": [document["delete"][0] | {"filesize": "big"}]},
            lambda document: document | {"policy": None},
            lambda document: document | {"policy": {"match": "quakes-*"}},
            lambda document: document | {"policy": document["policy"] | {"match": "*"}},
            lambda document: document | {"policy": document["policy"] | {"older_than": "x"}},
            lambda document: document | {"policy": document["policy"] | {"more": 1}},
        ],
    )
    def test_something_else_is_no_plan(self, spoil: Callable[[Any], Any]) -> None:
        document = json_of(plan(RetentionPolicy("quakes-*", keep=1), days(1, 2)))

        with pytest.raises(OptionError):
            Plan.from_json(spoil(document))

    def test_a_ceiling_names_the_number_and_the_way_out(self) -> None:
        made = plan(RetentionPolicy("quakes-*", keep=1), days(*range(1, 32)))

        with pytest.raises(CeilingExceededError) as caught:
            made.check_ceiling(29)
        made.check_ceiling(30)

        message = str(caught.value)
        for words in ("30 tilesets", "max_deletions=29", "None was deleted", f"{ACCOUNT}.quakes-20180101", "10 more"):
            assert words in message

    def test_its_result_stays_small(self) -> None:
        stamp = "2026-11-28T12:00:00.000Z"
        listed = [
            Tileset(
                f"{ACCOUNT}.{'x' * 20}-{number}", visibility="private", created=stamp, modified=stamp, filesize=10**9
            )
            for number in range(10_000)
        ]

        made = plan(RetentionPolicy("x*", keep=9_000), listed)

        assert (len(made.kept), len(made.delete)) == (9_000, 1_000)
        assert len(json.dumps(made.to_json())) < 300_000

    def test_its_markdown_shows_a_person_what_goes_and_what_stays(self) -> None:
        shown = plan(
            RetentionPolicy("quakes-*", keep=1), [*days(1, visibility="public"), *days(2, 3, filesize=2_000_000)]
        ).to_markdown()

        assert "Delete **1 tileset** of account orion for good (2,000,000 bytes)." in shown
        assert "| delete | orion.quakes-20180102 | 2026-11-29 12:00 | 2026-11-29 12:00 | 2,000,000 | 1 are newer |" in (
            shown
        )
        assert "| skip | orion.quakes-20180101 |  |  |  | it is public |" in shown

    def test_an_empty_plan_says_so(self) -> None:
        assert plan(RetentionPolicy("quakes-*", keep=1), []).to_markdown().startswith("Nothing to delete")


def test_the_oracle_tells_names_apart_as_the_shell_does() -> None:
    """The oracle of the random table must not share the code that it checks."""
    made = Made(Tileset(f"{ACCOUNT}.quakes-20180101"), "quakes-", datetime(2018, 1, 1, tzinfo=UTC), None, None)

    assert fnmatchcase(made.listed.own_name, "quakes-*")
    assert not fnmatchcase(made.listed.own_name, "Quakes-*")

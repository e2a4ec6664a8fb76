from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mapbox.sources.identity import is_dataset_url
from airflow_mapbox.uploads.errors import InvalidAnswerError, InvalidTilesetError
from airflow_mapbox.uploads.models import TilesetId, Upload, account_of_token, check_display_name
from tests.unit.support import ACCOUNT, make_token, upload_json


class TestUpload:
    @pytest.mark.parametrize(
        ("complete", "error", "terminal", "failed", "successful"),
        [
            (False, None, False, False, False),
            (True, None, True, False, True),
            (True, "Tileset is empty.", True, True, False),
            (False, "Tileset is empty.", True, True, False),
            (False, "", True, True, False),
        ],
    )
    def test_the_error_decides_and_not_complete(
        self, complete: bool, error: str | None, terminal: bool, failed: bool, successful: bool
    ) -> None:
        upload = Upload.from_json(upload_json(complete=complete, error=error))

        assert (upload.is_terminal, upload.is_failed, upload.is_successful) == (terminal, failed, successful)

    @pytest.mark.parametrize("progress", [0, 0.25, 1, 1.0])
    def test_progress_is_a_number_from_0_to_1(self, progress: float) -> None:
        upload = Upload.from_json(upload_json(progress=progress))

        assert upload.progress == progress
        assert isinstance(upload.progress, float)

    @pytest.mark.parametrize("progress", ["0.5", None, True, [], float("nan"), float("inf"), 10**400])
    def test_progress_that_is_not_a_finite_number_names_the_field(self, progress: Any) -> None:
        with pytest.raises(InvalidAnswerError, match="'progress'"):
            Upload.from_json(upload_json(progress=progress))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", ""), ("id", 7), ("id", None), ("tileset", None), ("tileset", {}), ("complete", "true"),
            ("complete", None), ("complete", 1), ("error", 5), ("error", {"message": "x"}), ("name", 5), ("owner", []),
            ("created", 1700000000), ("modified", False),
        ],
    )  # fmt: skip
    def test_a_field_of_another_type_is_named(self, field: str, value: Any) -> None:
        with pytest.raises(InvalidAnswerError, match=f"'{field}'"):
            Upload.from_json(upload_json(**{field: value}))

    @pytest.mark.parametrize("document", [None, [], "upload", 3])
    def test_an_upload_that_is_not_an_object_is_refused(self, document: Any) -> None:
        with pytest.raises(InvalidAnswerError, match="object"):
            Upload.from_json(document)

    def test_undocumented_fields_are_ignored(self) -> None:
        assert Upload.from_json(upload_json(region="us", layers=[1])) == Upload.from_json(upload_json())

    def test_to_json_gives_what_the_api_gave(self) -> None:
        document = upload_json(name="Harbours", progress=0.5)

        assert Upload.from_json(document).to_json() == document
        assert json.loads(json.dumps(document)) == document

    @pytest.mark.parametrize(
        "created",
        ["2015-10-20T19:29:34.270Z", "2015-10-20T19:29:34.270", "2015-10-20T21:29:34.270+02:00"],
    )
    def test_created_at_has_a_zone(self, created: str) -> None:
        upload = Upload.from_json(upload_json(created=created))

        assert upload.created_at == datetime(2015, 10, 20, 19, 29, 34, 270_000, UTC)

    @pytest.mark.parametrize("created", [None, "", "soon", "0001-01-01T00:00:00+14:00"])
    def test_created_at_is_none_if_it_is_unreadable(self, created: str | None) -> None:
        assert Upload.from_json(upload_json(created=created)).created_at is None

    def test_a_token_in_the_message_of_a_failure_is_not_kept(self) -> None:
        token = make_token("lyra")

        upload = Upload.from_json(upload_json(error=f"Could not read https://h/?access_token={token}"))

        assert token.split(".")[2] not in repr(upload)
        assert "Could not read" in str(upload.error)


class TestTilesetId:
    @pytest.mark.parametrize("name", ["a", "A-z_0", "x" * 32, "-", "0"])
    def test_a_bare_name_is_completed_by_the_account(self, name: str) -> None:
        assert str(TilesetId.parse(name, ACCOUNT)) == f"{ACCOUNT}.{name}"

    @pytest.mark.parametrize("name", ["a", "x" * 32])
    def test_a_full_id_stays_unchanged(self, name: str) -> None:
        assert TilesetId.parse(f"{ACCOUNT}.{name}", ACCOUNT) == TilesetId(ACCOUNT, name)

    @pytest.mark.parametrize(
        "text",
        [
            "", ".", "x" * 33, "a\n", f"{ACCOUNT}.a\n", "\na", "a b", "a/b", "a.b.c", f"{ACCOUNT}.", ".a", "ä", "٣",
            "a%20", f"{'o' * 33}.a", "a\x00",
        ],
    )  # fmt: skip
    def test_an_invalid_tileset_id_is_refused_with_the_rule_and_the_parameter(self, text: str) -> None:
        with pytest.raises(InvalidTilesetError) as caught:
            TilesetId.parse(text, ACCOUNT)

        assert "1 to 32 of A-Z, a-z, 0-9, - and _" in str(caught.value)
        assert "tileset" in str(caught.value)
        assert str(caught.value).count("\n") == 1, "the remedy has a line of its own, and the value is shown escaped"

    def test_the_error_of_a_long_name_has_its_length(self) -> None:
        with pytest.raises(InvalidTilesetError, match="40 characters"):
            TilesetId.parse("x" * 40, ACCOUNT)

    def test_another_accounts_tileset_is_refused_naming_both(self) -> None:
        with pytest.raises(InvalidTilesetError, match=r"(?s)'lyra'.*'orion'"):
            TilesetId.parse("lyra.harbours", ACCOUNT)

    def test_an_invalid_tileset_id_is_a_value_error_too(self) -> None:
        with pytest.raises(ValueError, match="tileset"):
            TilesetId.parse("a b", ACCOUNT)


@pytest.mark.parametrize("name", [None, "x", "Häfen und Türme", "x" * 64])
def test_display_names_of_up_to_64_characters_pass(name: str | None) -> None:
    check_display_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_display_names_that_are_empty_or_longer_are_refused_naming_the_parameter(name: str) -> None:
    with pytest.raises(InvalidTilesetError, match="`name`"):
        check_display_name(name)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mapbox://datasets/orion/cjz0", True),
        ("mapbox://datasets/orion/cjz0\n", False),
        ("mapbox://datasets/orion", False),
        ("mapbox://datasets/orion/cjz0/features", False),
        ("mapbox://tilesets/orion.cjz0", False),
        ("https://example.com/x.geojson", False),
        (None, False),
        (3, False),
    ],
)
def test_only_a_whole_dataset_url_is_one(source: object, expected: bool) -> None:
    assert is_dataset_url(source) is expected


@pytest.mark.parametrize("account", ["o", "orion", "a-b_c", "x" * 32, "abcd", "abcde", "abcdef"])
def test_the_account_is_read_from_tokens_with_every_padding(account: str) -> None:
    assert account_of_token(make_token(account)) == account

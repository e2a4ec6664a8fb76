from __future__ import annotations

import pytest

from airflow_mapbox.names import TilesetId, account_of_token, check_display_name
from airflow_mapbox.uploads.errors import InvalidTilesetError
from tests.unit.support import ACCOUNT, make_token


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


@pytest.mark.parametrize("account", ["o", "orion", "a-b_c", "x" * 32, "abcd", "abcde", "abcdef"])
def test_the_account_is_read_from_tokens_with_every_padding(account: str) -> None:
    assert account_of_token(make_token(account)) == account

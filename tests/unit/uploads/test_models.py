from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mapbox.uploads.errors import InvalidAnswerError
from airflow_mapbox.uploads.models import Upload
from tests.unit.support import make_token, upload_json


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

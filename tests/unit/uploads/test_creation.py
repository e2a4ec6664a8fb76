from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.creation import create_or_adopt
from airflow_mapbox.uploads.errors import NotFoundError, StagedUrlUsedError, UploadActiveError

from ..conftest import MakeClient
from ..support import ACCOUNT, Reply, ScriptedServer, upload_json

URL = "https://bucket.s3.amazonaws.com/43/_pending/abc/orion"
ISSUED = 1_700_000_000.0
USED = Reply(409, {"message": "The provided url has already been used by another upload. Fetch new credentials."})


def _listed(upload_id: str, *, after: float | None = 0.0, tileset: str = "harbours", **changed: Any) -> dict[str, Any]:
    created = None if after is None else datetime.fromtimestamp(ISSUED + after, UTC).isoformat().replace("+00:00", "Z")
    return upload_json(**({"id": upload_id, "created": created, "tileset": f"{ACCOUNT}.{tileset}"} | changed))


def test_a_create_that_is_answered_needs_no_list(server: ScriptedServer, client: UploadsClient) -> None:
    server.script(Reply(201, upload_json(id="made")))

    upload = create_or_adopt(client, "harbours", URL, "Harbours", since=ISSUED)

    assert upload.id == "made"
    assert len(server.requests) == 1


def test_a_create_whose_answer_was_lost_ends_with_the_one_upload_it_made(
    server: ScriptedServer, client: UploadsClient
) -> None:
    server.script(Reply(201, upload_json(), fault="drop"), USED, Reply(json=[_listed("mine", after=30)]))

    upload = create_or_adopt(client, "harbours", URL, None, since=ISSUED)

    assert upload.id == "mine"
    assert [request.method for request in server.requests] == ["POST", "POST", "GET"]


def test_another_tilesets_upload_is_passed_over_and_later_pages_are_looked_at(
    server: ScriptedServer, client: UploadsClient
) -> None:
    server.script(
        USED,
        Reply(json=[_listed("other", tileset="lights", after=50)], headers={"Link": '<?start=other>; rel="next"'}),
        Reply(json=[_listed("longer", tileset="harbours2", after=40), _listed("mine", after=30)]),
    )

    assert create_or_adopt(client, "harbours", URL, None, since=ISSUED).id == "mine"


@pytest.mark.parametrize("age", [2.0, 3600.0])
def test_an_older_upload_of_the_tileset_is_never_adopted(
    server: ScriptedServer, client: UploadsClient, age: float
) -> None:
    server.script(USED, Reply(json=[_listed("old", after=-age)], headers={"Link": '<?start=old>; rel="next"'}))

    with pytest.raises(StagedUrlUsedError):
        create_or_adopt(client, "harbours", URL, None, since=ISSUED)

    assert len(server.requests) == 2, "what follows is older still"


def test_an_upload_of_the_second_in_which_the_url_was_issued_is_adopted(
    server: ScriptedServer, client: UploadsClient
) -> None:
    server.script(USED, Reply(json=[_listed("mine", after=-0.9)]))

    assert create_or_adopt(client, "harbours", URL, None, since=ISSUED).id == "mine"


@pytest.mark.parametrize("created", [None, "", "a while ago"])
def test_an_upload_of_no_known_time_is_not_adopted(
    server: ScriptedServer, client: UploadsClient, created: str | None
) -> None:
    server.script(USED, Reply(json=[_listed("unknown", created=created), _listed("mine", after=5)]))

    assert create_or_adopt(client, "harbours", URL, None, since=ISSUED).id == "mine"


def test_a_time_without_a_zone_is_read_as_utc(server: ScriptedServer, client: UploadsClient) -> None:
    server.script(USED, Reply(json=[_listed("mine", created="2023-11-14T22:13:25")]))

    assert create_or_adopt(client, "harbours", URL, None, since=ISSUED).id == "mine"


def test_a_failed_upload_is_adopted_too_since_it_was_the_urls_one(
    server: ScriptedServer, client: UploadsClient
) -> None:
    server.script(USED, Reply(json=[_listed("mine", after=5, error="Tileset is empty.")]))

    assert create_or_adopt(client, "harbours", URL, None, since=ISSUED).is_failed


def test_an_empty_list_leaves_the_409(server: ScriptedServer, client: UploadsClient) -> None:
    server.script(USED, Reply(json=[]))

    with pytest.raises(StagedUrlUsedError, match="already been used"):
        create_or_adopt(client, "harbours", URL, None, since=ISSUED)


def test_a_token_without_the_list_scope_is_told_so(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script(USED, Reply(404, {"message": "Not Found"}))

    with pytest.raises(NotFoundError, match="uploads:list"):
        create_or_adopt(make_client(), "harbours", URL, None, since=ISSUED)


@pytest.mark.parametrize(
    ("status", "message"), [(422, "An upload is already active"), (422, "Could not access url"), (404, "Not Found")]
)
def test_whatever_a_repeated_create_is_told_an_upload_that_the_lost_one_made_is_adopted(
    server: ScriptedServer, client: UploadsClient, status: int, message: str
) -> None:
    # Which of its rules Mapbox looks at first, nobody outside has shown.
    server.script(
        Reply(201, upload_json(), fault="drop"),
        Reply(status, {"message": message}),
        Reply(json=[_listed("mine", after=30)]),
    )

    assert create_or_adopt(client, "harbours", URL, None, since=ISSUED).id == "mine"


def test_a_refused_create_that_lost_no_answer_adopts_nothing(server: ScriptedServer, client: UploadsClient) -> None:
    server.script(Reply(422, {"message": "An upload is already active"}))

    with pytest.raises(UploadActiveError):
        create_or_adopt(client, "harbours", URL, None, since=ISSUED)

    assert len(server.requests) == 1


def test_of_several_the_one_of_the_same_name_is_adopted_and_the_oldest_of_these(
    server: ScriptedServer, client: UploadsClient
) -> None:
    uploads = [
        _listed("later", after=50, name="Harbours"),
        _listed("theirs", after=40, name="Theirs"),
        _listed("mine", after=30, name="Harbours"),
        _listed("also theirs", after=20, name="Theirs"),
    ]
    server.script(USED, Reply(json=uploads))

    assert create_or_adopt(client, "harbours", URL, "Harbours", since=ISSUED).id == "mine"

"""What boto3 sends of a part, whatever the connection."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from urllib3 import HTTPResponse

from airflow_mapbox.hooks.staging import staging_s3_client
from airflow_mapbox.limits import STAGING_REGION
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.staging.bucket import Bucket

CREDENTIALS = StagingCredentials("b", "k", "https://b.example/k", "an-id", "a-secret", "a-session")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "https://127.0.0.1:1", None], ids=str)
def test_a_part_is_hashed_once_and_sent_unchanged(endpoint: str | None) -> None:
    sent: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {"ETag": '"x"'}, HTTPResponse(BytesIO(), preload_content=False))

    s3 = staging_s3_client(CREDENTIALS, endpoint, region=STAGING_REGION)
    s3.meta.events.register("before-send.s3", answer)
    bucket = Bucket(s3, "b", "k", "the file")
    bucket._upload_id = "u"
    part = b"x" * 2_000_000

    bucket.put(part)
    bucket.put_part(1, part)

    for request in sent:
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        assert request.body.getvalue() == part
        assert headers["content-length"] == "2000000"
        assert headers["x-amz-checksum-crc32"] == "7hgPUQ=="
        # Amazon S3 API, "Authenticating Requests: Using the Authorization Header".
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert not headers.keys() & {"transfer-encoding", "content-encoding", "x-amz-trailer"}
    assert len(sent) == 2

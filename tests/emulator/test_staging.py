"""The staging bucket: credentials give access to one object, which behaves as in S3."""

from __future__ import annotations

import dataclasses
import http.client
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.s3 import StagingBackend
from tests.emulator.conftest import TOWNS, Account, Clock

MIB = 1 << 20


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def bucket_and_key(credentials: dict[str, str]) -> dict[str, str]:
    return {"Bucket": credentials["bucket"], "Key": credentials["key"]}


def test_credentials_have_mapboxs_format(shared: Account) -> None:
    credentials = shared.credentials()

    assert sorted(credentials) == ["accessKeyId", "bucket", "key", "secretAccessKey", "sessionToken", "url"]
    folder, pending, upload_id, user = credentials["key"].split("/")
    assert (len(folder), pending, user) == (2, "_pending", "acme")
    assert upload_id.startswith("c")
    assert credentials["url"] == f"https://{credentials['bucket']}.s3.amazonaws.com/{credentials['key']}"


def test_each_call_issues_another_key(shared: Account) -> None:
    assert shared.credentials()["key"] != shared.credentials()["key"]


def test_object_can_be_read_after_put(shared: Account) -> None:
    credentials = shared.credentials()
    s3 = shared.s3(credentials)

    s3.put_object(**bucket_and_key(credentials), Body=b"hello")

    assert s3.head_object(**bucket_and_key(credentials))["ContentLength"] == 5
    assert s3.get_object(**bucket_and_key(credentials))["Body"].read() == b"hello"
    assert s3.get_object(**bucket_and_key(credentials), Range="bytes=1-2")["Body"].read() == b"el"


def test_second_put_replaces_the_first(shared: Account) -> None:
    credentials = shared.credentials()
    s3 = shared.s3(credentials)

    s3.put_object(**bucket_and_key(credentials), Body=b"first")
    s3.put_object(**bucket_and_key(credentials), Body=b"second")

    assert s3.get_object(**bucket_and_key(credentials))["Body"].read() == b"second"


def test_file_above_8_mib_is_uploaded_in_parts(shared: Account) -> None:
    credentials = shared.credentials()
    s3 = shared.s3(credentials)
    data = os.urandom(20 * MIB + 1)

    s3.upload_fileobj(io.BytesIO(data), credentials["bucket"], credentials["key"])

    head = s3.head_object(**bucket_and_key(credentials))
    assert head["ContentLength"] == len(data)
    assert head["ETag"].endswith('-3"')
    assert s3.get_object(**bucket_and_key(credentials))["Body"].read() == data


def test_parts_can_be_listed_and_the_upload_aborted(shared: Account) -> None:
    credentials = shared.credentials()
    s3 = shared.s3(credentials)
    upload = s3.create_multipart_upload(**bucket_and_key(credentials))["UploadId"]
    s3.upload_part(**bucket_and_key(credentials), UploadId=upload, PartNumber=1, Body=b"part")

    assert [part["Size"] for part in s3.list_parts(**bucket_and_key(credentials), UploadId=upload)["Parts"]] == [4]
    s3.abort_multipart_upload(**bucket_and_key(credentials), UploadId=upload)

    assert error_of(lambda: s3.list_parts(**bucket_and_key(credentials), UploadId=upload)) == (404, "NoSuchUpload")
    assert error_of(lambda: s3.head_object(**bucket_and_key(credentials))) == (404, "404")


def test_part_of_an_upload_that_is_aborted_meanwhile_gets_no_such_upload(
    shared: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = shared.credentials()
    s3 = shared.s3(credentials)
    upload = s3.create_multipart_upload(**bucket_and_key(credentials))["UploadId"]
    original = StagingBackend.upload_part

    def upload_part_and_abort(self: StagingBackend, *arguments: Any, **options: Any) -> Any:
        part = original(self, *arguments, **options)
        s3.abort_multipart_upload(**bucket_and_key(credentials), UploadId=upload)
        return part

    monkeypatch.setattr(StagingBackend, "upload_part", upload_part_and_abort)

    def send() -> object:
        return s3.upload_part(**bucket_and_key(credentials), UploadId=upload, PartNumber=1, Body=b"part")

    assert error_of(send) == (404, "NoSuchUpload")


def test_wrong_and_too_small_parts_are_refused(shared: Account) -> None:
    credentials = shared.credentials()
    s3 = shared.s3(credentials)
    upload = s3.create_multipart_upload(**bucket_and_key(credentials))["UploadId"]
    tags = [
        s3.upload_part(**bucket_and_key(credentials), UploadId=upload, PartNumber=number, Body=b"small")["ETag"]
        for number in (1, 2)
    ]

    def complete(parts: list[dict[str, Any]]) -> Callable[[], Any]:
        return lambda: s3.complete_multipart_upload(
            **bucket_and_key(credentials), UploadId=upload, MultipartUpload={"Parts": parts}
        )

    both = [{"PartNumber": number, "ETag": tag} for number, tag in zip((1, 2), tags, strict=True)]
    assert error_of(complete(both)) == (400, "EntityTooSmall")
    assert error_of(complete([{"PartNumber": 1, "ETag": '"0"'}])) == (400, "InvalidPart")
    assert shared.create(credentials["url"]).json() == {"message": "Could not access url"}


def test_body_of_a_staged_object_is_a_file_in_the_folder(acme: Account) -> None:
    credentials = acme.credentials()
    data = os.urandom(9 * MIB)

    acme.s3(credentials).upload_fileobj(io.BytesIO(data), credentials["bucket"], credentials["key"])

    [file] = (acme.emulator.folder / "staged").iterdir()
    assert file.read_bytes() == data


class TestAccess:
    @pytest.fixture
    def credentials(self, shared: Account) -> dict[str, str]:
        return shared.credentials()

    @pytest.fixture
    def s3(self, shared: Account, credentials: dict[str, str]) -> Any:
        return shared.s3(credentials)

    def test_another_key_is_denied(self, shared: Account, credentials: dict[str, str], s3: Any) -> None:
        other = shared.credentials()
        for key in (other["key"], credentials["key"] + "x", credentials["key"][:-1], "x"):
            assert error_of(lambda key=key: s3.put_object(Bucket=credentials["bucket"], Key=key, Body=b"")) == (
                403,
                "AccessDenied",
            )

    def test_another_bucket_is_denied(self, credentials: dict[str, str], s3: Any) -> None:
        assert error_of(lambda: s3.put_object(Bucket="elsewhere", Key=credentials["key"], Body=b"")) == (
            403,
            "AccessDenied",
        )

    def test_reading_another_staged_object_is_denied(self, shared: Account, s3: Any) -> None:
        other = shared.stage(b"theirs")
        assert error_of(lambda: s3.get_object(**bucket_and_key(other))) == (403, "AccessDenied")

    @pytest.mark.parametrize(
        ("operation", "options"),
        [
            ("list_objects_v2", {}),
            ("list_objects", {}),
            ("list_multipart_uploads", {}),
            ("get_bucket_location", {}),
            ("delete_bucket", {}),
            ("put_bucket_policy", {"Policy": "{}"}),
            ("delete_objects", {"Delete": {"Objects": [{"Key": "x"}]}}),
        ],
        ids=[
            "list_objects_v2",
            "list_objects",
            "list_multipart_uploads",
            "get_bucket_location",
            "delete_bucket",
            "put_bucket_policy",
            "delete_objects",
        ],
    )
    def test_operations_on_the_bucket_are_denied(
        self, credentials: dict[str, str], s3: Any, operation: str, options: dict[str, Any]
    ) -> None:
        assert error_of(lambda: getattr(s3, operation)(Bucket=credentials["bucket"], **options)) == (
            403,
            "AccessDenied",
        )

    def test_listing_and_creating_buckets_is_denied(self, s3: Any) -> None:
        assert error_of(s3.list_buckets) == (403, "AccessDenied")
        assert error_of(lambda: s3.create_bucket(Bucket="mine")) == (403, "AccessDenied")

    @pytest.mark.parametrize(
        ("operation", "options"),
        [
            ("delete_object", {}),
            ("get_object_acl", {}),
            ("put_object_acl", {"ACL": "public-read"}),
            ("get_object_tagging", {}),
            ("put_object_tagging", {"Tagging": {"TagSet": []}}),
        ],
        ids=["delete_object", "get_object_acl", "put_object_acl", "get_object_tagging", "put_object_tagging"],
    )
    def test_other_operations_on_the_object_are_denied(
        self, credentials: dict[str, str], s3: Any, operation: str, options: dict[str, Any]
    ) -> None:
        s3.put_object(**bucket_and_key(credentials), Body=b"x")
        assert error_of(lambda: getattr(s3, operation)(**bucket_and_key(credentials), **options)) == (
            403,
            "AccessDenied",
        )

    def test_copying_another_object_is_denied(self, shared: Account, credentials: dict[str, str], s3: Any) -> None:
        other = shared.stage(b"theirs")
        assert error_of(lambda: s3.copy_object(**bucket_and_key(credentials), CopySource=bucket_and_key(other))) == (
            403,
            "AccessDenied",
        )


class TestSignatures:
    @pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
    def test_checksums_of_boto3_are_checked_and_stored(self, shared: Account, algorithm: str) -> None:
        credentials = shared.credentials()
        s3 = shared.s3(credentials)

        put_response = s3.put_object(**bucket_and_key(credentials), Body=b"hello", ChecksumAlgorithm=algorithm)

        assert put_response[f"Checksum{algorithm}"]
        stored = s3.get_object(**bucket_and_key(credentials), ChecksumMode="ENABLED")
        assert stored[f"Checksum{algorithm}"] == put_response[f"Checksum{algorithm}"]
        old_checksum = {f"Checksum{algorithm}": put_response[f"Checksum{algorithm}"]}
        assert error_of(lambda: s3.put_object(**bucket_and_key(credentials), Body=b"other", **old_checksum)) == (
            400,
            "BadDigest",
        )

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"aws_access_key_id": "ASIAUNKNOWNUNKNOWN00"}, (403, "InvalidAccessKeyId")),  # pragma: allowlist secret
            ({"aws_secret_access_key": "wrong"}, (403, "SignatureDoesNotMatch")),
            ({"aws_session_token": "wrong"}, (400, "InvalidToken")),
            ({"aws_session_token": None}, (400, "InvalidToken")),
            ({"region_name": "eu-west-1"}, (400, "AuthorizationHeaderMalformed")),
        ],
        ids=["unknown key id", "wrong secret", "wrong session token", "no session token", "wrong region"],
    )
    def test_wrong_credentials_are_refused_with_s3s_error(
        self, shared: Account, options: dict[str, Any], expected: tuple[int, str]
    ) -> None:
        credentials = shared.credentials()
        s3 = shared.s3(credentials, **options)

        assert error_of(lambda: s3.put_object(**bucket_and_key(credentials), Body=b"x")) == expected

    def test_expired_credentials_are_refused(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        clock = Clock()
        with Emulator(tmp_path, settings=settings, clock=clock) as emulator:
            acme = Account(emulator)
            credentials = acme.credentials()
            s3 = acme.s3(credentials)
            clock.now += 3599
            s3.put_object(**bucket_and_key(credentials), Body=b"x")
            clock.now += 1

            assert error_of(lambda: s3.put_object(**bucket_and_key(credentials), Body=b"x")) == (400, "ExpiredToken")

    def test_unsigned_request_is_denied_with_xml(self, shared: Account) -> None:
        credentials = shared.credentials()

        response = requests.put(
            f"{shared.emulator.s3_url}/{credentials['bucket']}/{credentials['key']}", data=b"x", timeout=10
        )

        assert response.status_code == 403
        assert response.headers["Content-Type"] == "application/xml"
        assert "<Code>AccessDenied</Code>" in response.text

    def test_body_that_differs_from_the_signed_body_is_refused(self, shared: Account) -> None:
        credentials = shared.credentials()
        response = self.send(shared, credentials, signed=b"signed", sent=b"forged")

        assert response.status_code == 400
        assert "XAmzContentSHA256Mismatch" in response.text
        assert shared.create(credentials["url"]).status_code == 422

    def test_unsigned_payload_is_accepted(self, shared: Account) -> None:
        credentials = shared.credentials()
        response = self.send(shared, credentials, signed=None, sent=b"whatever")

        assert response.status_code == 200
        assert shared.s3(credentials).get_object(**bucket_and_key(credentials))["Body"].read() == b"whatever"

    def test_bucket_name_in_the_host_is_understood(self, shared: Account) -> None:
        credentials = shared.credentials()
        response = self.send(shared, credentials, signed=b"x", sent=b"x", virtual=True)

        assert response.status_code == 200
        assert shared.s3(credentials).head_object(**bucket_and_key(credentials))["ContentLength"] == 1

    def test_presigned_url_works_only_for_its_operation(self, shared: Account) -> None:
        credentials = shared.credentials()
        s3 = shared.s3(credentials, config=Config(signature_version="s3v4"))
        url = s3.generate_presigned_url("put_object", Params=bucket_and_key(credentials))

        assert requests.put(url, data=b"x", timeout=10).status_code == 200
        assert requests.delete(url, timeout=10).status_code == 403
        assert requests.put(url + "0", data=b"x", timeout=10).status_code == 403

    def test_chunked_body_with_a_trailing_checksum_is_decoded(self, shared: Account) -> None:
        credentials = shared.credentials()
        chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
        response = self.send(
            shared,
            credentials,
            sent=chunks,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers={
                "Content-Encoding": "aws-chunked",
                "X-Amz-Trailer": "x-amz-checksum-crc32",
                "X-Amz-Decoded-Content-Length": "11",
            },
        )

        assert response.status_code == 200, response.text
        stored = shared.s3(credentials).get_object(**bucket_and_key(credentials))
        assert stored["Body"].read() == b"hello world"

    def test_client_that_disconnects_leaves_nothing_staged(self, shared: Account) -> None:
        credentials = shared.credentials()
        url, headers = self.signed(shared, credentials)
        connection = http.client.HTTPConnection(headers["Host"], timeout=10)
        connection.putrequest("PUT", url.partition(headers["Host"])[2], skip_host=True)
        for name, value in {**headers, "Content-Length": "1000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"short")
        connection.sock.shutdown(socket.SHUT_WR)

        response = connection.getresponse()
        assert (response.status, b"IncompleteBody" in response.read()) == (400, True)
        connection.close()
        assert shared.create(credentials["url"]).json() == {"message": "Could not access url"}

    @pytest.mark.parametrize(
        ("chunks", "code"),
        [
            (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "BadDigest"),
            (b"5\r\nhel", "IncompleteBody"),
            (b"nonsense", "IncompleteBody"),
            (b"3\r\nhel\r\n0\r\n\r\n", "IncompleteBody"),
        ],
        ids=["wrong checksum", "truncated chunk", "no chunk size", "too short"],
    )
    def test_truncated_or_changed_chunked_body_is_refused(self, shared: Account, chunks: bytes, code: str) -> None:
        credentials = shared.credentials()
        response = self.send(
            shared,
            credentials,
            sent=chunks,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers={"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "5"},
        )

        assert response.status_code == 400
        assert f"<Code>{code}</Code>" in response.text

    def send(self, acme: Account, credentials: dict[str, str], *, sent: bytes, **options: Any) -> requests.Response:
        url, headers = self.signed(acme, credentials, **options)
        return requests.put(url, data=sent, headers=headers, timeout=10)

    def signed(
        self,
        acme: Account,
        credentials: dict[str, str],
        *,
        signed: bytes | None = None,
        payload: str | None = None,
        virtual: bool = False,
        headers: dict[str, str] | None = None,
    ) -> tuple[str, dict[str, str]]:
        """Return the numeric URL of a PUT request, and its headers with botocore's signature."""
        host = acme.emulator.s3_url.removeprefix("http://")
        path = f"/{credentials['key']}" if virtual else f"/{credentials['bucket']}/{credentials['key']}"
        name = f"{credentials['bucket']}.{host}" if virtual else host
        request = AWSRequest(method="PUT", url=f"http://{name}{path}", data=signed, headers={"Host": name})
        for header, value in (headers or {}).items():
            request.headers[header] = value

        class Signer(S3SigV4Auth):  # type: ignore[misc]
            def payload(self, request: AWSRequest) -> str:
                return payload or ("UNSIGNED-PAYLOAD" if signed is None else str(super().payload(request)))

        keys = Credentials(credentials["accessKeyId"], credentials["secretAccessKey"], credentials["sessionToken"])
        Signer(keys, "s3", "us-east-1").add_auth(request)
        return f"http://{host}{path}", {**dict(request.headers.items()), "Host": name}


def test_motos_own_pages_are_not_reachable(shared: Account) -> None:
    for path in ("/moto-api/data.json", "/moto-api/", "/latest/meta-data/", "/favicon.ico", "/"):
        assert requests.get(shared.emulator.s3_url + path, timeout=10).status_code == 403


@pytest.fixture
def other_emulator(tmp_path: Path, settings: EmulatorSettings) -> Iterator[Account]:
    with Emulator(tmp_path / "other_emulator", settings=dataclasses.replace(settings)) as running:
        yield Account(running)


def test_two_emulators_in_one_process_share_nothing(acme: Account, other_emulator: Account) -> None:
    credentials = acme.stage(TOWNS)

    assert error_of(lambda: other_emulator.s3(credentials).head_object(**bucket_and_key(credentials))) == (403, "403")
    assert other_emulator.create(credentials["url"]).json() == {"message": "Could not access url"}
    assert other_emulator.call("GET").json() == []

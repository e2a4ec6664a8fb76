"""Run moto's S3 server on the loopback, as the object storage of Airflow's XComs and logs."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from demo.stack import StackError

_SECONDS_TO_START = 30
_SECONDS_TO_STOP = 5
_REGION = "us-east-1"


class ObjectStore:
    """
    An S3 server with some buckets, in memory.

    :param folder: folder of its log.
    :param port: a free port.
    :param buckets: names of the buckets to make.
    """

    def __init__(self, folder: Path, port: int, buckets: tuple[str, ...]) -> None:
        self._folder = folder
        self._port = port
        self._buckets = buckets
        self._process: subprocess.Popen[bytes] | None = None
        self._access_key = f"AKIA{secrets.token_hex(8).upper()}"
        self.secret_key = secrets.token_urlsafe(30)

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"http://127.0.0.1:{self._port}"

    def connection(self) -> str:
        """Return an Airflow connection to this server as JSON."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": self._access_key,
                "password": self.secret_key,
                "extra": {"endpoint_url": self.url, "region_name": _REGION},
            }
        )

    def start(self) -> None:
        """
        Start the server and make the buckets.

        :raises StackError: if it does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self._port)]
        with (self._folder / "object-store.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._make_buckets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"moto's server did not start; see {self._folder / 'object-store.log'}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server; its content is lost."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """
        Store an object.

        :param bucket: one of the buckets.
        :param key: its key.
        :param body: its content.
        """
        self._client().put_object(Bucket=bucket, Key=key, Body=body)

    def objects(self) -> Iterator[tuple[str, str]]:
        """Yield ``bucket/key`` and content of every object of every bucket."""
        client = self._client()
        for bucket in self._buckets:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    yield f"{bucket}/{entry['Key']}", body.decode(errors="replace")

    def _client(self) -> Any:
        # Neither the caller's proxy nor its certificates apply to the loopback.
        config = botocore.config.Config(proxies={}, retries={"total_max_attempts": 1})
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=_REGION,
            aws_access_key_id=self._access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def _make_buckets(self) -> bool:
        try:
            for bucket in self._buckets:
                self._client().create_bucket(Bucket=bucket)
        except botocore.exceptions.EndpointConnectionError:
            return False
        return True

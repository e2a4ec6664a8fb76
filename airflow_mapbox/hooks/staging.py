"""The Amazon provider's S3 hook, with credentials that came from Mapbox instead of a connection."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

from airflow_mapbox.uploads.errors import without_frames

if TYPE_CHECKING:
    from airflow_mapbox.uploads.models import StagingCredentials


class _StagingS3Hook(S3Hook):
    """An S3 hook whose connection exists in memory only, for as long as one file is being staged."""

    def __init__(self, connection: AwsConnectionWrapper) -> None:
        super().__init__(aws_conn_id=None)
        self._staging_connection = connection

    @cached_property
    def conn_config(self) -> AwsConnectionWrapper:
        return self._staging_connection


@without_frames
def staging_s3_client(credentials: StagingCredentials, endpoint_url: str | None, *, region: str) -> Any:
    """
    Make a boto3 S3 client for one staged file, with the provider's retries, proxies and user agent.

    :param credentials: from Mapbox.
    :param endpoint_url: another S3 than Amazon's, or None.
    :param region: of the bucket.
    """
    # S3 compares what arrives with the CRC-32 that comes with it, over a connection that is encrypted, or goes to the
    # loopback: to sign each body's SHA-256 as well would take longer than to send it (Amazon S3 API, "Authenticating
    # Requests: Using the Authorization Header", unsigned payload).
    s3: dict[str, object] = {"payload_signing_enabled": False}
    config: dict[str, object] = {
        "s3": s3,
        "retries": {"mode": "standard", "max_attempts": 5},
        "connect_timeout": 10,
        "read_timeout": 60,
    }
    extra: dict[str, object] = {
        "aws_session_token": credentials.session_token,
        "region_name": region,
        "config_kwargs": config,
    }
    if endpoint_url is not None:
        # A bucket's own host name exists at Amazon only.
        s3["addressing_style"] = "path"
        if endpoint_url.startswith("http://"):
            config["proxies"] = {}  # what is for the loopback is for no proxy that the environment names
        extra["endpoint_url"] = endpoint_url
    connection = AwsConnectionWrapper.from_connection_metadata(
        conn_id="temporary staging credentials from Mapbox",
        login=credentials.access_key_id,
        password=credentials.secret_access_key,
        extra=extra,
    )
    return _StagingS3Hook(connection).get_conn()

"""The S3 client that sends a file to Mapbox's staging bucket, made by the Amazon provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mapbox.compat import s3_client, set_route
from airflow_mapbox.errors import without_frames
from airflow_mapbox.http.environment import route_to

if TYPE_CHECKING:
    from airflow_mapbox.uploads.models import StagingCredentials


@without_frames
def staging_s3_client(credentials: StagingCredentials, endpoint_url: str | None, *, region: str) -> Any:
    """
    Return a boto3 S3 client for one staged file, with the Amazon provider's retries and user agent.

    It uses the same proxy and certificate authorities as the API: see
    :func:`~airflow_mapbox.http.environment.route_to`.

    :param credentials: temporary credentials from Mapbox.
    :param endpoint_url: URL of another S3 server than Amazon's, or None.
    :param region: AWS region of the bucket.
    """
    route = route_to(endpoint_url or f"https://{credentials.bucket}.s3.{region}.amazonaws.com")
    socks = route.proxy is not None and route.proxy.lower().startswith("socks")
    # S3 compares each part with its CRC-32, over an encrypted connection or the loopback. Signing each body's SHA-256
    # as well would take longer than sending it (Amazon S3 API, "Authenticating Requests: Using the Authorization
    # Header", unsigned payload).
    s3: dict[str, object] = {"payload_signing_enabled": False}
    config: dict[str, object] = {
        "s3": s3,
        "retries": {"mode": "standard", "max_attempts": 5},
        "connect_timeout": 10,
        "read_timeout": 60,
        "proxies": {"https": route.proxy} if route.proxy and not socks else {},
    }
    extra: dict[str, object] = {
        "aws_session_token": credentials.session_token,
        "region_name": region,
        "config_kwargs": config,
        "verify": route.authorities,
    }
    if endpoint_url is not None:
        # Only Amazon's buckets have a host name of their own.
        s3["addressing_style"] = "path"
        extra["endpoint_url"] = endpoint_url
    name = "temporary staging credentials from Mapbox"
    client = s3_client(name, credentials.access_key_id, credentials.secret_access_key, extra)
    set_route(client, route)
    return client

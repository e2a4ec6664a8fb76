"""Addresses: which may receive secrets, and which must not contain any."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from airflow_mapbox.errors import ConfigurationError
from airflow_mapbox.security.redaction import has_secret

# Translated (NAT64, RFC 6052) and compatible addresses (RFC 4291) end with the real IPv4 address.
_WITH_IPV4_AT_THE_END = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# On Azure, this public address is the virtual machine's host.
_AZURE_HOST = ipaddress.IPv4Address("168.63.129.16")
_MAX_URL_BYTES = 8192
API_URL = "https://api.mapbox.com"


def check_endpoint(url: str, where: str) -> str:
    """
    Refuse an address that is not valid, or would receive secrets without encryption.

    :param url: a base URL, with or without a trailing slash.
    :param where: the setting that contains it, for the message.
    :return: the URL without a trailing slash.
    :raises ConfigurationError: if it is not http(s), has no host, contains a user, query or fragment, or is plain http
        to another machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _unusable(where, "is not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _unusable(where, "is not an http(s) URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _unusable(where, "must be an address only, without a user, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise _unusable(where, f"is plain http to {host}, which would show the token to the network: use https")
    return parts.geturl().rstrip("/")  # the scheme is in lower case, as the rules above expect


def refuse_secrets(source: object) -> None:
    """
    Refuse a source that contains a password or a signature.

    Airflow shows a source in its UI and stores it in its database unchanged.

    :param source: a source. Only strings and paths can contain secrets.
    :raises ConfigurationError: with advice, and without the source itself.
    """
    if any(map(has_secret, _strings_in(source))):
        raise ConfigurationError(
            "The source contains a password, a key or a signature, which would be shown in the UI and stored in the "
            "database.\n"
            "Put the credentials into an Airflow connection and name it: s3://my_conn@bucket/key for object storage, "
            "postgis_query(…, postgres_conn_id=…) for PostGIS. Or fetch the data in a task before this one."
        )


def _strings_in(source: object) -> Iterator[str]:
    """Yield the strings in a source: itself, or those inside a list, a tuple or a mapping."""
    if isinstance(source, str) or (hasattr(source, "open") and not isinstance(source, type)):
        yield str(source)
    elif isinstance(source, bytes):
        yield source[:_MAX_URL_BYTES].decode("latin-1")
    elif isinstance(source, Mapping):
        for value in source.values():
            yield from _strings_in(value)
    elif isinstance(source, list | tuple):
        for item in source:
            yield from _strings_in(item)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """
    Return (scheme, host, port). Two URLs with the same values belong to the same server.

    :param url: an absolute URL.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, _port(parts)


def _port(parts: SplitResult) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """
    Return whether a host is this machine, so that plain http does not leave it.

    :param host: a name or an address.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_internal(host: str) -> bool:
    """
    Return whether one of a host's addresses is not public: this machine, a private network, a cloud's metadata service.

    :param host: a name, or an address in any form that the system accepts.
    :return: False for a name that cannot be resolved here.
    """
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(_is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])) for *_, address in addresses)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local:
            return False
        embedded = any(address in network for network in _WITH_IPV4_AT_THE_END)
        last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if embedded else None
        address = address.ipv4_mapped or address.sixtofour or last or address
    return address.is_global and not address.is_multicast and address != _AZURE_HOST


def _unusable(where: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"The address in {where} {why}.")

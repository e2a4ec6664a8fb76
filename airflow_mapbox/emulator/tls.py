"""Create a TLS certificate for this machine, and the certificate authority that signs it."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=397)
# A certificate that expires sooner is replaced, so that it does not expire while the emulator runs.
MIN_REMAINING = datetime.timedelta(days=7)
KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
NAMES = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Tls:
    """
    The files of a TLS server.

    :param ca: the authority's certificate, which clients must trust.
    :param certificate: the server's certificate.
    :param key: the server's private key. The authority's private key is not stored, so it can sign nothing else.
    """

    ca: Path
    certificate: Path
    key: Path


def prepare_tls(folder: Path, *, names: tuple[str, ...] = ()) -> Tls:
    """
    Return the certificate in a folder. Create a new one if it is missing, lacks a name, or expires within a week.

    :param folder: the folder of the files.
    :param names: addresses and host names besides those of the loopback.
    """
    files = Tls(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")
    all_names = tuple(dict.fromkeys((*NAMES, *names)))
    if not _is_valid(files, all_names):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(files, all_names)
    return files


def _is_valid(files: Tls, names: tuple[str, ...]) -> bool:
    try:
        files.ca.stat()
        files.key.stat()
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        certificate_names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    remaining = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return remaining > MIN_REMAINING and all(_general_name(name) in certificate_names for name in names)


def _create(files: Tls, names: tuple[str, ...]) -> None:
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = _name("Mapbox Uploads emulator")
    usage = dict.fromkeys(KEY_USAGES, False)
    alternatives = [_general_name(name) for name in names]
    networks = [
        x509.IPAddress(ipaddress.ip_network(name.value)) if isinstance(name, x509.IPAddress) else name
        for name in alternatives
    ]
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**{**usage, "key_cert_sign": True, "crl_sign": True}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        # Limits the trust in this authority to these names.
        .add_extension(x509.NameConstraints(permitted_subtrees=networks, excluded_subtrees=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        _builder(_name("Mapbox Uploads emulator, server"), authority_name, server_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**usage, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private_key = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(files.key, private_key, 0o600)
    _write(files.certificate, server.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(files.ca, authority.public_bytes(serialization.Encoding.PEM), 0o644)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour ago, because clocks differ, also between containers.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(file: Path, content: bytes, mode: int) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
    temporary.replace(file)

"""A certificate for this machine, and the authority that vouches for it: made here, known nowhere else."""

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

VALID = datetime.timedelta(days=397)
# A certificate that ends in the middle of a run is of no use.
LEAST_LEFT = datetime.timedelta(days=7)
KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
NAMES = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Tls:
    """
    The files of a server that speaks TLS.

    :param ca: the authority's certificate, which a client is to trust.
    :param certificate: the server's.
    :param key: the server's private key; the authority's is not kept, so that nothing else can be signed by it.
    """

    ca: Path
    certificate: Path
    key: Path


def prepare_tls(folder: Path, *, names: tuple[str, ...] = ()) -> Tls:
    """
    Return a folder's certificate, made anew where there is none, or none that is good for the names and a week.

    :param folder: where the files are kept.
    :param names: addresses and host names besides those of the loopback.
    """
    files = Tls(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")
    wanted = tuple(dict.fromkeys((*NAMES, *names)))
    if not _is_good(files, wanted):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(files, wanted)
    return files


def _is_good(files: Tls, names: tuple[str, ...]) -> bool:
    try:
        files.ca.stat()
        files.key.stat()
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > LEAST_LEFT and all(_general_name(name) in present for name in names)


def _make(files: Tls, names: tuple[str, ...]) -> None:
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
        # Who trusts it trusts it for these names only.
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
    private = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(files.key, private, 0o600)
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
        # Clocks differ, between containers too.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALID)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(file: Path, content: bytes, mode: int) -> None:
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
    fresh.replace(file)

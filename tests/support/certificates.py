"""Certificates made for one test: an authority, a server at 127.0.0.1 and localhost, a client."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LASTS = timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """Files: the authority's certificate; certificate and key of the server and of a client."""

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]

    @classmethod
    def made_in(cls, folder: Path) -> Certificates:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("authority")
        authority = _signed(name, name, key, key, x509.BasicConstraints(ca=True, path_length=None))
        (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        server = _written(folder, "server", name, key, x509.SubjectAlternativeName(names))
        client = _written(folder, "client", name, key, x509.BasicConstraints(ca=False, path_length=None))
        return cls(folder / "ca.pem", server, client)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.server)
        return context


def _written(
    folder: Path, what: str, issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey, more: x509.ExtensionType
) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(_name(what), issuer, key, issuer_key, more)
    (folder / f"{what}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{what}.key").write_bytes(private)
    return folder / f"{what}.pem", folder / f"{what}.key"


def _name(what: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"orbit test {what}")])


def _signed(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey,
    more: x509.ExtensionType,
) -> x509.Certificate:  # fmt: skip
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _LASTS)
    return builder.not_valid_after(now + _LASTS).add_extension(more, critical=False).sign(issuer_key, hashes.SHA256())

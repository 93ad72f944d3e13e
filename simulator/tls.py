"""A throw-away certificate authority and one certificate for this machine's loopback names.

Azure's SDK clients send bearer tokens over TLS only, so everything the simulator serves is served over TLS, and the
clients are configured to trust the authority created here (`SSL_CERT_FILE`). The keys are in a temporary folder, are
valid for one day, and are installed nowhere.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID_DAYS = 1


@dataclass(frozen=True)
class Tls:
    """Paths of the authority's certificate and of the server's certificate and key (PEM)."""

    ca_path: Path
    certificate_path: Path
    key_path: Path

    @classmethod
    def create(cls, folder: Path | None = None) -> Tls:
        """Create authority and server certificate in `folder`, by default a new temporary one."""
        folder = folder or Path(tempfile.mkdtemp(prefix="simulator-tls-"))
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key)
        server_key = ec.generate_private_key(ec.SECP256R1())
        server = _server_certificate(server_key, authority, authority_key)
        tls = cls(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        tls.ca_path.write_bytes(_pem(authority))
        tls.certificate_path.write_bytes(_pem(server))
        tls.key_path.touch(mode=0o600)
        tls.key_path.write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return tls

    def server_context(self) -> ssl.SSLContext:
        """For a server: it presents the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_path, self.key_path)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client: it trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.ca_path))

    def settings(self) -> dict[str, str]:
        """The environment variable that makes a child process trust this authority."""
        return {"SSL_CERT_FILE": str(self.ca_path)}

    def trust_in_this_process(self) -> None:
        """Let every client of this process trust the authority, aiohttp's default one included.

        aiohttp builds its default SSL context once, while it is imported. It does not see a later `SSL_CERT_FILE`, so
        the authority is added to that context too.
        """
        os.environ.update(self.settings())
        connector = sys.modules.get("aiohttp.connector")
        default_context = getattr(connector, "_SSL_CONTEXT_VERIFIED", None)
        if isinstance(default_context, ssl.SSLContext):
            default_context.load_verify_locations(cafile=str(self.ca_path))


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Image Patcher simulator, throw-away authority")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _server_certificate(
    key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        _builder(name, authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Python 3.13 verifies strictly (RFC 5280): a leaf without the authority's key identifier is refused.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

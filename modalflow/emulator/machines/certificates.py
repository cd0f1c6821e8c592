"""A certificate authority of one emulator: what makes ``https`` of a tunnel trustworthy on this machine.

Flows in: host names and addresses. Flows out: TLS settings for servers, and files with which clients and sandboxes trust them.
Keys live in memory only; a new emulator has a new authority.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=397)
"""The longest that browsers accept of a server's certificate."""
_AUTHORITY_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "modalflow emulator (this machine only)")])


class CertificateAuthority:
    """An authority and one server certificate for all names and addresses of the emulator."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._make_authority()
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)
        self._server_key = ec.generate_private_key(ec.SECP256R1())
        self._server_pem = self._make_server(hosts).public_bytes(serialization.Encoding.PEM)

    def server_context(self, *protocols: str) -> ssl.SSLContext:
        """Return the settings of a TLS server that offers ``protocols`` (ALPN names) to clients that ask for any."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        key = self._server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # ``ssl`` reads files only: this one is in memory, and nobody else can open it.
        fd = os.memfd_create("server", os.MFD_CLOEXEC)
        try:
            os.write(fd, key + self._server_pem + self.pem)
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``ca.pem`` (ours alone) and ``ca-bundle.pem`` (this machine's authorities and ours); return both."""
        alone, bundle = folder / "ca.pem", folder / "ca-bundle.pem"
        alone.write_bytes(self.pem)
        bundle.write_bytes(b"\n".join([*_trusted_here(), self.pem]))
        for file in (alone, bundle):
            file.chmod(0o644)
        return alone, bundle

    def _make_authority(self) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            _builder(_AUTHORITY_NAME, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _make_server(self, hosts: Sequence[str]) -> x509.Certificate:
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), self._server_key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_AUTHORITY_NAME)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _trusted_here() -> list[bytes]:
    """Return what Python and requests trust on this machine already: ours must come on top, not instead."""
    files = [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, certifi.where()]
    return [Path(file).read_bytes() for file in dict.fromkeys(files) if file and Path(file).is_file()]

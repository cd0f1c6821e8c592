"""All keys of a relay, made from the one secret that the schedulers of a deployment share. Pure.

In: Airflow's signing key, the deployment's name, the number of one relay sandbox (random, no secret). Out: the key by which that
sandbox proves itself, the key by which schedulers prove themselves to it, and the key of passes. So every scheduler has the keys
of every relay without anything being stored or sent around, and none of them lets anybody find Airflow's key.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 pair: ``private`` as PEM (PKCS 8), ``public`` in one line as OpenSSH writes it."""

    private: str
    public: str

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"KeyPair({self.public})"


class Keys:
    """The keys of one deployment's relays."""

    __slots__ = ("_root",)

    def __init__(self, secret: bytes, deployment: str) -> None:
        """``secret`` is what all its schedulers have and nobody else. ``ValueError`` if it is too short to be one."""
        if len(secret) < KEY_BYTES // 2:
            raise ValueError(f"expected a secret of {KEY_BYTES // 2} bytes or more, got {len(secret)}")
        self._root = _derived(secret, f"modalflow relay of {deployment}")

    def host(self, number: str) -> KeyPair:
        """By which the relay sandbox ``number`` proves to schedulers that it is the one."""
        return _pair(_derived(self._root, f"host {number}"))

    def client(self, number: str) -> KeyPair:
        """By which schedulers prove to the relay sandbox ``number`` that they are this deployment's."""
        return _pair(_derived(self._root, f"client {number}"))

    def of_pass(self, pass_id: str) -> bytes:
        """The secret that goes with a pass, which a task's sandbox is given."""
        return hmac.digest(_derived(self._root, "passes"), pass_id.encode(), sha256)


def _derived(secret: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(secret)


def _pair(seed: bytes) -> KeyPair:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return KeyPair(private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())

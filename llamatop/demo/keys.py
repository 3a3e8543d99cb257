"""Fresh ed25519 keys for one run: the client's and each host's."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from msgspec import Struct


class Key(Struct, frozen=True):
    """A key pair in OpenSSH's formats; `public` is `ssh-ed25519 BASE64`."""

    private: str
    public: str

    @property
    def blob(self) -> bytes:
        """The public key as it travels on the wire."""
        return base64.b64decode(self.public.split()[1])


def make() -> Key:
    """A key that never existed before."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return Key(private.decode(), public.decode())

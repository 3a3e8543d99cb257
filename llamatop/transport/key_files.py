"""Private keys in files, in every format that ssh reads and paramiko can be given."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from paramiko.pkey import UnknownKeyType


class Locked(Exception):
    """The key file is encrypted and nobody is asked for its passphrase."""


class Unusable(Exception):
    """The key file is of no use; the text says why, in a clause about the file."""


def load(file: Path, certificates: Sequence[Path] = ()) -> paramiko.PKey:
    """The key with its certificate (`FILE-cert.pub`, or the one of `certificates` made for it).

    Raises Locked, Unusable, or FileNotFoundError.
    """
    try:
        status = file.stat()
        data = file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise Unusable("can be read by others, so ssh ignores it (chmod 600)")
    try:
        key = paramiko.PKey.from_path(file)
    except (TypeError, paramiko.PasswordRequiredException):
        raise Locked from None
    except (OSError, ValueError, UnknownKeyType, UnsupportedAlgorithm, paramiko.SSHException):
        key = _converted(data)
    for certificate in certificates:
        if _certifies(certificate, key):
            key.load_certificate(str(certificate))
    return key


def public_blob(file: Path) -> bytes | None:
    """The public half of a key file: what is beside it in FILE.pub, or the file itself."""
    return _blob(file.with_name(file.name + ".pub")) or _blob(file)


def is_public(file: Path) -> bool:
    """Whether the file itself is a public half, which names a key of the agent."""
    return _blob(file) is not None


def _blob(file: Path) -> bytes | None:
    try:
        words = file.read_text("ascii").split()
        if len(words) >= 2 and not words[0].startswith("-"):
            return base64.b64decode(words[1], validate=True)
    except (OSError, ValueError):
        pass
    return None


def _converted(data: bytes) -> paramiko.PKey:
    """A key in PKCS #8, which ssh reads and paramiko does not."""
    try:
        loaded = serialization.load_pem_private_key(data, None)
        text = loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode("ascii")
    except TypeError:
        raise Locked from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable("holds no key that llamatop can use") from None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError, TypeError):
            continue
    raise Unusable("holds no key that llamatop can use")


def _certifies(certificate: Path, key: paramiko.PKey) -> bool:
    """Whether a certificate is for this very key: its fields follow type and nonce there."""
    blob = _blob(certificate)
    if blob is None:
        return False
    message = paramiko.Message(blob)
    name = message.get_binary()
    message.get_binary()
    plain = paramiko.Message(key.asbytes())
    plain_name = plain.get_binary()
    return name.startswith(plain_name) and message.get_remainder().startswith(plain.get_remainder())

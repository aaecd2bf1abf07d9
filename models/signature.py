"""Ed25519 signatures: made with the private key of whoever publishes, checked with public ones.

The `cryptography` package is imported only by those who sign or check.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_BYTES = 64

_PEM_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_INSTALL = "the package cryptography is not installed; pip install 'teacherd[sign]'"


class SignatureError(Exception):
    """The bytes are not signed, or not by a key that is trusted."""


class SigningKey:
    """Signs; the private half."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a key as `openssl genpkey -algorithm ed25519` writes it.

        Raises:
            ValueError: It is no such key, or the library is not installed.
        """
        try:
            # Only who signs needs the library.
            from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
                Ed25519PrivateKey,
            )
            from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
                load_pem_private_key,
            )
        except ImportError as error:
            raise ValueError(_INSTALL) from error
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"holds no unencrypted private key in PEM form: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(  # noqa: TRY004 - what the file holds is wrong, not the call
                f"holds a {type(key).__name__}; only Ed25519 is used: "
                "openssl genpkey -algorithm ed25519"
            )
        return cls(key)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of the bytes: 64 bytes, always the same ones."""
        return self._key.sign(data)

    @property
    def public(self) -> "TrustedKeys":
        """What the signatures are checked with."""
        return TrustedKeys([self._key.public_key()])


class TrustedKeys:
    """Checks; a signature by any of the keys will do, so that a key can be changed."""

    def __init__(self, keys: Sequence["Ed25519PublicKey"]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read one or more keys as `openssl pkey -pubout` writes them, one after the other.

        Raises:
            ValueError: There is none, one is of another kind, or the library is not installed.
        """
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
                Ed25519PublicKey,
            )
            from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
                load_pem_public_key,
            )
        except ImportError as error:
            raise ValueError(_INSTALL) from error
        blocks = _PEM_BLOCK.findall(pem)
        if not blocks:
            raise ValueError("holds no public key in PEM form")
        keys = []
        for block in blocks:
            try:
                key = load_pem_public_key(block)
            except ValueError as error:
                raise ValueError(f"holds a damaged public key: {error}") from error
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(  # noqa: TRY004 - as above
                    f"holds a {type(key).__name__}; only Ed25519 is used"
                )
            keys.append(key)
        return cls(keys)

    def check(self, data: bytes, signature: bytes) -> None:
        """Hold a signature against the bytes it should be of.

        Raises:
            SignatureError: It is not one by a trusted key.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError(f"has {len(signature)} bytes, a signature has {SIGNATURE_BYTES}")
        for key in self._keys:
            try:
                key.verify(signature, data)
            except InvalidSignature:
                continue
            return
        raise SignatureError("is no signature of the manifest by a trusted key")

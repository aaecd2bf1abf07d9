"""Signatures: what was signed passes, and nothing else does."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from signing_keys import make_keys

from teacherd.models.signature import SIGNATURE_BYTES, SignatureError, SigningKey, TrustedKeys


def test_what_was_signed_passes(tmp_path: Path) -> None:
    """With the public half from its file, and with the one that the private key tells."""
    private, public = make_keys(tmp_path)
    key = SigningKey.from_pem(private.read_bytes())

    signature = key.sign(b"manifest")

    assert SIGNATURE_BYTES == len(signature)
    TrustedKeys.from_pem(public.read_bytes()).check(b"manifest", signature)
    key.public.check(b"manifest", signature)


@given(place=st.integers(0, 63), bit=st.integers(0, 7), data=st.binary(min_size=1))
def test_a_signature_with_any_bit_changed_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, data: bytes
) -> None:
    """And so is the right one on other bytes."""
    private, _ = make_keys(tmp_path_factory.getbasetemp())
    key = SigningKey.from_pem(private.read_bytes())
    signature = bytearray(key.sign(data))
    signature[place] ^= 1 << bit

    with pytest.raises(SignatureError, match="trusted key"):
        key.public.check(data, bytes(signature))
    with pytest.raises(SignatureError, match="trusted key"):
        key.public.check(data + b"\n", key.sign(data))


def test_any_of_several_keys_will_do(tmp_path: Path) -> None:
    """One file with the old and the new key lets loaders live through a change of keys."""
    pairs = [make_keys(tmp_path, name) for name in ("old", "new", "strange")]
    pem = b"".join(public.read_bytes() for _, public in pairs[:2])
    trusted = TrustedKeys.from_pem(pem)
    signatures = [SigningKey.from_pem(private.read_bytes()).sign(b"m") for private, _ in pairs]

    trusted.check(b"m", signatures[0])
    trusted.check(b"m", signatures[1])
    with pytest.raises(SignatureError):
        trusted.check(b"m", signatures[2])


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65])
def test_a_signature_of_another_length_is_none(tmp_path: Path, signature: bytes) -> None:
    """The message says how long it is."""
    trusted = TrustedKeys.from_pem(make_keys(tmp_path)[1].read_bytes())

    with pytest.raises(SignatureError, match=f"has {len(signature)} bytes"):
        trusted.check(b"m", signature)


def other_kind(*, private: bool) -> bytes:
    """A key that cannot sign."""
    key = X25519PrivateKey.generate()
    if private:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_what_is_no_key_is_refused_in_words(tmp_path: Path) -> None:
    """Rubbish, the wrong half, another kind of key."""
    private, public = make_keys(tmp_path)

    for pem in (b"", b"rubbish", public.read_bytes()):
        with pytest.raises(ValueError, match="holds no unencrypted private key"):
            SigningKey.from_pem(pem)
    for pem in (b"", b"rubbish", private.read_bytes()):
        with pytest.raises(ValueError, match="holds no public key"):
            TrustedKeys.from_pem(pem)
    with pytest.raises(ValueError, match="only Ed25519"):
        SigningKey.from_pem(other_kind(private=True))
    with pytest.raises(ValueError, match="only Ed25519"):
        TrustedKeys.from_pem(other_kind(private=False))
    damaged = public.read_bytes().replace(b"MC", b"!!")
    with pytest.raises(ValueError, match="damaged"):
        TrustedKeys.from_pem(damaged)


def test_without_the_library_the_way_to_it_is_told() -> None:
    """Only who signs or checks needs it."""
    script = (
        "import sys; sys.modules['cryptography.hazmat.primitives.serialization'] = None\n"
        "from teacherd.models.signature import SigningKey, TrustedKeys\n"
        "for kind in (SigningKey, TrustedKeys):\n"
        "    try: kind.from_pem(b'')\n"
        "    except ValueError as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert 2 == done.stdout.count("pip install 'teacherd[sign]'")

"""The key with which the daemon signs versions, and the signatures of versions on the disk."""

from pathlib import Path

from teacherd.daemon.durable import remove_temporaries, write_file
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.models.artifact import MANIFEST, SIGNATURE, ArtifactError, read_manifest
from teacherd.models.signature import SigningKey


def load_signing_key(path: str | None) -> SigningKey | None:
    """Read the key that the configuration names, if it names one.

    Raises:
        ConfigurationError: It cannot be read, or is no Ed25519 key.
    """
    if path is None:
        return None
    try:
        return SigningKey.from_pem(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = (
            f"{path}: {reason}; make one with `openssl genpkey -algorithm ed25519 -out {path}`"
        )
        raise ConfigurationError([Problem("publication.signing_key_file", message)]) from error


def sign_folder(folder: Path, key: SigningKey) -> None:
    """Put the signature of its manifest into a folder that is not in its place yet."""
    (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))


def ensure_signed(folder: Path, key: SigningKey, *, sha256: str) -> None:
    """Sign a version that has no signature by this key, if its weights are those of the log.

    One that is pruned or damaged is passed over: whoever needs it will say so.

    Raises:
        StateError: The disk refused.
    """
    try:
        if read_manifest(folder).weights_sha256 != sha256:
            return
        read_manifest(folder, trusted=key.public)
    except ArtifactError as error:
        if error.reason == "signature":
            remove_temporaries(folder)
            write_file(folder / SIGNATURE, key.sign((folder / MANIFEST).read_bytes()))

"""Turns what kafka-python raises into what callers may expect of a source."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    KafkaConfigurationError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from teacherd.consumers.source import SourceError, SourceRefusedError

REFUSALS = (
    AuthorizationError,
    IllegalSaslStateError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
"""What brokers say to those whom they will not let in however often they ask."""


@contextmanager
def source_errors(doing: str) -> Iterator[None]:
    """Word a failure of a running client: whatever it is, it may pass.

    Also a refusal: rights and passwords are changed while processes run.

    Raises:
        SourceError: Always instead of what kafka-python raised.
    """
    try:
        yield
    except (KafkaError, OSError) as error:
        raise SourceError(f"Kafka, {doing}: {word(error)}") from error


@contextmanager
def opening_errors(servers: str) -> Iterator[None]:
    """Word a failure to make a client.

    Raises:
        SourceRefusedError: The settings are wrong, or do not let us in.
        SourceError: No broker answers.
    """
    try:
        yield
    except REFUSALS as error:
        raise SourceRefusedError(
            _refused_key(error),
            f"{servers} refused us: {word(error)}; give the user and the rights that the brokers "
            "want, see kafka.sasl_* and kafka.ssl_*",
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise SourceRefusedError(
            "ssl_cafile",
            f"the certificate of {servers} is not trusted: {error.verify_message}; name the "
            "authority that signed it, and the brokers as it does",
        ) from error
    except (KafkaConfigurationError, ValueError, TypeError, AssertionError) as error:
        raise SourceRefusedError("extra", f"kafka-python will not have it: {error}") from error
    except (KafkaError, OSError) as error:
        raise SourceError(f"Kafka at {servers} does not answer: {word(error)}") from error


def _refused_key(error: Exception) -> str:
    if isinstance(error, SaslAuthenticationFailedError):
        return "sasl_password"
    return (
        "sasl_mechanism"
        if isinstance(error, UnsupportedSaslMechanismError)
        else "security_protocol"
    )


def word(error: Exception) -> str:
    """Return a failure in words; many of the client's have only a name."""
    name, text = type(error).__name__, str(error)
    return text if name in text or not text else f"{name}: {text}"

"""A secret that a client shows with every request: `Authorization: Bearer ...`."""

import hmac
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse

from teacherd.daemon.errors import ConfigurationError, Problem


class BearerToken:
    """Compares in constant time, and never shows what it compares with."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def is_shown(self, request: Request) -> bool:
        """Whether a request carries it."""
        # Headers are bytes, which Starlette reads as Latin-1 whatever they mean.
        shown = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(shown, self._expected)

    @staticmethod
    def refusal(key: str) -> JSONResponse:
        """Return the answer to who does not know it, which names the setting."""
        error = {"key": "authorization", "message": f"must be `Bearer` and {key}"}
        return JSONResponse(
            {"errors": [error]},
            status_code=HTTPStatus.UNAUTHORIZED,
            headers={"WWW-Authenticate": "Bearer"},
        )


def read_token_file(path: str, *, key: str) -> str:
    """Return the first line of a file, without spaces around it.

    Args:
        path: Of the file.
        key: Of the setting that names the file.

    Raises:
        ConfigurationError: It cannot be read, or its first line is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        message = f"{path}: {reason}; name a file with a long random token"
        raise ConfigurationError([Problem(key, message)]) from error
    token = lines[0].strip() if lines else ""
    if not token:
        message = f"{path}: its first line is empty; put a long random token there"
        raise ConfigurationError([Problem(key, message)])
    return token

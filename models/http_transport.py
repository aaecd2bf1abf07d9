"""Files over HTTP(S): conditional reads of small ones, ranges of large ones. Standard library."""

import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from teacherd.models.transport import TransportError

_CHUNK_BYTES = 2**20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class HttpTransport:
    """Reads below a base URL.

    Args:
        url: Where `current` lies; user and password in it are sent as basic authentication.
        headers: Sent with every request, as a token would be.
        ca_file: Certificates to trust in place of the system's.
        timeout_seconds: Longest silence of the other side.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"root: {url}: names no host; write http://host:port/path")
        address = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, address, parts.path.rstrip("/"), "", ""))
        self._query = parts.query
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}
        if parts.username is not None:
            self._headers["Authorization"] = _basic(parts.username, parts.password or "")
        self._timeout = timeout_seconds
        context = ssl.create_default_context(cafile=ca_file)
        # No handler of file: or ftp:, so that no redirection leads there.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _SameHostRedirects(),
        ):
            self._opener.add_handler(handler)
        self._tags: dict[str, str] = {}

    def place(self, name: str) -> str:
        """Return the address of a file, without query or password."""
        return f"{self._base}/{name}"

    def read(self, name: str, *, largest_bytes: int) -> bytes:
        """Return a small file.

        Raises:
            TransportError: It is not there, too large, or nobody answers.
        """
        self.forget(name)
        content = self.read_if_changed(name, largest_bytes=largest_bytes)
        assert content is not None, "nothing was asked conditionally"
        return content

    def read_if_changed(self, name: str, *, largest_bytes: int) -> bytes | None:
        """Return a small file; None if its entity tag is still the one of the last time.

        Raises:
            TransportError: It is not there, too large, or nobody answers.
        """
        tag = self._tags.get(name)
        answer = self._open(name, {} if tag is None else {"If-None-Match": tag})
        if answer is None:
            return None
        with answer:
            try:
                content: bytes = answer.read(largest_bytes + 1)
            except (OSError, http.client.HTTPException) as error:
                raise TransportError("unreachable", f"breaks off: {error!r}") from error
        if len(content) > largest_bytes:
            raise TransportError("size", f"has more than the {largest_bytes} bytes expected")
        if answer.length:
            raise TransportError("unreachable", f"breaks off {answer.length} bytes too early")
        if answer.headers.get("ETag"):
            self._tags[name] = answer.headers["ETag"]
        return content

    def forget(self, name: str) -> None:
        """Take the file for changed at the next `read_if_changed`."""
        self._tags.pop(name, None)

    def stream(self, name: str, *, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes from start to end, or from 0 where the server knows no ranges.

        Raises:
            TransportError: It is not there, or nobody answers any more.
        """
        answer = self._open(name, {"Range": f"bytes={start}-{end - 1}"} if start else {})
        assert answer is not None, "nothing was asked conditionally"
        with answer:
            place = _first_byte(answer) if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
            while True:
                try:
                    chunk = answer.read(_CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise TransportError("unreachable", f"breaks off: {error!r}") from error
                if not chunk:
                    return
                yield place, chunk
                place += len(chunk)

    def _open(self, name: str, headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - urllib's own
        """Return the open answer; None for one that says that nothing has changed."""
        url = f"{self._base}/{quote(name)}" + (f"?{self._query}" if self._query else "")
        request = urllib.request.Request(url, headers={**self._headers, **headers})  # noqa: S310 - only http and https have handlers
        try:
            answer = self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_MODIFIED:
                return None
            reason = "missing" if error.code == HTTPStatus.NOT_FOUND else "unreachable"
            raise TransportError(reason, f"answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            raise TransportError("unreachable", f"does not answer: {cause!r}") from error
        return answer


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection, but takes no credentials to another host."""

    def redirect_request(  # noqa: PLR0917 - the signature is urllib's
        self,
        req: urllib.request.Request,
        fp: Any,  # noqa: ANN401 - as above
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if following is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            kept = {"If-none-match", "Range", "Accept-encoding"}
            following.headers = {k: v for k, v in following.headers.items() if k in kept}
        return following


def _first_byte(answer: Any) -> int:  # noqa: ANN401 - urllib's own
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None:
        raise TransportError("unreachable", "answers with a part of the file and not which")
    return int(match[1])


def _basic(user: str, password: str) -> str:
    import base64  # noqa: PLC0415 - hardly anybody needs it
    from urllib.parse import unquote  # noqa: PLC0415 - as above

    pair = f"{unquote(user)}:{unquote(password)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"

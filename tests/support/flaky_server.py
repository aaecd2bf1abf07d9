"""A small HTTP server that misbehaves on request: breaks off, lies, is away."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


@dataclass
class Answer:
    """What is sent for one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    """Content-Length, where it is not the truth."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for."""

    path: str
    headers: dict[str, str]
    body: bytes = b""


class FlakyServer:
    """Answers by a function of the request; remembers what was asked."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {k.lower(): v for k, v in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                asked = Asked(self.path, headers, body)
                owner.asked.append(asked)
                answer = owner.answer(asked)
                self.send_response(answer.status)
                length = len(answer.body) if answer.announced is None else answer.announced
                for name, value in {"Content-Length": str(length), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = True

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def file_answers(root: Path) -> Callable[[Asked], Answer]:
    """Return a function that answers with files below a root, without ranges or tags."""

    def answer(asked: Asked) -> Answer:
        path = root / asked.path.lstrip("/")
        return Answer(body=path.read_bytes()) if path.is_file() else Answer(status=404)

    return answer

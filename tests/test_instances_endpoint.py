"""POST /v1/instances over a real socket: durable when answered, bounded, and not for strangers."""

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from kafka_service import KafkaService

from teacherd.consumers.appender import Appender
from teacherd.consumers.decoding import DecodingConfig
from teacherd.consumers.kafka_appender import KafkaAppender
from teacherd.consumers.kafka_archive import KafkaArchive
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.record import NewRecord, OffsetRange, Partition
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.bearer_token import BearerToken
from teacherd.daemon.endpoints import Endpoints, EndpointsConfig
from teacherd.daemon.instances_endpoint import PATH, InstancesEndpoint
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView

INSTANCE = {"features": [1, 2], "label": "cat"}
TOKEN = "correct-horse"  # noqa: S105 (of a test)
NPY_HEADERS = {"content-type": "application/x-npy"}


class Service:
    """The endpoint on a stream log that a test may take away."""

    def __init__(self, directory: Path) -> None:
        self.stream = StreamLogConfig(path=str(directory / "stream.db"))
        self.metrics = Metrics()
        self.appender: Appender | None = None
        self.url = ""
        self.port = 0

    @contextmanager
    def serve(
        self, token: str | None = None, *, body_seconds: float = 30.0
    ) -> Iterator[httpx.Client]:
        """Answer until the end of the block; give a client."""
        endpoint = InstancesEndpoint(
            open_appender=lambda: self.appender or StreamLog(self.stream),
            token=None if token is None else BearerToken(token),
            max_request_bytes=2000,
            limits=DecodingConfig(),
            metrics=self.metrics,
            body_seconds=body_seconds,
        )
        board = StatusBoard(monotonic=lambda: 0.0)
        view = StatusView(
            board=board, readiness=lambda: "ready", liveness_seconds=10.0, now=lambda: 0.0
        )
        endpoints = Endpoints(
            EndpointsConfig(port=0),
            metrics=self.metrics,
            board=board,
            readiness=lambda: "ready",
            view=view,
            routes=endpoint.routes(),
        )
        self.port = endpoints.port
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{endpoints.port}", timeout=300) as client:
                yield client
        finally:
            endpoints.close()
            endpoint.close().result(300)

    def records(self) -> list[NewRecord]:
        """Return what is in the stream."""
        log = StreamLog(self.stream)
        batch = log.poll(10_000, 0.0)
        log.close()
        return [NewRecord(each.value, each.headers, each.key) for each in batch or ()]

    def requests(self, code: int) -> float | None:
        """Return how many requests were answered so."""
        return self.metrics.registry.get_sample_value(
            "teacherd_post_requests_total", {"code": str(code)}
        )


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Give a service that does not answer yet."""
    return Service(tmp_path)


def test_what_was_answered_is_in_the_stream(service: Service) -> None:
    """In the order of the requests, and counted."""
    with service.serve() as client:
        answer = client.post(PATH, json={"instances": [INSTANCE, INSTANCE]})
        in_stream = service.records()
        raw = client.post(f"{PATH}?label=dog", content=b"value", headers=NPY_HEADERS)

    assert (200, {"appended": 2}) == (answer.status_code, answer.json())
    assert (200, {"appended": 1}) == (raw.status_code, raw.json())
    assert 2 == len(in_stream)
    assert [b"value"] == [each.value for each in service.records()[2:]]
    assert 3.0 == service.metrics.registry.get_sample_value("teacherd_posted_instances_total")
    assert 2.0 == service.requests(200)


def test_what_is_wrong_is_told_and_nothing_is_appended(service: Service) -> None:
    """All of a request or none of it."""
    with service.serve() as client:
        answer = client.post(PATH, json={"instances": [INSTANCE, {"features": [1]}]})
        service_answers = client.get(PATH)

    assert 400 == answer.status_code
    assert ["instances[1].label"] == [each["key"] for each in answer.json()["errors"]]
    assert [] == service.records()
    assert 405 == service_answers.status_code


def test_many_clients_at_once_lose_nothing(service: Service) -> None:
    """Those who are told to come again do; each instance is there once."""

    def send(number: int, client: httpx.Client) -> None:
        for place in range(10):
            body = {"instances": [{**INSTANCE, "id": f"{number}-{place}"}]}
            while (answer := client.post(PATH, json=body)).status_code in (429, 503):
                assert "1" == answer.headers["Retry-After"]
            assert 200 == answer.status_code

    with service.serve() as client:
        threads = [threading.Thread(target=send, args=(n, client)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ids = [dict(record.headers)["id"].decode() for record in service.records()]
    assert sorted(f"{n}-{place}" for n in range(12) for place in range(10)) == sorted(ids)


def test_a_body_is_bounded_whether_it_says_so_or_not(service: Service) -> None:
    """By its length header, or when it has come too far."""
    with service.serve() as client:
        told = client.post(f"{PATH}?label=1", content=bytes(2001), headers=NPY_HEADERS)
        streamed = client.post(
            f"{PATH}?label=1", content=(bytes(500) for _ in range(5)), headers=NPY_HEADERS
        )
        longest = client.post(f"{PATH}?label=1", content=bytes(2000), headers=NPY_HEADERS)

    assert [413, 413, 200] == [each.status_code for each in (told, streamed, longest)]
    assert "max_request_bytes, 2000" in told.json()["errors"][0]["message"]
    assert 1 == len(service.records())


def test_a_client_that_goes_away_in_the_middle_appends_nothing(service: Service) -> None:
    """Half a body is no request."""
    with service.serve() as client:
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(
                b"POST /v1/instances?label=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: 100\r\n\r\nhalf"
            )
        after = client.post(PATH, json={"instances": [INSTANCE]})

    assert 200 == after.status_code
    assert 1 == len(service.records())


def begin_slowly(port: int, stack: ExitStack) -> list[socket.socket]:
    """Begin as many requests as there are places, with the first byte of a body."""
    head = (
        b"POST /v1/instances?label=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1000\r\n\r\n"
    )
    slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(8)]
    for connection in slow:
        connection.sendall(head + b"a")
    return slow


def test_only_so_many_are_taken_at_once(service: Service) -> None:
    """Whoever comes when all eight places are held is told to come again."""
    num_taken = 0
    with service.serve(body_seconds=3600) as client, ExitStack() as stack:
        begin_slowly(service.port, stack)
        while (answer := client.post(PATH, json={"instances": [INSTANCE]})).status_code == 200:
            num_taken += 1  # not all of them have come yet

    assert (503, "1") == (answer.status_code, answer.headers["Retry-After"])
    assert num_taken == len(service.records())


def test_a_body_that_drips_is_not_waited_for(service: Service) -> None:
    """Nor does it keep one of the eight places, however regularly another byte comes."""
    with service.serve(body_seconds=0.5) as client, ExitStack() as stack:
        slow = begin_slowly(service.port, stack)
        answers = [answer_to_a_drip(connection) for connection in slow]
        after = client.post(PATH, json={"instances": [INSTANCE]})

    assert {b"HTTP/1.1 408"} == {answer[:12] for answer in answers}
    assert 200 == after.status_code
    assert 1 == len(service.records())


def answer_to_a_drip(connection: socket.socket) -> bytes:
    """Send byte after byte until an answer comes; return it."""
    while not select.select([connection], [], [], 0.05)[0]:
        connection.sendall(b"a")
    return connection.recv(1000)


def test_only_who_shows_the_token_is_let_in(service: Service) -> None:
    """The answer says how; nothing of a stranger's is even read."""
    body = {"instances": [INSTANCE]}
    with service.serve(token=TOKEN) as client:
        answers = [
            client.post(PATH, json=body, headers=headers)
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": TOKEN},
                {"Authorization": f"Bearer {TOKEN}", "Origin": "http://page"},
            )
        ]

    assert [401, 401, 401, 200] == [each.status_code for each in answers]
    assert "Bearer" == answers[0].headers["WWW-Authenticate"]
    assert TOKEN not in answers[1].text
    assert 1 == len(service.records())


def test_without_a_token_no_page_in_a_browser_is_let_in(service: Service) -> None:
    """Loopback is no wall against what a browser on the same machine is shown."""
    with service.serve() as client:
        answer = client.post(
            PATH, content=json.dumps({"instances": [INSTANCE]}), headers={"Origin": "http://page"}
        )

    assert 403 == answer.status_code
    assert [] == service.records()


class AwayAppender:
    """A stream that does not take anything."""

    num_closed = 0

    def append(self, _: object) -> object:
        """Refuse."""
        raise SourceError("the disk is full")

    def close(self) -> None:
        """Note it."""
        self.num_closed += 1


def test_a_stream_that_is_away_is_told_and_opened_again(service: Service) -> None:
    """The client tries again; what failed is not used any more."""
    away = AwayAppender()
    service.appender = away
    with service.serve() as client:
        answer = client.post(PATH, json={"instances": [INSTANCE]})
        service.appender = None
        again = client.post(PATH, json={"instances": [INSTANCE]})

    assert (503, "1") == (answer.status_code, answer.headers["Retry-After"])
    assert "the disk is full" in answer.text
    assert 200 == again.status_code
    assert 1 == away.num_closed


def test_on_kafka_what_was_answered_is_on_the_topic(service: Service, kafka: KafkaService) -> None:
    """On the partition of its key; one that the topic does not take is the client's to mend."""
    topic = kafka.create_topic(configs={"max.message.bytes": "600"})
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic)
    service.appender = KafkaAppender(config)
    with service.serve() as client:
        answer = client.post(PATH, json={"instances": [{**INSTANCE, "key": "k", "id": "a"}]})
        ends = kafka.ends(topic)
        too_large = client.post(f"{PATH}?label=1", content=bytes(1500), headers=NPY_HEADERS)
    archive = KafkaArchive(config)
    (batch,) = archive.read([OffsetRange(Partition(topic, 0), 0, 1)])
    archive.close()

    assert (200, {"appended": 1}) == (answer.status_code, answer.json())
    assert {0: 1} == ends
    assert b"k" == batch.keys[0]
    assert b"a" == dict(batch.record(0).headers)["id"]
    assert 400 == too_large.status_code
    assert "max.message.bytes" in too_large.text

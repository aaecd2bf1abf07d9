"""`teacherd serve` as a process, asked by Triton's own client: right answers, of one version."""

import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from public_server import serve_root
from serving_process import LIMIT_SECONDS, ServingProcess
from signing_keys import make_certificate, make_keys
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException
from versions import publish

from teacherd.daemon.errors import ConfigurationError, ExitCode, TemporaryError
from teacherd.daemon.serving import Serving
from teacherd.daemon.serving_config import ServingConfig
from teacherd.daemon.signing import load_signing_key, sign_folder
from teacherd.models.artifact import version_folder
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.preprocessing import Preprocessing

OWN = {"network": "versions:Paired"}
IMAGES = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8), arguments={"width": 4})


def publish_images(root: Path, version: int) -> None:
    """Publish a version of a network for images."""
    torch.manual_seed(version)
    publish(
        root,
        version,
        network=build_backbone(IMAGES, num_classes=3).eval(),
        architecture=IMAGES,
        preprocessing=Preprocessing(mean=(0.3,), std=(0.2,), scale=1 / 255),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one version of a network for images."""
    root = tmp_path_factory.mktemp("images") / "root"
    publish_images(root, 1)
    return root


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """A server of it that all tests may ask."""
    directory = tmp_path_factory.mktemp("server")
    limits = {"max_request_bytes": 100_000, "max_request_instances": 100}
    with ServingProcess(directory, root, **limits) as server:
        yield server.wait_until_ready()


@pytest.fixture
def client(server: ServingProcess) -> Iterator[InferenceServerClient]:
    """Triton's client of it."""
    with InferenceServerClient(server.address, concurrency=4) as client:
        yield client


def images(count: int = 5) -> np.ndarray:
    """Raw images."""
    return np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)


def question(array: np.ndarray, datatype: str, *, binary: bool = True) -> list[InferInput]:
    """The client's input."""
    tensor = InferInput("inputs", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


def test_tritons_client_finds_everything_it_asks_for(client: InferenceServerClient) -> None:
    """Health, metadata of server and model, and the index."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("teacher")
    assert client.is_model_ready("teacher", "1")
    assert not client.is_model_ready("other")
    assert not client.is_model_ready("teacher", "2")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    model = client.get_model_metadata("teacher")
    assert ["1"] == model["versions"] == client.get_model_metadata("teacher", "1")["versions"]
    assert [-1, 1, 8, 8] == model["inputs"][0]["shape"]
    index = client.get_model_repository_index()
    assert [{"name": "teacher", "version": "1", "state": "READY"}] == index


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_an_answer_is_what_a_hot_teacher_says(
    client: InferenceServerClient, root: Path, datatype: str, binary: bool
) -> None:
    """In bytes and in JSON, with the version that said it."""
    array = images() if datatype == "UINT8" else images().astype(np.float32)
    outputs = [
        InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "labels")
    ]
    with HotTeacher(root, poll_seconds=3600) as teacher:
        expected = teacher.predict(images())

    asked = question(array, datatype, binary=binary)
    result = client.infer("teacher", asked, outputs=outputs, request_id="r1")

    np.testing.assert_allclose(
        expected.probabilities.numpy(), result.as_numpy("probabilities"), rtol=1e-5
    )
    labels = result.as_numpy("labels").tolist()
    assert list(expected.labels) == [x.decode() if isinstance(x, bytes) else x for x in labels]
    response = result.get_response()
    assert ("teacher", "1", "r1") == (
        response["model_name"],
        response["model_version"],
        response["id"],
    )


def test_the_clients_defaults_work(client: InferenceServerClient) -> None:
    """No outputs named: both come, in bytes; a version may be named."""
    result = client.infer("teacher", question(images(), "UINT8"), model_version="1")

    assert (5, 3) == result.as_numpy("probabilities").shape
    assert (5,) == result.as_numpy("labels").shape


@pytest.mark.parametrize(
    ("model", "version", "array", "message"),
    [
        ("other", "", images(), "must be 'teacher'"),
        ("teacher", "9", images(), "1 is served"),
        ("teacher", "", images()[:, :, :4], r"must be \[-1, 1, 8, 8\]"),
        ("teacher", "", images(101), "at most 100 in one request"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    client: InferenceServerClient, model: str, version: str, array: np.ndarray, message: str
) -> None:
    """As Triton's client shows errors."""
    with pytest.raises(InferenceServerException, match=message):
        client.infer(model, question(array, "UINT8"), model_version=version)


def test_bodies_have_limits(server: ServingProcess) -> None:
    """By what is announced and by what comes; other encodings and methods are refused too."""
    path = "/v2/models/teacher/infer"

    assert 413 == server.get(path, b"x" * 200_000)[0]
    assert 415 == server.get(path, b"{}", Content_Encoding="gzip")[0]
    assert 405 == server.get(path)[0]
    code, answer = server.get("/v2/nowhere")
    assert (404, "there is no /v2/nowhere here") == (code, answer["error"])
    with socket.create_connection(server.address.split(":")) as connection:
        chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + chunk * 3
        )
        assert b"413" in connection.recv(100)


def test_latencies_are_histograms(server: ServingProcess, client: InferenceServerClient) -> None:
    """Beside requests by their code, batches, the queue, and what the loader does."""
    client.infer("teacher", question(images(), "UINT8"))

    code, text = server.get("/metrics")

    assert 200 == code
    for name in (
        'teacherd_serving_request_duration_seconds_bucket{le="0.5"}',
        "teacherd_serving_compute_duration_seconds_count",
        "teacherd_serving_queue_duration_seconds_sum",
        'teacherd_serving_batch_instances_bucket{le="8.0"}',
        'teacherd_serving_requests_total{code="200"}',
        "teacherd_serving_queue_instances 0.0",
        "teacherd_loader_version 1.0",
    ):
        assert name in text


def test_swaps_under_load_fail_nothing_and_mix_nothing(tmp_path: Path) -> None:
    """Eight clients, thirty versions: every answer is of the version that it names, whole."""
    root = tmp_path / "root"
    publish(root, 1)
    problems: list[str] = []
    versions: set[int] = set()
    done = threading.Event()
    batch = np.ones((3, 4), dtype=np.float32)

    def ask(address: str) -> None:
        latest = 0
        with InferenceServerClient(address) as client:
            while not done.is_set():
                try:
                    result = client.infer("teacher", question(batch, "FP32"))
                except Exception as error:  # noqa: BLE001 - any failure is what is looked for
                    problems.append(repr(error))
                    return
                version = int(result.get_response()["model_version"])
                expected = torch.tensor([[version / 1000, 0, 0]] * 3).softmax(1).numpy()
                if not np.allclose(expected, result.as_numpy("probabilities"), rtol=1e-6):
                    problems.append(f"version {version}: {result.as_numpy('probabilities')}")
                if version < latest:
                    problems.append(f"version {version} after {latest}")
                latest = version
                versions.add(version)

    with ServingProcess(tmp_path, root, **OWN) as server, ThreadPoolExecutor(8) as pool:
        address = server.wait_until_ready().address
        asking = [pool.submit(ask, address) for _ in range(8)]
        try:
            for version in range(2, 32):
                publish(root, version)
                wait_for_version(server, version)
                wait_until(lambda version=version: problems or version in versions)
        finally:
            done.set()
        for each in asking:
            each.result()

        assert [] == problems
        assert set(range(2, 32)) <= versions
        assert 0 == server.stop()


def wait_for_version(server: ServingProcess, version: int) -> None:
    """Wait until it is served."""
    wait_until(
        lambda: [str(version)] == server.get("/v2/models/teacher")[1].get("versions"),
        otherwise=lambda: f"version {version} did not come:\n{server.log}",
    )


def wait_until(
    condition: Callable[[], object], otherwise: Callable[[], str] = lambda: "it did not come true"
) -> None:
    """Wait for what server and clients do."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.01)


def test_an_orderly_stop_answers_what_was_asked(tmp_path: Path) -> None:
    """A request that is being computed is answered in full; then the process ends with 0."""
    publish(tmp_path / "root", 1)
    with ServingProcess(tmp_path, tmp_path / "root", network="slow_networks:Slow") as server:
        address = server.wait_until_ready().address
        batch = np.ones((1, 4), dtype=np.float32)
        with (
            ThreadPoolExecutor(1) as pool,
            InferenceServerClient(address, network_timeout=300) as client,
        ):
            asking = pool.submit(client.infer, "teacher", question(batch, "FP32"))
            begun = "teacherd_serving_queue_duration_seconds_count 1.0"
            wait_until(lambda: begun in server.get("/metrics")[1], lambda: server.log)

            assert 0 == server.stop()
            assert (1, 3) == asking.result().as_numpy("probabilities").shape
    assert '"event": "stopped"' in server.log


def test_no_client_can_send_headers_without_end(server: ServingProcess) -> None:
    """Its connections are guarded: tests/test_guarded_protocol.py."""
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
        with pytest.raises(ConnectionError):
            connection.sendall(b"a" * (64 << 20))

    assert 200 == server.get("/livez")[0]


def test_it_answers_https(root: Path, tmp_path: Path) -> None:
    """With the certificate that it was given, and nothing else."""
    certificate, key = make_certificate(tmp_path)
    files = {"certificate_file": str(certificate), "key_file": str(key)}
    trusting = ssl.create_default_context(cafile=certificate)
    with ServingProcess(tmp_path, root, **files) as server:
        server.wait_until_ready()
        url = f"https://{server.address}/v2/health/ready"

        assert 200 == httpx.get(url, verify=trusting, timeout=300).status_code
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(url, timeout=300)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            httpx.get(url.replace("https", "http"), timeout=300)

        assert 0 == server.stop()


def test_a_hangup_is_refused_and_survived(root: Path, tmp_path: Path) -> None:
    """Who asks for a reload is told that there is none; it serves on."""
    with ServingProcess(tmp_path, root) as server:
        server.wait_until_ready()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_event("reload_refused")

        assert 200 == server.get("/readyz")[0]
        assert 0 == server.stop()


def test_it_is_live_and_not_ready_until_a_version_comes(tmp_path: Path) -> None:
    """A pod may start before the daemon has published; requests are told to come again."""
    with ServingProcess(tmp_path, tmp_path / "root", **OWN) as server:
        while True:  # the socket is there before the server answers
            try:
                live = server.get("/v2/health/live")[0]
                break
            except OSError:
                time.sleep(0.02)
        assert (200, 503) == (live, server.get("/v2/health/ready")[0])
        assert 503 == server.get("/v2/models/teacher/infer", b"{}")[0]
        assert 503 == server.get("/v2/models/teacher/ready")[0]
        assert [] == server.get("/v2/repository/index", b"")[1]

        publish(tmp_path / "root", 4)
        wait_for_version(server, 4)
        server.wait_until_ready()
        assert 200 == server.get("/readyz")[0]
        assert 0 == server.stop()


def test_without_a_version_it_ends_with_69(tmp_path: Path) -> None:
    """And says why; while it waits, what for."""
    with ServingProcess(tmp_path, tmp_path / "root", start_seconds=0.1) as server:
        assert 69 == server.wait()
    assert 1 == server.log.count('"event": "waiting_for_version"')
    assert "no version to serve within 0.1 seconds" in server.log
    assert "is not there" in server.log


def test_a_signal_while_it_waits_for_a_version_ends_it_with_0(tmp_path: Path) -> None:
    """It need not come first."""
    with ServingProcess(tmp_path, tmp_path / "root") as server:
        assert server.address

        assert 0 == server.stop()


def test_a_port_in_use_is_temporary(server: ServingProcess, root: Path) -> None:
    """Another process is in the way: 75."""
    port = int(server.address.partition(":")[2])

    with pytest.raises(
        TemporaryError, match=rf"serving\.port: 127\.0\.0\.1:{port} cannot be"
    ) as raised:
        Serving(ServingConfig(port=port, device="cpu"), root=str(root)).run()

    assert ExitCode.TEMPORARY == raised.value.exit_code


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "nowhere:at_all"}, "serving.network: nowhere:at_all: cannot be imported"),
        ({"public_key_file": "nowhere.pem"}, "serving.public_key_file: nowhere.pem"),
        ({"device": "tpu"}, "serving.device: 'tpu'"),
        ({"option_files": {"token": "nowhere"}}, "serving.option_files.token: nowhere"),
        ({"certificate_file": "nowhere.pem"}, "serving.certificate_file: nowhere.pem"),
        ({"host": "no host"}, "serving.host: no host:0"),
    ],
)
def test_a_wrong_configuration_is_named_by_its_key(
    root: Path, settings: dict[str, object], message: str
) -> None:
    """78: a supervisor must not restart it; nothing is left listening."""
    config = ServingConfig(**{"port": 0, "device": "cpu", **settings})

    with pytest.raises(ConfigurationError, match=re.escape(message)) as raised:
        Serving(config, root=str(root)).run()

    assert ExitCode.CONFIGURATION == raised.value.exit_code
    assert "http" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 65536},
        {"model_name": "a/b"},
        {"model_name": ""},
        {"max_batch": 0},
        {"max_queue": 0},
        {"poll_seconds": 0},
        {"max_delay_seconds": -1},
        {"num_threads": -1},
        {"key_file": "key.pem"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    """Field, value and rule."""
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name}: "):
        ServingConfig(**settings)  # type: ignore[arg-type]  # parametrised


def test_it_serves_a_daemons_signed_versions_over_http(tmp_path: Path) -> None:
    """As on another machine: by URL, with a cache and the public key; unsigned ones never."""
    private, public = make_keys(tmp_path)
    publish_images(tmp_path / "root", 1)
    settings = {
        "cache_directory": str(tmp_path / "cache"),
        "public_key_file": str(public),
        "start_seconds": 0.1,
    }
    with serve_root(tmp_path / "root") as address:
        with ServingProcess(tmp_path, address, **settings) as server:
            assert 69 == server.wait()
        assert "has no manifest.sig" in server.log
        sign(tmp_path / "root", private)

        with ServingProcess(tmp_path, address, **settings) as server:
            server.wait_until_ready()
            assert ["1"] == server.get("/v2/models/teacher")[1]["versions"]
            assert 0 == server.stop()


def sign(root: Path, private: Path) -> None:
    """Sign version 1."""
    key = load_signing_key(str(private))
    assert key is not None
    sign_folder(version_folder(root, 1), key)

"""The process of `teacherd serve`: an inference server that follows the served version."""

import threading
import time

import structlog
import uvicorn

from teacherd.daemon.batcher import Batcher
from teacherd.daemon.device import prepare_device
from teacherd.daemon.endpoints import bind, load_tls
from teacherd.daemon.errors import ConfigurationError, ExitCode, Problem, UnavailableError
from teacherd.daemon.guarded_protocol import guarded_protocol
from teacherd.daemon.inference_app import InferenceApp
from teacherd.daemon.option_files import read_option_files
from teacherd.daemon.serving_config import ServingConfig
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.daemon.signals import ending, handled
from teacherd.models.artifact import Manifest
from teacherd.models.hot_teacher import HotTeacher, NoTeacherError

SECTION = "serving"
_TICK_SECONDS = 0.2
_JOIN_SECONDS = 0.05
_MAX_CONNECTIONS = 512
"""Further ones are answered 503: a process may often have no more than 1,024 files open."""
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that none sends on one that closes just then."""


class Serving:
    """run = listen, wait for a first version, serve, end in order.

    Args:
        root: Where the versions are.

    Raises:
        ConfigurationError: Device, key, network or options cannot be used.
    """

    def __init__(self, config: ServingConfig, *, root: str) -> None:
        self._config = config
        self._state = "starting"
        self._stop = threading.Event()
        self._force = threading.Event()
        self._reload = threading.Event()
        self._metrics = ServingMetrics()
        self._teacher = build_teacher(config, root=root)
        self._teacher.register_metrics(self._metrics.registry)
        self._log = structlog.get_logger()

    def run(self) -> ExitCode:
        """Serve until a signal; return the code to exit with.

        Raises:
            TeacherdError: It could not start, or no version came.
        """
        handlers = ending(stop=self._stop, force=self._force, hang_up=lambda *_: self._reload.set())
        # Before it says that it listens: whoever reads that may end it.
        with handled(handlers):
            server, thread = self._listen()
            thread.start()
            try:
                exit_code = self._watch(thread)
            finally:
                self._end(server, thread)
        self._log.info("stopped", exit_code=int(exit_code))
        return exit_code

    def _listen(self) -> tuple[uvicorn.Server, threading.Thread]:
        config = self._config
        app = InferenceApp(
            model_name=config.model_name,
            batcher=self._build_batcher,
            manifest=self._manifest,
            readiness=lambda: self._state,
            max_request_bytes=config.max_request_bytes,
            max_request_instances=config.max_request_instances,
            metrics=self._metrics,
        )
        server_config = uvicorn.Config(
            app.build(),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            limit_concurrency=_MAX_CONNECTIONS,
            http=guarded_protocol(max_request_bytes=config.max_request_bytes),
            timeout_graceful_shutdown=max(1, int(config.shutdown_seconds)),
            ssl_certfile=config.certificate_file,
            ssl_keyfile=config.key_file,
        )
        load_tls(server_config, SECTION)
        server = uvicorn.Server(server_config)
        bound = bind(config, section=SECTION)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [bound]}, name="http", daemon=True
        )
        self._log.info("listening", host=config.host, port=bound.getsockname()[1])
        return server, thread

    def _build_batcher(self) -> Batcher:
        config = self._config
        return Batcher(
            self._teacher.predict,
            max_batch=config.max_batch,
            max_delay_seconds=config.max_delay_seconds,
            max_queue=config.max_queue,
            metrics=self._metrics,
        )

    def _manifest(self) -> Manifest | None:
        return None if self._teacher.stats.version is None else self._teacher.manifest

    def _wait_for_version(self) -> bool:
        """Wait for a first version; return whether there is one, and not a signal to end.

        Raises:
            UnavailableError: None came in time that could be served.
        """
        deadline = time.monotonic() + self._config.start_seconds
        is_told = False
        while True:
            try:
                self._teacher.start(timeout_seconds=0)
            except NoTeacherError as error:
                if not is_told:
                    # A process that says only that it listens looks as if it hung.
                    self._log.info("waiting_for_version", reason=str(error.__cause__))
                    is_told = True
                if time.monotonic() >= deadline:
                    raise UnavailableError(
                        f"no version to serve within {self._config.start_seconds:g} seconds "
                        f"(serving.start_seconds): {error.__cause__ or error}"
                    ) from error
            else:
                return True
            if self._stop.wait(min(self._config.poll_seconds, 1.0)):
                return False

    def _watch(self, thread: threading.Thread) -> ExitCode:
        """Wait for a reason to end; return the code to exit with."""
        if not self._wait_for_version():
            return ExitCode.OK
        self._state = "ready"
        self._log.info("started", version=self._teacher.version)
        while not self._stop.wait(_TICK_SECONDS):
            if self._reload.is_set():
                self._reload.clear()
                self._log.error("reload_refused", reason="only a restart can change serving")
            if not thread.is_alive():
                self._log.error("thread_failed", thread="http", error="the thread has ended")
                return ExitCode.INTERNAL
        return ExitCode.OK

    def _end(self, server: uvicorn.Server, thread: threading.Thread) -> None:
        """Answer what was asked, refuse what comes, until the deadline or a second signal."""
        self._state = "stopping"
        self._log.info("stopping", deadline_seconds=self._config.shutdown_seconds)
        server.should_exit = True
        deadline = time.monotonic() + self._config.shutdown_seconds
        while thread.is_alive() and time.monotonic() < deadline:
            if self._force.is_set():
                server.force_exit = True
            thread.join(_JOIN_SECONDS)
        self._teacher.close()


def build_teacher(config: ServingConfig, *, root: str) -> HotTeacher:
    """Build what is served, as the configuration says; loads nothing yet.

    Raises:
        ConfigurationError: Device, key, network or options cannot be used.
    """
    device = prepare_device(config.device, config.num_threads, section=SECTION)
    options = {**config.options, **read_option_files(SECTION, config.option_files)}
    try:
        return HotTeacher(
            root,
            mode=config.mode,
            device=device,
            poll_seconds=config.poll_seconds,
            network=config.network,
            public_key=config.public_key_file,
            cache=config.cache_directory,
            options=options,
        )
    except ValueError as error:
        argument, _, message = str(error).partition(": ")
        key = {"public_key": "public_key_file", "name": "network"}.get(argument, argument)
        raise ConfigurationError([Problem(f"{SECTION}.{key}", message)]) from error

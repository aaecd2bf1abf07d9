"""The process: starts up in order, watches its threads, ends in order within one deadline."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import structlog
from starlette.routing import BaseRoute

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.bearer_token import BearerToken
from teacherd.daemon.commands import Commands
from teacherd.daemon.commands_endpoint import CommandsEndpoint
from teacherd.daemon.config import Config, changed_keys
from teacherd.daemon.endpoints import Endpoints, read_admin_token, read_token
from teacherd.daemon.errors import ConfigurationError, ExitCode, TemporaryError
from teacherd.daemon.guarded_threads import GuardedThreads
from teacherd.daemon.history import History, sampled_values
from teacherd.daemon.instances_endpoint import InstancesEndpoint
from teacherd.daemon.interruption import StopRequestedError
from teacherd.daemon.joining import rank_problems, require_joinable
from teacherd.daemon.logs import set_level
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.niceness import give_way
from teacherd.daemon.notifying import Notifying
from teacherd.daemon.page_routes import page_routes
from teacherd.daemon.public_files import PublicFiles
from teacherd.daemon.service_manager import ServiceManager
from teacherd.daemon.signals import ending, handled
from teacherd.daemon.source_opening import open_appender
from teacherd.daemon.state_directory import PUBLIC, make_state_directory
from teacherd.daemon.state_lock import StateLock, require_not_held, wait_for_lock
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView
from teacherd.daemon.validation import validate_files
from teacherd.models.ranks import ALONE, Ranks

_TICK_SECONDS = 0.2
_JOIN_SECONDS = 0.05
_START_SECONDS = 120.0
"""Longest time between two signs of progress of a start."""
RELOADABLE = ("logging.level", "learning.", "drift.", "checkpoints.interval_")
"""Keys, or beginnings of keys, that SIGHUP may change."""


class Service:
    """run = startup, watch, shutdown; a thread's failure becomes the exit code.

    Args:
        reread: Resolves the configuration again, for SIGHUP.
        manager: Told how the process is; closed at the end.
        is_standby: Whether to wait while another process holds the state directory.
        ranks: Those that learn with this process, which is the first of them.
    """

    def __init__(
        self,
        config: Config,
        *,
        reread: Callable[[], Config],
        manager: ServiceManager,
        is_standby: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self._manager = manager
        self._ranks = ranks
        self._is_standby = is_standby
        self._config = config
        self._reread = reread
        self._stop = threading.Event()
        self._is_told = threading.Event()
        """Set by a signal; a command, an error or another rank may end the process as well."""
        self._force = threading.Event()
        self._reload = threading.Event()
        self._state = "starting"
        self._deadline = 0.0
        """Of the end, on the monotonic clock, once that has begun."""
        self._is_posting = False
        """Whether the end cuts off an append that was asked for by HTTP."""
        self._threads = GuardedThreads(self._stop)
        self._metrics = Metrics()
        self._commands = Commands()
        self._board = StatusBoard(monotonic=time.monotonic)
        self._history = History()
        self._view = StatusView(
            board=self._board,
            readiness=lambda: self._state,
            liveness_seconds=config.endpoints.liveness_seconds,
            now=time.time,
        )
        self._log = structlog.get_logger()

    def run(self) -> ExitCode:
        """Serve until a signal or a dead thread; return the code to exit with.

        Does not return, but ends the process, if a thread has not ended by the deadline.

        Raises:
            TeacherdError: It could not start.
        """
        handlers = ending(
            stop=self._is_told,
            force=self._force,
            hang_up=lambda *_: self._reload.set(),
            on_end=self._stop.set,
        )
        with handled(handlers), ExitStack() as closing_last:
            endpoints = self._open_endpoints(closing_last)
            self._log.info("listening", host=self._config.endpoints.host, port=endpoints.port)
            try:
                self._serve(endpoints)
            finally:
                endpoints.close()
                self._manager.close()
        exit_code = self._threads.exit_code
        self._log.info("stopped", exit_code=int(exit_code))
        if self._threads.alive or self._is_posting:
            # An interpreter that ends in order takes torch away from under a thread that computes,
            # and aborts; it also waits for the threads of pools, however long they take.
            logging.shutdown()
            os._exit(exit_code)
        return exit_code

    def _open_endpoints(self, closing_last: ExitStack) -> Endpoints:
        try:
            return Endpoints(
                self._config.endpoints,
                metrics=self._metrics,
                board=self._board,
                readiness=lambda: self._state,
                view=self._view,
                routes=[
                    *page_routes(self._history.snapshot),
                    *self._public_routes(),
                    *self._posting_routes(closing_last),
                    *self._command_routes(),
                ],
            )
        except TemporaryError:
            # Where the same daemon is started twice, who learns here says more than who has a port.
            if not self._is_standby:
                require_not_held(Path(self._config.process.state_directory))
            raise

    def _public_routes(self) -> list[BaseRoute]:
        if not self._config.endpoints.serve_versions:
            return []
        return PublicFiles(Path(self._config.process.state_directory) / PUBLIC).routes("/public")

    def _posting_routes(self, closing_last: ExitStack) -> list[BaseRoute]:
        config = self._config
        if not config.endpoints.accept_instances:
            return []
        token = read_token(config.endpoints)
        endpoint = InstancesEndpoint(
            open_appender=lambda: open_appender(config),
            token=None if token is None else BearerToken(token),
            max_request_bytes=config.endpoints.max_request_bytes,
            limits=config.decoding,
            metrics=self._metrics,
        )
        closing_last.callback(self._close_posting, endpoint)
        return endpoint.routes()

    def _command_routes(self) -> list[BaseRoute]:
        token = read_admin_token(self._config.endpoints)
        if token is None:
            return []
        return CommandsEndpoint(
            self._commands,
            token=BearerToken(token),
            readiness=lambda: self._state,
            stop=self._stop,
        ).routes()

    def _close_posting(self, endpoint: InstancesEndpoint) -> None:
        """Let what clients have posted become durable, until the deadline or a second signal."""
        ended = endpoint.close()
        self._deadline = self._deadline or time.monotonic() + self._config.process.shutdown_seconds
        while self._may_wait and not ended.done():
            wait([ended], timeout=_JOIN_SECONDS)
        if not ended.done():
            # Nobody was answered 200 for it.
            self._log.warning("stopped_at_deadline", threads=["posting"])
            self._is_posting = True

    def _serve(self, endpoints: Endpoints) -> None:
        lock = self._stand_by() if self._is_standby else None
        if lock is not None or not self._is_standby:
            self._take_over(endpoints, lock)

    def _stand_by(self) -> StateLock | None:
        """Wait for the state directory; what would end the process later ends it now."""
        validate_files(self._config)
        directory = Path(self._config.process.state_directory)
        make_state_directory(directory)

        def held(holder: str) -> None:
            self._state = "standby"
            self._board.update("standby", holder=holder)
            self._log.info("standby", holder=holder)
            # It does what it was started for, though it may be days until it learns.
            self._manager.ready()
            self._manager.tell(f"standby: process {holder} holds the state directory")

        lock = wait_for_lock(
            directory,
            stop=self._stop,
            on_held=held,
            on_wait=self._manager.give_sign_of_life,
        )
        if lock is not None and self._state == "standby":
            self._state = "starting"
            self._board.update("standby", holder=None)
            self._log.info("took_over")
        return lock

    def _take_over(self, endpoints: Endpoints, lock: StateLock | None) -> None:
        assembly = Assembly(
            self._config,
            metrics=self._metrics,
            board=self._board,
            history=self._history,
            commands=self._commands,
            on_progress=self._show_progress,
            ranks=self._ranks,
            stop=self._stop,
        )
        try:
            try:
                with rank_problems():
                    assembly.start(lock)
            except StopRequestedError:
                self._log.info("start_abandoned")
                return
            self._metrics.reload_successful.set(1)
            control = assembly.open_control()
            # Told before any thread does something that is told, too.
            self._state = "ready"
            self._log.info("started", version=self._board.snapshot()["teacher"]["version"])
            # From here on nothing fails but in a thread.
            self._threads.start("intake", assembly.intake.run)
            self._threads.start("learning", lambda: self._learn(assembly))
            self._threads.start("control", control.run)
            for mirroring in assembly.mirrors:
                self._threads.start(f"mirror-{mirroring.name}", mirroring.run)
            for notifying in assembly.announcer.receivers:
                self._threads.start(f"notify-{notifying.name}", notifying.run)
            self._manager.tell(_in_short(self._view.take()))
            self._manager.ready()
            try:
                self._watch(assembly, endpoints)
            except Exception as error:  # noqa: BLE001 (the threads must be let end all the same)
                self._threads.fail("main", error)
            self._shutdown(assembly.announcer.receivers)
        finally:
            self._stop.set()
            if not self._threads.alive:
                assembly.close()

    def _show_progress(self) -> None:
        """A start may learn a planned task again, however long that takes, and must not hang."""
        self._manager.extend_start(_START_SECONDS)
        self._manager.give_sign_of_life()

    def _watch(self, assembly: Assembly, endpoints: Endpoints) -> None:
        """Wait for a reason to end; re-read the configuration when asked to."""
        while not self._stop.wait(_TICK_SECONDS):
            status = self._view.take()
            self._history.sample(status["at_ms"], sampled_values(status))
            self._manager.tell(_in_short(status))
            if self._board.is_live(limit_seconds=self._config.endpoints.liveness_seconds):
                self._manager.give_sign_of_life()
            if not endpoints.is_alive:
                self._threads.fail("endpoints", RuntimeError("the thread has ended"))
            if self._reload.is_set():
                self._reload.clear()
                self._manager.reloading()
                self._apply_reload(assembly)
                self._manager.ready()

    def _shutdown(self, receivers: Sequence[Notifying]) -> None:
        """Let the threads end by themselves, until the deadline or a second signal."""
        self._state = "stopping"
        self._manager.stopping()
        seconds = self._config.process.shutdown_seconds
        self._log.info("stopping", deadline_seconds=seconds)
        self._deadline = time.monotonic() + seconds
        for name in self._threads.join(
            may_wait=lambda: self._may_wait, on_wait=self._manager.give_sign_of_life
        ):
            if name == "learning":
                # What it decided last is told too.
                for notifying in receivers:
                    notifying.finish()
        alive = self._threads.alive
        if alive:
            # The lineage log holds everything: what is cut off here is made up for at the start.
            self._log.warning("stopped_at_deadline", threads=alive)

    def _learn(self, assembly: Assembly) -> None:
        give_way(self._config.process.learning_niceness)
        with rank_problems():
            assembly.learning.run()
            assembly.dismiss_ranks(
                is_told=self._is_told.is_set(),
                has_failed=self._threads.exit_code is not ExitCode.OK,
            )

    @property
    def _may_wait(self) -> bool:
        """Whether the end has time left."""
        return time.monotonic() < self._deadline and not self._force.is_set()

    def _apply_reload(self, assembly: Assembly) -> None:
        """Take over a changed configuration whole, or keep the old one and say why."""
        try:
            config = self._reread()
            if not self._ranks.is_alone:
                require_joinable(config, os.environ)
        except ConfigurationError as error:
            self._refuse_reload(str(error))
            return
        changed = changed_keys(self._config, config)
        fixed = [key for key in changed if not key.startswith(RELOADABLE)]
        if fixed:
            self._refuse_reload(f"only a restart can change {', '.join(fixed)}")
            return
        set_level(config.logging.level)
        assembly.learning.reconfigure(config.deciding, config.checkpoints)
        self._config = config
        self._metrics.reload_successful.set(1)
        self._board.update("config", reload_refused=None)
        self._log.info("reloaded", changed=changed)

    def _refuse_reload(self, reason: str) -> None:
        self._metrics.reload_successful.set(0)
        self._board.update("config", reload_refused=reason)
        self._log.error("reload_refused", reason=reason)


def _in_short(status: Mapping[str, Any]) -> str:
    """Word a status in one line: what is served, and the first thing that is wrong."""
    problems = [each["says"] for each in status["problems"] if each["level"] != "note"]
    return " ".join([status["headline"], *problems[:1]])

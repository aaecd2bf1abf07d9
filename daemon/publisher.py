"""Which version is served, changed by hand or by a failed probation.

Each change is an entry before it takes effect, so that a crash between any two steps is mended from
the log at the next start.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from teacherd.daemon.durable import failpoint
from teacherd.daemon.entries import Outcome, Publish, Rollback
from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.publication import PublicationMode, VersionStore
from teacherd.models.artifact import LoadedTeacher, Manifest, version_folder, write_artifact

HELD_BY_ROLLBACK = "a rollback took away what it started from"


class Publisher:
    """Publishes and takes back; what a person asked for in vain is a UsageError.

    Args:
        mode: Under `never` nothing is published, whoever asks.
        now: ISO 8601 time in UTC, for people.
    """

    def __init__(
        self,
        journal: Journal,
        versions: VersionStore,
        *,
        mode: PublicationMode,
        now: Callable[[], str],
    ) -> None:
        self._journal = journal
        self._versions = versions
        self._mode = mode
        self._now = now

    def promote(self, version: int, *, probation_tasks: int) -> Manifest:
        """Serve a version that was accepted and not published.

        Raises:
            UsageError: There is no such version, it is damaged, or it cannot be served.
        """
        lineage = self._journal.lineage
        if self._mode == "never":
            raise UsageError("publication.mode is never: nothing is served; set approval first")
        self._require_kept(lineage, version)
        current = lineage.current or 0
        if version == current:
            raise UsageError(f"version {version} is served already")
        if version < current:
            raise UsageError(
                f"version {version} is older than {current}, which is served, and loaders never go "
                f"back: `teacherd rollback {version}` makes a new version of its weights"
            )
        loaded = self._load(lineage, version)
        publish = Publish(version=version, cause="request", probation_tasks=probation_tasks)
        self._journal.record(publish)
        self._versions.serve(loaded.manifest)
        return loaded.manifest

    def choose_target(self, to: int | None) -> int:
        """Return the version to roll back to: by default the one served before the current one.

        Raises:
            UsageError: There is no such version, its weights are gone or damaged, or it is served.
        """
        lineage = self._journal.lineage
        if to is None:
            to = lineage.standing.predecessor
        if to is None:
            raise UsageError("nothing was served before the current version; name one")
        self._require_kept(lineage, to)
        if to == lineage.current:
            raise UsageError(f"version {to} is served already")
        return to

    def roll_back(
        self, to: int, *, cause: Literal["request", "probation"], reason: str
    ) -> Rollback:
        """Make a new version of an old one's weights, head and current; `serve_current` follows.

        No task may be in progress.
        """
        lineage = self._journal.lineage
        version = lineage.next_version
        manifest = self._write_like(to, version, reason)
        rollback = Rollback(
            version=version,
            to=to,
            sha256=manifest.weights_sha256,
            manifest_sha256=self._versions.manifest_sha256(version),
            cause=cause,
            reason=reason,
        )
        self._journal.record(rollback)
        return rollback

    def serve_current(self) -> Manifest:
        """Point `current` at what the log says."""
        failpoint("serving.before")
        lineage = self._journal.lineage
        manifest = self._load(lineage, lineage.current or 0).manifest
        self._versions.serve(manifest)
        return manifest

    def close_unfinished(self) -> None:
        """Close a task that nobody is learning now as held, so that the head may move."""
        plan = self._journal.lineage.unfinished
        if plan is not None:
            self._journal.record(
                Outcome(
                    task=plan.task, result="held", reasons=(HELD_BY_ROLLBACK,), is_cut_short=True
                )
            )

    def mend(self) -> None:
        """Finish a rollback that a crash cut short after it was decided."""
        to = self._journal.lineage.due_rollback
        if to is not None:
            self.roll_back(to, cause="probation", reason="finished after a crash")

    def _write_like(self, to: int, version: int, reason: str) -> Manifest:
        lineage = self._journal.lineage
        old = self._load(lineage, to)
        provenance = replace(
            old.manifest.provenance,
            lineage=lineage.id,
            epoch=lineage.epoch,
            version=version,
            parent=to,
            tasks=(),
            verdict={"result": "rollback", "to": to, "reason": reason},
            created_at=self._now(),
        )
        return self._versions.write(
            version,
            lambda folder: write_artifact(folder, old.network, old.manifest.design, provenance),
        )

    def _load(self, lineage: Lineage, version: int) -> LoadedTeacher:
        record = lineage.versions[version]
        return self._versions.load(version, record.sha256, record.manifest_sha256)

    def _require_kept(self, lineage: Lineage, version: int) -> None:
        if version not in lineage.versions:
            raise UsageError(
                f"there is no version {version}; versions go from 0 to {max(lineage.versions)}"
            )
        if not version_folder(self._versions.root, version).exists():
            raise UsageError(
                f"the weights of version {version} were removed by publication.keep_versions; "
                "`teacherd versions list` shows those that are kept"
            )
        try:
            self._load(lineage, version)
        except StateError as error:
            # Only what is asked for is damaged: what is served and learned from is not.
            raise UsageError(
                f"version {version} cannot be trusted: {error}; `teacherd versions verify` shows "
                "those that can"
            ) from error

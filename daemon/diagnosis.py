"""Says in words what is wrong with a daemon, from its /status alone.

The one place that does: /status carries the sentences, and page, terminal and `teacherd status`
show them. The tolerances are those of deploy/prometheus/teacherd.alerts.yml, which a test holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from teacherd.daemon.wording import points, share, span

Status = Mapping[str, Any]
"""What /status answers."""

About = Literal[
    "checkpoint",
    "checkpoint_failed",
    "dead_letters",
    "drift",
    "forgetting",
    "headroom",
    "held",
    "labels",
    "lag",
    "loop",
    "lost",
    "mirror",
    "notification",
    "paused",
    "promotion",
    "quarantined",
    "reload",
    "retention",
    "source",
    "stalled",
    "state",
    "unserved",
]

LAG_SECONDS = 3600
CHECKPOINT_SECONDS = 900
TEACHER_SECONDS = 86400
FORGETTING = 0.05
DEAD_LETTER_SHARE = 0.01
LABELS = 20
HEADROOM = 1
MARGIN_SECONDS = 21600


@dataclass(frozen=True, kw_only=True, slots=True)
class Symptom:
    """One thing that is wrong."""

    about: About
    """Short and fixed, for programs; the alert that says the same has it as its label."""
    level: Literal["critical", "warning", "note"]
    """critical: somebody should look now. warning: today. note: good to know."""
    says: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return asdict(self)


def diagnose(status: Status) -> list[Symptom]:
    """Return everything that is wrong, the worst first; nothing for a daemon that is well."""
    found = [symptom for check in _CHECKS for symptom in check(status)]
    order = ("critical", "warning", "note")
    return sorted(found, key=lambda each: order.index(each.level))


def headline(status: Status) -> str:
    """Return one sentence: what is served, how fresh it is, and whether all is well."""
    state = status.get("state")
    teacher = status.get("teacher", {})
    if state != "ready" or "version" not in teacher:
        return f"The daemon is {state}."
    fresh = status["ages"].get("freshness_seconds")
    served = f"Version {teacher['version']} is served"
    if fresh is None:
        has_learned = bool(status.get("lineage", {}).get("instances_learned"))
        what = "nothing that was learned is served" if has_learned else "nothing has been learned"
        return f"{served}, the base model: {what} yet."
    return f"{served}; the newest instance that it learned is {span(fresh)} old."


def _check_state(status: Status) -> Iterator[Symptom]:
    says = {
        "starting": "The daemon is starting: it recovers, and serves what it served before.",
        "stopping": "The daemon is ending; the next start goes on where it stops.",
        "standby": "This daemon stands by: another process holds the state directory.",
    }
    state = status.get("state", "")
    if state in says:
        yield Symptom(about="state", level="note", says=says[state], remedy="")


def _check_loops(status: Status) -> Iterator[Symptom]:
    loops = status.get("loops", {})
    limit = loops.get("limit_seconds", 0)
    for name, seconds in loops.get("seconds_since_beat", {}).items():
        if seconds >= limit:
            yield Symptom(
                about="loop",
                level="critical",
                says=f"The {name} thread has not moved for {span(seconds)}.",
                remedy="A supervisor that asks /livez restarts it; nothing is lost by that.",
            )


def _check_stream(status: Status) -> Iterator[Symptom]:
    intake = status.get("intake", {})
    if intake.get("error"):
        yield Symptom(
            about="source",
            level="critical",
            says=f"The stream does not answer, {intake.get('failures', 1)} attempts have failed: "
            f"{intake['error']}.",
            remedy="It is tried again; see whether the stream log's disk or the broker is there.",
        )
    for partition in intake.get("stalled", ()):
        yield Symptom(
            about="stalled",
            level="critical",
            says=f"Partition {partition} has records, but gives none.",
            remedy="See whether its leader and its replicas are well.",
        )
    if intake.get("is_paused"):
        yield Symptom(
            about="paused",
            level="note",
            says="The buffer is full: nothing is read until the next task is cut.",
            remedy="Usual in a backlog; nothing is lost.",
        )


def _check_lag(status: Status) -> Iterator[Symptom]:
    seconds = status.get("ages", {}).get("lag_seconds") or 0
    if seconds > LAG_SECONDS:
        yield Symptom(
            about="lag",
            level="warning",
            says=f"The oldest record that is not learned yet has waited for {span(seconds)}.",
            remedy="Fewer learning.epochs, larger tasks or a faster device; or smaller "
            "tasks.max_age_seconds, if the stream is slow.",
        )


def _check_load(status: Status) -> Iterator[Symptom]:
    load = status.get("load", {})
    headroom, margin = load.get("headroom_ratio"), load.get("retention_margin_seconds")
    if headroom is not None and headroom < HEADROOM:
        yield Symptom(
            about="headroom",
            level="warning",
            says=f"Records arrive faster than they are learned: learning makes "
            f"{share(headroom)} of their rate.",
            remedy="Fewer learning.epochs or a faster device, if it stays so.",
        )
    if margin is not None and margin < MARGIN_SECONDS:
        yield Symptom(
            about="retention",
            level="critical",
            says=f"In {span(margin)} the stream deletes records that are not learned yet.",
            remedy="Lengthen the stream's retention now, then learn faster.",
        )


def _check_letters(status: Status) -> Iterator[Symptom]:
    intake = status.get("intake", {})
    records, rejected = intake.get("records") or 0, intake.get("rejected") or 0
    if rejected > DEAD_LETTER_SHARE * records:
        yield Symptom(
            about="dead_letters",
            level="warning",
            says=f"{share(rejected / records)} of the records since the start were no instances.",
            remedy="`teacherd dead-letters list` has their reasons; mend the producer, requeue.",
        )


def _check_labels(status: Status) -> Iterator[Symptom]:
    classes = status.get("classes", {})
    labels, records = classes.get("deferred_labels") or 0, classes.get("deferred_records") or 0
    if labels > LABELS:
        yield Symptom(
            about="labels",
            level="warning",
            says=f"{records:,} records wait with {labels:,} labels that are no class.",
            remedy="Labels out of thin air? Mend the producer: they are dropped when they have "
            "waited for classes.max_deferred_tasks; the head grows only by those that come often.",
        )


def _check_verdict(status: Status) -> Iterator[Symptom]:
    verdict = status.get("verdict", {})
    result = verdict.get("result")
    words: dict[About, str] = {
        "held": "was not taken over",
        "quarantined": "was set aside, because its numbers were not finite",
        "lost": "was lost with its records",
    }
    for about in (each for each in words if each == result):
        yield Symptom(
            about=about,
            level="warning",
            says=f"Task {verdict.get('task')} {words[about]}{_because(verdict)}.",
            remedy="The version before is served on; `teacherd tasks list` shows what can be "
            "tried again.",
        )


def _check_unserved(status: Status) -> Iterator[Symptom]:
    verdict, lineage = status.get("verdict", {}), status.get("lineage", {})
    is_newest = verdict.get("version") is not None and verdict.get("version") == lineage.get("head")
    if is_newest and lineage.get("current") != lineage.get("head"):
        yield Symptom(
            about="unserved",
            level="note",
            says=f"Version {verdict['version']} is learned from, but not served"
            f"{_because(verdict)}.",
            remedy="Later tasks may decide; `teacherd promote` serves it now.",
        )


def _because(verdict: Mapping[str, Any]) -> str:
    reasons = "; ".join(verdict.get("reasons", ()))
    return f": {reasons}" if reasons else ""


def _check_promotion(status: Status) -> Iterator[Symptom]:
    age = status.get("ages", {}).get("teacher_age_seconds") or 0
    at = status.get("verdict", {}).get("at")
    created = status.get("teacher", {}).get("created_at")
    is_passed_over = at is not None and created is not None and at > created
    has_waiting = (status.get("ages", {}).get("lag_seconds") or 0) > 0
    if age > TEACHER_SECONDS and (is_passed_over or has_waiting):
        yield Symptom(
            about="promotion",
            level="warning",
            says=f"The served teacher is {span(age)} old, though there was something to learn.",
            remedy="See the reasons of the last verdicts, and whether learning keeps up.",
        )


def _check_forgetting(status: Status) -> Iterator[Symptom]:
    learning = status.get("learning", {})
    for name, lost in learning.get("forgetting", {}).items():
        if lost > FORGETTING:
            yield Symptom(
                about="forgetting",
                level="critical",
                says=f"The served teacher has forgotten: on {name} it is {points(lost)} worse than "
                "the base model.",
                remedy="Larger learning.consolidation.retain, or a smaller learning rate; "
                "`teacherd rollback` returns to an older version.",
            )


def _check_drift(status: Status) -> Iterator[Symptom]:
    for name, detector in status.get("drift", {}).items():
        if detector.get("alarmed"):
            yield Symptom(
                about="drift",
                level="warning",
                says=f"The stream has drifted: detector {name} raised the alarm in the last task.",
                remedy="See whether the labels are right; a true drift is followed by learning.",
            )
    verdict = status.get("verdict", {})
    if verdict.get("drift") == "confirmed":
        yield Symptom(
            about="drift",
            level="warning",
            says=f"A drift of the concept was confirmed with task {verdict.get('task')}: what was "
            "held out before contradicts what is true now, and is measured with no more.",
            remedy="If nothing has really changed, `teacherd rollback`; if it has, give a new "
            "gate.base_holdout.",
        )


def _check_checkpoint(status: Status) -> Iterator[Symptom]:
    age = status.get("ages", {}).get("checkpoint_age_seconds") or 0
    is_running = status.get("task", {}).get("number") is not None
    if is_running and age > CHECKPOINT_SECONDS:
        yield Symptom(
            about="checkpoint",
            level="warning",
            says=f"The last checkpoint is {span(age)} old: a crash now would repeat that work.",
            remedy="Look at the disk of process.state_directory, and at "
            "checkpoints.interval_seconds.",
        )


def _check_checkpoint_failure(status: Status) -> Iterator[Symptom]:
    error = status.get("checkpoint", {}).get("error")
    if error:
        yield Symptom(
            about="checkpoint_failed",
            level="critical",
            says=f"The last checkpoint could not be written: {error}.",
            remedy="Make room before the task ends: then a failure ends the process. Nothing "
            "that is decided is lost.",
        )


def _check_reload(status: Status) -> Iterator[Symptom]:
    reason = status.get("config", {}).get("reload_refused")
    if reason:
        yield Symptom(
            about="reload",
            level="warning",
            says=f"The configuration on disk was refused, the old one is in force: {reason}.",
            remedy="Mend the file, then send SIGHUP again.",
        )


def _check_mirrors(status: Status) -> Iterator[Symptom]:
    for name, mirror in status.get("mirrors", {}).items():
        if mirror.get("error"):
            yield Symptom(
                about="mirror",
                level="warning",
                says=f"The mirror {name} is not up to date: {mirror['error']}.",
                remedy="Who loads from it is served an older teacher; it is tried again.",
            )


def _check_notifications(status: Status) -> Iterator[Symptom]:
    for name, receiver in status.get("notifications", {}).items():
        if receiver.get("error"):
            yield Symptom(
                about="notification",
                level="warning",
                says=f"The {name} is not told of decisions, {receiver.get('waiting', 0)} wait: "
                f"{receiver['error']}.",
                remedy="It is tried again for notifications.give_up_seconds; learning goes on.",
            )


_CHECKS: tuple[Callable[[Status], Iterator[Symptom]], ...] = (
    _check_state,
    _check_loops,
    _check_stream,
    _check_load,
    _check_lag,
    _check_forgetting,
    _check_drift,
    _check_verdict,
    _check_unserved,
    _check_promotion,
    _check_checkpoint,
    _check_checkpoint_failure,
    _check_letters,
    _check_labels,
    _check_mirrors,
    _check_notifications,
    _check_reload,
)

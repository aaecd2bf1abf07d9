"""What the dashboard shows of teachers: how good they are, who has them, who serves them."""

from dashboard_panel import Panel, Query, increase, of, or_zero, quantile, rate

GLANCE = (
    Panel(
        title="Served version",
        says="Number of the teacher that inference processes load.",
        queries=[Query(of("teacherd_teacher_version"))],
        kind="stat",
        unit="none",
    ),
    Panel(
        title="Freshness",
        says="From the event time of the newest instance that the served teacher learned, to now.",
        queries=[Query(of("teacherd_freshness_seconds"))],
        kind="stat",
        unit="s",
    ),
    Panel(
        title="Lag",
        says="Age of the oldest record that is not decided yet.",
        queries=[Query(of("teacherd_consumer_lag_seconds"))],
        kind="stat",
        unit="s",
        tolerance=3600,
    ),
    Panel(
        title="Worst forgetting",
        says="How far the teacher is below the base model on the holdout where it is worst; "
        "below 0 it is better everywhere.",
        queries=[Query(of("instance:teacherd_forgetting_ratio:max"))],
        kind="stat",
        unit="percentunit",
        tolerance=0.05,
    ),
    Panel(
        title="Headroom",
        says="Rate at which records are learned to rate at which they arrive; below 1 it falls "
        "behind.",
        queries=[Query(of("teacherd_learning_headroom_ratio"))],
        kind="stat",
        unit="none",
        tolerance=1,
        is_better_below=False,
    ),
    Panel(
        title="Alerts",
        says="Alerts of teacherd that fire.",
        queries=[
            Query(
                'count(ALERTS{alertname=~"Teacherd.+", alertstate="firing"}) or vector(0)',
                "firing",
            )
        ],
        kind="stat",
        unit="none",
        tolerance=1,
    ),
)

QUALITY = (
    Panel(
        title="Accuracy",
        says="On each evaluation set: the served teacher, the newest one (head), the student "
        "of the last task, the base model.",
        queries=[Query(of("teacherd_accuracy_ratio"), "{{split}} {{model}}")],
        unit="percentunit",
    ),
    Panel(
        title="Forgetting",
        says="Accuracy of the base model less that of the teacher, by holdout.",
        queries=[Query(of("teacherd_forgetting_ratio"), "{{holdout}}")],
        unit="percentunit",
        tolerance=0.05,
    ),
    Panel(
        title="Performance promotion",
        says="Accuracy of the teacher less that of the base model, by holdout.",
        queries=[Query(of("teacherd_performance_promotion_ratio"), "{{holdout}}")],
        unit="percentunit",
    ),
    Panel(
        title="Outer ratio",
        says="Share of each task that the teacher got wrong before learning it: a jump is drift.",
        queries=[Query(of("teacherd_outer_ratio"))],
        unit="percentunit",
    ),
    Panel(
        title="Drift",
        says="Each detector's statistic as a share of its threshold: from 1 on there is an alarm.",
        queries=[
            Query(
                f"{of('teacherd_drift_score')} / {of('teacherd_drift_threshold')}", "{{detector}}"
            )
        ],
        tolerance=1,
    ),
    Panel(
        title="Drift alarms",
        says="Tasks that alarmed a detector since the start.",
        queries=[Query(of("teacherd_drift_detected_total"), "{{detector}}")],
    ),
    Panel(
        title="Calibration error",
        says="Mean distance of the served teacher's confidence from its accuracy (ECE).",
        queries=[Query(of("teacherd_calibration_error_ratio"), "{{split}}")],
        unit="percentunit",
    ),
    Panel(
        title="Worst classes",
        says="Accuracy of the served teacher on the classes where it is worst.",
        queries=[Query(of("teacherd_class_accuracy_ratio"), "{{split}} {{class}}")],
        unit="percentunit",
    ),
    Panel(
        title="Classes by group",
        says="Mean accuracy of the served teacher over version 0's classes, and over later ones.",
        queries=[Query(of("teacherd_class_group_accuracy_ratio"), "{{split}} {{group}}")],
        unit="percentunit",
    ),
    Panel(
        title="Backward transfer",
        says="Mean change on what earlier tasks held out since each was learned; below 0 they "
        "are forgotten again.",
        queries=[Query(of("teacherd_backward_transfer_ratio"))],
        unit="percentunit",
    ),
    Panel(
        title="Loss",
        says="Mean over the last epoch of the last accepted task.",
        queries=[Query(of("teacherd_loss"), "{{component}}")],
    ),
    Panel(
        title="Retained share of the old teacher",
        says="What consolidation left of the teacher before; learning.consolidation.retain.",
        queries=[Query(of("teacherd_teacher_retain_ratio"))],
        unit="percentunit",
    ),
)

GATE = (
    Panel(
        title="Promotions",
        says="Candidates: published, accepted without that, or held.",
        queries=[Query(increase("teacherd_promotions_total", "result"), "{{result}}")],
    ),
    Panel(
        title="Checks of the gate",
        says="What they compared and found; mostly undecided: hold out more.",
        queries=[
            Query(increase("teacherd_gate_checks_total", "gate, result"), "{{gate}} {{result}}")
        ],
    ),
    Panel(
        title="Margins of the last candidate",
        says="How far it was below the better of served and best version on what was held out; "
        "the gate allows gate.allowance and gate.forgetting.",
        queries=[Query(of("teacherd_forgetting_ratio", 'holdout=~"holdout_.+"'), "{{holdout}}")],
        unit="percentunit",
    ),
    Panel(
        title="Accuracy on what was held out",
        says="Of the last candidate; noisy where few instances are held out.",
        queries=[Query(of("teacherd_accuracy_ratio", 'model="candidate"'), "{{split}}")],
        unit="percentunit",
    ),
    Panel(
        title="Rollbacks and confirmed drifts",
        says="Since the start.",
        queries=[
            Query(of("teacherd_rollbacks_total"), "rollback, {{cause}}"),
            Query(of("teacherd_gate_drifts_total"), "drift confirmed"),
        ],
    ),
)

PUBLICATION = (
    Panel(
        title="Versions",
        says="Served by the daemon, held by mirrors, loaded by inference processes: one line when "
        "all is well.",
        queries=[
            Query(of("teacherd_teacher_version"), "{{instance}} served"),
            Query(of("teacherd_mirror_version"), "mirror {{mirror}}"),
            Query(of("teacherd_loader_version"), "{{instance}} loaded"),
        ],
        unit="none",
    ),
    Panel(
        title="Age of the mirrors",
        says="Since each last held all that it should.",
        queries=[
            Query(f"time() - {of('teacherd_mirror_last_success_timestamp_seconds')}", "{{mirror}}")
        ],
        unit="s",
    ),
    Panel(
        title="Updates of mirrors that failed",
        says="By reason.",
        queries=[
            Query(
                or_zero(increase("teacherd_mirror_failures_total", "mirror, reason"), "mirror"),
                "{{mirror}} {{reason}}",
            )
        ],
    ),
    Panel(
        title="Notifications",
        says="Told to webhooks and commands, and those that failed.",
        queries=[
            Query(
                or_zero(increase("teacherd_notifications_total", "receiver, result"), "receiver"),
                "{{receiver}} {{result}}",
            )
        ],
    ),
    Panel(
        title="Swaps in inference processes",
        says="Newer versions: loaded or rejected.",
        queries=[
            Query(increase("teacherd_loader_swaps_total", "result"), "{{instance}} {{result}}")
        ],
    ),
    Panel(
        title="Age of the loaded teacher",
        says="In each inference process, since that version was written.",
        queries=[Query(of("teacherd_loader_teacher_age_seconds"))],
        unit="s",
    ),
)

SERVING = (
    Panel(
        title="Inference requests",
        says="By the code of their answer; 429: more processes.",
        queries=[Query(rate("teacherd_serving_requests_total", "code"), "{{instance}} {{code}}")],
        unit="reqps",
    ),
    Panel(
        title="Duration of a request",
        says="Half, 95 % and 99 % are faster.",
        queries=[
            Query(
                quantile(share, "teacherd_serving_request_duration_seconds"),
                f"{{{{instance}}}} {100 * share:.0f} %",
            )
            for share in (0.5, 0.95, 0.99)
        ],
        unit="s",
    ),
    Panel(
        title="Where the time goes",
        says="99th percentile of waiting for a pass, and of the pass itself.",
        queries=[
            Query(
                quantile(0.99, "teacherd_serving_queue_duration_seconds"), "{{instance}} waiting"
            ),
            Query(quantile(0.99, "teacherd_serving_compute_duration_seconds"), "{{instance}} pass"),
        ],
        unit="s",
    ),
    Panel(
        title="Instances of a pass",
        says="Mean; always at serving.max_batch: it may be larger.",
        queries=[
            Query(
                f"{rate('teacherd_serving_batch_instances_sum')}"
                f" / {rate('teacherd_serving_batch_instances_count')}"
            )
        ],
    ),
    Panel(
        title="Waiting instances",
        says="At serving.max_queue requests are refused.",
        queries=[Query(of("teacherd_serving_queue_instances"))],
    ),
)

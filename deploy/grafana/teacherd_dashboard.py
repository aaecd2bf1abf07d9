"""Makes the Grafana dashboard: `python deploy/grafana/teacherd_dashboard.py` writes the JSON.

The JSON is committed, so that nobody needs this to use it; a test holds that it is what this makes.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

OUTPUT = Path(__file__).parent / "dashboards" / "teacherd.json"
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24
STAT_WIDTH, STAT_HEIGHT = 4, 4
PLOT_WIDTH, PLOT_HEIGHT = 8, 8


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are named."""

    expression: str
    legend: str = "{{instance}}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A panel: what a person reads off it, and from which queries."""

    title: str
    says: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Literal["plot", "stat"] = "plot"
    tolerance: float | None = None
    """Beyond it the panel is red: the alert's number."""
    is_better_below: bool = True


def of(metric: str, labels: str = "") -> str:
    """Return a selector of the chosen instances."""
    return f'{metric}{{instance=~"$instance"{", " + labels if labels else ""}}}'


def rate(metric: str, by: str = "") -> str:
    """Return a counter's rate, summed by instance and perhaps a label."""
    labels = f"instance, {by}" if by else "instance"
    return f"sum by ({labels}) (rate({of(metric)}[$__rate_interval]))"


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
        says="On each evaluation set: the teacher, the student of the last task, the base model.",
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

STREAM = (
    Panel(
        title="Records read",
        says="By topic.",
        queries=[Query(rate("teacherd_records_consumed_total", "topic"), "{{topic}}")],
        unit="reqps",
    ),
    Panel(
        title="Records refused",
        says="By reason; they are in the dead letters.",
        queries=[Query(rate("teacherd_records_rejected_total", "reason"), "{{reason}}")],
        unit="reqps",
    ),
    Panel(
        title="Unread records",
        says="By partition.",
        queries=[Query(of("teacherd_consumer_lag_records"), "{{topic}}/{{partition}}")],
    ),
    Panel(
        title="Age of the oldest undecided record",
        says="A saw as high as tasks.max_age_seconds is usual on a slow stream.",
        queries=[Query(of("teacherd_consumer_lag_seconds"))],
        unit="s",
        tolerance=3600,
    ),
    Panel(
        title="Retention margin",
        says="Until the source deletes a record that is not decided yet; infinite where it never "
        "does.",
        queries=[Query(of("teacherd_retention_margin_seconds"))],
        unit="s",
        tolerance=21600,
        is_better_below=False,
    ),
    Panel(
        title="Buffer",
        says="Records that wait for their task, and how many may.",
        queries=[
            Query(of("teacherd_buffer_records"), "{{instance}} waiting"),
            Query(of("teacherd_buffer_capacity_records"), "{{instance}} capacity"),
        ],
    ),
)

LEARNING = (
    Panel(
        title="Tasks closed",
        says="By what became of them.",
        queries=[
            Query(
                f"sum by (outcome) (increase({of('teacherd_tasks_total')}[$__rate_interval]))",
                "{{outcome}}",
            )
        ],
    ),
    Panel(
        title="Instances learned",
        says="Of accepted tasks, a second.",
        queries=[Query(rate("teacherd_instances_learned_total"))],
        unit="reqps",
    ),
    Panel(
        title="Duration of a step",
        says="99th percentile and mean of an optimizer step.",
        queries=[
            Query(
                "histogram_quantile(0.99, sum by (instance, le) (rate("
                f"{of('teacherd_train_step_duration_seconds_bucket')}[$__rate_interval])))",
                "{{instance}} 99 %",
            ),
            Query(
                f"{rate('teacherd_train_step_duration_seconds_sum')}"
                f" / {rate('teacherd_train_step_duration_seconds_count')}",
                "{{instance}} mean",
            ),
        ],
        unit="s",
    ),
    Panel(
        title="Duration of a task",
        says="Mean, from plan to everything being durable.",
        queries=[
            Query(
                f"{rate('teacherd_task_duration_seconds_sum')}"
                f" / {rate('teacherd_task_duration_seconds_count')}"
            )
        ],
        unit="s",
    ),
    Panel(
        title="Progress of the running task",
        says="0 between two tasks.",
        queries=[Query(of("teacherd_task_progress_ratio"))],
        unit="percentunit",
    ),
    Panel(
        title="Numbers that were not finite",
        says="Steps that were not taken, and tasks that are set aside.",
        queries=[
            Query(of("teacherd_nonfinite_losses_total"), "{{instance}} steps"),
            Query(of("teacherd_quarantined_tasks"), "{{instance}} tasks set aside"),
        ],
    ),
)

STATE = (
    Panel(
        title="Age of the served teacher",
        says="Grows while tasks are held, or while there is nothing to learn.",
        queries=[Query(of("teacherd_teacher_age_seconds"))],
        unit="s",
        tolerance=86400,
    ),
    Panel(
        title="Age of the last checkpoint",
        says="Inside a task, what a crash would repeat.",
        queries=[Query(f"time() - {of('teacherd_checkpoint_last_success_timestamp_seconds')}")],
        unit="s",
    ),
    Panel(
        title="Size of the last checkpoint",
        says="Small between two tasks.",
        queries=[Query(of("teacherd_checkpoint_size_bytes"))],
        unit="bytes",
    ),
    Panel(
        title="Memory",
        says="Resident; bounded whatever the stream does.",
        queries=[
            Query(of("process_resident_memory_bytes", 'job="teacherd"'), "{{instance}} resident"),
            Query(of("teacherd_buffer_bytes"), "{{instance}} buffer"),
            Query(of("teacherd_gpu_memory_bytes"), "{{instance}} CUDA"),
        ],
        unit="bytes",
    ),
    Panel(
        title="Processor",
        says="Cores in use.",
        queries=[
            Query(
                "rate(" + of("process_cpu_seconds_total", 'job="teacherd"') + "[$__rate_interval])"
            )
        ],
        unit="none",
    ),
    Panel(
        title="Build",
        says="Version of teacherd and torch; more than one: an upgrade is under way.",
        queries=[Query(of("teacherd_build_info"), "{{instance}} {{version}}, torch {{torch}}")],
        unit="none",
    ),
)

ROWS = {
    "At a glance": GLANCE,
    "Quality": QUALITY,
    "Stream": STREAM,
    "Learning": LEARNING,
    "State": STATE,
}


def build() -> dashboard.Dashboard:
    """Return the dashboard, every panel in its place."""
    built = (
        dashboard.Dashboard("teacherd")
        .uid("teacherd")
        .tags(["teacherd", "machine learning"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .readonly()
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("instance")
            .label("Instance")
            .datasource(DATASOURCE)
            .query("label_values(teacherd_build_info, instance)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(multi=True)
            .include_all(include_all=True)
            .current(models.VariableOption(text="All", value="$__all"))
        )
    )
    numbers, top = count(1), 0
    for title, panels in ROWS.items():
        position = models.GridPos(h=1, w=COLUMNS, x=0, y=top)
        built = built.with_row(dashboard.Row(title).id(next(numbers)).grid_pos(position))
        top = place(built, panels, top + 1, numbers)
    return built


def place(
    built: dashboard.Dashboard, panels: Sequence[Panel], top: int, numbers: Iterator[int]
) -> int:
    """Add panels side by side, line by line; return where the next row begins."""
    left = height = 0
    for panel in panels:
        is_stat = panel.kind == "stat"
        width = STAT_WIDTH if is_stat else PLOT_WIDTH
        if left + width > COLUMNS:
            left, top = 0, top + height
        height = STAT_HEIGHT if is_stat else PLOT_HEIGHT
        position = models.GridPos(h=height, w=width, x=left, y=top)
        built.with_panel(draw(panel).id(next(numbers)).grid_pos(position))
        left += width
    return top + height


def draw(panel: Panel) -> stat.Panel | timeseries.Panel:
    """Return the panel with its queries, unit and tolerance."""
    drawn: stat.Panel | timeseries.Panel
    if panel.kind == "stat":
        drawn = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        drawn = timeseries.Panel().line_width(2).fill_opacity(6)
        drawn = drawn.show_points(common_models.VisibilityMode.NEVER)
    drawn = drawn.title(panel.title).description(panel.says).unit(panel.unit).datasource(DATASOURCE)
    for number, query in enumerate(panel.queries):
        drawn = drawn.with_target(
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + number))
            .datasource(DATASOURCE)
        )
    if panel.tolerance is None:
        return drawn
    if isinstance(drawn, timeseries.Panel):
        line = common_models.GraphTresholdsStyleMode.LINE
        drawn = drawn.thresholds_style(common.GraphThresholdsStyleConfig().mode(line))
    return drawn.thresholds(thresholds(panel))


def thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    """Return green and red, on the right sides of the tolerance."""
    below, above = ("green", "red") if panel.is_better_below else ("red", "green")
    steps = [
        models.Threshold(value=None, color=below),
        models.Threshold(value=panel.tolerance, color=above),
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def render() -> str:
    """Return the dashboard as JSON, the same at every call."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(render(), encoding="utf-8")
    sys.stderr.write(f"{OUTPUT} written\n")

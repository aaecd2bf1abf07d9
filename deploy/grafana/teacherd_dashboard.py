"""Makes the Grafana dashboard: `python deploy/grafana/teacherd_dashboard.py` writes the JSON.

The JSON is committed, so that nobody needs this to use it; a test holds that it is what this makes.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from daemon_panels import LEARNING, SOURCE, STATE, STREAM
from dashboard_panel import Panel
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from teacher_panels import GATE, GLANCE, PUBLICATION, QUALITY, SERVING

OUTPUT = Path(__file__).parent / "dashboards" / "teacherd.json"
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24
STAT_WIDTH, STAT_HEIGHT = 4, 4
PLOT_WIDTH, PLOT_HEIGHT = 8, 8


ROWS = {
    "At a glance": GLANCE,
    "Quality": QUALITY,
    "Gate": GATE,
    "Publication": PUBLICATION,
    "Stream": STREAM,
    "Source": SOURCE,
    "Learning": LEARNING,
    "State": STATE,
    "Inference servers": SERVING,
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

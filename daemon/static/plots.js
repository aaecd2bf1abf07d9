// Which line plots there are, and from which figures.

import { element, show } from "./elements.js";
import { clock, percent, short, span } from "./format.js";
import { linePlot } from "./plot.js";

const NUM_SETS = 6;
const NUM_MARKED = 60; // points that can be told apart; fewer than two make no line

export function drawPlots(history, status) {
  drawAccuracy(history, status);
  drawDrift(history, status);
  drawOverTime("lag", "age of the oldest unlearned record", "lag_seconds", history);
  drawOverTime("freshness", "age of the newest instance learned", "freshness_seconds", history);
}

function drawAccuracy(history, status) {
  const base = status.learning?.base_accuracy ?? {};
  const names = Object.keys(base).slice(0, NUM_SETS);
  const place = document.getElementById("accuracy");
  if (!names.length) {
    show("accuracy", element("p", { class: "none" }, "No evaluation.sets are configured."));
    return;
  }
  const columns = place.clientWidth > 640 && names.length > 1 ? 2 : 1;
  const cell = { clientWidth: place.clientWidth / columns - 10 };
  place.replaceChildren(...names.map((name) => accuracyPlot(cell, name, base[name], history)));
}

function accuracyPlot(cell, name, base, history) {
  const learned = history.tasks.filter((each) => each.result === "accepted" && each.teacher[name] != null);
  const first = history.tasks[0]?.task ?? 1;
  const last = history.tasks.at(-1)?.task ?? 1;
  const start = first === 1 ? [[0, base]] : [];
  const isFew = learned.length <= NUM_MARKED;
  return linePlot(cell, {
    title: name,
    isWhole: true,
    format: { x: (task) => `task ${task}`, y: percent },
    series: [
      { name: "base", kind: "base", points: [[first === 1 ? 0 : first, base], [last, base]] },
      { name: "student", kind: "student", marks: isFew,
        points: learned.map((each) => [each.task, each.student[name] ?? null]) },
      { name: "teacher", kind: "teacher", marks: isFew,
        points: [...start, ...learned.map((each) => [each.task, each.teacher[name]])] },
    ],
  });
}

function drawDrift(history, status) {
  const place = document.getElementById("drift");
  const detectors = Object.entries(status.drift ?? {});
  if (!detectors.length) {
    show("drift", element("p", { class: "none" }, "No detector is configured."));
    return;
  }
  place.replaceChildren(...detectors.flatMap(([name, detector]) => {
    const alarm = detector.last_alarm_ms == null
      ? "no alarm so far"
      : `last alarm by an instance of ${clock(detector.last_alarm_ms)}${detector.alarmed ? ", in the last task" : ""}`;
    return [
      linePlot(place, {
        title: name,
        format: { x: (task) => `task ${task}`, y: short },
        isWhole: true,
        includes: [0],
        series: [
          { name: "threshold", kind: "threshold", points: byTask(history, `${name}.threshold`) },
          { name: "statistic", kind: "teacher", points: byTask(history, name),
            marks: history.tasks.length <= NUM_MARKED },
        ],
      }),
      element("p", { class: "quiet" }, alarm),
    ];
  }));
}

function byTask({ tasks }, name) {
  return tasks.filter((each) => each.result !== "empty").map((each) => [each.task, each.drift[name] ?? null]);
}

function drawOverTime(id, name, value, history) {
  const place = document.getElementById(id);
  place.replaceChildren(linePlot(place, {
    title: "",
    format: { x: clock, y: span },
    includes: [0],
    series: [{ name, kind: "teacher", points: samples(history, value) }],
  }));
}

function samples({ samples: { at_ms: times, series } }, name) {
  const values = series[name] ?? [];
  return times.map((at, place) => [at, values[place] ?? null]);
}

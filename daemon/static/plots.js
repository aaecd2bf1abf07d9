// Which line plots there are, and from which figures.

import { element, show } from "./elements.js";
import { clock, percent, short, shortSpan, span } from "./format.js";
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
  const cell = divide(place, names.length);
  place.replaceChildren(...names.map((name) => accuracyPlot(cell, name, base[name], history)));
}

// As many plots side by side as can be read; returns what one of them has for itself.
function divide(place, number) {
  const columns = Math.max(1, Math.min(number, 3, Math.floor(place.clientWidth / 320)));
  place.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  return { clientWidth: (place.clientWidth - 14 * (columns - 1)) / columns };
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
    least: 0.02,
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
  const isSeen = ([name]) => history.tasks.some((each) => each.drift[name] != null);
  const seen = detectors.filter(isSeen);
  const silent = detectors.filter((each) => !isSeen(each)).map(([name]) => name);
  const cell = divide(place, seen.length);
  place.replaceChildren(...seen.map(([name, detector]) => driftPlot(cell, name, detector, history)));
  if (silent.length) {
    place.append(element("p", { class: "none" }, `${silent.join(", ")}: no figures yet, they take some more instances.`));
  }
}

function driftPlot(cell, name, detector, history) {
  const alarm = detector.last_alarm_ms == null
    ? "no alarm so far"
    : `last alarm by an instance of ${clock(detector.last_alarm_ms)}${detector.alarmed ? ", in the last task" : ""}`;
  const plot = linePlot(cell, {
    title: name,
    format: { x: (task) => `task ${task}`, y: short },
    isWhole: true,
    includes: [0],
    series: [
      { name: "threshold", kind: "threshold", points: byTask(history, `${name}.threshold`) },
      { name: "statistic", kind: "teacher", points: byTask(history, name),
        marks: history.tasks.length <= NUM_MARKED },
    ],
  });
  return element("div", {}, plot, element("p", { class: "quiet" }, alarm));
}

function byTask({ tasks }, name) {
  return tasks.filter((each) => each.result !== "empty").map((each) => [each.task, each.drift[name] ?? null]);
}

function drawOverTime(id, name, value, history) {
  const place = document.getElementById(id);
  place.replaceChildren(linePlot(place, {
    title: "",
    format: { x: clock, y: span, axis: shortSpan },
    includes: [0],
    series: [{ name, kind: "teacher", points: samples(history, value) }],
  }));
}

function samples({ samples: { at_ms: times, series } }, name) {
  const values = series[name] ?? [];
  return times.map((at, place) => [at, values[place] ?? null]);
}

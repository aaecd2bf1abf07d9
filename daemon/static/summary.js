// The top of the page: state, sentences about what is wrong, key figures.

import { element, show } from "./elements.js";
import { clock, count, percent, points, span } from "./format.js";

export function drawHeader(status) {
  const pill = document.getElementById("state");
  pill.textContent = status.state;
  pill.className = `pill ${status.state === "ready" ? "ready" : ""}`;
  document.getElementById("headline").textContent = status.headline ?? "";
  const worst = status.problems.find((each) => each.level !== "note");
  document.title = worst ? `(!) teacherd: ${worst.about}` : "teacherd";
}

export function drawAnswer(status, lostAt) {
  const place = document.getElementById("answer");
  place.className = lostAt ? "lost" : "quiet";
  place.textContent = lostAt
    ? `The daemon has not answered since ${clock(lostAt)}; what is below is older.`
    : `As of ${clock(status.at_ms)}.`;
}

const SO = { true: ["yes", "\u2713"], false: ["no", "\u2717"], null: ["unknown", "\u2013"] };

export function drawAnswers({ answers = [] }) {
  show("answers", ...answers.map(({ about, asks, is_so: isSo, says }) => {
    const [word, mark] = SO[isSo];
    return element("div", { class: `answer ${word}`, "data-about": about, "data-so": String(isSo) },
      element("p", { class: "asks" }, element("i", { "aria-hidden": "true" }, mark), `${asks}: ${word}`),
      element("p", { class: "says" }, says));
  }));
}

export function drawProblems(status) {
  const cards = status.problems.map(({ about, level, says, remedy }) =>
    element("div", { class: `problem ${level}`, "data-about": about },
      element("p", {}, element("span", { class: "level" }, level), says),
      remedy ? element("p", { class: "remedy" }, remedy) : null));
  const well = element("div", { class: "problem well" }, element("p", {}, "Nothing is wrong."));
  show("problems", ...(cards.length ? cards : [well]));
}

// A tile shows one value of /status: data-path says which, data-raw how it is there.
function tile(name, path, raw, text, note) {
  return element("dl", { class: "tile", "data-path": path, "data-raw": JSON.stringify(raw ?? null) },
    element("dt", {}, name), element("dd", {}, text), element("dd", {}, note ?? ""));
}

export function drawTiles(status) {
  const { teacher = {}, ages = {}, learning = {}, lineage = {}, task = {}, buffer = {} } = status;
  const tiles = [
    tile("served version", "teacher.version", teacher.version, count(teacher.version),
      lineage.head === lineage.current || lineage.current == null ? "" : `head is ${lineage.head}`),
    tile("freshness", "ages.freshness_seconds", ages.freshness_seconds, span(ages.freshness_seconds),
      "age of the newest instance learned"),
    tile("lag", "ages.lag_seconds", ages.lag_seconds, span(ages.lag_seconds),
      `${count(unread(status))} unread, ${count(buffer.records ?? 0)} buffered`),
    tile("learned", "lineage.instances_learned", lineage.instances_learned,
      count(lineage.instances_learned), `instances, in ${count(lineage.tasks)} tasks`),
    tile("task", "task.number", task.number, task.number == null ? "waiting" : `no. ${task.number}`,
      task.number == null ? "for instances" : task.steps ? `step ${task.steps_done} of ${task.steps}` : "beginning"),
  ];
  for (const [name, value] of Object.entries(learning.teacher_accuracy ?? {}).slice(0, 4)) {
    const gained = -(learning.forgetting?.[name] ?? 0);
    tiles.push(tile(`accuracy on ${name}`, `learning.teacher_accuracy.${name}`, value, percent(value),
      `${points(gained)} against base`));
  }
  if (learning.outer_ratio != null) {
    tiles.push(tile("outer ratio", "learning.outer_ratio", learning.outer_ratio,
      percent(learning.outer_ratio), "of the last task was wrong before"));
  }
  tiles.push(...loadTiles(status.load ?? {}), ...qualityTiles(learning), ...classTiles(status));
  show("tiles", ...tiles);
}

function unread({ intake = {} }) {
  return Object.values(intake.lag ?? {}).reduce((sum, each) => sum + each, 0);
}

function loadTiles({ headroom_ratio: headroom, retention_margin_seconds: margin }) {
  const tiles = [];
  if (headroom != null) {
    tiles.push(tile("headroom", "load.headroom_ratio", headroom, `${headroom.toFixed(1)} times`,
      "learning rate to arrival rate"));
  }
  if (margin != null) {
    tiles.push(tile("retention margin", "load.retention_margin_seconds", margin, span(margin),
      "until unlearned records go"));
  }
  return tiles;
}

// Nothing to say of classes that are version 0's, and of no others.
function classTiles({ classes = {}, learning = {} }) {
  if (!classes.deferred_records && !classes.later?.length) {
    return [];
  }
  const groups = learning.class_groups?.holdouts ?? {};
  const accuracy = groups.later == null ? ""
    : `, ${percent(groups.later)} right on holdouts, the first ${percent(groups.first)}`;
  return [
    tile("classes", "classes.served", classes.served, count(classes.served),
      `${count(classes.later.length)} of them later${accuracy}`),
    tile("deferred records", "classes.deferred_records", classes.deferred_records,
      count(classes.deferred_records), `of ${count(classes.deferred_labels)} labels that are no class yet`),
  ];
}

function qualityTiles({ calibration_error: errors = {}, worst_classes: worst = {} }) {
  return Object.entries(errors).slice(0, 2).map(([name, error]) => {
    const [label, accuracy] = Object.entries(worst[name] ?? {})[0] ?? [];
    return tile(`calibration error on ${name}`, `learning.calibration_error.${name}`, error,
      percent(error), label == null ? "" : `worst class: ${label}, ${percent(accuracy)}`);
  });
}

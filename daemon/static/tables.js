// Forgetting matrix, tasks with their verdicts, and what else happened.

import { element, show } from "./elements.js";
import { clock, count, MISSING, percent } from "./format.js";

const NUM_MATRIX_ROWS = 25;
const NUM_HOLDOUTS = 10;
const NUM_TASKS = 30;
const NUM_HAPPENINGS = 20;
const NUM_NAMES = 3;
const FULL_COLOUR_AT = 0.1; // as much below the best before is as red as it gets

export function drawMatrix(history, status) {
  const base = status.learning?.base_accuracy ?? {};
  const rows = history.tasks
    .filter((each) => each.version != null)
    .map(({ version, teacher, holdouts }) => ({ version, accuracy: { ...teacher, ...named(holdouts) } }))
    .filter((each) => Object.keys(each.accuracy).length);
  const names = columns(base, rows);
  if (!names.length) {
    show("matrix", element("p", { class: "none" }, "Nothing is measured: no evaluation.sets, no gate."));
    return;
  }
  if (Object.keys(base).length) rows.unshift({ version: 0, accuracy: base });
  const best = {};
  const cells = rows.map(({ version, accuracy }) => element("tr", {},
    element("th", { scope: "row" }, `v${version}`),
    ...names.map((name) => matrixCell(name, version, accuracy[name], best))));
  const head = element("tr", {}, element("th", {}, "version"),
    ...names.map((name) => element("th", { class: "number", scope: "col" }, name)));
  show("matrix", element("table", { class: "matrix" },
    element("thead", {}, head), element("tbody", {}, ...cells.slice(-NUM_MATRIX_ROWS))));
  colourCells();
}

// Holdouts of the gate by what was held out: of the base model's data, or of a task.
function named(holdouts) {
  return Object.fromEntries(Object.entries(holdouts).map(([name, value]) =>
    [name === "base" ? "held out: base" : `held out: task ${name}`, value]));
}

// Evaluation sets first, then the newest holdouts in the order of their tasks.
function columns(base, rows) {
  const all = [...new Set([...Object.keys(base), ...rows.flatMap((each) => Object.keys(each.accuracy))])];
  const isTask = (name) => name.startsWith("held out: task ");
  const number = (name) => Number(name.split(" ").at(-1));
  const tasks = all.filter(isTask).sort((one, other) => number(one) - number(other));
  return [...all.filter((name) => !isTask(name)), ...tasks.slice(-NUM_HOLDOUTS)];
}

function matrixCell(name, version, value, best) {
  const before = best[name];
  if (value != null) best[name] = Math.max(before ?? value, value);
  const change = value == null || before == null ? 0 : value - before;
  return element("td", {
    "data-set": name, "data-version": version, "data-raw": value, "data-change": change.toFixed(4),
  }, percent(value));
}

// The policy of the page allows no style in markup, but through the object model.
function colourCells() {
  for (const cell of document.querySelectorAll("#matrix td")) {
    const change = Number(cell.dataset.change);
    const strength = Math.min(Math.abs(change) / FULL_COLOUR_AT, 1) * 0.75;
    cell.style.backgroundColor = `rgba(var(--${change < 0 ? "worse" : "better"}), ${strength})`;
  }
}

export function drawRanks(status) {
  const each = status.ranks?.each ?? [];
  document.getElementById("ranks-panel").hidden = !each.length;
  if (!each.length) return;
  const titles = ["rank", "partitions", "records read", "lag", "waiting", "state"];
  const head = element("tr", {}, ...titles.map((title) => element("th", {}, title)));
  const rows = each.map((one) => element("tr", { "data-rank": one.rank },
    cell("rank", one.rank),
    cell("partitions", count(one.partitions)),
    cell("records read", count(one.records)),
    cell("lag", count(one.lag)),
    cell("waiting", count(one.waiting)),
    cell("state", one.error ?? (one.is_paused ? "paused: its buffer is full" : "reads"))));
  show("ranks", element("table", { class: "cards" },
    element("thead", {}, head), element("tbody", {}, ...rows)));
}

export function drawVersions(history, status) {
  const newest = [...history.tasks].reverse().slice(0, NUM_TASKS);
  if (!newest.length) {
    show("versions", element("p", { class: "none" }, "No task has been closed yet."));
    return;
  }
  const sets = Object.keys(status.learning?.base_accuracy ?? {}).slice(0, 4);
  const titles = ["task", "closed", "instances", "verdict", "version", ...sets, "reasons"];
  const head = element("tr", {}, ...titles.map((title) => element("th", {}, title)));
  const rows = newest.map((row) => taskRow(row, sets, status.lineage ?? {}));
  show("versions", element("table", { class: "cards" },
    element("thead", {}, head), element("tbody", {}, ...rows)));
}

function taskRow(row, sets, { head, current }) {
  const tags = row.version == null ? [] : [
    ...(row.version === current ? ["served"] : []), ...(row.version === head ? ["head"] : []),
    ...newClasses(row),
  ];
  const version = cell("version", row.version == null ? "" : `v${row.version}`);
  version.append(...tags.map((tag) => element("span", { class: "tag" }, tag)));
  return element("tr", { "data-task": row.task },
    cell("task", row.task),
    cell("closed", clock(row.at)),
    cell("instances", count(row.instances)),
    cell("verdict", row.gate === "ungated" ? row.result : `${row.result} (${row.gate})`, `result ${row.result}`),
    version,
    ...sets.map((name) => cell(name, row.teacher[name] == null ? "" : percent(row.teacher[name]))),
    cell("reasons", row.reasons.join("; "), "whole"));
}

// Names are as long as labels may be; the first few say enough.
function newClasses({ result, new_classes: names = [] }) {
  if (result !== "accepted" || !names.length) {
    return [];
  }
  const more = names.length > NUM_NAMES ? ` and ${names.length - NUM_NAMES} more` : "";
  return [`new: ${names.slice(0, NUM_NAMES).join(", ")}${more}`];
}

function cell(title, text, kind = "") {
  const isMissing = text === "" || text === MISSING;
  return element("td", { "data-title": title, class: `${kind}${isMissing ? " missing" : ""}` }, String(text));
}

export function drawHappenings(history) {
  const newest = [...history.happenings].reverse().slice(0, NUM_HAPPENINGS);
  const items = newest.map(({ at, kind, ...fields }) => {
    const words = Object.entries(fields).filter(([, value]) => value !== "")
      .map(([name, value]) => `${name} ${value}`).join(", ");
    return element("li", {}, `${clock(at)} `, element("b", {}, kind), ` ${words}`);
  });
  const none = element("li", { class: "none" }, "Nothing yet.");
  show("happenings", ...(items.length ? items : [none]));
}

// One line plot as SVG, drawn at the size of its place, with the values under the pointer.

import { element, shape } from "./elements.js";

const HEIGHT = 190;
const MARGIN = { top: 10, right: 12, bottom: 22, left: 54 };
const NUM_Y_TICKS = 4;
const PIXELS_PER_X_TICK = 110;

// series: [{name, kind, points: [[x, y or null], ...], marks}]; kind is the CSS class of its colour.
// format: {x, y, axis} functions from number to text; axis, if given, beside the y axis. isWhole: x has
// whole numbers only. least: the y axis spans at least so much, so that noise does not fill the plot.
export function linePlot(place, { title, series, format, isWhole = false, includes = [], least = 0 }) {
  const width = Math.max(240, place.clientWidth || 320);
  const filled = series.filter(({ points }) => points.some(([, y]) => y != null));
  const box = element("div", { class: "plot", role: "group", "aria-label": title });
  const heading = title ? element("h3", {}, title) : null;
  if (!filled.length) {
    box.append(...[heading, element("p", { class: "none" }, "Nothing yet.")].filter(Boolean));
    return box;
  }
  const all = filled.flatMap(({ points }) => points.filter(([, y]) => y != null));
  const x = scale(all.map(([value]) => value), MARGIN.left, width - MARGIN.right, isWhole);
  const heights = [...all.map(([, value]) => value), ...includes];
  const [lowest, highest] = [Math.min(...heights), Math.max(...heights)];
  if (highest - lowest < least) heights.push(highest - least);
  const y = scale(heights, HEIGHT - MARGIN.bottom, MARGIN.top);
  const drawing = shape("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
    "aria-label": `${title}: ${filled.map((each) => lastWords(each, format)).join(", ")}`,
  });
  drawing.append(...axes(x, y, width, format, isWhole));
  for (const line of filled) drawing.append(...drawLine(line, x, y));
  const legend = element("div", { class: "legend" });
  fillLegend(legend, filled, format, null);
  followPointer(drawing, legend, filled, x, format);
  box.append(...[heading, legend, drawing].filter(Boolean));
  return box;
}

function scale(values, from, to, isWhole = false) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) {
    const room = isWhole ? 1 : Math.abs(low) * 0.1 || 1;
    [low, high] = [low - (isWhole || low === 0 ? 0 : room), high + room];
  } else if (!isWhole && from > to) {
    high += (high - low) * 0.06;
  }
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  return { low, high, at };
}

function ticks({ low, high }, wanted, isWhole) {
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
  if (isWhole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    found.push(Number(value.toPrecision(12)));
  }
  return found;
}

function axes(x, y, width, format, isWhole) {
  const drawn = [];
  for (const value of ticks(y, NUM_Y_TICKS, false)) {
    const at = y.at(value);
    drawn.push(shape("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
    const text = (format.axis ?? format.y)(value);
    drawn.push(shape("text", { x: MARGIN.left - 6, y: at + 4, "text-anchor": "end" }, text));
  }
  const room = (width - MARGIN.left - MARGIN.right) / PIXELS_PER_X_TICK;
  for (const value of xTicks(x, room, isWhole)) {
    const at = x.at(value);
    const anchor = at > width - 45 ? "end" : at < MARGIN.left + 30 ? "start" : "middle";
    drawn.push(shape("text", { x: at, y: HEIGHT - 6, "text-anchor": anchor }, format.x(value)));
  }
  return drawn;
}

function xTicks(x, room, isWhole) {
  if (isWhole) return ticks(x, room * 2, true);
  const wanted = Math.max(1, Math.floor(room));
  return Array.from({ length: wanted + 1 }, (_, place) => x.low + (place / wanted) * (x.high - x.low));
}

function drawLine({ kind, points, marks }, x, y) {
  let path = "";
  let isPenDown = false;
  const drawn = [];
  for (const [horizontal, vertical] of points) {
    if (vertical == null) {
      isPenDown = false;
      continue;
    }
    const [left, top] = [x.at(horizontal).toFixed(1), y.at(vertical).toFixed(1)];
    path += `${isPenDown ? "L" : "M"}${left} ${top}`;
    isPenDown = true;
    if (marks) drawn.push(shape("circle", { class: kind, cx: left, cy: top, r: 3 }));
  }
  return [shape("path", { class: kind, d: path }), ...drawn];
}

function fillLegend(legend, series, format, at) {
  const entries = series.map((line) => {
    const point = at == null ? lastPoint(line) : nearest(line.points, at);
    const isDashed = line.kind === "base" || line.kind === "threshold";
    return element("div", { class: line.kind },
      element("i", { class: isDashed ? "dashed" : "" }),
      element("span", {}, `${line.name} `, element("b", {}, point ? format.y(point[1]) : "")));
  });
  if (at != null) entries.push(element("div", { class: "quiet" }, `at ${format.x(at)}`));
  legend.replaceChildren(...entries);
}

function followPointer(drawing, legend, series, x, format) {
  const cursor = shape("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
  drawing.append(cursor);
  const places = [...new Set(series.flatMap(({ points }) => points.map(([value]) => value)))];
  drawing.addEventListener("pointermove", (event) => {
    const frame = drawing.getBoundingClientRect();
    const left = ((event.clientX - frame.left) / frame.width) * drawing.viewBox.baseVal.width;
    const at = places.reduce((best, each) =>
      Math.abs(x.at(each) - left) < Math.abs(x.at(best) - left) ? each : best);
    cursor.setAttribute("x1", x.at(at));
    cursor.setAttribute("x2", x.at(at));
    cursor.setAttribute("visibility", "visible");
    fillLegend(legend, series, format, at);
  });
  drawing.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    fillLegend(legend, series, format, null);
  });
}

function nearest(points, at) {
  const known = points.filter(([, y]) => y != null);
  return known.reduce((best, each) =>
    Math.abs(each[0] - at) < Math.abs(best[0] - at) ? each : best, known[0]);
}

function lastPoint({ points }) {
  return points.findLast(([, y]) => y != null);
}

function lastWords(line, format) {
  return `${line.name} ${format.y(lastPoint(line)[1])}`;
}

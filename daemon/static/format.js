// How values are worded; the same words as daemon/wording.py.

export const MISSING = "\u2013";

const UNITS = [["days", 86400], ["hours", 3600], ["minutes", 60]];

export function span(seconds) {
  if (seconds == null) return MISSING;
  for (const [unit, size] of UNITS) {
    if (seconds >= 2 * size) return `${(seconds / size).toFixed(0)} ${unit}`;
  }
  return `${seconds.toFixed(0)} s`;
}

// Beside an axis, where there is little room.
export function shortSpan(seconds) {
  const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60]].find((each) => seconds >= 2 * each[1]) ?? ["s", 1];
  return `${Number((seconds / size).toFixed(1))} ${unit}`;
}

export function percent(share) {
  return share == null ? MISSING : `${(100 * share).toFixed(1)}%`;
}

export function points(difference) {
  if (difference == null) return MISSING;
  const text = (Number((100 * difference).toFixed(1)) + 0).toFixed(1);
  return `${Number(text) > 0 ? "+" : ""}${text} points`;
}

export function count(number) {
  return number == null ? MISSING : number.toLocaleString("en-US");
}

export function short(number) {
  if (number == null) return MISSING;
  return Number(number.toPrecision(3)).toString();
}

export function clock(moment) {
  if (moment == null) return MISSING;
  const time = new Date(moment);
  const isToday = time.toDateString() === new Date().toDateString();
  const hours = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return isToday ? hours : `${time.toLocaleDateString("en-CA")} ${hours}`;
}

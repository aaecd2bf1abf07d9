// Asks the daemon how it is every two seconds, and shows it. It draws what /status and /history say;
// what is wrong is said by the daemon itself.

import { drawPlots } from "./plots.js";
import { drawHappenings, drawMatrix, drawRanks, drawVersions } from "./tables.js";
import { drawAnswer, drawAnswers, drawHeader, drawProblems, drawTiles } from "./summary.js";

const STATUS_MS = 2000;
const HISTORY_MS = 6000;
const TIMEOUT_MS = 8000;

const shown = { status: null, history: null, tasks: null, historyAt: 0, lostAt: null };

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  return answer.json();
}

async function refresh() {
  try {
    shown.status = await ask("status");
    const tasks = shown.status.lineage?.tasks;
    if (tasks !== shown.tasks || Date.now() - shown.historyAt > HISTORY_MS) {
      shown.history = await ask("history");
      shown.tasks = tasks;
      shown.historyAt = Date.now();
      drawHistory();
    }
    shown.lostAt = null;
    drawStatus();
  } catch (error) {
    shown.lostAt ??= Date.now();
  }
  drawAnswer(shown.status, shown.lostAt);
}

function drawStatus() {
  const { status, history } = shown;
  drawHeader(status);
  drawAnswers(status);
  drawProblems(status);
  drawTiles(status);
  drawVersions(history, status);
  drawRanks(status);
  document.body.dataset.atMs = status.at_ms;
}

function drawHistory() {
  const { status, history } = shown;
  drawPlots(history, status);
  drawMatrix(history, status);
  drawHappenings(history);
}

async function live() {
  if (!document.hidden) await refresh();
  setTimeout(live, STATUS_MS);
}

let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width && shown.history) drawHistory();
  width = window.innerWidth;
});
live();

"""The page at / in a real browser, on a real daemon: it shows what /status says, no more."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from base_models import digits
from chromium import chromium
from daemon_process import DaemonProcess
from playwright.sync_api import Browser, Page, Route
from stream_writing import append_digits
from terminal import Terminal

TASK_INSTANCES = 40
NUM_TASKS = 3
SECONDS = 300_000
"""Milliseconds that the browser may take on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium once."""
    with chromium(os.environ) as browser:
        yield browser


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, digits_base_model: Path
) -> Iterator[DaemonProcess]:
    """Run a daemon that has learned three tasks and is measured on two sets."""
    directory = tmp_path_factory.mktemp("page")
    data = digits()
    for name, inputs in {
        "plain": data.inputs,
        "turned": np.rot90(data.inputs, axes=(2, 3)),
    }.items():
        np.savez(directory / f"{name}.npz", inputs=inputs[-200:], labels=data.labels[-200:])
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(digits_base_model)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 4, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "evaluation": {
            "sets": {name: str(directory / f"{name}.npz") for name in ("plain", "turned")}
        },
        # It holds out, but as few as these decide nothing: whatever is finite shall pass.
        "gate": {
            "holdout_share": 0.25,
            "allowance": 0.99,
            "forgetting": 0.99,
            "class_allowance": 0.99,
            "probation_tasks": 0,
        },
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    with closing(DaemonProcess(directory, settings)) as process:
        process.start()
        append_digits(directory / "stream.db", 0, NUM_TASKS * TASK_INSTANCES)
        process.wait_for_tasks(NUM_TASKS)
        yield process


@dataclass(slots=True)
class Visit:
    """One look at the page, with everything that the browser complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


def visit(browser: Browser, daemon: DaemonProcess, **options: Any) -> Visit:  # noqa: ANN401 (a browser context's)
    """Open the page and wait until it shows something."""
    seen = Visit(browser.new_context(**options).new_page())
    seen.page.set_default_timeout(SECONDS)
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda request: seen.addresses.append(request.url))
    seen.page.goto(f"http://127.0.0.1:{daemon.port}/")
    seen.page.wait_for_selector("body[data-at-ms]")
    return seen


def value_at(status: dict[str, Any], path: str) -> Any:  # noqa: ANN401 (any JSON value)
    """Return what a dotted path of /status leads to."""
    section, _, rest = path.partition(".")
    return value_at(status[section], rest) if rest else status.get(section)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows at one moment, and the very answer of /status that it shows."""

    tiles: list[dict[str, str]]
    headline: str
    state: str
    status: dict[str, Any]


def shown_and_asked(page: Page) -> Shown:
    """Wait until the page shows an answer that has come from now on; return both."""
    answers: dict[int, dict[str, Any]] = {}

    def keep(route: Route) -> None:
        answer = route.fetch()
        status = answer.json()
        answers[status["at_ms"]] = status
        route.fulfill(response=answer)

    page.route("**/status", keep)
    while True:
        at_ms, headline, state, tiles = page.evaluate(
            "() => [document.body.dataset.atMs,"
            " document.querySelector('#headline').textContent,"
            " document.querySelector('#state').textContent,"
            " [...document.querySelectorAll('.tile')].map("
            "tile => ({...tile.dataset, text: tile.querySelector('dd').textContent}))]"
        )
        if int(at_ms) in answers:
            page.unroute_all(behavior="wait")
            return Shown(tiles, headline, state, answers[int(at_ms)])
        page.wait_for_function("at => document.body.dataset.atMs !== at", arg=at_ms)


def test_the_values_on_the_page_are_those_of_the_status(
    browser: Browser, daemon: DaemonProcess
) -> None:
    """Every tile names its path in /status and shows what is there, in words."""
    shown = shown_and_asked(visit(browser, daemon).page)
    tiles, status = shown.tiles, shown.status
    accuracy = {tile["path"]: tile["text"] for tile in tiles if "accuracy" in tile["path"]}

    assert len(tiles) >= 8
    for tile in tiles:
        assert value_at(status, tile["path"]) == json.loads(tile["raw"])
    assert {
        f"learning.teacher_accuracy.{name}": f"{100 * value:.1f}%"
        for name, value in status["learning"]["teacher_accuracy"].items()
    } == accuracy
    assert (status["headline"], status["state"]) == (shown.headline, shown.state)


def test_ranks_are_shown_where_there_are_several(browser: Browser, daemon: DaemonProcess) -> None:
    """One row for each, with what keeps it from reading; a process alone has no such panel."""
    alone = visit(browser, daemon)
    each = [
        {"rank": 0, "partitions": 2, "records": 1200, "lag": 0, "waiting": 7, "is_paused": False},
        {"rank": 1, "partitions": 1, "records": 30, "lag": 5, "waiting": 0, "error": "no broker"},
    ]
    ranked = {**daemon.status(), "ranks": {"size": 2, "each": each}}
    page = visit(browser, daemon).page
    page.route("**/status", lambda route: route.fulfill(json=ranked))
    page.wait_for_selector("tr[data-rank='1']")

    assert alone.page.is_hidden("#ranks-panel")
    rows = [row.split() for row in page.locator("#ranks tbody tr").all_inner_texts()]
    assert ["0", "2", "1,200", "0", "7", "reads"] == rows[0]
    assert ["1", "1", "30", "5", "0", "no", "broker"] == rows[1]


def test_a_version_that_has_brought_classes_says_which(
    browser: Browser, daemon: DaemonProcess
) -> None:
    """The first few by name; a task that was held has brought none."""
    history = json.loads(daemon.get("/history")[1])
    for row, names in zip(history["tasks"], (["fox"], list("abcde"), ["elk"]), strict=True):
        row["new_classes"] = names
    history["tasks"][2]["result"] = "held"
    page = visit(browser, daemon).page
    page.route("**/history", lambda route: route.fulfill(json=history))
    page.reload()
    page.wait_for_selector("#versions tr[data-task='1'] .tag")
    tags = [
        page.locator(f"#versions tr[data-task='{task}'] .tag").all_inner_texts()
        for task in (1, 2, 3)
    ]

    assert ["new: fox", "new: a, b, c and 2 more"] == [each[-1] for each in tags[:2]]
    assert not any("new" in each for each in tags[2])


def test_the_three_answers_are_those_of_the_status(browser: Browser, daemon: DaemonProcess) -> None:
    """Fresh, better, not forgetting: each with a word, a mark and the figure that says so."""
    page = visit(browser, daemon).page
    cards = page.eval_on_selector_all(
        ".answer", "cards => cards.map(card => ({...card.dataset, text: card.textContent}))"
    )
    answers = daemon.status()["answers"]
    words = {True: "yes", False: "no", None: "unknown"}

    assert ["fresh", "better", "remembers"] == [card["about"] for card in cards]
    for card, answer in zip(cards, answers, strict=True):
        assert json.loads(card["so"]) is answer["is_so"]
        assert f"{answer['asks']}: {words[answer['is_so']]}" in card["text"]
    assert answers[1]["says"] in cards[1]["text"]


def shown(row: dict[str, Any]) -> dict[str, float]:
    """Return a task's accuracies as the matrix names them."""
    holdouts = {
        "held out: base" if name == "base" else f"held out: task {name}": accuracy
        for name, accuracy in row["holdouts"].items()
    }
    return row["teacher"] | holdouts


def test_plots_matrix_and_versions_are_those_of_the_history(
    browser: Browser, daemon: DaemonProcess
) -> None:
    """One plot for each set, one cell for each version and set, one row for each task."""
    page = visit(browser, daemon).page
    page.wait_for_selector(f"#versions tr[data-task='{NUM_TASKS}']")
    history = json.loads(daemon.get("/history")[1])
    base = daemon.status()["learning"]["base_accuracy"]
    expected = {
        (name, str(version)): accuracy
        for version, accuracies in [
            (0, base),
            *((row["version"], shown(row)) for row in history["tasks"]),
        ]
        for name, accuracy in accuracies.items()
    }
    cells = page.evaluate(
        "() => [...document.querySelectorAll('#matrix td')].filter(cell => cell.dataset.raw)"
        ".map(cell => [cell.dataset.set, cell.dataset.version, Number(cell.dataset.raw)])"
    )
    points = page.evaluate(
        "() => [...document.querySelectorAll('#accuracy svg')].map("
        "svg => svg.querySelectorAll('circle.teacher').length)"
    )
    rows = page.eval_on_selector_all(
        "#versions tbody tr", "rows => rows.map(row => row.dataset.task)"
    )

    assert expected == {(name, version): value for name, version, value in cells}
    assert ("held out: task 1", "1") in expected
    assert [NUM_TASKS + 1] * len(base) == points
    assert [str(row["task"]) for row in reversed(history["tasks"])] == rows
    for plot in ("#lag svg", "#freshness svg"):
        assert page.wait_for_selector(plot)  # drawn with the first sample after a task


def test_what_is_wrong_appears_and_goes_without_a_reload(
    browser: Browser, daemon: DaemonProcess
) -> None:
    """The daemon's own sentence; markup in it, which strangers may write, stays text."""
    seen = visit(browser, daemon)
    right = daemon.config_path.read_text(encoding="utf-8")
    wrong = yaml.safe_load(right) | {"<b id='evil'>": 1}
    daemon.config_path.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    seen.page.wait_for_selector(".problem[data-about='reload']")
    (problem,) = [each for each in daemon.status()["problems"] if each["about"] == "reload"]
    text = seen.page.text_content(".problem[data-about='reload']") or ""

    assert "<b id='evil'>" in problem["says"]
    assert problem["says"] in text
    assert problem["remedy"] in text
    assert seen.page.query_selector("#evil") is None

    daemon.config_path.write_text(right, encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    seen.page.wait_for_selector(".problem[data-about='reload']", state="detached")


def test_nothing_is_asked_of_anybody_else_and_nothing_is_complained_about(
    browser: Browser, daemon: DaemonProcess
) -> None:
    """No address but the daemon's; no error, no violation of the policy, in light and in dark."""
    grounds = set()
    for scheme in ("light", "dark"):
        seen = visit(browser, daemon, color_scheme=scheme)
        seen.page.wait_for_selector("#accuracy svg")
        grounds.add(seen.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))

        assert [] == seen.complaints
        assert seen.addresses
        assert all(url.startswith(f"http://127.0.0.1:{daemon.port}/") for url in seen.addresses)
    assert 2 == len(grounds)


def test_it_can_be_read_on_a_phone(browser: Browser, daemon: DaemonProcess) -> None:
    """Nothing sticks out to the side, and no text is smaller than 11 pixels."""
    page = visit(
        browser, daemon, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True
    ).page
    page.wait_for_selector("#versions tr[data-task]")
    width = page.evaluate("() => document.documentElement.scrollWidth")
    sizes = page.evaluate(
        "() => [...document.querySelectorAll('main *')]"
        ".filter(each => [...each.childNodes].some(child => child.nodeType === Node.TEXT_NODE))"
        ".map(each => parseFloat(getComputedStyle(each).fontSize))"
    )

    assert 360 == width
    assert min(sizes) >= 11


def test_the_terminal_shows_the_same(daemon: DaemonProcess) -> None:
    """`teacherd status --watch` on a real terminal, ended by Ctrl+C; elsewhere it is refused."""
    command = [sys.executable, "-m", "teacherd.daemon", "status", "--watch"]
    command += ["--url", f"http://127.0.0.1:{daemon.port}"]
    accuracy = f"{daemon.status()['learning']['teacher_accuracy']['plain']:.1%}"
    with closing(Terminal(command, daemon.directory)) as terminal:
        terminal.wait_for("verdict", daemon.status()["headline"][:10], accuracy)
        code = terminal.interrupt()
    piped = subprocess.run(command, check=False, capture_output=True, cwd=daemon.directory)

    assert 0 == code
    assert 2 == piped.returncode
    assert b"--watch: needs a terminal" in piped.stderr


def test_a_daemon_that_is_gone_is_said_to_be_gone(
    browser: Browser, digits_base_model: Path, tmp_path: Path
) -> None:
    """Figures that nobody confirms any more must not look like the present."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(digits_base_model)},
        "process": {"state_directory": str(tmp_path / "state"), "num_threads": 1},
        "stream_log": {"path": str(tmp_path / "stream.db")},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    with closing(DaemonProcess(tmp_path, settings)) as daemon:
        daemon.start()
        page = visit(browser, daemon).page

        assert "No evaluation.sets are configured." in page.inner_text("#accuracy")

        daemon.kill()
        page.wait_for_selector("#answer.lost")

        assert "has not answered since" in page.inner_text("#answer")

"""docs/runbook.md: an entry for each alert and no other; what it names is there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from teacherd.daemon.cli import app
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import keys_of

ROOT = Path(__file__).parents[1]
PATH = ROOT / "docs" / "runbook.md"
DOCUMENT = PATH.read_text(encoding="utf-8")
EVENTS = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^## (Teacherd\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
PARTS = ("To users", "First look", "Causes", "Do", "Wake")
OURS = tuple(sorted({key.partition(".")[0] for key in keys_of(Config)} - {"source"}))


def alerts() -> list[dict[str, Any]]:
    """Return the shipped alerts in their order."""
    path = ROOT / "deploy" / "prometheus" / "teacherd.alerts.yml"
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def anchor(heading: str) -> str:
    """Return what a heading's link ends with, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_alert_has_its_entry_and_no_other_has() -> None:
    """In the alerts' order, so that both are read side by side."""
    assert [rule["alert"] for rule in alerts()] == [name for name, _ in ENTRY.findall(DOCUMENT)]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_the_alert_leads_to_its_entry(rule: dict[str, Any]) -> None:
    """Who is woken follows runbook_url."""
    path, _, at = rule["annotations"]["runbook_url"].partition("#")

    assert PATH == ROOT / path
    assert at == anchor(rule["alert"])


@pytest.mark.parametrize(("name", "entry"), ENTRY.findall(DOCUMENT))
def test_an_entry_says_all_that_is_needed_at_night(name: str, entry: str) -> None:
    """What users notice, where to look, why, what to do, whether to wake somebody."""
    for part in PARTS:
        assert re.search(rf"^- \*\*{part}\b[^*]*\*\* ", entry, re.MULTILINE), f"{name}: {part}"


@pytest.mark.parametrize("document", ["runbook.md", "operating.md", "sizing.md", "observing.md"])
def test_links_lead_somewhere(document: str) -> None:
    """To files that are there, and to headings in them."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, at = target.partition("#")
        if "://" in path:
            continue
        there = ROOT / "docs" / (path or document)
        assert there.exists(), target
        if at:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert at in {anchor(heading) for heading in headings}, target


def verbs() -> list[str]:
    """Return what the runbook tells people to type to us."""
    return sorted({code for code in CODE.findall(DOCUMENT) if code.startswith("teacherd ")})


@pytest.mark.parametrize("line", verbs())
def test_verbs_are_there_with_their_options(line: str) -> None:
    """The command line knows each."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {option for each in command.params for option in each.opts}

    assert {word for word in words if word.startswith("--")} <= options


def test_settings_are_there() -> None:
    """Each key with a section of ours, as far as it has a value beside it or not."""
    keys = set(keys_of(Config))
    sections = "|".join(OURS)
    named = set(re.findall(rf"`((?:{sections})\.[\w.]+)", DOCUMENT))

    assert named
    assert set() == named - keys


def test_events_are_there() -> None:
    """Each that is called one."""
    named = set(re.findall(r"events? `(\w+)`", DOCUMENT))

    assert named
    assert {event for event in named if f"| `{event}` |" not in EVENTS} == set()

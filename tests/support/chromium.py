"""The real Chromium, headless, as the machine has it: none is downloaded, nothing phones home."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from programs import find_program

INSTALL = "apt-get install -y --no-install-recommends chromium"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(environment: Mapping[str, str]) -> Iterator[Browser]:
    """Give a browser until the end of the block; without one skip the test (never in CI)."""
    program = find_program("chromium", INSTALL, environment=environment)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()

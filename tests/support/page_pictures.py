"""Takes the pictures of the page in docs/: `python tests/support/page_pictures.py URL FOLDER`.

The daemon at the URL should have something to show, as after `teacherd demo`.
"""

import os
import sys
from pathlib import Path

from chromium import chromium

_PICTURES = {
    "page-light": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"},
    "page-dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
    "page-phone": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "light",
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    },
}


def take_pictures(url: str, folder: Path) -> None:
    """Write one PNG for each way of looking at the page."""
    with chromium(os.environ) as browser:
        for name, options in _PICTURES.items():
            page = browser.new_context(**options).new_page()
            page.goto(url)
            page.wait_for_selector("body[data-at-ms]")
            page.screenshot(path=folder / f"{name}.png", full_page=name != "page-phone")


if __name__ == "__main__":
    take_pictures(sys.argv[1], Path(sys.argv[2]))

"""Hiding secrets in settings that are shown: values by the name of their key, passwords in URLs."""

import re
from collections.abc import Mapping
from typing import Any

from teacherd.daemon.notifications import mask_webhook

MASK = "***"

_SECRET = re.compile(r"secret|passw|token$|credential|authorization|(^|_)key$")
_USER_AND_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")


def mask(value: Any, *, key: str = "") -> Any:  # noqa: ANN401 (a tree of JSON values)
    """Return the settings with secrets replaced; a name of a file that holds one is none."""
    if isinstance(value, Mapping):
        return {name: mask(inner, key=str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [mask(inner, key=key) for inner in value]
    if value is not None and not key.endswith("_file") and _SECRET.search(key.lower()):
        return MASK
    if key == "webhook_url" and value is not None:
        return mask_webhook(value, mask=MASK)
    if isinstance(value, str):
        return _USER_AND_PASSWORD.sub(rf"\1:{MASK}@", value)
    return value

"""Makes the part of the chart's schema that is teacherd's own configuration.

`python deploy/kubernetes/values_schema.py` writes it into chart/values.schema.json, whose other
part is written by hand. So a mistyped key is refused by helm, not by a daemon that ends with 78.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from teacherd.daemon.config import Config

SCHEMA = Path(__file__).parent / "chart" / "values.schema.json"
DEFINITIONS = "$defs"


def render() -> str:
    """Return the schema's text, with the configuration as it is now."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema[DEFINITIONS] = definitions()
    return json.dumps(schema, indent=2) + "\n"


def definitions() -> dict[str, Any]:
    """Return the definition of each section, and of the whole as `Config`."""
    whole = TypeAdapter(Config).json_schema()
    sections = whole.pop(DEFINITIONS)
    return {name: _strict(each) for name, each in sorted({**sections, "Config": whole}.items())}


def _strict(section: dict[str, Any]) -> dict[str, Any]:
    """Refuse unknown keys, and leave what is for readers of Python out."""
    properties = {
        key: {name: value for name, value in inner.items() if name not in {"default", "title"}}
        for key, inner in section["properties"].items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    SCHEMA.write_text(render(), encoding="utf-8")

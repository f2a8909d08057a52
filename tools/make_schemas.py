"""Writes the schemas of manifests, reports and fleets from their types; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from envlock.fleet.store import SCHEMA as FLEET
from envlock.fleet.store import Index
from envlock.manifest.model import SCHEMA, Manifest
from envlock.reports.json import SCHEMA as REPORT
from envlock.reports.json import Report

FOLDER = Path(__file__).parent.parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return every schema that is made from types, by file name."""
    return {
        "fleet.schema.json": _schema(Index, "index of an envlock fleet", FLEET),
        "manifest.schema.json": _schema(Manifest, "envlock manifest", SCHEMA),
        "report.schema.json": _schema(Report, "envlock report", REPORT),
    }


def _schema(kind: type, title: str, name: str) -> dict[str, Any]:
    schema = msgspec.json.schema(kind)
    definition = schema["$defs"][kind.__name__]
    definition["properties"]["schema"] = {"const": name}
    definition["required"] = sorted({*definition.get("required", []), "schema"})
    return {"$schema": DIALECT, "title": title, **schema}


def render(schema: dict[str, Any]) -> str:
    """Return a schema as it lies in the file."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def main() -> None:
    """Write, or compare."""
    stale = []
    for name, schema in schemas().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != render(schema):
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(render(schema))
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'written'}: schemas/{name}")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()

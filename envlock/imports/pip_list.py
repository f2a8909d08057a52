"""pip list and uv pip list: the table with its dashes, rows that grep took out of it, the old `name (1.0)` form, JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from envlock.imports import facts as f
from envlock.imports.text import Block

_HEADER = re.compile(
    r"(?:Package|Name)\s+Version(?:\s+(?:ID|Latest|Type|Location|Editable project location|Installer))*\s*\Z"
)
_ROW = re.compile(r"([A-Za-z0-9][\w.-]{0,99})\s{1,100}(\d[\w.+!-]{0,99})(?:\s{1,100}(\S.{0,1000}))?\Z")
_BARE = re.compile(r"([A-Za-z0-9][\w.-]{0,99})\s{2,100}(\d[\w.+!-]{0,99})(?:\s{1,100}(/\S{1,1000}))?\Z")
_LEGACY = re.compile(r"([A-Za-z0-9][\w.-]{0,99}) \((\d[\w.+!-]{0,99})(?:, ([^()]{1,500}))?\)\Z")
_TELLING = re.compile(
    r"(?:torch|tensorflow|nvidia|jax|numpy|triton|transformers|vllm|xformers|flash|cupy|onnxruntime|keras|deepspeed"
    r"|accelerate|bitsandbytes|sglang|paddlepaddle|pip\b)", re.I)  # fmt: skip
"""Names that make a row without its header a package and not some other table's line."""
_COMMAND = re.compile(r"(?:^|[|;&]\s*|-m )(?:uv )?pip[\d.]* (?:list|freeze)\b")


def find(block: Block, start: int) -> int:
    """Start at the table's header and dashes, or at rows that can be nothing else."""
    lines = block.lines
    line = lines[start]
    if _HEADER.match(line):
        return _table(lines, start)
    if _LEGACY.match(line):
        return _run(lines, start, _LEGACY)
    if _BARE.match(line) and (_COMMAND.search(block.command) or _TELLING.match(line)):
        return _run(lines, start, _BARE)
    return start


def parse(lines: list[str]) -> f.Facts:
    """Read a table or its rows; see the module."""
    facts: f.Facts = {}
    header = lines[0] if _HEADER.match(lines[0]) else ""
    editable = "Editable project location" in header or header.endswith("Location")
    for line in lines:
        row = _LEGACY.match(line) or _ROW.match(line)
        if not row:
            continue
        name, version, rest = row.groups()
        local = editable and rest is not None and re.match(r"/|[A-Za-z]:\\", rest) is not None
        legacy = not header and rest is not None and re.match(r"/|[A-Za-z]:\\", rest) is not None
        installer = rest.split()[-1] if rest and header.endswith("Installer") else None
        f.pip_package(facts, name, version, editable=local or legacy,
                      installer=installer if installer in ("pip", "uv", "conda", "poetry", "pdm") else None)  # fmt: skip
    return facts


def holds(value: Any) -> bool:
    """Tell whether a JSON document is `pip list --format json`."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "name" in item and "version" in item for item in value)
        and not any("channel" in item or "build" in item or "kind" in item for item in value)
    )


def parse_json(lines: list[str]) -> f.Facts:
    """Read `pip list --format json`."""
    facts: f.Facts = {}
    for item in json.loads("\n".join(lines)):
        if isinstance(item["name"], str) and isinstance(item["version"], str):
            f.pip_package(
                facts, item["name"], item["version"], editable=bool(item.get("editable_project_location"))
            )
    return facts


def _table(lines: list[str], start: int) -> int:
    end = start + 1
    if end < len(lines) and re.match(r"-{3,}(?:\s+-{2,})+\s*\Z", lines[end]):
        end += 1
    elif end >= len(lines) or not _ROW.match(lines[end]):
        return start
    while end < len(lines) and _ROW.match(lines[end]):
        end += 1
    return end


def _run(lines: list[str], start: int, row: re.Pattern[str]) -> int:
    end = start
    while end < len(lines) and row.match(lines[end]):
        end += 1
    return end

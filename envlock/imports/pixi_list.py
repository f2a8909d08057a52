"""pixi list: the table `Package Version Build Size Kind Source`, whole or as grep left it, and --json."""

from __future__ import annotations

import json
import re
from typing import Any

from envlock.imports import facts as f
from envlock.imports.conda_explicit import channel
from envlock.imports.text import Block

_ROW = re.compile(
    r"([A-Za-z0-9_][\w.-]{0,99})\s+(\d[\w.!+]{0,99})\s+(?:([\w.+]{1,120})\s+)?"
    r"(?:[\d.]+ (?:[KMGT]i?)?B\s+)?(conda|pypi)(?=\s|\Z)(?:\s+(\S{1,500}))?"
)
_HEADER = re.compile(r"(?:Package|Name)\s+Version\s+Build\s+.*Kind")


def find(block: Block, start: int) -> int:
    """Start at the header or at a row, which its size and kind give away."""
    lines = block.lines
    end = start
    while end < len(lines) and (_HEADER.match(lines[end]) or _row(lines[end])):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read the rows."""
    facts: f.Facts = {}
    for line in lines:
        found = _row(line)
        if found:
            _package(facts, *found.groups())
    return facts


def holds(value: Any) -> bool:
    """Tell whether a JSON document is `pixi list --json`."""
    return isinstance(value, list) and bool(value) and all(
        isinstance(item, dict) and "name" in item and item.get("kind") in ("conda", "pypi") for item in value
    )  # fmt: skip


def parse_json(lines: list[str]) -> f.Facts:
    """Read `pixi list --json`."""
    facts: f.Facts = {}
    for item in json.loads("\n".join(lines)):
        words = {key: text for key, text in item.items() if isinstance(text, str)}
        _package(
            facts,
            words.get("name", ""),
            words.get("version", ""),
            words.get("build"),
            words["kind"],
            words.get("source"),
        )
    return facts


def _row(line: str) -> re.Match[str] | None:
    return _ROW.match(line.strip()) if len(line) < 1000 and ("conda" in line or "pypi" in line) else None


def _package(
    facts: f.Facts, name: str, version: str, build: str | None, kind: str, source: str | None
) -> None:
    if kind == "pypi":
        f.pip_package(facts, name, version)
        return
    # Older releases print the channel's address, newer its name, the oldest the archive's file name.
    where = source or ""
    subdir = re.search(r"/(linux-64|linux-aarch64|win-64|osx-64|osx-arm64|noarch)(?:/|\Z)", where)
    address = where[: subdir.start()] if subdir else where
    named = "://" in address or re.fullmatch(r"[\w-]{1,60}(?:/[\w-]{1,60})?", address)
    f.conda_package(facts, name, version, build, channel(address) if named else None)

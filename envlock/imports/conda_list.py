"""conda list, mamba list and micromamba list: the text table, whole or as grep left it, and --json."""

from __future__ import annotations

import json
import re
from typing import Any

from envlock.imports import facts as f
from envlock.imports.text import Block

_VERSION = r"\d[\w.!+]{0,99}"
_BUILD = r"[\w.+]{1,120}"
_ROW = re.compile(
    rf"([a-z0-9_][\w.-]{{0,99}})\s{{1,100}}({_VERSION})(?:\s{{1,100}}({_BUILD})(?:\s{{1,100}}(\S{{1,300}}))?)?\s*\Z"
)
_CHANNELS = r"(?:pytorch(?:-\w+)?|conda-forge|nvidia(?:/\S+)?|defaults|pypi|anaconda|pkgs/\w+|xformers|fastai|intel|rapidsai)"
_BARE = re.compile(
    rf"[a-z0-9_][\w.-]{{0,99}}\s{{2,100}}{_VERSION}\s{{2,100}}"
    rf"(?:[\w.]{{0,100}}_\d{{1,5}}(?:_\w+)?(?:\s{{2,100}}\S{{1,300}})?|{_BUILD}\s{{2,100}}{_CHANNELS})\s*\Z"
)
"""A row without its header: the build string or the channel has to give it away."""
_COMMAND = re.compile(r"\b(?:conda|mamba|micromamba) list\b")


def find(block: Block, start: int) -> int:
    """Start at the header, or at rows that can be nothing else."""
    lines = block.lines
    line = lines[start]
    if line.startswith(("# packages in environment", "List of packages in environment")) or re.match(
        r"#?\s*Name\s+Version\s+Build\s+Channel", line
    ):
        end = start + 1
        while end < len(lines) and (
            re.match(r"#|\s*[─-]{3,}|\s*Name\s+Version|\s*\Z", lines[end]) or _row(lines[end])
        ):
            end += 1
        return end
    if _BARE.match(line) or (_COMMAND.search(block.command) and _row(line)):
        end = start + 1
        while end < len(lines) and (_BARE.match(lines[end]) or _row(lines[end])):
            end += 1
        return end
    return start


def parse(lines: list[str]) -> f.Facts:
    """Read the rows; the header's path names the user's folders and stays behind."""
    facts: f.Facts = {}
    for line in lines:
        row = _row(line)
        if row:
            f.conda_package(facts, *row)
    return facts


def conda_row(facts: f.Facts, words: list[str]) -> None:
    """Record the words of one row: name, version, build, channel."""
    if len(words) >= 2 and re.match(_VERSION, words[1]):
        f.conda_package(facts, words[0], words[1], *words[2:4])


def holds(value: Any) -> bool:
    """Tell whether a JSON document is `conda list --json` (or mamba's, which has the same keys)."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "name" in item and "version" in item for item in value)
        and any("channel" in item and ("build_string" in item or "dist_name" in item) for item in value)
    )


def parse_json(lines: list[str]) -> f.Facts:
    """Read `conda list --json`."""
    facts: f.Facts = {}
    for item in json.loads("\n".join(lines)):
        words = {key: text for key, text in item.items() if isinstance(text, str)}
        subdir = words.get("platform", "")
        f.conda_package(facts, words.get("name", ""), words.get("version"), words.get("build_string"),
                        words.get("channel"), subdir=subdir if subdir != "pypi" else None)  # fmt: skip
    return facts


def _row(line: str) -> tuple[str, str, str | None, str | None] | None:
    if line.startswith("#"):
        return None
    found = _ROW.match(line.strip())
    return found.group(1, 2, 3, 4) if found else None  # type: ignore[return-value]

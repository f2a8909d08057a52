"""conda info and mamba info, text and JSON: its virtual packages say what conda saw of the machine.

Paths, user ids and channel addresses name people and stay behind; "python version" is conda's own
interpreter, not the environment's.
"""

from __future__ import annotations

import json
import re
from typing import Any

from envlock.imports import facts as f
from envlock.imports.text import Block

_LINE = re.compile(r"\s*(active environment|virtual packages|base environment|conda version|user-agent|platform"
                   r"|libmamba version|micromamba version|mamba version)\s+: ")  # fmt: skip
_VIRTUAL = re.compile(r"(__[a-z]{2,20})=([\w.]{1,60})=([\w.-]{1,60})")
_AGENT = re.compile(r"Linux/(\S{1,120}) ([a-z-]{2,30})/([\d.]{1,20})(?: glibc/(\d+\.\d+))?")


def find(block: Block, start: int) -> int:
    """Start at one of its keys; go on over the indented block."""
    lines = block.lines
    if not _LINE.match(lines[start]):
        return start
    end = start + 1
    while end < len(lines) and (" : " in lines[end] or re.match(r"\s*\Z|\s{8,}\S", lines[end])):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read virtual packages, platform and user agent."""
    facts: f.Facts = {}
    for line in lines:
        key, _, value = line.partition(" : ")
        if key.strip() == "platform":
            _subdir(facts, value.strip())
        elif key.strip() == "user-agent":
            _agent(facts, value)
        for name, version, build in _VIRTUAL.findall(line):
            _virtual(facts, name, version, build)
    return facts


def holds(value: Any) -> bool:
    """Tell whether a JSON document is `conda info --json`."""
    return isinstance(value, dict) and ("virtual_pkgs" in value or "conda_version" in value)


def parse_json(lines: list[str]) -> f.Facts:
    """Read `conda info --json`."""
    value = json.loads("\n".join(lines))
    facts: f.Facts = {}
    virtual = value.get("virtual_pkgs")
    for item in virtual if isinstance(virtual, list) else []:
        if isinstance(item, list) and len(item) == 3 and all(isinstance(word, str) for word in item):
            _virtual(facts, *item)
    if isinstance(value.get("platform"), str):
        _subdir(facts, value["platform"])
    if isinstance(value.get("user_agent"), str):
        _agent(facts, value["user_agent"])
    return facts


def _virtual(facts: f.Facts, name: str, version: str, build: str) -> None:
    if name == "__glibc":
        f.libc(facts, f"glibc {version}")
    elif name == "__cuda":
        f.put(facts, f.dotted(version), "driver", "cuda")
    elif name == "__archspec" and re.fullmatch(r"x86_64_v[234]", build):
        f.put(facts, build.replace("_v", "-v").replace("_", "-"), "host", "cpu_level")


def _subdir(facts: f.Facts, subdir: str) -> None:
    machine = {"linux-64": "x86_64", "win-64": "x86_64", "osx-64": "x86_64", "osx-arm64": "arm64"}
    f.arch(facts, machine.get(subdir, subdir.removeprefix("linux-")))
    if subdir.startswith(("win-", "osx-")):
        f.put(facts, "windows" if subdir.startswith("win") else "darwin", "host", "platform")


def _agent(facts: f.Facts, text: str) -> None:
    found = _AGENT.search(text[:500])
    if found:
        f.kernel(facts, found.group(1))
        f.operating_system(facts, f"{found.group(2)} {found.group(3)}")
        f.libc(facts, f"glibc {found.group(4)}" if found.group(4) else "")

"""conda list --explicit: one URL a package, `channel/subdir/name-version-build.conda#hash`."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_URL = re.compile(
    r"(?:https?|file)://\S{1,500}/([\w-]{3,20})/([a-z0-9_][\w.-]{0,150})\.(?:conda|tar\.bz2)(?:#(?:sha256:)?(\w{32,64}))?\s*\Z"
)


def find(block: Block, start: int) -> int:
    """Start at @EXPLICIT or a package's URL."""
    lines = block.lines
    end = start
    while end < len(lines) and (lines[end].strip() == "@EXPLICIT" or _URL.match(lines[end])):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read name, version, build, channel, subdir and hash out of each URL."""
    facts: f.Facts = {}
    for line in lines:
        found = _URL.match(line)
        if not found:
            continue
        subdir, stem, digest = found.groups()
        parts = stem.rsplit("-", 2)
        if len(parts) == 3:
            kind = {64: "sha256", 32: "md5"}.get(len(digest or ""))
            f.conda_package(facts, parts[0], parts[1], parts[2], channel(line.partition(f"/{subdir}/{stem}")[0]),
                            subdir=subdir, **({kind: digest} if kind else {}))  # fmt: skip
    return facts


def channel(url: str) -> str:
    """Return a channel's name: the last folders for Anaconda's own hosts, else the whole address."""
    url = re.sub(r"/t/[^/]{1,200}(?=/|\Z)", "", url.rstrip("/"))
    own = re.match(
        r"https?://(?:conda\.anaconda\.org|repo\.anaconda\.com|repo\.prefix\.dev|prefix\.dev/channels)/(\S+)\Z",
        url,
    )
    if own:
        return own.group(1)
    return "file" if url.startswith("file:") else url

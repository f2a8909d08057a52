"""environment.yml: every conda package with channel, version and build, and pip's below them."""

from __future__ import annotations

import json
import re
from collections import Counter

from envlock.locks.export.model import Exported, Files, channel_of, conda_packages, header
from envlock.locks.export.requirements import requirement_lines
from envlock.manifest.model import Manifest

_PLAIN = re.compile(r"[A-Za-z][\w./-]*\Z", re.A)


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the environment; the channels stand in order of how much came from them, their real order is unknown."""
    notes: list[str] = []
    specs, channels, plain = [], Counter[str](), []
    for name, package in conda_packages(manifest, notes).items():
        spec = f"{name}={package.version}" + (f"={package.build}" if package.build else "")
        channel = channel_of(package, files.conda.get(name))
        if channel is None:
            plain.append(name)
            specs.append(spec)
        else:
            channels[channel] += 1
            specs.append(f"{channel}::{spec}")
    if plain:
        notes.append(f"the channel of {', '.join(plain)}")
    lines = requirement_lines(manifest, files, notes, hashes=False)
    if lines and specs and "pip" not in manifest.package.conda:
        notes.append("pip, which conda needs for the packages of pip: it is not among the conda packages")
    text = [*header(manifest, notes), f"name: {text_of(manifest.capture.name or 'env')}"]
    if channels:
        text += [
            "channels:",
            *(f"  - {text_of(each)}" for each, _ in channels.most_common()),
            "  - nodefaults",
        ]
    text += (
        ["dependencies:", *(f"  - {text_of(spec)}" for spec in specs)]
        if specs or lines
        else ["dependencies: []"]
    )
    if lines:
        text += ["  - pip:", *(f"      - {text_of(line)}" for line in lines)]
    return Exported("\n".join(text) + "\n", tuple(notes), len(specs) + len(lines))


def text_of(value: str) -> str:
    """Return a text as YAML; JSON's strings are YAML's double-quoted ones."""
    if _PLAIN.match(value) and value.lower() not in (
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "null",
        "y",
        "n",
    ):
        return value
    return json.dumps(value)

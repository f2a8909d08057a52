"""jax.print_environment_info(); its uname_result holds the host's name, which stays behind.

Source of the format: jax-ml/jax jax/_src/environment_info.py.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_LINE = re.compile(
    r"(jax|jaxlib|numpy|python|device info|jax\.devices \([^)]{1,60}\)|process_count|platform):\s{0,8}(.{0,4000})"
)


def find(block: Block, start: int) -> int:
    """Start at "jax:" with "jaxlib:" right below."""
    lines = block.lines
    if not re.match(r"jax:\s+\d", lines[start]) or not "".join(lines[start + 1 : start + 2]).startswith(
        "jaxlib:"
    ):
        return start
    end = start + 1
    while end < len(lines) and (_LINE.match(lines[end]) or lines[end].startswith((" ", "["))):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read versions, devices and the kernel."""
    facts: f.Facts = {}
    values = {found.group(1): found.group(2).strip() for line in lines if (found := _LINE.match(line))}
    f.framework(facts, "jax", values.get("jax"))
    for name in ("jaxlib", "numpy"):
        if name in values:
            f.pip_package(facts, name, values[name])
    f.python(facts, values.get("python", ""))
    device = re.match(r"(.{1,120}?)-(\d{1,5}), \d+ local devices", values.get("device info", ""))
    if (
        device
        and device.group(1).lower() not in ("cpu", "tpu", "gpu")
        and not device.group(1).startswith("TPU")
    ):
        f.gpu(facts, device.group(1), int(device.group(2)))
    uname = values.get("platform", "")
    release = re.search(r"\brelease='([^']{1,120})'", uname)
    if release and "system='Linux'" in uname:
        f.kernel(facts, release.group(1))
    machine = re.search(r"\bmachine='(\w{1,20})'", uname)
    f.arch(facts, machine.group(1) if machine else "")
    return facts

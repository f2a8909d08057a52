"""What TensorFlow says of itself: tf.sysconfig.get_build_info(), tf.version, and cuDNN's line in its log."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_BUILD = re.compile(
    r"['\"](?:is_cuda_build|cuda_compute_capabilities|cuda_version|cudnn_version)['\"]\s*[:,]"
)
_VERSION = re.compile(
    r"tf\.version\.VERSION = (\d[\w.+-]{0,40})|v\d[\w.+-]{0,40}-\d{1,6}-g[0-9a-f]{7,40} (\d[\w.+-]{0,40})\s*\Z"
)
_CUDNN = re.compile(r"Loaded cuDNN version (\d{4,6})\b")


def find(block: Block, start: int) -> int:
    """Start at a line that holds a key of the build info, TensorFlow's version or cuDNN's."""
    lines = block.lines
    line = lines[start][:4000]
    if _CUDNN.search(line) or _VERSION.match(line):
        return start + 1
    if not (_BUILD.search(line) or line.startswith(("OrderedDict([", "{'cpu_compiler'"))):
        return start
    end = start + 1
    while end < len(lines) and re.match(r"\s+\S", lines[end]):
        end += 1
    return end if any(_BUILD.search(line[:4000]) for line in lines[start:end]) else start


def parse(lines: list[str]) -> f.Facts:
    """Read the CUDA, cuDNN and architectures that TensorFlow was built with."""
    facts: f.Facts = {}
    text = " ".join(line[:4000] for line in lines[:200])
    version, cudnn = _VERSION.search(text), _CUDNN.search(text)
    if version:
        f.framework(facts, "tensorflow", version.group(1) or version.group(2))
    if cudnn and (number := f.cudnn_number(cudnn.group(1))):
        facts["library"] = [{"name": "cudnn", "version": number, "used_by": ["tensorflow"]}]
    for key, name in (("cuda_version", "cuda"), ("cudnn_version", "cudnn")):
        found = re.search(rf"['\"]{key}['\"]\s?[:,]\s{{0,40}}['\"]([\d.]{{1,20}})['\"]", text)
        f.put(facts, found and found.group(1), "framework", "tensorflow", name)
    listed = re.search(r"cuda_compute_capabilities['\"]\s?[:,]\s{0,40}\[([^\]]{0,2000})\]", text)
    if listed:
        f.architectures(facts, "tensorflow", re.sub(r"['\"]", "", listed.group(1)))
    if re.search(r"['\"]is_cuda_build['\"]\s?[:,]\s{0,40}False", text):
        f.absent(facts, "framework", "tensorflow", "cuda")
    return facts

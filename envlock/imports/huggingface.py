"""transformers env, accelerate env, diffusers-cli env, huggingface-cli env: a Markdown list of versions.

Source of the formats: huggingface/transformers src/transformers/commands/env.py, huggingface/accelerate
src/accelerate/commands/env.py, huggingface/diffusers src/diffusers/commands/env.py.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_ANCHOR = re.compile(
    r"\s*[-*] (?:`(?:transformers|Accelerate|accelerate|diffusers)` version|🤗 Diffusers version"
    r"|[Hh]uggingface_hub version|Copy-and-paste|PyTorch version \((?:GPU|accelerator)\?\)"
    r"|Tensorflow version \(GPU\?\)|Safetensors version|Accelerate version): ?"
)
_ITEM = re.compile(r"\s*[-*] [`\w🤗]")
_LABEL = re.compile(r"(?:🤗 )?`?([\w-]{1,40})`? version\Z")
_NAMES = {"jax": "jax", "jaxlib": "jaxlib", "huggingface-hub": "huggingface-hub", "flax": "flax"}
_FRAMEWORKS = {"pytorch": "torch", "tensorflow": "tensorflow", "jax": "jax"}

LOOKAHEAD = 40
"""Items within which one of the tools' own must stand: a long list of something else is read once."""


def find(block: Block, start: int) -> int:
    """Start at the first item of a list that holds one of the tools' own labels."""
    lines = block.lines
    if not _ITEM.match(lines[start]):
        return start
    end, seen = start, False
    while end < len(lines) and (
        _ITEM.match(lines[end]) or re.match(r"\s+\S|\Z|NVIDIA [^|:]{1,80}, \d+ MiB", lines[end])
    ):
        seen |= bool(_ANCHOR.match(lines[end]))
        end += 1
        if not seen and end > start + LOOKAHEAD:
            break
    return end if seen else start


def parse(lines: list[str]) -> f.Facts:
    """Read versions, platform, memory and GPUs; token paths and user names stay behind."""
    facts: f.Facts = {}
    cards: list[str] = []
    for line in lines:
        label, _, value = line.strip().removeprefix("- ").removeprefix("* ").partition(":")
        label, value = label.strip(), value.strip()
        if label in ("Accelerator", "GPU type"):
            cards.append(value)
        elif re.match(r"NVIDIA .{1,80}, \d+ MiB", line.strip()):
            cards.append(line.strip())
        elif f.known(value) is not None:
            _fact(facts, label, value)
    for card in cards:
        memory = re.search(r", (\d{1,9}) MiB\Z", card)
        if memory:
            f.gpu(facts, card[: memory.start()], 1, memory_mib=int(memory.group(1)))
        else:
            f.gpu(facts, card)
    return facts


def _fact(facts: f.Facts, label: str, value: str) -> None:
    if label == "Platform":
        f.platform(facts, value)
    elif label == "Python version":
        f.python(facts, value)
    elif label == "System RAM":
        memory = re.match(r"(\d{1,7}(?:\.\d{1,3})?) GB\Z", value)
        if memory:
            f.put(facts, float(memory.group(1)), "host", "memory_gib")
    else:
        named = _LABEL.match(re.sub(r" \([^()]{1,40}\)\Z", "", label))
        version = value.split(maxsplit=1)[0]
        if named and f.is_version(version):
            name = f.normalise(named.group(1))
            if name in _FRAMEWORKS:
                f.framework(facts, _FRAMEWORKS[name], version)
            else:
                f.pip_package(facts, _NAMES.get(name, name), version)

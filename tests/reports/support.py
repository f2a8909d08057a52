"""Two stacks whose every word is markup, and golden files that a reader can judge."""

from __future__ import annotations

import os
from pathlib import Path

import envlock
from envlock.compare.groups import Alike, group
from envlock.compare.model import Unseen
from envlock.compare.nodes import compare_nodes
from envlock.locks.nodes import verify_nodes
from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.reports import story

TOP = Path(__file__).parent.parent.parent
EXAMPLES = TOP / "examples"
GOLDEN = Path(__file__).parent / "golden"
MATRIX = load()

EVIL = (
    "<script>alert(1)</script>", "</details></style>", "<img src=x onerror=alert(1)>", "| a | b |", "](https://x.test)",
    "![x](https://x.test/p.png)", "`` ` ``", "@everyone #1 GH-2 https://x.test www.x.test a@x.test", "--- === ***",
    "\x1b[31mred\u202etxt", "&lt;b&gt; \\| \\", "1. one", "$\\href{javascript:x}{y}$", "'\"onmouseover=alert(1)",
)  # fmt: skip
"""Text that would be markup, a link, a mention or an escape where it is let through."""


def toml(text: str) -> str:
    """Quote text for TOML."""
    escaped = "".join(c if " " <= c < "\x7f" and c not in '"\\' else f"\\u{ord(c):04x}" for c in text)
    return f'"{escaped}"'


def hostile(version: str):
    """Return a stack with hostile text wherever text may stand; the version makes two of them differ."""
    lines = ['schema = "envlock/1"', "[capture]", f"name = {toml(EVIL[0])}", "[capture.unobserved]"]
    lines += [f"{toml('gpu ' + text)} = {toml(text)}" for text in EVIL]
    lines += ["[driver]", 'version = "470.256.02"', f"flavor = {toml(EVIL[2])}", f"libcuda = {toml(EVIL[7])}"]
    lines += ["[framework.torch]", 'version = "2.9.1+cu128"', 'cuda = "12.8"']
    lines += ["[package.pip]"]
    lines += [
        f"{toml(text)} = {{ version = {toml(version + text)}, source = {toml(text)} }}" for text in EVIL
    ]
    lines += [
        "[requires]",
        f"torch = [{toml('numpy>=' + EVIL[1])}, 'absent>=1']",
        f"{toml(EVIL[0])} = ['absent>=2']",
    ]
    lines += ["[environ]"] + [f"{toml(text)} = {toml(version + text)}" for text in EVIL]
    return loads("\n".join(lines))


def example(name: str):
    """Return an example's manifest."""
    return envlock.load(str(EXAMPLES / f"{name}.toml"))


def diff_story(one: str = "train-h100", two: str = "old-driver"):
    """Return the story of a diff of two examples."""
    mine, theirs = example(one), example(two)
    return story.of_difference(envlock.diff(mine, theirs), mine, theirs, (one, two))


def check_story(name: str = "old-driver"):
    """Return the story of a check of an example."""
    return story.of_check(envlock.check(example(name)), example(name), name)


def hostile_stories():
    """Return a story of each command over hostile stacks."""
    one, two = hostile("1"), hostile("2")
    evil = EVIL[0] + EVIL[8]
    return [
        story.of_difference(envlock.diff(one, two), one, two, (evil, EVIL[7])),
        story.of_check(envlock.check(one), one, evil, everything=True),
        story.of_verification(envlock.verify(one, two), one, two, evil, EVIL[3], (EVIL[1], EVIL[6])),
    ]


def grouping():
    """Return the groups of five machines, of which three are equal."""
    machines = [(f"node-{place}", example("train-h100")) for place in (1, 2, 3)]
    machines += [("node-17", example("old-driver")), ("node-23", example("other-nccl"))]
    return group(machines, MATRIX)


def hostile_grouping():
    """Return the groups of hostile stacks with hostile names."""
    return group([(EVIL[0], hostile("1")), (EVIL[3], hostile("2")), (EVIL[7], hostile("2"))], MATRIX)


def nodes(hostile_names: bool = False):
    """Return a comparison of a fleet, and the same fleet held to a lock; both with every kind of line in them."""
    odd = hostile("2") if hostile_names else example("old-driver")
    sound = hostile("1") if hostile_names else example("train-h100")
    names = EVIL if hostile_names else [f"node{number:02}" for number in range(1, 11)]
    kinds = [
        Alike(list(names[:-2]), sound, [Unseen(EVIL[4], EVIL[5], names[0])]),
        Alike([names[-2]], odd, []),
    ]
    more = {"failed": {names[-1]: EVIL[0]}, "own": (EVIL[1],), "uncompared": (EVIL[2], EVIL[3])}
    return compare_nodes(kinds, MATRIX, **more), verify_nodes(sound, kinds, MATRIX, **more)


def assert_golden(name: str, text: str) -> None:
    """Hold a report to the file that a reader has judged; UPDATE_GOLDEN=1 writes it anew."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{name} differs; UPDATE_GOLDEN=1 writes it anew"

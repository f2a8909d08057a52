"""Stories as CI systems get them, and hostile ones in their file."""

from __future__ import annotations

import envlock
from envlock.manifest.read import loads
from envlock.reports import story
from envlock.reports.problems import Source
from tests.reports.support import EXAMPLES, example, hostile_stories

LOCK = EXAMPLES / "train-h100.toml"


def verify_story(lock: str = "train-h100", now: str = "other-nccl"):
    """Return the story of one example held to another."""
    one, two = example(lock), example(now)
    path = f"examples/{lock}.toml"
    return story.of_verification(
        envlock.verify(one, two), one, two, path, now, ("To take it", f"update {path}")
    )


def source(name: str = "train-h100") -> Source:
    """Return an example as the file that problems are placed in."""
    return Source(f"examples/{name}.toml", (EXAMPLES / f"{name}.toml").read_text())


def line_with(text: str, name: str = "train-h100") -> int:
    """Return the line of an example that starts with a text."""
    lines = (EXAMPLES / f"{name}.toml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(text))


def many_drifts(count: int):
    """Return a verify of a lock all of whose packages moved, and its file."""
    head = 'schema = "envlock/1"\n[package.pip]\n'
    texts = [head + "".join(f'p{n:04} = {{ version = "{v}" }}\n' for n in range(count)) for v in (1, 2)]
    one, two = map(loads, texts)
    told = story.of_verification(envlock.verify(one, two), one, two, "env.toml", "now")
    return told, Source("env.toml", texts[0])


def hostile_checks():
    """Return hostile stories of the commands that CI formats are for, with a hostile file name."""
    place = Source("a,b:c%0A::error::\r\n<x>&\"'.toml", "")
    return [(told, place) for told in hostile_stories() if told.command != "diff"]

"""What an error text points to: known error patterns, and the names, versions and paths that it mentions.

A log is read in a stream, in bounded memory; nothing of it is kept but counts and a few short excerpts. An error that
only follows from another (a rank that waits in vain for one that failed) speaks where no other error is known.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from envlock.compare.logs import blocks, excerpt

if TYPE_CHECKING:
    from envlock.compare.model import Change
    from envlock.matrix.loader import Matrix, Row
    from envlock.matrix.patterns import Match

_TOKEN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
MENTIONS = 20
"""Times that a name counts at most."""

_TAIL = 400
"""Lines at the end of a log that weigh more: a traceback is the last thing that a job says."""


FOLLOWERS_KEPT = 64
"""Errors that only follow from another one, of those that are kept until it is known that there is no other."""


class Pointer(NamedTuple):
    """A known error text that points to a fact."""

    line: str
    place: int
    """0 for the likeliest fact of its text."""


@dataclass
class Symptoms:
    """What a log points to."""

    rules: dict[str, str] = field(default_factory=dict)
    """Rule name -> the line that points to it."""
    addresses: dict[str, Pointer] = field(default_factory=dict)
    """Fact address -> what points to it."""
    mentions: dict[str, int] = field(default_factory=dict)
    """Address of a change -> how strongly the text names it."""
    lines: int = 0


def read_symptoms(lines: Iterable[str], changes: Iterable[Change], matrix: Matrix) -> Symptoms:
    """Read a log and say what it points to, among the known errors and among these changes."""
    from envlock.matrix.patterns import match_line

    changes = list(changes)
    imports = import_names(matrix)
    names = _names(changes, imports)
    projects = projects_by_import(imports)
    breakages = _breakages(changes, matrix)
    literals = {each for row in matrix.rows("errors", "error") for each in literals_of(row)}
    literals.update(error for error, _ in breakages)
    found = Symptoms()
    followers: list[tuple[Match, str]] = []
    tail: deque[str] = deque(maxlen=_TAIL)
    for block in blocks(lines):
        found.lines = block[-1][0]
        tail.extend(text for _, text in block)
        whole = "\n".join(text for _, text in block)
        here = [literal for literal in literals if literal in whole]
        for _, text in block if here else ():
            if not any(literal in text for literal in here):
                continue
            for match in match_line(matrix, text):
                if not match.row.get("follows"):
                    _match(found, match, excerpt(text, match.start), projects)
                elif len(followers) < FOLLOWERS_KEPT:
                    followers.append((match, excerpt(text, match.start)))
            for error, addresses in breakages:
                if error in text:
                    shown = excerpt(text, text.index(error))
                    found.rules.setdefault("known-breakage", shown)
                    for place, address in enumerate(addresses):
                        _point(found, address, Pointer(shown, place))
        # What a long log says over and over is counted once a block: it is named, and that is all.
        for address in _touched(whole, names):
            found.mentions[address] = min(found.mentions.get(address, 0) + 1, MENTIONS)
    if not found.rules and not found.addresses:
        for match, shown in followers:
            _match(found, match, shown, projects)
    for text in tail:
        for address in _touched(text, names):
            found.mentions[address] = min(found.mentions.get(address, 0) + 3, 3 * MENTIONS)
    return found


def literals_of(row: Row) -> list[str]:
    """Return the literals of which a line has to hold one to match a known error, as errors.toml defines them."""
    return str(row.get("hint") or re.sub(r"\\([.()])", r"\1", row["pattern"])).split("|")


def projects_by_import(imports: Mapping[str, list[str]]) -> dict[str, str]:
    """Turn distribution -> import names round: the first distribution that the matrix lists is the usual one."""
    projects: dict[str, str] = {}
    for project, modules in imports.items():
        for name in modules:
            projects.setdefault(name, project)
    return projects


def _match(found: Symptoms, match: Match, shown: str, projects: Mapping[str, str]) -> None:
    for rule in match.row.get("rules", ()):
        found.rules.setdefault(rule, shown)
    for place, address in enumerate(match.addresses):
        _point(found, project_address(address, projects), Pointer(shown, place))


def _point(found: Symptoms, address: str, pointer: Pointer) -> None:
    held = found.addresses.get(address)
    if held is None or pointer.place < held.place:
        found.addresses[address] = pointer


def project_address(address: str, projects: Mapping[str, str]) -> str:
    """Turn an import name in a package's address into the project that owns it, in the manifest's spelling."""
    for manager in ("package.pip.", "package.conda."):
        if address.startswith(manager):
            name = address[len(manager) :]
            return manager + projects.get(name, re.sub(r"[-_.]+", "-", name).lower())
    return address


def _breakages(changes: Iterable[Change], matrix: Matrix) -> list[tuple[str, list[str]]]:
    """Return the error texts of known breakages between packages that changed, with the addresses to blame."""
    moved = {
        change.address.split(".", 2)[2]: change.address
        for change in changes
        if change.address.startswith("package.")
    }
    found = []
    for row in matrix.rows("breakages", "breakage") if moved else ():
        blamed = row.get("blame", row["with"])
        pair = [blamed, *(name for name in (row["with"], row["package"]) if name != blamed)]
        addresses = [moved[name] for name in pair if name in moved]
        if addresses and len(row["error"]) > 8:
            found.append((row["error"], addresses))
    return found


def _touched(text: str, names: Mapping[str, set[str]]) -> set[str]:
    touched: set[str] = set()
    for token in set(_TOKEN.findall(text)):
        plain = token.lower().rstrip(".+-")
        for form in {plain, plain.partition(".so")[0], *plain.split(".")}:
            touched |= names.get(form, set())
    return touched


def _names(changes: Iterable[Change], imports: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """Map each word that would name a change to the change's address."""
    names: dict[str, set[str]] = {}
    for change in changes:
        for word in _words(change, imports):
            if len(word) > 2:
                names.setdefault(word.lower(), set()).add(change.address)
    return names


def import_names(matrix: Matrix) -> dict[str, list[str]]:
    """Map a distribution to the import names that are not its own."""
    found: dict[str, list[str]] = {}
    for row in matrix.rows("imports", "import"):
        for distribution in row["dists"]:
            found.setdefault(distribution, []).append(row["name"])
    return found


_PLAIN_WORDS = frozenset({"test", "tests", "the", "src", "lib", "bin", "python", "file", "line", "error", "core", "main",
                          "build", "six", "click", "rich", "packaging", "version", "module", "import", "pip"})  # fmt: skip
"""Words that stand in any log, whatever its cause; a package so named is not named by them."""


def _words(change: Change, imports: Mapping[str, list[str]]) -> Iterator[str]:
    parts = change.address.split(".")
    if parts[0] == "package" and len(parts) > 2:
        name = ".".join(parts[2:])
        if name not in _PLAIN_WORDS:
            yield name
            yield name.replace("-", "_")
        yield from imports.get(name, ())
        for side in (change.before, change.after):
            if isinstance(side, dict):
                yield from (each.partition(".")[0] for each in side.get("imports", ()))
    elif parts[0] == "library":
        yield parts[1]
        yield f"lib{parts[1]}"
        for copy in [*(change.before or ()), *(change.after or ())]:
            yield str(copy.get("soname", "")).partition(".so")[0]
    elif parts[0] == "framework":
        yield parts[1]
        yield parts[1].replace("-", "_")
    elif parts[0] == "environ":
        yield parts[1]
    elif parts[0] in ("driver", "gpu", "compiler", "toolkit"):
        yield from {"driver": ("driver", "nvidia-smi", "libcuda"), "gpu": ("gpu", "sm"), "toolkit": ("nvcc",),
                    "compiler": ("gcc", "g++", "nvcc", "host_config.h")}[parts[0]]  # fmt: skip

"""What releases took away, for reports that do not say what their packages were made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from envlock.manifest.versions import dotted, matches, release, version
from envlock.rules.framework import TORCH_COMPANIONS
from envlock.rules.model import Evidence, Finding
from envlock.rules.stack import FEW

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Installed, Stack

STANDS_OUT = 3
"""Of more suspects than these none stands out, and naming them all would help nobody."""

PAIR = 3
"""A report of so few packages is of those that somebody suspects, whatever it says of their versions."""

NEWEST_MAJOR = 20
"""Majors above it are years, or the habit of projects whose every release is a major one."""


def removals(stack: Stack, matrix: Matrix, told: set[str]) -> Iterator[Finding]:
    """Point a thin report to releases that took away what packages made before them used.

    ``told`` holds the addresses that other findings have named. A release's first series is worth a note in any
    report of several packages. Later releases and new major series follow where nothing else was found and some
    package's version is not stated, since then nothing says that it was made for them; and Python at last.
    """
    if not stack.partial:
        # A capture holds every version, and is told what is known of them.
        return
    open_ = [name for name, held in stack.packages.items() if not held.version]
    count = len(stack.packages)
    small = 1 < count <= PAIR
    near: list[Finding] = []
    far: list[Finding] = []
    minor: list[Finding] = []
    for held in _stated(stack):
        if held.address in told:
            continue
        row = _last_removal(held.name, held.version, matrix)
        if row is not None:
            if matches(held.version, row["releases"]) is True:
                near.append(_removed(held, row, rank=2))
            elif open_:
                far.append(_removed(held, row, rank=4))
        elif begun := _series_begun(held, stack):
            (minor if begun == "minor" else far).append(_new_series(held, begun))
    if near:
        yield from near if count > 1 else ()
    elif told or count > FEW:
        return
    elif far and (open_ or small):
        yield from far if len(far) <= STANDS_OUT else ()
    elif minor and open_ and small:
        yield from minor
    elif open_:
        yield from _python(open_, stack, matrix)


def _stated(stack: Stack) -> Iterator[Installed]:
    """Yield the packages and frameworks whose versions are stated."""
    for name in dict.fromkeys((*stack.packages, *stack.frameworks)):
        held = stack.version_of(name)
        if held is not None and held.version:
            yield held


def _since(row: Any) -> str:
    """Return the lower end of a row's first series: ">=1.24,<1.25" begins with ">=1.24"."""
    return str(row["releases"].partition(",")[0])


def _last_removal(name: str, text: str | None, matrix: Matrix) -> Any:
    """Return the newest row that a release is not older than; None where there is none."""
    rows = [
        row
        for row in matrix.rows("breakages", "removal")
        if row["package"] == name and matches(text, _since(row)) is True
    ]
    return max(rows, key=lambda row: release(_since(row).lstrip(">=")), default=None)


def _removed(held: Installed, row: Any, rank: int) -> Finding:
    of = "of the release" if rank == 2 else "newer than the release"
    return Finding(
        subject=held.address,
        message=f"{held.name} {held.version} is {of} that removed {row['removed']}: packages made before "
        f'it stop with "{row["error"]}"',
        evidence=(Evidence(held.address, held.version),),
        source=row["source"],
        severity="note",
        breaks=False,
        rank=rank,
    )


Begun = Literal["", "major", "early", "minor"]


def _series_begun(held: Installed, stack: Stack) -> Begun:
    """Tell which series a release is the first of that may break others: 2.0 and 2.0.1, 1.0 and 0.9.0, or 1.9.0."""
    if held.manager != "pip" or not held.address.startswith("package."):
        return ""
    if held.name in ("pip", "wheel", "torch", *TORCH_COMPANIONS) or held.name in stack.frameworks:
        # Installers break nothing at run time; what frameworks go together with is known by rules of their own.
        return ""
    parsed = version(held.version)
    if parsed is None or parsed.epoch or parsed.major > NEWEST_MAJOR:
        return ""
    if parsed.minor == 0 and parsed.major:
        return "major" if parsed.major > 1 else "early"
    if parsed.micro:
        return ""
    return "minor" if parsed.major else "early"


_POLICIES: dict[str, str] = {
    "major": "Semantic Versioning 2.0.0, 8",
    "early": "Semantic Versioning 2.0.0, 4 and 5",
    "minor": "NEP 23, Implementing deprecations and removals: in any minor, but not bugfix, release",
}
"""Why the first release of a series may lack what the one before had."""


def _new_series(held: Installed, begun: Begun) -> Finding:
    numbers = release(held.version)
    series = dotted(numbers[:1] if begun == "major" or (numbers[0] and begun == "early") else numbers[:2])
    return Finding(
        subject=held.address,
        message=f"{held.name} {held.version} begins the series {series}, which need not work with what was made for "
        "the one before",
        evidence=(Evidence(held.address, held.version),),
        source=_POLICIES[begun],
        severity="note",
        breaks=False,
        rank={"major": 3, "early": 4}.get(begun, 5),
    )


def _python(open_: list[str], stack: Stack, matrix: Matrix) -> Iterator[Finding]:
    """Point to what this Python's standard library lost, where nothing else stands out."""
    text = stack.manifest.python.version
    row = _last_removal("python", text, matrix)
    if row is None:
        return
    which = " and ".join(open_[:2]) + (" and others" if len(open_) > 2 else "")
    yield Finding(
        subject="python.version",
        message=f"Python {text} has no {row['removed']} any more, and which release of {which} this is was not stated: "
        f'those made before stop with "{row["error"]}"',
        evidence=(Evidence("python.version", text),),
        source=row["source"],
        severity="note",
        breaks=False,
        rank=6,
    )

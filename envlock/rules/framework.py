"""Rules about a framework's release: its Python and its defects; and what all rules about frameworks ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from envlock.manifest.versions import dotted, matches, release, series, version
from envlock.rules.driver import known_bad_applies
from envlock.rules.engine import FRAMEWORK, rule
from envlock.rules.gpus import devices
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Installed, Stack

Outcome = Iterator["Finding | Unknown"]

TENSORFLOW = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos",
              "tensorflow-directml", "intel-tensorflow", "tf-nightly")  # fmt: skip
"""Distributions that are TensorFlow, the usual one first."""

TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchtext", "torchdata", "torchcodec")
"""Packages that are released along with PyTorch, each for one release of it."""


def is_release(text: str | None) -> bool:
    """Tell whether this is an official release: a nightly, vendor or source build pairs with its own companions."""
    found = version(text)
    return found is not None and not found.is_prerelease and not found.is_devrelease


def tensorflow(stack: Stack) -> Installed | None:
    """Return TensorFlow under whichever name it was installed."""
    return next((held for name in TENSORFLOW if (held := stack.version_of(name)) and held.version), None)


def row_of(text: str, rows: Any) -> Any:
    """Return the row of a version: the exact one, else one that names its minor only ("0.10")."""
    numbers = release(text)
    exact = next((row for row in rows if release(row["version"]) == numbers), None)
    minors = (
        row for row in rows if len(release(row["version"])) == 2 and series(row["version"]) == numbers[:2]
    )
    return exact or next(minors, None)


def facts_of(name: str, held: Installed, stack: Stack) -> tuple[Evidence, ...]:
    """Return every address that states a project's version, for they move together."""
    facts = [Evidence(held.address, held.version)]
    framework = stack.framework(name)
    if framework and framework.version and held.address != f"framework.{name}.version":
        facts.append(Evidence(f"framework.{name}.version", framework.version))
    return tuple(facts)


def version_trial(name: str, to: str, stack: Stack) -> dict[str, Any]:
    """Return the changes that put another version of a project in place, wherever the manifest states it."""
    trial: dict[str, Any] = {}
    held = stack.package(name)
    if held:
        trial[f"{held.address}.version"] = to
    framework = stack.framework(name)
    if framework and (framework.version or held is None):
        trial[f"framework.{name}.version"] = to
    if framework and framework.built_for:
        trial[f"framework.{name}.built_for"] = {}
    if name in stack.manifest.requires:
        trial[f"requires.{name}"] = None
    return trial


def differs(wanted: str, have: str | None, most: int) -> bool:
    """Tell whether versions differ in the parts that both have, of the first ``most``."""
    one, two = release(wanted)[:most], release(have)[:most]
    size = min(len(one), len(two))
    return bool(size) and one[:size] != two[:size]


def public(text: str | None) -> str:
    """Return a version without its local label."""
    return (text or "").partition("+")[0]


@rule("framework-python-unsupported", layer="framework", needs=("python.version|python.abi", FRAMEWORK))
def framework_python_unsupported(stack: Stack, matrix: Matrix) -> Outcome:
    """A framework's release has no build for this Python.

    Shows itself as "No matching distribution found", a build from source that fails, or an import error after
    a forced installation.

    Fix: a Python in the range, or a release of the framework that is built for this one.

    Source: the wheels' tags and metadata (Requires-Python) of each release.
    """
    python = stack.manifest.python.version
    if not python or len(release(python)) < 2:
        return
    for name, held, specifier, source, sure in _python_ranges(stack, matrix):
        if matches(python, specifier) is not False:
            continue
        to = _nearest(python, specifier)
        yield Finding(
            subject=held.address,
            message=f"{name} {held.version} is built for Python {specifier}, and this is Python {python}",
            evidence=(Evidence(held.address, held.version), Evidence("python.version", python)),
            fixes=(
                Fix(
                    "python.version",
                    specifier,
                    f"use Python {to}",
                    {"python.version": to, "python.abi": None},
                ),
            ),
            source=source,
            severity="error" if sure else "warning",
        )


def _nearest(python: str, specifier: str) -> str:
    """Return the minor of Python in a range that is nearest to one outside it: ">=3.8,<3.12" -> "3.8" or "3.11"."""
    bounds = [release(bound) for bound in re.findall(r"\d+\.\d+", specifier)]
    if release(python) < bounds[0]:
        return dotted(bounds[0])
    return f"{bounds[-1][0]}.{bounds[-1][1] - 1}"


def _python_ranges(stack: Stack, matrix: Matrix) -> Iterator[tuple[str, Installed, str, str, bool]]:
    cupy = next((held for name, held in stack.packages.items() if re.match(r"cupy(-cuda|$)", name)), None)
    # The rows of each name as many parts of a version.
    for held, subject, parts in (
        (stack.version_of("torch"), "torch", 3),
        (tensorflow(stack), "tensorflow", 2),
        (stack.version_of("jax"), "jax", 3),
        (stack.version_of("numba"), "numba", 3),
        (cupy, "cupy", 1),
    ):
        if held is None or not held.version or not is_release(held.version):
            continue
        row = row_of(dotted(release(held.version)[:parts]), matrix.rows(subject, "release"))
        if row is None or "python" not in row:
            continue
        # An import that was seen to be compiled for this Python is somebody's own build.
        seen = not stack.partial and held.name in stack.frameworks
        yield held.name, held, row["python"], row["source"], not (held.manager == "conda" or seen)


@rule("framework-known-bad", layer="framework", severity="warning")
def framework_known_bad(stack: Stack, matrix: Matrix) -> Outcome:
    """This release of a framework has a confirmed defect that other environments do not show.

    Shows itself as the row says: wrong numbers, hangs, memory, or errors in one operation. Rows whose condition
    cannot be seen in a manifest are notes.

    Fix: the release that the row names as fixed.

    Source: the release note or issue of each row (`envlock matrix breakages`).
    """
    for row in matrix.rows("breakages", "framework-known-bad"):
        held = stack.version_of(row["framework"])
        if held is None or not held.version or not matches(held.version, row["affected"]):
            continue
        evidence = [Evidence(held.address, held.version), *facts_of(row["framework"], held, stack)[1:]]
        certain = False
        if "cuda" in row:
            build = stack.build(row["framework"])
            if build is None or not build.cuda or not matches(build.cuda, row["cuda"]):
                continue
            evidence += [Evidence(address, value) for address, value in build.facts]
            certain = True
        if "variable" in row:
            name = row["variable"]
            if name not in stack.environ:
                continue
            evidence.append(Evidence(f"environ.{name}", stack.environ[name]))
            certain = True
        if "platform" in row and stack.manifest.host.platform != row["platform"]:
            continue
        if "compute_capabilities" in row:
            if not known_bad_applies(row, stack, matrix):
                continue
            evidence.append(Evidence("gpu", [device.label for device in devices(stack, matrix)]))
        fixed = row.get("fixed_in")
        when = f" ({row['condition']})" if row.get("condition") else ""
        yield Finding(
            subject=held.address,
            message=f"{held.name} {held.version}{when}: {row['problem']}",
            evidence=tuple(evidence),
            fixes=(
                (Fix(held.address, f">={fixed}", f"install {held.name} {fixed} or newer",
                     version_trial(held.name, fixed, stack)),) if fixed else ()
            ),
            source=row["source"],
            severity="warning" if certain else "note",
            quiet=not certain,
            rank=0 if certain else 5,
            defect=row["problem"],
        )  # fmt: skip

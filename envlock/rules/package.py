"""Rules about installed packages: what they require, what hides or overwrites what, what cannot go together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from envlock.manifest.model import CondaPackage, PipPackage
from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import dotted, major, matches, release, version
from envlock.rules.cuda import comes_with
from envlock.rules.engine import PACKAGES, rule
from envlock.rules.framework import TENSORFLOW
from envlock.rules.model import Evidence, Finding, Fix, Unknown
from envlock.rules.removals import removals
from envlock.rules.stack import CONDA_NAMES, FEW, Installed

if TYPE_CHECKING:
    from envlock.manifest.model import Library
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]

_STAND_INS = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "tensorflow": (
        "tensorflow-cpu",
        "tensorflow-gpu",
        "tensorflow-rocm",
        "intel-tensorflow",
        "tensorflow-macos",
    ),
    "psycopg2": ("psycopg2-binary",),
    "triton": ("pytorch-triton", "torchtriton", "triton-windows", "pytorch-triton-rocm"),
    "tensorboard": ("tb-nightly",),
    "keras": ("keras-nightly", "tf-keras"),
}
"""Distributions that own the same modules under another name: what requires one is served by the other."""


@rule("requirement-unmet", layer="package", severity="warning", needs=("requires", PACKAGES))
def requirement_unmet(stack: Stack, matrix: Matrix) -> Outcome:
    """An installed package requires another one that is missing or out of range.

    Shows itself as an ImportError (missing), or as an AttributeError or TypeError deep inside a library
    that was written for another version. pip reports it once, at installation, and goes on.

    Fix: install a version in the range, or move the package that asks for it.

    Source: PEP 508 (dependency specification) and PEP 440 (version ranges); the requirements are the
    installed packages' own metadata, or, for reports without any, that of their releases
    (`envlock matrix requires`).
    """
    for name, lines in stack.manifest.requires.items():
        owner = stack.package(name)
        for line in lines:
            wanted = parse_requirement(line)
            if wanted is None:
                continue
            held = stack.package(wanted.name)
            if held is None:
                if not _known_missing(stack, wanted.name):
                    continue
                yield Finding(
                    subject=f"package.pip.{wanted.name}",
                    message=f"{name} requires {line}, which is not installed",
                    evidence=(
                        Evidence(f"requires.{name}", line),
                        Evidence(f"package.pip.{name}", owner.version if owner else None),
                    ),
                    fixes=_install(wanted.name, wanted.specifier),
                    source=f"metadata of {name} (Requires-Dist)",
                    rank=2,
                )
            elif wanted.specifier and matches(held.version, wanted.specifier) is False:
                yield Finding(
                    subject=held.address,
                    message=f"{name} requires {line}, but {wanted.name} {held.version} is installed",
                    evidence=(
                        Evidence(held.address, held.version),
                        Evidence(f"requires.{name}", line),
                        Evidence(f"package.pip.{name}", owner.version if owner else None),
                    ),
                    fixes=_install(wanted.name, wanted.specifier, held.address),
                    source=f"metadata of {name} (Requires-Dist)",
                    rank=1,
                )
    yield from _as_released(stack, matrix)


def _as_released(stack: Stack, matrix: Matrix) -> Outcome:
    """Hold packages of a report that lists no requirements to what their releases are known to require."""
    if not stack.partial:
        # A capture reads the packages' own metadata.
        return
    for row in matrix.rows("requires", "requirement"):
        owner, held = stack.version_of(row["package"]), stack.version_of(row["on"])
        if owner is None or held is None or not held.version or row["package"] in stack.manifest.requires:
            continue
        if owner.manager == held.manager == "conda":
            # The solver has read the requirements.
            continue
        if not owner.version:
            yield from _if_newer(row, owner, held)
            continue
        asked = _asked(row, owner.version)
        if not asked or any(not each or matches(held.version, each) is not False for each in asked):
            continue
        line = f"{row['on']}{asked[-1]}"
        yield Finding(
            subject=held.address,
            message=f"{owner.name} {owner.version} requires {line}, but {held.name} {held.version} is installed",
            evidence=(Evidence(held.address, held.version), Evidence(owner.address, owner.version)),
            fixes=_install(held.name, asked[-1], held.address),
            source=row["source"],
            rank=1,
        )


def _asked(row: Any, text: str) -> tuple[str, ...]:
    """Return what a release asks for: more than one text where its version leaves several releases open."""
    have = version(text)
    since: list[Any] = [version(each) for each in row["since"]]
    newest = version(row["last"])
    if have is None or newest is None or have > newest:
        return ()
    short = len(have.release) < 3
    found = []
    for place, (start, needs) in enumerate(zip(since, row["needs"], strict=True)):
        after = since[place + 1] if place + 1 < len(since) else None
        # "2.12" may be any release of that series.
        within = start.release[: len(have.release)] == have.release and short
        if within or (start <= have and (after is None or have < after)):
            found.append(needs)
            if row.get("sampled") and after is not None and start < have:
                found.append(row["needs"][place + 1])
    return tuple(found)


def _if_newer(row: Any, owner: Installed, held: Installed) -> Outcome:
    """A package of unknown version asks for more from some release on than what is installed."""
    fits = [not needs or matches(held.version, needs) is not False for needs in row["needs"]]
    have, floor = version(held.version), version(row["needs"][-1].partition(",")[0].lstrip("<>=~!"))
    if fits[-1] or not any(fits) or have is None or floor is None or have > floor:
        return
    place = len(fits) - fits[::-1].index(True)
    line = f"{row['on']}{row['needs'][place]}"
    yield Finding(
        subject=held.address,
        message=f"{owner.name} requires {line} if it is {row['since'][place]} or newer, and {held.name} "
        f"{held.version} is installed",
        evidence=(Evidence(held.address, held.version), Evidence(owner.address, None)),
        source=row["source"],
        severity="note",
        rank=1,
        breaks=False,
    )


def _known_missing(stack: Stack, name: str) -> bool:
    if stack.partial or stack.unobserved(f"package.pip.{name}"):
        return False
    return not any(stack.package(other) for other in _STAND_INS.get(name, ()))


def _install(name: str, specifier: str, address: str | None = None) -> tuple[Fix, ...]:
    version = boundary(specifier)
    if version is None:
        return ()
    address = address or f"package.pip.{name}"
    return (
        Fix(
            address=address,
            to=specifier or "any",
            message=f"install {name}{specifier}",
            trial={f"{address}.version" if "." in address else address: version},
        ),
    )


def boundary(specifier: str) -> str | None:
    """Return a version that lies in a specifier, made from its own bounds; None where none does."""
    candidates: list[str] = []
    for operator, bound in re.findall(r"(===|[~=!<>]=|[<>])([^,\s]+)", specifier):
        plain = bound.removesuffix(".*")
        if operator in ("==", "===", ">=", "~=", "<="):
            candidates.append(plain)
        candidates += [f"{plain}.1", _before(plain)]
    if not specifier:
        return "1"
    return next((each for each in candidates if each and matches(each, specifier)), None)


def _before(version: str) -> str:
    """Return some version just below: "2" -> "1.999", "0.29.0" -> "0.28.999"."""
    parts = [int(part) for part in version.split(".") if part.isdigit()]
    while parts and parts[-1] == 0:
        parts.pop()
    if not parts:
        return ""
    parts[-1] -= 1
    return ".".join(str(part) for part in parts) + ".999"


@rule("conda-pip-overlap", layer="package", severity="warning", needs=("package.conda", "package.pip"))
def conda_pip_overlap(stack: Stack, matrix: Matrix) -> Outcome:
    """One project is installed by conda and, over it, by pip.

    Shows itself as import errors, undefined symbols or a version that neither manager believes in: the
    files of one lie over the files of the other, and the next conda transaction mixes them again.

    Fix: remove one of them; with compiled packages make the environment anew.

    Source: conda documentation, "Using pip in a conda environment".
    """
    manifest = stack.manifest
    theirs: dict[str, str] = {}
    for name in manifest.package.conda:
        theirs.setdefault(CONDA_NAMES.get(name, name), name)
    for name, pip in manifest.package.pip.items():
        other = name if name in manifest.package.conda else theirs.get(name)
        if other is None or pip.installer == "conda":
            continue
        conda = manifest.package.conda[other]
        same = pip.version == conda.version
        also = f"{other} " if other != name else ""
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} is installed twice, by pip ({pip.version or 'version not known'}) over conda "
            f"({also}{conda.version or 'version not known'})",
            evidence=(
                Evidence(f"package.pip.{name}", pip.version),
                Evidence(f"package.conda.{other}", conda.version),
            ),
            fixes=(
                Fix(
                    address=f"package.pip.{name}",
                    to="removed",
                    message=f"pip uninstall {name}, then conda install --force-reinstall {other}",
                    trial={f"package.pip.{name}": None},
                ),
            ),
            source="conda documentation, User guide, Managing environments, Using pip in an environment",
            severity="note" if same else "warning",
            rank=1,
        )


@rule("package-duplicated", layer="package", severity="warning")
def package_duplicated(stack: Stack, matrix: Matrix) -> Outcome:
    """Two installations of one project lie in the same folder.

    Shows itself as a version that metadata and module disagree about: an interrupted or forced install
    left the older dist-info behind, and which one tools report is chance. A second record of the same version
    (distributions ship an egg-info beside the dist-info) contradicts nothing.

    Fix: uninstall the project until nothing of it is left, then install it once.

    Source: PyPA specifications, "Recording installed projects" (one .dist-info folder a project).
    """
    for name, package in stack.manifest.package.pip.items():
        contrary = [each for each in package.duplicates if each != package.version]
        if contrary:
            others = " and ".join(contrary)
            yield Finding(
                subject=f"package.pip.{name}",
                message=f"{name} {package.version} is there more than once: the records of {others} lie beside it",
                evidence=(
                    Evidence(f"package.pip.{name}", package.version),
                    Evidence(f"package.pip.{name}.duplicates", list(package.duplicates)),
                ),
                fixes=(
                    Fix(
                        address=f"package.pip.{name}.duplicates",
                        to="removed",
                        message=f"pip uninstall {name} until it says that it is not installed, then install it once",
                        trial={f"package.pip.{name}.duplicates": None},
                    ),
                ),
                source="PyPA specifications, Recording installed projects",
            )


_FACTS = frozenset((*PipPackage.__struct_fields__, *CondaPackage.__struct_fields__))


@rule("package-broken", layer="package", severity="warning")
def package_broken(stack: Stack, matrix: Matrix) -> Outcome:
    """A package's metadata cannot be read, or its files are gone.

    Shows itself as "ModuleNotFoundError" for something that pip lists, or as pip's "invalid distribution"
    warnings: an interrupted upgrade left a folder (often one whose name begins with "~").

    Fix: reinstall the package.

    Source: PyPA specifications, "Recording installed projects" (METADATA and RECORD are required).
    """
    for address, reason in stack.manifest.capture.unobserved.items():
        if address.startswith(("package.pip.", "package.conda.")):
            manager, name = address.split(".", 2)[1:]
            held = stack.manifest.package.pip if manager == "pip" else stack.manifest.package.conda
            if name not in held:
                # The address may be of one of a package's facts; names of packages have dots, too.
                whole, _, fact = name.rpartition(".")
                name = whole if fact in _FACTS else name
            yield Finding(
                subject=address,
                message=f"{name} is broken: {reason}",
                evidence=(Evidence(address, reason),),
                source="PyPA specifications, Recording installed projects",
            )


@rule("package-modified", layer="package", severity="warning")
def package_modified(stack: Stack, matrix: Matrix) -> Outcome:
    """Installed files differ from the hashes that were recorded when they were installed.

    Shows itself as behaviour that no reinstallation elsewhere reproduces: somebody edited a file in
    site-packages, two packages own the same file, or a disk or a copy lost some. Seen with `capture --deep`.

    Fix: reinstall the package; keep a change as a patch or a fork.

    Source: PyPA specifications, "Recording installed projects" (RECORD); conda-meta's paths_data.
    """
    packages: list[tuple[str, str, PipPackage | CondaPackage]] = [
        *(("pip", name, pip) for name, pip in stack.manifest.package.pip.items()),
        *(("conda", name, conda) for name, conda in stack.manifest.package.conda.items()),
    ]
    installers = {
        "pip": "pip install --force-reinstall --no-deps",
        "conda": "conda install --force-reinstall",
    }
    for manager, name, package in packages:
        number = len(package.modified)
        if not number:
            continue
        address = f"package.{manager}.{name}"
        label = f"{name} {package.version or ''}".strip()
        files = ", ".join(package.modified[:3]) + (f" and {number - 3} more" if number > 3 else "")
        yield Finding(
            subject=address,
            message=(f"{number} files of {label} differ" if number > 1 else f"a file of {label} differs")
            + f" from its record: {files}",
            evidence=(
                Evidence(address, package.version),
                Evidence(f"{address}.modified", list(package.modified)),
            ),
            fixes=(
                Fix(
                    address=f"{address}.modified",
                    to="none",
                    message=f"{installers[manager]} {name}",
                    trial={f"{address}.modified": None},
                ),
            ),
            source="PyPA specifications, Recording installed projects; conda-meta",
        )


@rule("package-shadowed", layer="package", severity="warning")
def package_shadowed(stack: Stack, matrix: Matrix) -> Outcome:
    """A copy outside the environment hides an installed package.

    Shows itself as the version of another environment, "cannot import name", or undefined symbols in a
    compiled module: PYTHONPATH, the user site (~/.local) or the working folder come earlier on sys.path
    than site-packages.

    Fix: unset PYTHONPATH, set PYTHONNOUSERSITE=1, or uninstall the other copy.

    Source: Python documentation, "site" module and the initialisation of sys.path.
    """
    for name, package in stack.manifest.package.pip.items():
        if not package.shadowed_by:
            continue
        evidence = [
            Evidence(f"package.pip.{name}", package.version),
            Evidence(f"package.pip.{name}.shadowed_by", package.shadowed_by),
        ]
        if "PYTHONPATH" in stack.environ:
            evidence.append(Evidence("environ.PYTHONPATH", stack.environ["PYTHONPATH"]))
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} {package.version or ''} of this environment is hidden by the copy in "
            f"{package.shadowed_by}".replace("  ", " "),
            evidence=tuple(evidence),
            fixes=(
                Fix(
                    address=f"package.pip.{name}.shadowed_by",
                    to="removed",
                    message=_unhide(package.shadowed_by, name),
                    trial={f"package.pip.{name}.shadowed_by": None},
                ),
            ),
            source="Python documentation, library reference, site",
        )
    yield from _version_differs(stack)
    yield from _user_site(stack)


def _user_site(stack: Stack) -> Outcome:
    """Point a thin report to the user site, where it is stated and nothing says what it hides."""
    python = stack.manifest.python
    if not stack.partial or any(package.shadowed_by for package in stack.manifest.package.pip.values()):
        return
    folder = next(
        (each for each in python.path if re.search(r"/\.local/lib/python|\\Roaming\\Python", each)), None
    )
    if folder is None and not (python.user_site and stack.manifest.package.conda):
        return
    subject, value = ("python.path", list(python.path)) if folder else ("python.user_site", True)
    yield Finding(
        subject=subject,
        message=f"the user site{f' ({folder})' if folder else ''} comes before the environment's own packages: what lies "
        "there is imported in their place",
        evidence=(Evidence(subject, value),),
        fixes=(Fix("environ.PYTHONNOUSERSITE", "1", "set PYTHONNOUSERSITE=1"),),
        source="Python documentation, library reference, site; conda/conda#394, conda/conda#13746",
        severity="note",
        breaks=False,
        rank=1,
    )


def _version_differs(stack: Stack) -> Outcome:
    """Find a framework whose module says another version than its package's metadata."""
    for name, framework in stack.frameworks.items():
        package = stack.pip(name)
        if package is None or not package.version or not framework.version or package.shadowed_by:
            continue
        one, two = version(package.version), version(framework.version)
        if one is None or two is None or one.release == two.release or two.is_devrelease or two.is_prerelease:
            continue
        size = min(len(one.release), len(two.release))
        if one.release[:size] == two.release[:size]:
            continue
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} {package.version} is what pip lists, and {name} {framework.version} is what would be imported",
            evidence=(
                Evidence(f"package.pip.{name}", package.version),
                Evidence(f"framework.{name}.version", framework.version),
            ),
            fixes=(
                Fix(
                    address=f"package.pip.{name}",
                    to="one copy",
                    message=f"python -m pip uninstall {name} until none is left, then install it once",
                    trial={f"package.pip.{name}.version": framework.version},
                ),
            ),
            source="Python documentation, the initialization of the sys.path module search path",
        )


def _unhide(folder: str, name: str) -> str:
    if "/.local/" in folder or folder.startswith("~/.local") or "\\Roaming\\Python" in folder:
        return (
            "set PYTHONNOUSERSITE=1, or remove the copy with "
            + f"`python -m pip uninstall {name}` outside the environment"
        )
    return f"take {folder} out of PYTHONPATH"


# ---- pairs that do not work together -----------------------------------------------------------------------


class Side(NamedTuple):
    """One of two packages that a row of the matrix speaks of."""

    name: str
    version: str | None
    address: str
    holds: bool | None
    """True, False, or None where its version is not known."""


@rule("known-breakage", layer="package")
def known_breakage(stack: Stack, matrix: Matrix) -> Outcome:
    """Two versions that their metadata allow together are known not to work together.

    Shows itself as "cannot import name ...", "module ... has no attribute ...", "got an unexpected keyword
    argument" or "No module named ..." deep inside a library: its dependency removed or renamed something after
    it was released. The same holds for packages too old for the Python, the platform or the driver under them.
    A report that states few versions gets a note of the release that took something away, or began a new series.

    Fix: move one of the two, as the row says; then pin it.

    Source: the issue or release note of each row (`envlock matrix breakages`).
    """
    seen: set[tuple[str, str]] = set()
    for row in matrix.rows("breakages", "breakage"):
        for finding in _breakage(row, stack):
            # Rows for a package and for what it brings along say the same of one victim.
            keys = {(finding.subject, finding.evidence[1].address), (finding.subject, row["error"])}
            if not keys & seen:
                yield finding
            seen |= keys
    told = {subject for subject, _ in seen}
    for row in matrix.rows("breakages", "python-breakage"):
        for finding in _python_breakage(row, stack):
            told.add(finding.subject)
            yield finding
    for row in matrix.rows("breakages", "platform-breakage"):
        for finding in _platform_breakage(row, stack):
            told.add(finding.subject)
            yield finding
    mixed = [each for row in matrix.rows("breakages", "channel-mix") for each in _channel_mix(row, stack)]
    yield from mixed or _channels(stack)
    yield from _numpy_for_numba(stack, matrix)
    yield from removals(stack, matrix, told)


def _numpy_for_numba(stack: Stack, matrix: Matrix) -> Outcome:
    """Hold NumPy to the range that Numba checks at import."""
    numba, numpy = stack.version_of("numba"), stack.version_of("numpy")
    if numba is None or numpy is None or not numba.version or not numpy.version:
        return
    if numba.manager == "conda" and numpy.manager == "conda":
        # The solver knows the range.
        return
    wanted = release(numba.version)
    row = next((row for row in matrix.rows("numba", "release") if release(row["version"]) == wanted), None)
    ranges: tuple[str, ...] = row["numpy"] if row else ()
    if row is None or any(matches(numpy.version, each) is not False for each in ranges):
        return
    to = boundary(ranges[-1])
    trial = {f"{numpy.address}.version": to} if numpy.address.startswith("package.") else {}
    yield Finding(
        subject=numpy.address,
        message=f"numba {numba.version} needs numpy {' or '.join(ranges)}, and numpy {numpy.version} is installed: it "
        'stops with "Numba needs NumPy"',
        evidence=(Evidence(numpy.address, numpy.version), Evidence(numba.address, numba.version)),
        fixes=(Fix(numpy.address, ranges[-1], f"install numpy{ranges[-1]}", trial),),
        source=row["source"],
    )


def _side(name: str, specifier: str, ecosystem: str | None, stack: Stack) -> Side | None:
    """Return a package of a row with whether its version is in the row's range; None where it is not there."""
    address, text = "", None
    if ecosystem == "conda":
        conda = stack.conda(name)
        if conda is None:
            return None
        address, text = f"package.conda.{name}", conda.version
    elif ecosystem == "system":
        if name not in stack.manifest.package.system:
            return None
        address, text = f"package.system.{name}", stack.manifest.package.system[name]
    else:
        held = stack.version_of(name)
        if name == "tensorflow":
            held = next((each for other in TENSORFLOW if (each := stack.version_of(other))), None)
        if held is None and name in stack.frameworks:
            held = Installed(name, None, f"framework.{name}", "pip")
        held = held or _system_library(name, stack)
        if held is None or (ecosystem == "pip" and held.manager != "pip"):
            return None
        name, address, text = held.name, held.address, held.version
    # Distributions put an epoch before a version and their own number behind it: "1:1.13.5-1".
    plain = dotted(release(text.rpartition(":")[2])) if ecosystem == "system" and text else text
    holds = True if not specifier else matches(plain, specifier) if plain else None
    return Side(name, text, address, holds)


def _system_library(name: str, stack: Stack) -> Installed | None:
    """Return a library that only the system brings, where all copies of it are of one version."""
    copies = stack.libraries(name)
    versions = {copy.version for copy in copies}
    # PyTorch brings its own, which a report need not list.
    if len(versions) != 1 or stack.package("torch") or any(comes_with(copy, name) for copy in copies):
        return None
    return Installed(name, versions.pop(), f"library.{name}", "system")


def _breakage(row: Any, stack: Stack) -> Iterator[Finding]:
    victim = _side(row["package"], row["affected"], row.get("ecosystem"), stack)
    if victim is None or victim.holds is False:
        return
    other = _side(row["with"], row["with_versions"], row.get("ecosystem"), stack)
    if other is None or other.holds is False or (victim.holds is None and other.holds is None):
        return
    if not row.get("unsolved") and _conda_forbids(victim, other, stack):
        return
    python = stack.manifest.python.version
    told = matches(python, row["python"]) if python and "python" in row else None
    if told is False:
        return
    possible = victim.holds is None or other.holds is None or ("python" in row and told is None)
    blamed, rest = (victim, other) if row.get("blame") == row["package"] else (other, victim)
    severity = row.get("severity", "error")
    yield Finding(
        subject=blamed.address,
        message=_pair_in_words(row, victim, other, possible=possible),
        evidence=(
            Evidence(blamed.address, blamed.version),
            Evidence(rest.address, rest.version),
            *([Evidence("python.version", python)] if "python" in row and python else []),
            *_framework_version(victim, stack),
        ),
        fixes=_row_fixes(row, (victim, other), stack),
        source=row["source"],
        severity=_LOWER[severity] if possible else severity,
        rank=int(possible),
    )


_LOWER: dict[str, Any] = {"error": "warning", "warning": "note", "note": "note"}
"""What holds only if a version that is not known lies in a row's range is told one step lower."""


def _conda_forbids(victim: Side, other: Side, stack: Stack) -> bool:
    """Tell whether conda's solver keeps the pair apart: of two packages with builds it has read the constraints."""
    builds = [
        stack.manifest.package.conda[side.address.split(".", 2)[2]].build
        for side in (victim, other)
        if side.address.startswith("package.conda.")
    ]
    return len(builds) == 2 and not stack.partial and all(builds)


def _pair_in_words(row: Any, victim: Side, other: Side, *, possible: bool) -> str:
    names = [f"{side.name} {side.version}" if side.version else side.name for side in (victim, other)]
    error = f": {row['error']}" if row.get("error") else ""
    if not possible:
        return f"{names[0]} does not work with {names[1]}{error}"
    ranges = ", ".join(
        f"{side.name}{specifier}"
        for side, specifier in ((victim, row["affected"]), (other, row["with_versions"]))
        if side.holds is None
    )
    when = f" if it is {ranges}" if ranges else f" on Python {row['python']}"
    return f"{names[0]} does not work with {names[1]}{when}{error}"


def _framework_version(side: Side, stack: Stack) -> list[Evidence]:
    framework = stack.framework(side.name)
    address = f"framework.{side.name}.version"
    known = framework is not None and framework.version and side.address != address
    return [Evidence(address, framework.version)] if framework and known else []


def _row_fixes(row: Any, sides: tuple[Side, ...], stack: Stack) -> tuple[Fix, ...]:
    """Turn a row's fixes into changes that can be tried: another version of one side, or another Python."""
    fixes = []
    for text in row.get("fix", ()):
        wanted = parse_requirement(text)
        to = boundary(wanted.specifier) if wanted and wanted.specifier else None
        if wanted is None or to is None:
            continue
        if wanted.name == "python":
            trial = {"python.version": to, "python.abi": None}
            fixes.append(Fix("python.version", wanted.specifier, f"use Python {wanted.specifier}", trial))
            continue
        side = next((each for each in sides if each.name == wanted.name), None)
        if side is None:
            continue
        trial = {}
        if side.address.startswith("package.system."):
            trial[side.address] = to
        elif side.address.startswith("package."):
            trial[f"{side.address}.version"] = to
        framework = stack.framework(side.name)
        if framework and framework.version:
            trial[f"framework.{side.name}.version"] = to
        fixes.append(Fix(side.address, wanted.specifier, f"install {text}", trial))
    return tuple(fixes)


def _python_breakage(row: Any, stack: Stack) -> Iterator[Finding]:
    python = stack.manifest.python.version
    victim = _side(row["package"], row["affected"], None, stack)
    if victim is None or not python or victim.holds is False or matches(python, row["python"]) is not True:
        return
    given_back = row.get("unless", ())
    if any(stack.version_of(name) for name in given_back):
        return
    if _one_release(row, victim):
        return
    possible = victim.holds is None or bool(given_back and stack.partial)
    severity = row.get("severity", "error")
    label = f"{victim.name} {victim.version}" if victim.version else f"{victim.name}{row['affected']}"
    fails = "does not work" if severity == "error" else "does not fully work"
    yield Finding(
        subject=victim.address,
        message=f"{label} {fails} on Python {python}: {row['error']}",
        evidence=(Evidence(victim.address, victim.version), Evidence("python.version", python)),
        fixes=_row_fixes(row, (victim,), stack),
        source=row["source"],
        severity=_LOWER[severity] if possible else severity,
        # A release that is not known is most likely one that was made for this Python.
        rank=7 if victim.holds is None else int(possible),
    )


def _platform_breakage(row: Any, stack: Stack) -> Iterator[Finding]:
    victim = _side(row["package"], row["affected"], row.get("ecosystem"), stack)
    # What holds of tensorflow on a platform need not hold of tensorflow-cpu.
    if victim is None or victim.holds is False or victim.name != row["package"] or _one_release(row, victim):
        return
    manifest = stack.manifest
    facts: dict[str, tuple[str, str | None]] = {
        "platform": ("host.platform", manifest.host.platform),
        "driver": ("driver.version", manifest.driver.version),
        "openssl": ("python.openssl", manifest.python.openssl),
    }
    evidence = []
    for column, (address, value) in facts.items():
        if column not in row:
            continue
        if value is None or not _condition(column, row[column], value):
            return
        evidence.append(Evidence(address, value))
    possible = victim.holds is None
    severity = row.get("severity", "error")
    label = f"{victim.name} {victim.version}" if victim.version else f"{victim.name}{row['affected']}"
    where = ", ".join(
        f"{'OpenSSL' if each.address == 'python.openssl' else each.address.rpartition('.')[0]} {each.value}"
        for each in evidence
    )
    fails = "does not work" if severity == "error" else "does not fully work"
    yield Finding(
        subject=victim.address,
        message=f"{label} {fails} here ({where}): {row['error']}",
        evidence=(Evidence(victim.address, victim.version), *evidence),
        fixes=_row_fixes(row, (victim,), stack),
        source=row["source"],
        severity=_LOWER[severity] if possible else severity,
        rank=int(possible),
    )


def _one_release(row: Any, victim: Side) -> bool:
    """Tell whether a row is about single releases and the package's own is not known: most likely it is another."""
    return victim.holds is None and row["affected"].startswith("==")


def _condition(column: str, wanted: str, value: str) -> bool:
    if column == "platform":
        return value == wanted
    # OpenSSL's letters ("1.1.1w") are patch releases.
    return matches(dotted(release(value)), wanted) is True


def _channel_mix(row: Any, stack: Stack) -> Outcome:
    one, two = stack.conda(row["package"]), stack.conda(row["with"])
    if one is None or two is None or not one.channel or not two.channel:
        return
    ours, theirs = _channel(one.channel), _channel(two.channel)
    if ours == theirs or ours != row.get("channel", ours):
        return
    ranges = ((one, row.get("affected")), (two, row.get("with_versions")))
    holds = [
        matches(dotted(release(held.version)), wanted) if held.version else None
        for held, wanted in ranges
        if wanted
    ]
    if False in holds:
        return
    severity = row.get("severity", "error")
    yield Finding(
        subject=f"package.conda.{row['package']}",
        message=f"{row['package']} comes from {ours} and {row['with']} from {theirs}: their builds do not "
        f"fit together ({row['error']})",
        evidence=(
            Evidence(f"package.conda.{row['package']}", one.channel),
            Evidence(f"package.conda.{row['with']}", two.channel),
        ),
        fixes=(
            Fix(
                address=f"package.conda.{row['package']}.channel",
                to=two.channel,
                message=f"conda install --override-channels -c {theirs} {row['package']} {row['with']}",
                trial={f"package.conda.{row['package']}.channel": two.channel},
            ),
        ),
        source=row["source"],
        severity=_LOWER[severity] if None in holds else severity,
    )


def _channels(stack: Stack) -> Outcome:
    """Point a thin report of conda packages to channels that are not built for each other."""
    conda = stack.manifest.package.conda
    if not stack.partial or len(conda) > FEW:
        return
    of = {name: _channel(package.channel) for name, package in conda.items() if package.channel}
    if not {"defaults", "conda-forge"} <= set(of.values()):
        return
    # Libraries are what the builds of the other channel may not find.
    name = min(of, key=lambda name: (not name.startswith("lib"), of[name] != "defaults", name))
    other = next(each for each in of if of[each] != of[name])
    yield Finding(
        subject=f"package.conda.{name}",
        message=f"{name} comes from {of[name]} and {other} from {of[other]}: the two channels' builds need not fit together",
        evidence=(
            Evidence(f"package.conda.{name}", conda[name].channel),
            Evidence(f"package.conda.{other}", conda[other].channel),
        ),
        source="conda/conda-libmamba-solver#297, conda/conda-build#3226",
        severity="note",
        breaks=False,
        rank=3,
    )


def _channel(text: str) -> str:
    """Return a channel's name without its address and platform; all channels of Anaconda's defaults are one."""
    parts = [
        part for part in text.split("/") if part and not re.fullmatch(r"(?:linux|osx|win)-\w+|noarch", part)
    ]
    name = parts[-1] if parts else text
    return "defaults" if name in ("main", "r", "msys2", "defaults", "free") or "pkgs" in parts else name


# ---- modules built for another numpy -------------------------------------------------------------------------


@rule("numpy-abi", layer="package", needs=("package.pip.numpy|package.conda.numpy",))
def numpy_abi(stack: Stack, matrix: Matrix) -> Outcome:
    """A module that was compiled for NumPy 1 meets NumPy 2.

    Shows itself as "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.x", "_ARRAY_API not
    found", "numpy.core.multiarray failed to import" or "RuntimeError: Numpy is not available".

    Fix: numpy<2, or releases of the modules that were built for NumPy 2.

    Source: NumPy 2.0 migration guide, C API and ABI; the wheels themselves.
    """
    numpy = stack.version_of("numpy")
    if numpy is None or (major(numpy.version) or 0) < 2:
        return
    old: list[tuple[Installed, str, str]] = []
    doubtful: list[tuple[Installed, str, str]] = []
    for row in matrix.rows("breakages", "numpy-2"):
        held = stack.version_of(row["package"])
        if held is None:
            continue
        if held.manager == "conda" and numpy.manager == "conda":
            # The solver knows which numpy each build was made for.
            continue
        entry = (held, row["since"], row["source"])
        if held.version is None:
            doubtful.append(entry)
        elif matches(held.version, f"<{row['since']}"):
            old.append(entry)
    stated = [
        (name, framework.built_for["numpy"])
        for name, framework in stack.frameworks.items()
        if (major(framework.built_for.get("numpy")) or 2) < 2
    ]
    if not old and not stated and not (doubtful and stack.partial):
        return
    guilty = old or (doubtful if not stated else [])
    labels = [f"{held.name} {held.version or ''}".strip() for held, _, _ in guilty]
    labels += [f"{name} (for numpy {built})" for name, built in stated]
    named = ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
    certain = bool(old or stated)
    first = ", ".join(f"{held.name} {since}" for held, since, _ in guilty[:6])
    newer = f" (first for NumPy 2: {first})" if first else ""
    message = (
        f"numpy {numpy.version} is installed beside modules built for NumPy 1: {named}{newer}"
        if certain
        else f"numpy {numpy.version} may be too new for {named}{newer}"
    )
    yield Finding(
        subject=numpy.address,
        message=message,
        evidence=(
            Evidence(numpy.address, numpy.version),
            *(Evidence(held.address, held.version) for held, _, _ in guilty),
            *(Evidence(f"framework.{name}.built_for", {"numpy": built}) for name, built in stated),
        ),
        fixes=(
            Fix(numpy.address, "<2", "install numpy<2", {f"{numpy.address}.version": "1.26.4"}),
            *_newer_modules(guilty, stack),
        ),
        source=guilty[0][2] if guilty else "NumPy 2.0 migration guide",
        severity="error" if certain else "note",
    )


def _newer_modules(old: list[tuple[Installed, str, str]], stack: Stack) -> tuple[Fix, ...]:
    if not old:
        return ()
    trial: dict[str, Any] = {}
    for held, since, _ in old:
        if held.address.startswith("package."):
            trial[f"{held.address}.version"] = since
        framework = stack.framework(held.name)
        if framework and framework.version:
            trial[f"framework.{held.name}.version"] = since
    pins = " ".join(f"'{held.name}>={since}'" for held, since, _ in old)
    return (Fix(old[0][0].address, f">={old[0][1]}", f"pip install --upgrade {pins}", trial),)


# ---- two of one kind -----------------------------------------------------------------------------------------


@rule("module-overlap", layer="package", severity="warning")
def module_overlap(stack: Stack, matrix: Matrix) -> Outcome:
    """Two distributions own the same module and overwrite each other's files.

    Shows itself as the variant that was installed last (onnxruntime without CUDA over onnxruntime-gpu, OpenCV
    without windows), as a module that is empty after one of them was uninstalled, or as missing attributes.

    Fix: uninstall all of them, then install the one to keep.

    Source: the RECORD files of the distributions; opencv-python README, "Installation and Usage".
    """
    pip, conda = stack.manifest.package.pip, stack.manifest.package.conda
    for row in matrix.rows("imports", "overlap"):
        # That two distributions name the same module proves nothing: it may be a namespace that both add to.
        present = [name for name in row["dists"] if name in stack.packages and (name in pip or name in conda)]
        if len(present) < 2 or not any(name in pip for name in present):
            continue
        if not _allowed(row["module"], present, stack):
            yield _overlap(row["module"], present, row["keep"], row["source"], stack)
    if "pytorch" in conda and "pytorch-nightly" in conda:
        yield Finding(
            subject="package.conda.pytorch-nightly",
            message="conda's pytorch and pytorch-nightly both install the module torch and overwrite each other",
            evidence=tuple(
                Evidence(f"package.conda.{name}", conda[name].version)
                for name in ("pytorch", "pytorch-nightly")
            ),
            fixes=(
                Fix(
                    address="package.conda.pytorch",
                    to="removed",
                    message="conda uninstall pytorch pytorch-nightly, then conda install the one to keep",
                    trial={"package.conda.pytorch": None},
                ),
            ),
            source="pytorch/pytorch issue 13893",
        )


def _allowed(module: str, present: list[str], stack: Stack) -> bool:
    """Leave out pairs of which one is an empty stand-in for the other."""
    versions = {name: stack.packages[name].version for name in present}
    if module == "pynvml":
        # From 12 on pynvml is a shell around nvidia-ml-py, from 11.5 on it depended on its module's twin.
        return matches(versions["pynvml"], ">=11.5") is not False
    # From 2.12 on tensorflow-gpu is an empty package that refuses to install.
    return len(present) == 2 and matches(versions.get("tensorflow-gpu"), ">=2.12") is True


def _overlap(module: str, names: list[str], keep: str | None, source: str, stack: Stack) -> Finding:
    held = {name: stack.packages[name] for name in names}
    all_ = "all" if len(names) > 2 else "both"
    *labels, last = (f"{name} {held[name].version or ''}".strip() for name in names)
    # Conda's own packages stay: it would miss their files at the next transaction.
    kept = next((name for name in names if held[name].manager == "conda"), None)
    wanted = (keep or "").split(" ", 1)[0]
    kept = kept or (wanted if wanted in names else names[0])
    others = [name for name in names if name != kept]
    gone = [name for name in names if held[name].manager == "pip"]
    again = (
        f"pip install {kept}" if held[kept].manager == "pip" else f"conda install --force-reinstall {kept}"
    )
    return Finding(
        subject=held[others[0]].address,
        message=f"{', '.join(labels)} and {last} {all_} install the module {module} and overwrite each other"
        + (f"; keep {keep}" if keep else ""),
        evidence=tuple(Evidence(held[name].address, held[name].version) for name in [*others, kept]),
        fixes=(
            Fix(
                address=held[others[0]].address,
                to="removed",
                message=f"pip uninstall {' '.join(gone)}, then {again}",
                trial={held[name].address: None for name in others},
            ),
        ),
        source=source,
    )


@rule("openmp-duplicated", layer="package", severity="warning", needs=("library.openmp",))
def openmp_duplicated(stack: Stack, matrix: Matrix) -> Outcome:
    """Two OpenMP runtimes would be loaded into one process.

    Shows itself as "OMP: Error #15: Initializing libiomp5, but found libiomp5 already initialized", as crashes
    or hangs in __kmp_ functions, or as "MKL_THREADING_LAYER=INTEL is incompatible with libgomp". Intel's and
    LLVM's runtimes refuse or break each other; copies of GNU's live side by side and only waste threads.

    Fix: one runtime for all: packages from one channel (conda's llvm-openmp), or one of the copies removed.

    Source: LLVM OpenMP runtime, KMP_DUPLICATE_LIB_OK; threadpoolctl, multiple_openmp.md.
    """
    # Two entries without a path are two copies: a report that saw one would not list it twice.
    copies = {copy.path or place: copy for place, copy in enumerate(stack.libraries("openmp"))}
    kinds: dict[str, list[Library]] = {}
    for copy in copies.values():
        kinds.setdefault(_runtime(copy), []).append(copy)
    layer = stack.environ.get("MKL_THREADING_LAYER", "")
    if layer.upper() == "INTEL" and "gnu" in kinds:
        yield Finding(
            subject="environ.MKL_THREADING_LAYER",
            message="MKL_THREADING_LAYER=INTEL asks for Intel's OpenMP runtime, and libgomp is loaded too",
            evidence=(
                Evidence("environ.MKL_THREADING_LAYER", layer),
                Evidence("library.openmp", _places(kinds["gnu"])),
            ),
            fixes=(
                Fix("environ.MKL_THREADING_LAYER", "GNU", "set MKL_THREADING_LAYER=GNU", {"environ.MKL_THREADING_LAYER": "GNU"}),
            ),
            source="mkl-service, check of MKL_THREADING_LAYER",
        )  # fmt: skip
    kmp = kinds.get("llvm", [])
    users = [name for copy in kmp for name in copy.used_by]
    same = [name for name in dict.fromkeys(users) if users.count(name) > 1]
    if len(kmp) < 2:
        return
    places = _places(kmp)
    yield Finding(
        subject="library.openmp",
        message=f"{len(kmp)} copies of Intel's or LLVM's OpenMP runtime may be loaded into one process: "
        + "; ".join(places[:4]),
        evidence=(
            Evidence("library.openmp", places),
            *(
                [Evidence("environ.KMP_DUPLICATE_LIB_OK", stack.environ["KMP_DUPLICATE_LIB_OK"])]
                if "KMP_DUPLICATE_LIB_OK" in stack.environ
                else []
            ),
        ),
        fixes=(
            Fix(
                address="library.openmp",
                to="one copy",
                message=f"keep {places[0]} and remove the others, or install all users from one channel",
                trial={
                    "library.openmp": [
                        _plain(copy) for copy in stack.libraries("openmp") if copy not in kmp[1:]
                    ]
                },
            ),
        ),
        source="LLVM OpenMP runtime, Error #15; threadpoolctl, multiple_openmp.md",
        severity="error" if same else "warning",
    )


def _runtime(copy: Library) -> str:
    name = (copy.soname or (copy.path or "").replace("\\", "/").rpartition("/")[2]).lower()
    if "gomp" in name:
        return "gnu"
    return "llvm" if name.startswith(("libomp", "libiomp")) else "other"


def _places(copies: Iterable[Library]) -> list[str]:
    return [
        copy.path or " of ".join(filter(None, (copy.soname, copy.provider))) or copy.name for copy in copies
    ]


def _plain(copy: Library) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(copy)
    return plain

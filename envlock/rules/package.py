"""Rules about installed packages: what they require, what hides or overwrites what, what cannot go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import matches
from envlock.rules.engine import rule
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
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


@rule("requirement-unmet", layer="package", severity="warning")
def requirement_unmet(stack: Stack, matrix: Matrix) -> Outcome:
    """An installed package requires another one that is missing or out of range.

    Shows itself as an ImportError (missing), or as an AttributeError or TypeError deep inside a library
    that was written for another version. pip reports it once, at installation, and goes on.

    Fix: install a version in the range, or move the package that asks for it.

    Source: PEP 508 (dependency specification) and PEP 440 (version ranges); the requirements are the
    installed packages' own metadata.
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


def _known_missing(stack: Stack, name: str) -> bool:
    if stack.partial or stack.unobserved("package.pip") or stack.unobserved(f"package.pip.{name}"):
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
    import re

    candidates: list[str] = []
    for operator, version in re.findall(r"(===|[~=!<>]=|[<>])([^,\s]+)", specifier):
        plain = version.removesuffix(".*")
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


@rule("conda-pip-overlap", layer="package", severity="warning")
def conda_pip_overlap(stack: Stack, matrix: Matrix) -> Outcome:
    """One project is installed by conda and, over it, by pip.

    Shows itself as import errors, undefined symbols or a version that neither manager believes in: the
    files of one lie over the files of the other, and the next conda transaction mixes them again.

    Fix: remove one of them; with compiled packages make the environment anew.

    Source: conda documentation, "Using pip in a conda environment".
    """
    manifest = stack.manifest
    for name, pip in manifest.package.pip.items():
        conda = manifest.package.conda.get(name)
        if conda is None or pip.installer == "conda":
            continue
        same = pip.version == conda.version
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} is installed twice, by pip ({pip.version or 'version not known'}) over conda "
            f"({conda.version or 'version not known'})",
            evidence=(
                Evidence(f"package.pip.{name}", pip.version),
                Evidence(f"package.conda.{name}", conda.version),
            ),
            fixes=(
                Fix(
                    address=f"package.pip.{name}",
                    to="removed",
                    message=f"pip uninstall {name}, then conda install --force-reinstall {name}",
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
    left the older dist-info behind, and which one tools report is chance.

    Fix: uninstall the project until nothing of it is left, then install it once.

    Source: PyPA specifications, "Recording installed projects" (one .dist-info folder a project).
    """
    for name, package in stack.manifest.package.pip.items():
        if package.duplicates:
            others = ", ".join(package.duplicates)
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
            name = address.split(".", 2)[2]
            yield Finding(
                subject=address,
                message=f"{name} is broken: {reason}",
                evidence=(Evidence(address, reason),),
                source="PyPA specifications, Recording installed projects",
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


def _unhide(folder: str, name: str) -> str:
    if "/.local/" in folder or folder.startswith("~/.local") or "\\Roaming\\Python" in folder:
        return (
            "set PYTHONNOUSERSITE=1, or remove the copy with "
            + f"`python -m pip uninstall {name}` outside the environment"
        )
    return f"take {folder} out of PYTHONPATH"

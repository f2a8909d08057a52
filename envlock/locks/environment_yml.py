"""environment.yml: conda's match specifications and, under ``pip:``, requirements.

Specifications: https://docs.conda.io/projects/conda/en/stable/user-guide/concepts/pkg-specs.html. A file of
people holds bounds; ``conda env export`` pins everything with its build, which then is a full list.
"""

from __future__ import annotations

import re

from envlock.locks.model import (
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Manager,
    Selection,
    Shape,
    Target,
    holds,
    load_yaml,
)
from envlock.locks.requirements_txt import requirement
from envlock.manifest.read import printable

_SPEC = re.compile(r"(?:([^\s\[\]]{1,300})::)?([A-Za-z0-9_][\w.-]{0,127})\s*([^\[\]]*)(?:\[(.*)\])?\s*\Z")
_BRACKET = re.compile(r"(\w+)\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|([^,\s]+))")
_FUZZY = re.compile(r"=\s*([^=<>!~,|\s][^=<>!~,|\s]*)(?:=(\S+))?\Z")
_EXACT = re.compile(r"==\s*([^=<>!~,|*\s]+)(?:=(\S+))?\Z")
_BARE = re.compile(r"([^=<>!~,|\s]+)(?:\s+(\S+))?\Z")


def parse(text: str, path: str) -> LockFile:
    """Read an environment.yml; raises LockFileError."""
    shape = Shape(path)
    plain = shape.table(load_yaml(text, path), "the file")
    packages: list[tuple[Locked, str]] = []
    unknown: list[str] = []
    for item in shape.list(plain.get("dependencies"), "dependencies"):
        if isinstance(item, dict):
            for line in shape.list(item.get("pip"), "dependencies.pip"):
                told = _pip(shape.text(line, "dependencies.pip"), path)
                if isinstance(told, str):
                    unknown.append(told)
                else:
                    packages.append(told)
        else:
            packages.append((_spec(shape.text(item, "dependencies"), path), ""))
    conda = [package for package, _ in packages if package.manager == "conda"]
    closed: frozenset[Manager] = (
        frozenset({"conda"}) if conda and all(each.version and each.build for each in conda) else frozenset()
    )

    def select(target: Target, choice: Choice) -> Selection:
        return Selection(
            tuple(package for package, marker in packages if _holds(marker, target, path)),
            unknown=tuple(unknown),
        )

    return LockFile(
        select, closed=closed, speaks_of=frozenset({"conda", "pip"}), strict_origin=False,
        remedy=f"conda env update --prune --file {path}",
    )  # fmt: skip


def _holds(marker: str, target: Target, path: str) -> bool:
    try:
        return holds(marker, target) is not False
    except ValueError as error:
        raise LockFileError(printable(f"{path}: dependencies.pip: marker {marker[:80]!r}: {error}")) from None


def _pip(line: str, path: str) -> tuple[Locked, str] | str:
    if re.match(r"-(?!e\b|-editable)", line):
        return f"{path}: dependencies.pip: {line[:80]!r} is not followed"
    return requirement(line, f"{path}: dependencies.pip", path)


def _spec(text: str, path: str) -> Locked:
    found = _SPEC.match(text.strip()) if len(text) < 2000 else None
    if found is None:
        raise LockFileError(printable(f"{path}: dependencies: not a match specification: {text[:80]!r}"))
    channel, name, rest = found[1], found[2], found[3].strip()
    keys = {key: one or two or three for key, one, two, three in _BRACKET.findall(found[4] or "")}
    version, bounds, build = _version(keys.get("version", rest) if keys.get("version") or not rest else rest)
    build = build or keys.get("build")
    from envlock.probe.conda import short_channel

    channel = keys.get("channel") or channel
    return Locked(
        "conda", name.lower(), version, bounds=bounds, build=None if build and "*" in build else build,
        channel=short_channel(channel) if channel else None, subdir=keys.get("subdir"),
        hashes=tuple(f"{kind}:{keys[kind]}" for kind in ("sha256", "md5") if kind in keys),
    )  # fmt: skip


def _version(text: str) -> tuple[str | None, str, str | None]:
    """Return the exact version, else the bounds, and the build string of a specification."""
    exact = _EXACT.match(text)
    if exact:
        return exact[1], "", exact[2]
    fuzzy = _FUZZY.match(text)
    if fuzzy:
        # "=1.2=build" is exact, "=1.2" is 1.2 and everything below it.
        if fuzzy[2] and "*" not in fuzzy[1]:
            return fuzzy[1], "", fuzzy[2]
        return None, fuzzy[1] if "*" in fuzzy[1] else fuzzy[1] + ".*", fuzzy[2]
    bare = _BARE.match(text)
    if bare:
        return (None, bare[1], bare[2]) if "*" in bare[1] else (bare[1], "", bare[2])
    return None, text.replace(" ", ""), None

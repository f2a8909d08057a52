"""Re-reads the wheel metadata behind the matrix and shows, as a diff of its files, what has changed.

    PIP_INDEX_URL=https://index.example/simple python tools/refresh_matrix.py            print the diff
    ... python tools/refresh_matrix.py --check                                          and exit 1 if there is one
    ... python tools/refresh_matrix.py --write                                          and write it
    ... python tools/refresh_matrix.py requires torch                                   of these files alone

Only rows whose source is "wheel metadata of NAME VERSION (PyPI)" are read again, and rows for newer versions of
those packages are added, unless one of another source has that version; every other row has a source that a person
has to read. A newer version whose metadata the index does not offer is named on stderr. A new row holds what the
metadata says and no more: tests/matrix/test_frameworks.py names the columns that are then still to be filled in.

What releases require of each other (requires.toml) is carried on: releases after a row's `last` are read, and what
they ask for is added where it changes; what the row had of older ones stays.

Formats: simple repository API as JSON (PEP 691), metadata beside the wheel (PEP 658), core metadata (PEP 566).
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import email.parser
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MATRIX = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "envlock", "matrix")
SIZE_LIMIT = 16 * 1024 * 1024
"""Bytes of one answer at most; the longest page of a package here is under one MiB."""

Row = dict[str, Any]

_SOURCE = re.compile(r"wheel metadata of (\S+) (\S+) \(PyPI\)")
_REQUIRES = ["package", "on"]
"""The columns that tell two rows apart which say what one package's releases require of another."""
_BOUNDS = (">=", ">", "==", "~=", "!=", "<=", "<")
"""The order in which a requirement's bounds are written."""
_WIDTH = 112
"""Columns of a line at most; a longer list is written over several."""
_PINS = {  # column of torch.release -> how the requirement's name begins
    "cudnn": "nvidia-cudnn-cu",
    "nccl": "nvidia-nccl-cu",
    "cublas": "nvidia-cublas-cu",
    "cusparselt": "nvidia-cusparselt-cu",
    "nvshmem": "nvidia-nvshmem-cu",
    "triton": "triton",
}
_LINUX = {"platform_system": "Linux", "platform_machine": "x86_64", "sys_platform": "linux", "extra": ""}


class RefreshError(Exception):
    """The refresh cannot go on; the text says why and what to do."""


class Wheel(NamedTuple):
    """A wheel as its file name and the index describe it."""

    name: str
    url: str


class Registry(Protocol):
    """Where packages are looked up."""

    def wheels(self, package: str) -> list[Wheel]:
        """Return a package's wheels that are not yanked, in the index's order."""

    def metadata(self, wheel: Wheel) -> str | None:
        """Return a wheel's METADATA, or None where the index does not offer it beside the wheel."""


class Index:
    """A package index over HTTPS."""

    def __init__(self, url: str) -> None:
        if not url.startswith("https://"):
            raise RefreshError("set PIP_INDEX_URL to the index to read, an https:// address")
        self._url = url.rstrip("/")

    def wheels(self, package: str) -> list[Wheel]:
        """Return a package's wheels; raises RefreshError where the page cannot be had or is no PEP 691 page."""
        url = f"{self._url}/{package}/"
        page = self._get(url, "application/vnd.pypi.simple.v1+json")
        if page is None:
            raise RefreshError(f"{package}: the index has no such package")
        try:
            files = json.loads(page)["files"]
            return [Wheel(file["filename"], file["url"]) for file in files if not file.get("yanked")]
        except (ValueError, KeyError, TypeError) as error:
            raise RefreshError(f"{package}: the index's answer is no PEP 691 page ({error})") from None

    def metadata(self, wheel: Wheel) -> str | None:
        """Return the file beside the wheel (PEP 658), None where there is none."""
        text = self._get(wheel.url.partition("#")[0] + ".metadata", "*/*")
        return None if text is None else text.decode("utf-8", "replace")

    def _get(self, url: str, accept: str) -> bytes | None:
        if not url.startswith("https://"):
            raise RefreshError(f"{url}: not an https:// address")
        request = urllib.request.Request(url, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content: bytes = answer.read(SIZE_LIMIT + 1)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise RefreshError(f"{url}: {error}") from None
        except OSError as error:
            raise RefreshError(f"{url}: {error}") from None
        if len(content) > SIZE_LIMIT:
            raise RefreshError(f"{url}: more than {SIZE_LIMIT // 2**20} MiB")
        return content


def refresh(text: str, registry: Registry, today: datetime.date) -> str:
    """Return a matrix file's text with the rows that come from wheel metadata read again, and new ones added.

    No row is ever dropped. Raises RefreshError where the index lists too few of the versions that the file has.
    """
    tables = tomllib.loads(text)
    for kind, columns in tables["keys"].items():
        if columns in (["version"], ["package", "version"]):  # what one wheel's metadata can speak for
            tables[kind] = list(_refreshed(tables.get(kind, []), registry, today))
        elif columns == _REQUIRES:
            tables[kind] = list(_carried_on(tables.get(kind, []), registry, today))
    return render(head_comment(text), tables)


def head_comment(text: str) -> str:
    """Return the comment lines that a file begins with."""
    lines = text.split("\n")
    return "\n".join(
        lines[: next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    )


def render(comment: str, tables: dict[str, Any]) -> str:
    """Return the text of a matrix file: its comment, its keys, then the rows kind by kind."""
    keys = "[keys]\n" + "".join(f"{kind} = {_value(columns)}\n" for kind, columns in tables["keys"].items())
    rows = [
        f"[[{kind}]]\n" + "".join(f"{_line(name, value)}\n" for name, value in row.items())
        for kind, rows in tables.items()
        if kind != "keys"
        for row in rows
    ]
    return "\n".join([comment + "\n", keys, *rows])


def _refreshed(rows: Sequence[Row], registry: Registry, today: datetime.date) -> Iterator[Row]:
    """Yield the rows in their order, those of new versions after the last of their package."""
    origins = [_origin(row) for row in rows]
    last = {origin[0]: number for number, origin in enumerate(origins) if origin}
    releases = {package: _releases(registry.wheels(package)) for package in last}
    known = {package: _known(package, rows, origins) for package in last}
    for package in last:
        read_before = {origin[1] for origin in origins if origin and origin[0] == package}
        _guard(package, read_before, set(releases[package]))
    for number, (row, origin) in enumerate(zip(rows, origins, strict=True)):
        if origin is None:
            yield row
            continue
        package, version = origin
        wheels = releases[package].get(version)
        yield _reread(row, package, version, wheels, registry, today) if wheels else row
        if last[package] == number:
            for newer, files in releases[package].items():
                if newer > max(known[package]) and not newer.is_prerelease:
                    stub = _stub(row, package, newer)
                    added = _reread(stub, package, newer, files, registry, today)
                    if added is stub:
                        sys.stderr.write(
                            f"{package} {newer}: no row: no metadata beside its wheels, or no pin in it\n"
                        )
                    else:
                        yield added


def _carried_on(rows: Sequence[Row], registry: Registry, today: datetime.date) -> Iterator[Row]:
    """Yield the rows that say what a package's releases require, with what the releases after their last one ask."""
    releases: dict[str, dict[Version, list[Wheel]]] = {}
    read: dict[tuple[str, Version], list[tuple[str, str]] | None] = {}
    for row in rows:
        package, last = row["package"], Version(row["last"])
        if package not in releases:
            releases[package] = _releases(registry.wheels(package))
        if last not in releases[package]:
            sys.stderr.write(
                f"{package}: not carried on: the index lists no {last}, which was the last to be read\n"
            )
            yield row
            continue
        fresh: Row = {**row, "since": list(row["since"]), "needs": list(row["needs"])}
        for version, wheels in releases[package].items():
            if version <= last or version.is_prerelease:
                continue
            if (package, version) not in read:
                text = _metadata(wheels, registry)
                read[package, version] = None if text is None else list(_requirements(text))
            wanted = _wanted(read[package, version], row["on"])
            if wanted is None:
                sys.stderr.write(f"{package} {version}: what it asks of {row['on']} cannot be told\n")
                break
            if SpecifierSet(wanted) != SpecifierSet(fresh["needs"][-1]):
                fresh["since"].append(str(version))
                fresh["needs"].append(wanted)
            fresh["last"] = str(version)
        if fresh["last"] == row["last"]:
            yield row
            continue
        later = f"wheel metadata of its releases after {row['last']} (PyPI)"
        source = (
            row["source"]
            if "wheel metadata of its releases after" in row["source"]
            else f"{row['source']}; {later}"
        )
        yield {**fresh, "source": source, "read": today}


def _wanted(requirements: list[tuple[str, str]] | None, name: str) -> str | None:
    """Return what a release asks of a project, "" for nothing; None where it is not known or not one thing."""
    if requirements is None:
        return None
    asked = {specifier for project, specifier in requirements if canonicalize_name(project) == name}
    if len(asked) > 1:
        return None
    return ",".join(sorted("".join(asked).split(","), key=_bound))


def _bound(text: str) -> int:
    """Return the place of a bound among those of a requirement: ">=1" comes before "<2"."""
    return next((at for at, operator in enumerate(_BOUNDS) if text.startswith(operator)), len(_BOUNDS))


def _origin(row: Row) -> tuple[str, Version] | None:
    """Return the package and version whose metadata a row was read from; the row has to be about that version."""
    found = _SOURCE.search(row["source"])
    if not found or row["version"] != found[2]:
        return None
    return found[1], Version(found[2])


def _known(package: str, rows: Sequence[Row], origins: Sequence[tuple[str, Version] | None]) -> set[Version]:
    """Return the versions of a package that have a row, whatever its source."""
    return {
        Version(row["version"])
        for row, origin in zip(rows, origins, strict=True)
        if row.get("package", package) == package and ("package" in row or origin)
    }


def _stub(like: Row, package: str, version: Version) -> Row:
    row: Row = {"package": package} if "package" in like else {}
    return {**row, "version": str(version), "source": f"wheel metadata of {package} {version} (PyPI)"}


def _releases(wheels: Sequence[Wheel]) -> dict[Version, list[Wheel]]:
    """Return the wheels that fit Linux x86-64 by version, oldest first."""
    found: dict[Version, list[Wheel]] = {}
    for wheel in wheels:
        try:
            _, version, _, tags = parse_wheel_filename(wheel.name)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        if any(tag.platform == "any" or re.fullmatch(r".*linux.*_x86_64", tag.platform) for tag in tags):
            found.setdefault(version, []).append(wheel)
    return dict(sorted(found.items()))


def _reread(
    row: Row, package: str, version: Version, wheels: list[Wheel], registry: Registry, today: datetime.date
) -> Row:
    """Return a row with the columns that the metadata of one of the wheels gives; the row itself if none does."""
    text = _metadata(wheels, registry)
    if text is None:
        return row
    requirements = dict(_requirements(text))
    read = _companion(requirements) if "package" in row else _torch(requirements, wheels)
    fresh = {name: value for name, value in {**row, **read}.items() if name not in ("source", "read")}
    if fresh == {name: value for name, value in row.items() if name not in ("source", "read")}:
        return row
    return {**fresh, "source": row["source"], "read": today}


def _metadata(wheels: Sequence[Wheel], registry: Registry) -> str | None:
    """Return the metadata of one of a release's wheels; None where the index offers none of the first three."""
    return next(
        (text for wheel in sorted(wheels)[:3] if (text := registry.metadata(wheel)) is not None), None
    )


def _requirements(metadata: str) -> Iterator[tuple[str, str]]:
    """Yield name and specifier of what is required on Linux x86-64 by any CPython."""
    message = email.parser.HeaderParser().parsestr(metadata)
    for line in message.get_all("Requires-Dist", []):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        pythons = ("3.8", "3.11", "3.13")
        if marker and not any(marker.evaluate({**_LINUX, "python_version": version}) for version in pythons):
            continue
        yield requirement.name, str(requirement.specifier)


def _companion(requirements: dict[str, str]) -> Row:
    return {"torch": requirements["torch"]} if requirements.get("torch") else {}


def _torch(requirements: dict[str, str], wheels: Sequence[Wheel]) -> Row:
    row: Row = {"python": _pythons(wheels)}
    runtime = _pin(requirements, "nvidia-cuda-runtime-cu") or _pin(requirements, "cuda-toolkit")
    if runtime:
        row.update(cuda=".".join(runtime.split(".")[:2]), cuda_runtime=runtime)
    row.update((name, _pin(requirements, prefix)) for name, prefix in _PINS.items())
    return {name: value for name, value in row.items() if value}


def _pin(requirements: dict[str, str], prefix: str) -> str:
    """Return the version that is pinned, or the specifier where it is more than a pin."""
    for name, specifier in requirements.items():
        if name.startswith(prefix):
            return specifier[2:] if specifier.startswith("==") and "," not in specifier else specifier
    return ""


def _pythons(wheels: Sequence[Wheel]) -> str:
    """Return the CPython versions that there are wheels for, as a specifier."""
    minors = {
        int(tag.interpreter[3:])
        for wheel in wheels
        for tag in parse_wheel_filename(wheel.name)[3]
        if re.fullmatch(r"cp3\d+", tag.interpreter)
    }
    return f">=3.{min(minors)},<3.{max(minors) + 1}" if minors else ""


def _guard(package: str, known: set[Version], listed: set[Version]) -> None:
    """Refuse a page that lacks much of what the matrix knows: half an answer must not pass for news.

    A version that was withdrawn keeps its row: environments that have it installed do not go away.
    """
    missing = sorted(known - listed)
    if len(missing) > max(1, len(known) // 10):
        shown = ", ".join(map(str, missing[:3]))
        raise RefreshError(
            f"{package}: the index lists {len(known) - len(missing)} of the {len(known)} versions that the matrix"
            f" has (not {shown} ...); nothing was written"
        )


def _line(name: str, value: Any) -> str:
    """Return a column as TOML, a list that is too long for one line over several."""
    line = f"{name} = {_value(value)}"
    if len(line) <= _WIDTH or not isinstance(value, list):
        return line
    lines = [""]
    for item in map(_value, value):
        if len(lines[-1]) + len(item) + 2 > _WIDTH - 4:
            lines.append("")
        lines[-1] += f"{item}, "
    return "\n".join([f"{name} = [", *(f"    {each.rstrip()}" for each in lines), "]"])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return value.isoformat() if isinstance(value, datetime.date) else json.dumps(value, ensure_ascii=False)


def _changes(
    registry: Registry, today: datetime.date, subjects: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield path, old text and new text of the files that change; of these subjects, or of all."""
    for name in sorted(os.listdir(MATRIX)):
        path = os.path.join(MATRIX, name)
        if not name.endswith(".toml") or (subjects and name.removesuffix(".toml") not in subjects):
            continue
        with open(path, encoding="utf-8") as file:
            before = file.read()
        if not (_SOURCE.search(before) or f" = {_value(_REQUIRES)}\n" in before):
            continue
        after = refresh(before, registry, today)
        if after != before:
            yield path, before, after


def main(arguments: Sequence[str], registry: Registry | None = None) -> int:
    """Print the diff; return 0, or 1 with --check where there is one, or 2 where the work could not be done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("subject", nargs="*", help="a file of the matrix: torch, requires ... (all of them)")
    parser.add_argument("--check", action="store_true", help="exit 1 if anything has changed")
    parser.add_argument("--write", action="store_true", help="write the changes")
    options = parser.parse_args(arguments)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    try:
        index = registry or Index(os.environ.get("PIP_INDEX_URL", ""))
        changes = list(_changes(index, today, options.subject))
    except RefreshError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for path, before, after in changes:
        name = f"envlock/matrix/{os.path.basename(path)}"
        lines = difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
        sys.stdout.writelines(lines)
        if options.write:
            with open(path, "w", encoding="utf-8") as file:
                file.write(after)
    return 1 if changes and options.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Requirements files: names, markers, URLs, hashes, and the files that they include.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/. Options that choose where pip
looks (indexes, find-links) are read over: where an index install came from is recorded nowhere. Variables
(``${TOKEN}``) are not replaced. Bounded: 100 files, 32 MiB in all.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from envlock.locks.model import (
    SIZE_LIMIT,
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Selection,
    Target,
    archive_name,
    holds,
    is_local,
    local_path,
    normalise,
    public_url,
    read_text,
)
from envlock.manifest.read import printable

FILE_LIMIT = 100
_COMMENT = re.compile(r"(^|\s+)#.*$")
_ARGUMENT = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)(?:\s+|=|(?<=^-[rce]))(.+)\Z")
_HASH = re.compile(r"--hash(?:\s+|=)(\w+:[0-9A-Fa-f]+)")
_OPTION = re.compile(r"\s--[a-z][\w-]*(?:[=\s].*)?\Z")
_VCS = re.compile(r"(git|hg|svn|bzr)\+")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


class _Line(NamedTuple):
    package: Locked
    marker: str
    place: str


class _Reading(NamedTuple):
    lines: list[_Line]
    seen: set[tuple[str, bool]]
    sizes: list[int]
    unknown: list[str]


def parse(text: str, path: str) -> LockFile:
    """Read a requirements file and what it includes; raises LockFileError with file and line."""
    reading = _Reading([], {(os.path.realpath(path), False)}, [len(text)], [])
    _read(text, path, reading, constraint=False)
    asked = [line.package for line in reading.lines if not line.package.optional]
    # pip itself demands the full closure where there are hashes; else the comparison works out whether it is one.
    closed = bool(asked) and all(each.hashes for each in asked)
    return LockFile(
        lambda target, choice: _select(reading, target, choice),
        closed=frozenset({"pip"}) if closed else frozenset(), speaks_of=frozenset({"pip"}), strict_origin=False,
        remedy=f"pip install -r {path}",
    )  # fmt: skip


def requirement(line: str, place: str, path: str) -> tuple[Locked, str] | str:
    """Return what one requirement line asks for and its marker, or why it cannot be told; hashes are cut off.

    ``place`` names the line in errors, ``path`` is the file that relative paths start from.
    """
    hashes = tuple(each.lower() for each in _HASH.findall(line))
    plain = _OPTION.sub("", _HASH.sub("", line).rstrip()).strip()
    editable = False
    found = _ARGUMENT.match(plain)
    if found and found[1] in ("-e", "--editable"):
        plain, editable = found[2].strip().strip("\"'"), True
    if _is_place(plain):
        return _at_a_place(plain, editable, hashes, path)
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        parsed = Requirement(plain)
    except RecursionError:
        raise LockFileError(printable(f"{place}: nested too deeply: {plain[:80]!r}")) from None
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise LockFileError(printable(f"{place}: not a requirement: {plain[:80]!r}: {reason}")) from None
    source = _spell(parsed.url, path) if parsed.url else ""
    known = archive_name(parsed.url) if parsed.url else None
    exact = [
        each.version
        for each in parsed.specifier
        if each.operator in ("==", "===") and "*" not in each.version
    ]
    version = known[1] if known else exact[0] if len(exact) == 1 and len(parsed.specifier) == 1 else None
    package = Locked(
        "pip", normalise(parsed.name), None if exact and not known else version,
        bounds=str(parsed.specifier), source=source, editable=editable, hashes=hashes,
        extras=tuple(sorted(map(normalise, parsed.extras))),
    )  # fmt: skip
    return package, str(parsed.marker or "")


def _read(text: str, path: str, reading: _Reading, *, constraint: bool) -> None:
    for number, line in _logical_lines(text):
        place = f"{path}:{number}"
        found = _ARGUMENT.match(line)
        if found and found[1] in ("-r", "-c", "--requirement", "--constraint"):
            name = found[2].strip().strip("\"'")
            _include(name, path, place, reading, constraint=constraint or found[1] in ("-c", "--constraint"))
            continue
        if line.startswith("-") and not (found and found[1] in ("-e", "--editable")):
            continue
        told = requirement(line, place, path)
        if isinstance(told, str):
            reading.unknown.append(f"{place}: {told}")
            continue
        package, marker = told
        if constraint:
            package = package._replace(optional=True, hashes=())
        reading.lines.append(_Line(package, marker, place))


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Join continued lines and cut comments off; each with the number of its first line."""
    lines: list[tuple[int, str]] = []
    held: list[str] = []
    start = 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start if held else number
        is_comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not is_comment:
            held.append(raw[:-1])
            continue
        # As pip: a comment line inside a continued one ends it.
        joined = _COMMENT.sub("", "".join([*held, "" if is_comment else raw])).strip()
        held = []
        if joined:
            lines.append((start, joined))
    if held and "".join(held).strip():
        lines.append((start, "".join(held).strip()))
    return lines


def _include(name: str, path: str, place: str, reading: _Reading, *, constraint: bool) -> None:
    if not is_local(name):
        raise LockFileError(
            printable(f"{place}: includes {public_url(name)[:200]}, which is not fetched: name a file")
        )
    file = local_path(name, path)
    try:
        key = (os.path.realpath(file), constraint)
        if key in reading.seen:
            return
        reading.seen.add(key)
        if len(reading.seen) > FILE_LIMIT:
            raise LockFileError(f"{place}: more than {FILE_LIMIT} files include each other")
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise LockFileError(printable(f"{place}: includes {name}, which is no file"))
    except OSError as error:
        raise LockFileError(printable(f"{place}: cannot read {name}: {error.strerror or error}")) from None
    except ValueError:
        raise LockFileError(
            printable(f"{place}: cannot read {name}: no file can be named like this")
        ) from None
    text = read_text(file, SIZE_LIMIT - sum(reading.sizes))
    reading.sizes.append(len(text))
    _read(text, file, reading, constraint=constraint)


def _is_place(line: str) -> bool:
    return bool(
        re.match(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|file:|\.{1,2}(?:/|\Z|\[)|/|~/)", line)
        or _VCS.match(line)
        or re.match(r"[^\s@;]+\.(?:whl|tar\.gz|zip)\s*(?:;|\Z)", line)
        or re.match(r"[\w.-]+/[^\s@]", line)
    )


def _at_a_place(text: str, editable: bool, hashes: tuple[str, ...], path: str) -> tuple[Locked, str] | str:
    """Read a bare URL or path, whose project is told by the file's name or by #egg=."""
    address, _, marker = re.sub(r"\s+;\s*", "\0", text, count=1).partition("\0")
    address = address.strip()
    egg = re.search(r"[#&]egg=([\w.-]+)", address)
    known = archive_name(address)
    source = _spell(re.sub(r"\[[\w,\s.-]*\]\Z", "", address), path)
    if not egg and not known:
        return f"the project at {public_url(address)[:200]} has no name in this file, so it is not compared"
    name = egg[1] if egg else known[0] if known else ""
    version = known[1] if known else None
    return Locked("pip", normalise(name), version, source=source, editable=editable, hashes=hashes), marker


def _spell(url: str, path: str) -> str:
    """Return a URL as a manifest spells it; a revision stays where it is a commit, others name no one state."""
    if is_local(url) and not _VCS.match(url):
        return local_path(re.split("[#?]", url, maxsplit=1)[0], path)
    if not _VCS.match(url):
        return public_url(url)
    kind, _, address = url.partition("+")
    address = public_url(address)
    head, at, revision = address.rpartition("@")
    if at and "/" in head.partition("://")[2] and "/" not in revision.partition(".git")[0]:
        return f"{kind}+{head}@{revision}" if _COMMIT.match(revision) else f"{kind}+{head}"
    return f"{kind}+{address}"


def _select(reading: _Reading, target: Target, choice: Choice) -> Selection:
    packages, unknown = [], list(reading.unknown)
    for line in reading.lines:
        try:
            answer = holds(line.marker, target)
        except ValueError as error:
            raise LockFileError(printable(f"{line.place}: marker {line.marker[:80]!r}: {error}")) from None
        if answer is None:
            unknown.append(
                f"{line.place}: whether {line.package.name} is asked for here: {line.marker[:120]!r}"
            )
        elif answer:
            packages.append(line.package)
    return Selection(tuple(packages), unknown=tuple(unknown))

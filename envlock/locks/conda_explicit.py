"""conda's explicit list: @EXPLICIT, then a package's URL a line, with its md5 or sha256 behind a "#".

Format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html#building-identical-conda-environments;
conda-lock adds comment lines ``# pip name @ url --hash=sha256:...`` for the packages of pip.
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
    Target,
    archive_name,
    conda_file,
    normalise,
    public_url,
)
from envlock.manifest.read import printable

_PIP = re.compile(r"#\s*pip\s+([\w.-]{1,200})\s*@\s*(\S+)((?:\s+--hash=\w+:\w+)*)\s*\Z")
_PLATFORM = re.compile(r"#\s*platform:\s*([\w-]{1,40})\s*\Z")


def parse(text: str, path: str) -> LockFile:
    """Read an explicit list; raises LockFileError for a line that is no package's URL."""
    packages: list[Locked] = []
    platform = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("#"):
            found = _PLATFORM.match(line)
            platform = found[1] if found else platform
            pip = _PIP.match(line)
            packages += [_pip(pip)] if pip else []
        elif line and line != "@EXPLICIT":
            packages.append(_package(line, f"{path}:{number}"))

    def select(target: Target, choice: Choice) -> Selection:
        held = platform or next((each.subdir for each in packages if each.subdir not in (None, "noarch")), "")
        if held and target.subdir and held != target.subdir:
            raise LockFileError(f"{path}: a list for {held}, and the environment is one of {target.subdir}")
        return Selection(tuple(packages))

    with_pip = any(each.manager == "pip" for each in packages)
    spoken: frozenset[Manager] = frozenset({"conda", "pip"}) if with_pip else frozenset({"conda"})
    remedy = f"conda create --prefix DIR --file {path}"
    return LockFile(select, closed=spoken, speaks_of=spoken, remedy=remedy)


def _package(line: str, place: str) -> Locked:
    url, _, digest = line.partition("#")
    found = conda_file(url.strip())
    if found is None:
        raise LockFileError(printable(f"{place}: expected the URL of a conda package, got {line[:80]!r}"))
    name, version, build, subdir, channel = found
    return Locked(
        "conda", name, version, build=build, subdir=subdir, channel=channel, hashes=_hash(digest.strip())
    )


def _hash(digest: str) -> tuple[str, ...]:
    plain = digest.removeprefix("sha256:").lower()
    kind = {64: "sha256", 32: "md5"}.get(len(plain))
    return (f"{kind}:{plain}",) if kind and re.fullmatch("[0-9a-f]+", plain) else ()


def _pip(found: re.Match[str]) -> Locked:
    known = archive_name(found[2])
    return Locked(
        "pip", normalise(found[1]), known[1] if known else None,
        source=public_url(found[2]), hashes=tuple(re.findall(r"--hash=(\S+)", found[3])),
    )  # fmt: skip

"""pylock.toml (PEP 751, https://packaging.python.org/en/latest/specifications/pylock-toml/), by packaging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envlock.locks.model import (
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Selection,
    Target,
    archive_name,
    holds,
    load_toml,
    local_path,
    normalise,
    public_url,
)
from envlock.manifest.read import printable

if TYPE_CHECKING:
    from packaging.pylock import Package, Pylock

NEEDED = "26.0"
"""The first release of packaging that reads pylock.toml."""


def parse(text: str, path: str) -> LockFile:
    """Read a pylock.toml; raises LockFileError, also where the installed packaging is too old."""
    try:
        from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
    except ImportError:
        raise LockFileError(
            f"{path}: reading pylock.toml needs packaging {NEEDED} or newer: pip install 'packaging>={NEEDED}'"
        ) from None
    try:
        lock = Pylock.from_dict(load_toml(text, path))
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise LockFileError(printable(f"{path}: not a valid pylock.toml: {error}")) from None
    except (RecursionError, ValueError) as error:
        raise LockFileError(printable(f"{path}: not a valid pylock.toml: {str(error)[:200]}")) from None
    return LockFile(
        lambda target, choice: _select(lock, path, target, choice),
        closed=frozenset({"pip"}), speaks_of=frozenset({"pip"}),
        extras=frozenset(lock.extras or ()), groups=frozenset(lock.dependency_groups or ()),
        default_groups=frozenset(lock.default_groups or ()),
        remedy=f"uv pip sync {path}",
    )  # fmt: skip


def _select(lock: Pylock, path: str, target: Target, choice: Choice) -> Selection:
    chosen: dict[str, Any] = {"extras": choice.extras, "dependency_groups": choice.groups}
    if lock.environments:
        answers = [_holds(str(each), path, "environments", target, {}) for each in lock.environments]
        if not any(answer is not False for answer in answers):
            raise LockFileError(f"{path}: made for other environments than this one (key environments)")
    packages, unknown = [], []
    for package in lock.packages:
        marker = str(package.marker or "")
        answer = _holds(marker, path, package.name, target, chosen)
        if answer is None:
            unknown.append(f"whether {package.name} is asked for here: its marker is {marker[:120]!r}")
        elif answer:
            packages.append(_locked(package, path))
    return Selection(tuple(packages), str(lock.requires_python or ""), tuple(unknown))


def _holds(marker: str, path: str, name: str, target: Target, chosen: dict[str, Any]) -> bool | None:
    try:
        return holds(marker, target, **chosen)
    except ValueError as error:
        raise LockFileError(printable(f"{path}: {name}: marker {marker[:80]!r}: {error}")) from None


def _locked(package: Package, path: str) -> Locked:
    archives: list[Any] = [*(package.wheels or ()), *filter(None, [package.sdist, package.archive])]
    hashes = tuple(f"{kind}:{digest}" for each in archives for kind, digest in each.hashes.items())
    source, editable = "", False
    version = str(package.version) if package.version else None
    if package.vcs:
        place = public_url(package.vcs.url) if package.vcs.url else local_path(package.vcs.path or ".", path)
        source = f"{package.vcs.type}+{place}@{package.vcs.commit_id}"
    elif package.directory:
        source, editable = local_path(package.directory.path, path), bool(package.directory.editable)
    elif package.archive:
        source = (
            public_url(package.archive.url)
            if package.archive.url
            else local_path(package.archive.path or ".", path)
        )
        known = archive_name(package.archive.url or package.archive.path or "")
        version = version or (known[1] if known else None)
    # A lock may name the wheels of an index by a path: they still are no direct references.
    return Locked("pip", normalise(package.name), version, source=source, editable=editable,
                  from_index=bool(package.index), hashes=hashes)  # fmt: skip

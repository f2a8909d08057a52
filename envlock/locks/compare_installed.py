"""Is what is installed what another tool's lock says? The answer has the shape of envlock's own verify.

Drift is told from the lock to now: "removed" is a package that the lock asks for and that is not there,
"added" one beyond a lock that lists everything (what ``pip-sync`` and ``uv sync`` would take away).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from envlock.compare.changes import BUILD_FIELDS
from envlock.compare.folding import fold
from envlock.compare.model import Change, Unseen
from envlock.locks.model import (
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Manager,
    Selection,
    is_local,
    normalise,
    target_of,
)
from envlock.locks.policy import Verification
from envlock.locks.reference import Reference
from envlock.manifest.address import covers
from envlock.manifest.model import CondaPackage, Manifest, PipPackage
from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import matches, size_of_change, version
from envlock.rules.model import Unknown

SEEDS = frozenset({"pip", "setuptools", "wheel", "distribute", "uv", "pip-tools", "conda-lock"})
"""What environments are seeded with and what pip-sync and uv sync leave alone."""
NAMED = 8
"""Packages that a summary names at most."""

Installed = PipPackage | CondaPackage


class _Seen(NamedTuple):
    """What comparing one package came to."""

    change: Change | None
    unseen_hash: bool = False
    unknown: str = ""


def verify(
    reference: Reference, current: Manifest, *, extras: Iterable[str] = (), groups: Iterable[str] = ()
) -> Verification:
    """Compare what is installed with a foreign lock; raises LockFileError.

    Without ``groups`` the groups that the lock's tool installs by itself may be there or not; what of them
    is there must be as locked. With ``groups`` exactly these are asked for.
    """
    lock = reference.parse()
    chosen = Choice(frozenset(extras), frozenset(groups))
    _check_names(reference.path, lock, chosen)
    _check_seen(reference.path, lock, current)
    target = target_of(current)
    required = lock.select(target, chosen)
    allowed = required
    if not chosen.groups and lock.default_groups:
        allowed = lock.select(target, chosen._replace(groups=lock.default_groups))
    locked = _by_address(required, allowed)
    hidden = current.capture.unobserved
    drift: list[Change] = [*_python_change(required, current)]
    unknown = [*dict.fromkeys((*required.unknown, *allowed.unknown))]
    unhashed: dict[Manager, list[str]] = {"pip": [], "conda": []}
    for address, alternatives in sorted(locked.items()):
        if any(covers(each, address) for each in hidden):
            continue
        seen = _compare(address, alternatives, current, lock)
        drift += [seen.change] if seen.change else []
        unknown += [seen.unknown] if seen.unknown else []
        if seen.unseen_hash:
            unhashed[alternatives[0].manager].append(alternatives[0].name)
    extra, notes = _beyond(locked, lock, current)
    return Verification(
        tuple(fold(sorted([*drift, *extra], key=lambda each: each.address), current, current)),
        (),
        (*_unseen(current), *_unseen_hashes(unhashed)),
        tuple(Unknown(needs, "drift") for needs in [*unknown, *notes]),
    )


def _check_names(path: str, lock: LockFile, chosen: Choice) -> None:
    for kind, named, known in (("extra", chosen.extras, lock.extras), ("group", chosen.groups, lock.groups)):
        for name in sorted(named - known):
            held = f"it has {', '.join(sorted(known)[:20])}" if known else "it has none"
            raise LockFileError(f"{path}: no {kind} {name!r}: {held}")


def _check_seen(path: str, lock: LockFile, current: Manifest) -> None:
    """Refuse to call an environment fine of which nothing could be seen."""
    for manager in sorted(lock.speaks_of):
        reason = current.capture.unobserved.get(f"package.{manager}")
        if reason and not getattr(current.package, manager):
            raise LockFileError(f"cannot compare with {path}: no {manager} packages could be seen: {reason}")


def _by_address(required: Selection, allowed: Selection) -> dict[str, list[Locked]]:
    """Group by address: the alternatives of one name, what is asked for before what may be there."""
    found: dict[str, list[Locked]] = {}
    for each in required.packages:
        found.setdefault(f"package.{each.manager}.{each.name}", []).append(each)
    for each in allowed.packages:
        held = found.setdefault(f"package.{each.manager}.{each.name}", [])
        if each not in held:
            held.append(each._replace(optional=True))
    return found


def _python_change(required: Selection, current: Manifest) -> Iterable[Change]:
    """Yield a change where the interpreter is not one that the lock was made for."""
    held = current.python.version
    if held and required.requires_python and matches(held, required.requires_python) is False:
        yield Change("python.version", "value", before=required.requires_python, after=held)


# ---- one package --------------------------------------------------------------------------------------------


def _compare(address: str, alternatives: list[Locked], current: Manifest, lock: LockFile) -> _Seen:
    first = alternatives[0]
    installed = _installed(first, current, lock)
    if installed is None:
        if all(each.optional for each in alternatives) or current.capture.source == "import":
            return _Seen(None)
        asked = next(each for each in alternatives if not each.optional)
        return _Seen(Change(address, "removed", before=_plain(asked)))
    # A requirements file may name one project twice (a pin and a constraint): all of its lines count;
    # other locks' entries of one name are alternatives, of which one must fit.
    told = [_compare_one(address, each, installed, lock) for each in alternatives]
    if not lock.strict_origin:
        return next((each for each in told if each.change), told[0])
    return next((each for each in told if each.change is None), told[0])


def _installed(locked: Locked, current: Manifest, lock: LockFile) -> Installed | None:
    """Return the installed package; pip is content with one that conda brought under the same name."""
    if locked.manager == "conda":
        return current.package.conda.get(locked.name)
    found = current.package.pip.get(locked.name)
    if found is not None or "conda" in lock.closed:
        return found
    return next(
        (package for name, package in current.package.conda.items() if normalise(name) == locked.name), None
    )


def _compare_one(address: str, locked: Locked, installed: Installed, lock: LockFile) -> _Seen:
    before, after = _plain(locked), _kept(installed)
    if installed.version is None:
        return _Seen(None, unknown=f"the version of {address}, which is installed without one")
    fits = _version_fits(locked, installed.version)
    if fits is None:
        return _Seen(None, unknown=f"whether {address} {installed.version} is in {locked.bounds!r}")
    if not fits:
        wanted = before.get("version", "")
        return _Seen(Change(address, "version", size_of_change(wanted, installed.version), before, after))
    if locked.manager == "conda" and isinstance(installed, CondaPackage):
        return _compare_conda(address, locked, installed, before, after)
    if isinstance(installed, CondaPackage):
        if lock.strict_origin or locked.source:
            return _Seen(Change(address, "origin", "build", before, after))
        return _Seen(None, unseen_hash=bool(locked.hashes))
    if not _origin_fits(locked, installed, lock):
        return _Seen(Change(address, "origin", "build", _with_origin(before, locked), after))
    # What installers record of an archive (direct_url.json) carries no hash into a manifest, and for a file of
    # an index they record nothing: whether it was the locked archive cannot be seen.
    return _Seen(None, unseen_hash=bool(locked.hashes))


def _version_fits(locked: Locked, installed: str) -> bool | None:
    if locked.version is not None:
        if locked.version == installed:
            return True
        if locked.manager == "conda":
            return False
        one, two = version(locked.version), version(installed)
        return one is not None and one == two
    if not locked.bounds:
        return True
    if locked.manager == "pip":
        return _in_specifier(installed, locked.bounds)
    return conda_version_matches(installed, locked.bounds)


def _in_specifier(installed: str, bounds: str) -> bool | None:
    """Tell whether pip takes a version for one that satisfies a specifier: ``==1.2`` holds for 1.2+cu124 too."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(bounds).contains(installed, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return None


def conda_version_matches(installed: str, bounds: str) -> bool | None:
    """Tell whether a conda version lies in bounds such as ">=1.2,<2|1.0.*"; None where that can't be told."""
    answers = [
        [_conda_part(installed, part.strip()) for part in each.split(",")] for each in bounds.split("|")
    ]
    if any(all(answer is True for answer in each) for each in answers):
        return True
    unsure = any(all(answer is not False for answer in each) for each in answers)
    return None if unsure else False


def _conda_part(installed: str, part: str) -> bool | None:
    found = re.match(r"(==|!=|>=|<=|~=|>|<|=)?\s*(\S*)\Z", part)
    if not found:
        return None
    operator, wanted = found[1] or "", found[2]
    if wanted in ("*", ""):
        return True
    if operator == "=" or (wanted.endswith("*") and operator in ("", "==", "!=", ">=")):
        stem = wanted.rstrip("*").rstrip(".")
        inside = installed == stem or installed.startswith((stem + ".", stem + "_", stem + "-"))
        # "1.2*" without the dot reaches 1.20 as well.
        inside = inside or (not wanted.endswith(".*") and wanted.endswith("*") and installed.startswith(stem))
        if operator == ">=":
            return _conda_part(installed, f">={stem}")
        return not inside if operator == "!=" else inside
    if operator in ("", "=="):
        return installed == wanted or None if "*" in wanted else installed == wanted
    if operator == "!=":
        return installed != wanted
    one, two = version(installed), version(wanted)
    if one is None or two is None:
        return None
    return matches(str(one), f"{operator}{two}")


def _compare_conda(
    address: str, locked: Locked, installed: CondaPackage, before: dict[str, Any], after: dict[str, Any]
) -> _Seen:
    for field, kind in (*((field, "build") for field in BUILD_FIELDS), ("channel", "origin")):
        wanted, held = getattr(locked, field), getattr(installed, field)
        if wanted and held and wanted != held:
            return _Seen(Change(address, kind, "build", before, after))  # type: ignore[arg-type]
    known = {f"sha256:{installed.sha256}", f"md5:{installed.md5}"}
    comparable = [
        each for each in locked.hashes if getattr(installed, each.partition(":")[0], None) is not None
    ]
    if comparable and not set(comparable) <= known:
        return _Seen(Change(address, "digest", "build", before, after))
    return _Seen(None, unseen_hash=bool(locked.hashes) and not comparable)


def _origin_fits(locked: Locked, installed: PipPackage, lock: LockFile) -> bool:
    held = installed.source or ""
    if not locked.source:
        return not (held and locked.from_index and lock.strict_origin)
    if not held:
        return locked.index_too
    if is_local(locked.source) or is_local(held):
        # Where a checkout lies differs from machine to machine; that it is one must not.
        both = is_local(locked.source) and is_local(held)
        return both and (bool(installed.editable) <= locked.editable or not lock.strict_origin)
    return _same_address(locked.source, held)


def _same_address(wanted: str, held: str) -> bool:
    """Tell whether two addresses are one: git repositories by host, path and commit (where the lock has one)."""
    if not wanted.startswith("git+"):
        return wanted.rstrip("/") == held.rstrip("/")
    (place, commit), (other, revision) = _git(wanted), _git(held)
    return place == other and (not commit or not revision or commit == revision)


def _git(source: str) -> tuple[str, str]:
    source = source.partition("#")[0]
    place, at, commit = source.rpartition("@")
    if not at or "/" not in place.partition("://")[2] or "/" in commit:
        place, commit = source, ""
    place = re.sub(r"\Agit\+(?:\w+://)?(?:[^/@]*@)?", "", place)
    return place.rstrip("/").removesuffix(".git").lower().replace(":", "/"), commit


def _plain(locked: Locked) -> dict[str, Any]:
    """Return what a lock says in the fields of a manifest's package."""
    shown = locked.version or locked.bounds.removeprefix("==")
    plain: dict[str, Any] = {"version": shown} if shown else {}
    for field in ("build", "channel", "subdir"):
        if getattr(locked, field):
            plain[field] = getattr(locked, field)
    for digest in locked.hashes if locked.manager == "conda" else ():
        kind, _, value = digest.partition(":")
        plain[kind] = value
    return _with_origin(plain, locked) if locked.source and not locked.index_too else plain


def _with_origin(plain: dict[str, Any], locked: Locked) -> dict[str, Any]:
    origin = {"source": locked.source} if locked.source else {}
    return {**plain, **origin, **({"editable": True} if locked.editable else {})}


def _kept(installed: Installed) -> dict[str, Any]:
    fields = ("version", "source", "editable", "build", "channel", "subdir", "sha256", "md5")
    return {field: value for field in fields if (value := getattr(installed, field, None)) is not None}


# ---- what the lock does not list ----------------------------------------------------------------------------


def _beyond(
    locked: dict[str, list[Locked]], lock: LockFile, current: Manifest
) -> tuple[list[Change], list[str]]:
    """Return packages beyond the lock as drift where it is complete, else as a note."""
    changes, notes = [], []
    managers: tuple[tuple[Manager, dict[str, Any]], ...] = (
        ("pip", current.package.pip),
        ("conda", current.package.conda),
    )
    if current.capture.source == "import":
        return [], []
    for manager, packages in managers:
        if manager not in lock.speaks_of:
            continue
        names = {each[0].name for each in locked.values() if each[0].manager == manager}
        extra = [
            name
            for name in sorted(packages)
            if name not in names and not (manager == "pip" and name in SEEDS)
        ]
        if manager == "pip" and manager not in lock.closed:
            reached, whole = _closure(locked, current)
            if whole:
                changes += [_added(manager, name, packages[name]) for name in extra]
                continue
            extra = [name for name in extra if name not in reached]
        if manager in lock.closed:
            changes += [_added(manager, name, packages[name]) for name in extra]
        elif extra and (manager == "pip" or names):
            notes.append(_beyond_note(manager, extra))
    return changes, notes


def _added(manager: Manager, name: str, installed: Installed) -> Change:
    return Change(f"package.{manager}.{name}", "added", after=_kept(installed))


def _beyond_note(manager: Manager, extra: list[str]) -> str:
    named = ", ".join(extra[:NAMED]) + (f" and {len(extra) - NAMED} more" if len(extra) > NAMED else "")
    return (
        f"whether {len(extra)} {manager} packages belong here: the file does not list all that its packages need, "
        f"so that what is beyond it is no drift ({named})"
    )


def _closure(locked: dict[str, list[Locked]], current: Manifest) -> tuple[set[str], bool]:
    """Return what the listed packages pull in, and whether the list pins all of that itself."""
    listed = [each for alternatives in locked.values() for each in alternatives if each.manager == "pip"]
    asked = {each.name for each in listed if not each.optional}
    if not asked:
        return set(), False
    reached, pending = set(asked), list(asked)
    while pending:
        for line in current.requires.get(pending.pop(), ()):
            wanted = parse_requirement(line)
            if wanted is not None and wanted.name not in reached:
                reached.add(wanted.name)
                pending.append(wanted.name)
    present = {name for name in reached if name in current.package.pip}
    pinned = all(
        each.bounds.startswith("==") or each.source or each.version for each in listed if not each.optional
    )
    # Extras pull in more than a manifest's requirements say, so that a list with extras is not known to be whole.
    whole = pinned and present <= asked | SEEDS and not any(each.extras for each in listed)
    return reached, whole


# ---- what could not be seen ---------------------------------------------------------------------------------


def _unseen(current: Manifest) -> Iterable[Unseen]:
    for address, reason in sorted(current.capture.unobserved.items()):
        if address.partition(".")[0] in ("package", "python"):
            yield Unseen(address, reason, "now")


def _unseen_hashes(names: dict[Manager, list[str]]) -> Iterable[Unseen]:
    if names["pip"]:
        yield Unseen(
            "package.pip.*.sha256",
            f"installers do not record which archive a package of an index came from ({len(names['pip'])} packages "
            "with hashes in the lock)",
            "now",
        )
    if names["conda"]:
        yield Unseen(
            "package.conda.*.sha256",
            f"the records in conda-meta hold no such hash ({len(names['conda'])} packages with hashes in the lock)",
            "now",
        )

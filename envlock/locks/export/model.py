"""What every export shares: packages that may be written as they are, and where their archives lie.

A manifest names packages, not files. Addresses and hashes come from where they are known: conda's own
records of a prefix on this machine, a folder of wheels, or an index that the user names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from envlock.errors import EnvlockError
from envlock.locks.model import archive_name, normalise
from envlock.manifest.model import CondaPackage, Manifest, PipPackage
from envlock.manifest.read import printable
from envlock.manifest.requirements import parse_requirement

ANSWER_LIMIT = 32 * 1024 * 1024
TIMEOUT = 20
"""Seconds that an index may take for one answer."""
SEEDS = frozenset({"pip", "setuptools", "wheel", "distribute", "uv"})
"""What a fresh environment brings itself; left out unless another package requires it."""

_NAME = re.compile(r"[A-Za-z0-9_](?:[\w.-]{0,198}[A-Za-z0-9_])?\Z", re.A)
_VERSION = re.compile(r"[A-Za-z0-9][\w.!+-]{0,150}\Z", re.A)
_SOURCE = re.compile(r"[!-~]{1,1000}\Z")
_JSON_TYPE = "application/vnd.pypi.simple.v1+json"


class Exported(NamedTuple):
    """A file's text, and what it could not hold: a sentence each, which stands in the text as a comment too."""

    text: str
    notes: tuple[str, ...]
    packages: int
    """How many packages it holds."""


class Archive(NamedTuple):
    """One file of a release."""

    file: str
    url: str
    sha256: str


class CondaFile(NamedTuple):
    """What conda's record of an installed package says about its archive."""

    url: str
    md5: str
    sha256: str
    depends: tuple[str, ...]
    build: str
    version: str


class Files(NamedTuple):
    """Where archives lie, as far as it is known."""

    conda: Mapping[str, CondaFile] = {}
    pip: Callable[[str, str], list[Archive]] = lambda name, version: []
    """Returns the files of a release; empty where none is known."""


class Direct(NamedTuple):
    """A package that came from a place of its own, in parts."""

    kind: str
    """"git" (or another version control), "url", "file" or "folder"."""
    place: str
    commit: str = ""
    subdirectory: str = ""


# ---- the packages -------------------------------------------------------------------------------------------


def pip_packages(manifest: Manifest, notes: list[str]) -> dict[str, PipPackage]:
    """Return the pip packages that can be named and have a version; a note for each other one."""
    required = {
        each.name
        for lines in manifest.requires.values()
        for line in lines
        if (each := parse_requirement(line))
    }
    kept = {}
    for name, package in sorted(manifest.package.pip.items()):
        if name in SEEDS and name not in required:
            continue
        if not _NAME.match(name) or (package.version and not _VERSION.match(package.version)):
            notes.append(f"{shown(name)}: neither a name nor a version that an installer would take")
        elif package.version is None:
            notes.append(f"{name}: installed without a version")
        else:
            kept[name] = package
    return kept


def conda_packages(manifest: Manifest, notes: list[str]) -> dict[str, CondaPackage]:
    """Return the conda packages that have name, version and build; a note for each other one."""
    kept = {}
    for name, package in sorted(manifest.package.conda.items()):
        facts = (package.version, package.build)
        if not _NAME.match(name) or any(each is not None and not _VERSION.match(each) for each in facts):
            notes.append(f"{shown(name)}: neither a name nor a version that conda would take")
        elif package.version is None:
            notes.append(f"{name}: a conda package without a version")
        else:
            kept[name] = package
    return kept


def direct(package: PipPackage) -> Direct | None:
    """Return where a package came from; None for one of an index. Raises ValueError for a place without use."""
    source = package.source
    if not source:
        return None
    if not _SOURCE.match(source) or "***" in source or source.startswith("~"):
        raise ValueError(f"its source {shown(source)} is masked or no address")
    place, _, fragment = source.partition("#")
    subdirectory = fragment.removeprefix("subdirectory=") if fragment.startswith("subdirectory=") else ""
    found = re.match(r"(git|hg|svn|bzr)\+(.+)@([0-9A-Za-z]{1,64})\Z", place)
    if found:
        return Direct(found[1], found[2], found[3], subdirectory)
    if re.match(r"https?://", place):
        return Direct("url", place, "", subdirectory)
    if place.startswith("/"):
        return Direct("file" if archive_name(place) else "folder", place, "", subdirectory)
    raise ValueError(f"its source {shown(source)} is no address that an installer takes")


def shown(text: str) -> str:
    """Return foreign text fit for a comment of one line."""
    return printable(text.replace("\n", " "))[:120]


def plural(count: int, noun: str) -> str:
    """Return "1 package", "2 packages"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def header(manifest: Manifest, notes: Iterable[str]) -> list[str]:
    """Return the comment that stands above an export: what it is of, and what it does not hold."""
    from envlock._version import __version__

    name = manifest.capture.name
    of = f" of {shown(name)}" if name else ""
    lines = [f"# Written by envlock {__version__} from the packages{of} as they are installed."]
    return [*lines, *(f"# not in here: {shown_note(note)}" for note in notes)]


def shown_note(note: str) -> str:
    """Return a note as one printable line."""
    return printable(note.replace("\n", " "))[:10_000]


# ---- conda's records ----------------------------------------------------------------------------------------


def conda_files(manifest: Manifest, prefix: str | None) -> dict[str, CondaFile]:
    """Return what the records of a prefix on this machine say about the very packages of a manifest."""
    place = prefix or manifest.python.prefix
    if not place or not manifest.package.conda:
        return {}
    from envlock.probe.conda import read_records
    from envlock.roots.live import LiveRoot

    found = {}
    for record in read_records(LiveRoot(), os.path.abspath(place))[0]:
        package = manifest.package.conda.get(record.name)
        same = package is not None and (package.version, package.build or "") == (
            record.version,
            record.build,
        )
        if same and package is not None and (not package.sha256 or package.sha256 == record.sha256):
            file = _conda_file(record.path, record.version, record.build, record.sha256)
            if file is not None:
                found[record.name] = file
    return found


def _conda_file(path: str, version: str, build: str, sha256: str) -> CondaFile | None:
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read(256 * 1024 * 1024))
        url, md5 = str(data["url"]), str(data.get("md5") or "")
        depends = tuple(str(each) for each in data.get("depends") or ())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    # A token belongs to whoever installed it; conda adds its own where it is set up to.
    public = re.sub(r"(?<=://)[^/@]*@", "", re.sub(r"/t/[^/]+(?=/)", "", url))
    if not _SOURCE.match(public) or not public.endswith((".conda", ".tar.bz2")):
        return None
    return CondaFile(public, md5 if re.match(r"[0-9a-f]{32}\Z", md5) else "", sha256, depends, build, version)


def channel_of(package: CondaPackage, file: CondaFile | None) -> str | None:
    """Return what -c takes for a package's channel: its name on conda's own hosts, else its address."""
    if file is not None:
        base = file.url.rsplit("/", 2)[0]
        own = re.match(r"https://(?:conda\.anaconda\.org|repo\.anaconda\.com)/(.+)\Z", base)
        return own[1] if own else base
    channel = package.channel or ""
    return channel if re.match(r"[\w./-]{1,200}\Z", channel, re.A) else None


# ---- pip's archives -----------------------------------------------------------------------------------------


def pip_files(folders: Iterable[str], indexes: Iterable[str]) -> Callable[[str, str], list[Archive]]:
    """Return a function that looks a release's files up in folders of wheels, then in indexes (PEP 691).

    Raises EnvlockError where a folder cannot be read or an index does not answer.
    """
    listed: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        try:
            entries = sorted(os.listdir(folder))
        except OSError as error:
            raise EnvlockError(f"cannot read {folder}: {error.strerror or error}") from None
        for entry in entries:
            known = archive_name(entry)
            if known:
                listed.setdefault(known, []).append(os.path.join(os.path.abspath(folder), entry))
    addresses = [each.rstrip("/") for each in indexes]

    def find(name: str, version: str) -> list[Archive]:
        key = (normalise(name), _canonical(version))
        local = [_local(path) for path in listed.get(key, ())]
        if local:
            return local
        for address in addresses:
            found = [each for each in _ask(address, key[0]) if archive_name(each.file) == key]
            if found:
                return found
        return []

    return find


def _canonical(version: str) -> str:
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(version))
    except InvalidVersion:
        return version


def _local(path: str) -> Archive:
    import hashlib
    from urllib.parse import quote

    with open(path, "rb") as file:
        hasher = hashlib.sha256()
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return Archive(os.path.basename(path), "file://" + quote(path), hasher.hexdigest())


def _ask(address: str, name: str) -> list[Archive]:
    """Ask an index for a project's files, hashes and all; https only, but for this machine itself."""
    import urllib.error
    import urllib.request
    from urllib.parse import urljoin

    url = f"{address}/{name}/"
    if not re.match(r"https://|http://(?:localhost|127\.0\.0\.1)(?:[:/])", url):
        raise EnvlockError(f"{address}: an index is an https:// address")
    request = urllib.request.Request(url, headers={"Accept": _JSON_TYPE})  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            content = answer.read(ANSWER_LIMIT + 1)
            base = answer.geturl()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise EnvlockError(f"{address} answers {error.code} for {name}") from None
    except OSError as error:
        raise EnvlockError(f"{address} does not answer: {error}") from None
    try:
        files = json.loads(content[:ANSWER_LIMIT])["files"]
        return [
            Archive(str(each["filename"]), urljoin(base, str(each["url"])), str(each["hashes"]["sha256"]))
            for each in files
            if not each.get("yanked")
            and _is_sha256(each["hashes"].get("sha256"))
            and _SOURCE.match(str(each["url"]))
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EnvlockError(
            f"{address} does not answer for {name} as PEP 691 says (JSON with files)"
        ) from None


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.match(r"[0-9a-f]{64}\Z", value) is not None
